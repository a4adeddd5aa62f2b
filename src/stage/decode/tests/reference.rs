//! The reference decoder: decodes a row with serde_json, slower and obviously correct.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::{
    BadRowReason, Decoder,
    column::{Scratch, is_guid},
    treatment::{Action, Conversion},
};

/// Decodes a line as `decoder` should.
pub(super) fn row(decoder: &Decoder, line: &[u8]) -> Result<Vec<u8>, BadRowReason> {
    let line = std::str::from_utf8(line).map_err(|_| BadRowReason::NotAnObject)?;
    let line = line.trim_matches([' ', '\t', '\r', '\n']);
    let mut row = Row { decoder, line, copied: 0, out: Vec::new(), bad: None };
    let mut json = serde_json::Deserializer::from_str(line);
    json.deserialize_map(&mut row).and_then(|()| json.end()).map_err(|_| BadRowReason::NotAnObject)?;
    row.out.extend_from_slice(&line.as_bytes()[row.copied..]);
    row.bad.map_or(Ok(row.out), Err)
}

struct Row<'a> {
    decoder: &'a Decoder,
    line: &'a str,
    copied: usize,
    out: Vec<u8>,
    bad: Option<BadRowReason>,
}

impl<'de: 'a, 'a> Visitor<'de> for &mut Row<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if value.get().starts_with('"')
                && let Some(name) = string_of(name)
                && let Action::Convert(conversion) = self.decoder.columns.find(Some(&name)).treatment.action
            {
                let text = string_of(value).unwrap_or(Cow::Borrowed("\u{FFFD}"));
                self.convert(conversion, &name, &text, value.get());
            }
        }
        Ok(())
    }
}

impl Row<'_> {
    fn convert(&mut self, conversion: Conversion, name: &str, text: &str, raw: &str) {
        let mut replaced = Vec::new();
        match conversion {
            Conversion::Decrypt if is_guid(text.as_bytes()) => return,
            Conversion::Decrypt => match &self.decoder.key {
                None => replaced.extend_from_slice(b"null"),
                Some(key) => {
                    let decrypted = key.decrypt(name, text.as_bytes(), &mut Scratch::default(), &mut replaced);
                    self.bad = self.bad.take().or(decrypted.err());
                }
            },
            Conversion::ToNumber => {
                match serde_json::from_str::<HashMap<&str, &RawValue>>(&format!("{{\"n\":{text}}}")) {
                    Ok(_) if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && text.trim() == text => {
                        replaced.extend_from_slice(text.as_bytes());
                    }
                    _ => return,
                }
            }
            Conversion::ToBoolean => match text.to_ascii_lowercase().as_str() {
                literal @ ("true" | "false") => replaced.extend_from_slice(literal.as_bytes()),
                _ => return,
            },
        }
        // `raw` was borrowed from `line`, so the difference of their addresses is its position.
        let start = raw.as_ptr().addr() - self.line.as_ptr().addr();
        self.out.extend_from_slice(&self.line.as_bytes()[self.copied..start]);
        self.out.extend(replaced);
        self.copied = start + raw.len();
    }
}

fn string_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok().map(Cow::Owned))?
}
