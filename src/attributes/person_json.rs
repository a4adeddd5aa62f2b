//! The JSON text of a person's attributes, as in messages and in previews.

use std::io::Write;

use super::{Attribute, CycleReport, PersonReport, RANGES, Value};

/// The JSON of an attribute that is the same for everyone with the same range.
pub(super) struct AttributeJson {
    /// The member of a person whose range is withheld.
    withheld: Vec<u8>,
    /// By range: the member up to the label. A value and the closing brace follow.
    ranges: [Vec<u8>; RANGES],
}

impl AttributeJson {
    pub(super) fn new(attribute: &Attribute, labels: &[String; RANGES]) -> Self {
        let name = json_string(&attribute.name);
        let range = |range: usize| {
            let label = json_string(&labels[range]);
            format!("{name}:{{\"range\":{},\"label\":{label}", range + 1).into_bytes()
        };
        Self {
            withheld: format!("{name}:{{\"range\":null,\"withheld\":true}}").into_bytes(),
            ranges: std::array::from_fn(range),
        }
    }

    fn append(&self, value: &Value<'_>, out: &mut Vec<u8>) {
        match value {
            Value::Withheld => out.extend_from_slice(&self.withheld),
            Value::Range { number, average, .. } => {
                out.extend_from_slice(&self.ranges[number - 1]);
                if let Some(average) = average {
                    out.extend_from_slice(b",\"value\":");
                    out.extend_from_slice(average.as_bytes());
                }
                out.push(b'}');
            }
        }
    }
}

impl CycleReport<'_> {
    /// Appends the JSON object of `person`. `directory` is the JSON of the person's directory entry, or `null`.
    pub fn append_person(&self, person: &PersonReport<'_>, directory: &[u8], out: &mut Vec<u8>) {
        append(out, format_args!("{{\"ObjectId\":\"{}\",\"directory\":", person.id));
        out.extend_from_slice(directory);
        append(out, format_args!(",\"weeks\":{},\"attributes\":{{", person.weeks));
        let values = self.attribute_json.iter().zip(&person.attributes);
        let present = values.filter_map(|(json, value)| Some((json, value.as_ref()?)));
        for (number, (json, value)) in present.enumerate() {
            if number > 0 {
                out.push(b',');
            }
            json.append(value, out);
        }
        out.extend_from_slice(b"}}");
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a vector cannot fail");
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}
