//! The JSON text of a person's attributes, as in messages and in previews.

use std::io::Write;

use super::{CycleReport, PersonReport, Value};

impl CycleReport<'_> {
    /// Appends the JSON object of `person`. `directory` is the JSON of the person's directory entry, or `null`.
    pub fn append_person(&self, person: &PersonReport<'_>, directory: &[u8], out: &mut Vec<u8>) {
        append(out, format_args!("{{\"ObjectId\":\"{}\",\"directory\":", person.id));
        out.extend_from_slice(directory);
        append(out, format_args!(",\"weeks\":{},\"attributes\":{{", person.weeks));
        let values = self.definitions.attributes.iter().zip(&person.attributes);
        let present = values.filter_map(|(attribute, value)| Some((&attribute.name, value.as_ref()?)));
        for (number, (name, value)) in present.enumerate() {
            if number > 0 {
                out.push(b',');
            }
            append_string(name, out);
            out.push(b':');
            match value {
                Value::Withheld => out.extend_from_slice(br#"{"range":null,"withheld":true}"#),
                Value::Range { number, label, average } => {
                    append(out, format_args!("{{\"range\":{number},\"label\":"));
                    append_string(label, out);
                    if let Some(average) = average {
                        append(out, format_args!(",\"value\":{average}"));
                    }
                    out.push(b'}');
                }
            }
        }
        out.extend_from_slice(b"}}");
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a vector cannot fail");
}

fn append_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always JSON");
}
