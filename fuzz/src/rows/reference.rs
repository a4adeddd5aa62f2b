//! The reference decoder: decodes a row with serde_json and no code of the real decoder. Slower and obviously correct.

use std::{borrow::Cow, fmt, ops::Range};

use aes::{
    Aes256,
    cipher::{BlockModeDecrypt, KeyIvInit, StreamCipher, block_padding::Pkcs7},
};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use vivadrop::{
    keys::AesKey,
    stage::{
        columns::{IS_ACTIVE, METRICS},
        decode::{BadRowReason, RowRules},
        decrypt::Cipher,
    },
};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A decoded row, with all its columns.
pub(super) struct Row<'a> {
    line: &'a str,
    pub(super) members: Vec<Member<'a>>,
}

/// A member of a row.
pub(super) struct Member<'a> {
    /// The name as it is spelled in the JSON.
    pub(super) name: &'a str,
    /// The value as it is spelled in the line.
    value: &'a str,
    /// The value as it should be after decoding.
    pub(super) decoded: Cow<'a, str>,
}

/// Decodes a line.
pub(super) fn row<'a>(rules: &RowRules, key: Option<&AesKey>, line: &'a [u8]) -> Result<Row<'a>, BadRowReason> {
    let line = std::str::from_utf8(line).map_err(|_| BadRowReason::NotAnObject)?;
    let line = line.trim_matches([' ', '\t', '\r', '\n']);
    let mut members = members(line).map_err(|_| BadRowReason::NotAnObject)?;
    check_limits(rules, line)?;
    for member in &mut members {
        let Some(name) = member.unescaped_name().filter(|_| member.value.starts_with('"')) else { continue };
        if rules.columns.as_ref().is_some_and(|columns| !columns.contains(&name)) {
            continue;
        }
        // Half of a surrogate pair is neither Base64 nor a number nor a boolean.
        let text = text_of(member.value).unwrap_or_else(|| "\u{FFFD}".into());
        if rules.encrypted_columns.contains(&name) {
            if !is_guid(&text) {
                member.decoded = key.map_or(Ok("null".into()), |key| decrypted(rules, key, &name, &text))?.into();
            }
        } else if rules.typed && METRICS.contains(&&*name) && is_number(&text) {
            member.decoded = text.into();
        } else if rules.typed && name == IS_ACTIVE && matches!(&*text.to_ascii_lowercase(), "true" | "false") {
            member.decoded = text.to_ascii_lowercase().into();
        }
    }
    let is_kept = |member: &Member<'_>| {
        let name = member.unescaped_name();
        rules.columns.as_ref().is_none_or(|columns| name.is_some_and(|name| columns.contains(&name)))
    };
    if rules.checks.rejects_empty_rows && !members.is_empty() && !members.iter().any(is_kept) {
        return Err(BadRowReason::NoColumns);
    }
    Ok(Row { line, members })
}

/// Checks the nesting depth and the lengths of the numbers of a line that is JSON. The first violation in the line
/// counts.
fn check_limits(rules: &RowRules, line: &str) -> Result<(), BadRowReason> {
    let (mut depth, mut number_chars, mut in_string, mut is_escaped) = (0, 0, false, false);
    for c in line.chars() {
        if in_string {
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            '"' => in_string = true,
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        number_chars = if matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E') { number_chars + 1 } else { 0 };
        if depth > rules.max_depth {
            return Err(BadRowReason::TooDeep(rules.max_depth));
        }
        if number_chars > 1_000 {
            return Err(BadRowReason::LongNumber);
        }
    }
    Ok(())
}

impl Row<'_> {
    /// The line with the decoded values.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut copied = 0;
        for member in &self.members {
            let Range { start, end } = position_of(member.value, self.line);
            text += &self.line[copied..start];
            text += &member.decoded;
            copied = end;
        }
        text + &self.line[copied..]
    }
}

/// The position of `part` in `whole`, which it was borrowed from: the difference of their addresses.
fn position_of(part: &str, whole: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

impl Member<'_> {
    /// The name with escapes undone; `None` if it is not text.
    pub(super) fn unescaped_name(&self) -> Option<String> {
        text_of(self.name)
    }
}

fn text_of(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

fn is_number(text: &str) -> bool {
    let begins_like_a_number = text.len() <= 1_000 && text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    begins_like_a_number && serde_json::from_str::<&RawValue>(text).is_ok_and(|number| number.get() == text)
}

fn is_guid(text: &str) -> bool {
    let digits: Vec<_> = text.split('-').collect();
    digits.iter().map(|digits| digits.len()).eq([8, 4, 4, 4, 12])
        && digits.concat().bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Decrypts the Base64 `text`; returns a JSON string.
fn decrypted(rules: &RowRules, key: &AesKey, name: &str, text: &str) -> Result<String, BadRowReason> {
    let ciphertext = BASE64.decode(text).map_err(|_| BadRowReason::NotBase64(name.into()))?;
    let ciphers = rules.column_cipher.map_or(vec![Cipher::Cbc, Cipher::Ctr], |cipher| vec![cipher]);
    let plaintext = ciphers.into_iter().find_map(|cipher| String::from_utf8(decrypt(cipher, key, &ciphertext)?).ok());
    let plaintext = plaintext.ok_or_else(|| BadRowReason::Undecipherable(name.into()))?;
    Ok(serde_json::Value::from(plaintext).to_string())
}

fn decrypt(cipher: Cipher, AesKey { key, iv }: &AesKey, ciphertext: &[u8]) -> Option<Vec<u8>> {
    match cipher {
        Cipher::Ctr => {
            let mut bytes = ciphertext.to_vec();
            ctr::Ctr128BE::<Aes256>::new(key.into(), iv.into()).apply_keystream(&mut bytes);
            Some(bytes)
        }
        Cipher::Cbc => {
            cbc::Decryptor::<Aes256>::new(key.into(), iv.into()).decrypt_padded_vec::<Pkcs7>(ciphertext).ok()
        }
    }
}

/// All members of a JSON object, including those with the same name.
pub(super) fn members(object: &str) -> serde_json::Result<Vec<Member<'_>>> {
    serde_json::from_str::<Members<'_>>(object).map(|members| members.0)
}

struct Members<'a>(Vec<Member<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            let (name, value) = (name.get(), value.get());
            members.push(Member { name, value, decoded: value.into() });
        }
        Ok(Members(members))
    }
}
