//! What a drop says of itself: the job metadata.
//!
//! Knows how the JSON is spelled, in all the ways that were seen, and nothing of whether it may be believed: that is
//! [`tenant`](super::tenant)'s to say.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::TenantId;
use crate::{
    one_line::one_line,
    verdict::{Reason, Verdict},
};

/// How much of `Errors` is shown, in characters.
const LONGEST_ERRORS: usize = 1_000;

/// The longest text, in characters, that goes into every message of the drop: no more would fit a queue beside the rows.
const LONGEST_FACT: usize = 1_000;

/// The job metadata of a drop.
#[derive(Clone, Default, PartialEq)]
pub struct JobMetadata {
    /// `CopyActivityId`: a GUID, as it was spelled. The Viva Insights API knows the drop's keys by it.
    pub copy_activity_id: Option<String>,
    /// `TenantId`: whose drop this claims to be.
    pub tenant_id: Option<TenantId>,
    /// `NumberOfRowsExtracted`.
    pub rows_extracted: Option<u64>,
    /// `Errors`, in one line of at most 1,000 characters; absent when blank. Where it is there, there is no data.
    pub errors: Option<String>,
    /// `TableName`.
    pub table_name: Option<String>,
    /// `RequestStartDate`, as it was spelled.
    pub request_start_date: Option<String>,
    /// `RequestEndDate`, as it was spelled.
    pub request_end_date: Option<String>,
    /// `JobSubmissionTime`, as it was spelled.
    pub job_submission_time: Option<String>,
    /// `JobCompletionTime`, as it was spelled.
    pub job_completion_time: Option<String>,
    /// `ColumnsRequested`: names joined by commas.
    pub columns_requested: Option<String>,
    /// `DataFactoryName`.
    pub data_factory_name: Option<String>,
    /// `PublicKeyVersion`: which version of the private key unwraps the keys.
    pub public_key_version: Option<String>,
    /// `DecryptionKeyDetails`: wrapped keys, for [`keys::details`](crate::keys::details) to read. Never printed.
    pub decryption_key_details: Option<Value>,
    /// Everything else, under the names it came with. Never printed.
    pub rest: Map<String, Value>,
}

impl JobMetadata {
    /// Reads the first JSON object in `bytes`; a byte-order mark before it and anything behind it are passed over.
    ///
    /// Names are matched without case. Where a name is there twice, the first counts.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut fields = Fields::parse(bytes)?;
        Ok(Self {
            copy_activity_id: fields.guid("CopyActivityId")?.map(|(text, _)| text),
            tenant_id: fields.guid("TenantId")?.map(|(_, id)| id),
            rows_extracted: fields.rows("NumberOfRowsExtracted")?,
            errors: fields.take("Errors").and_then(shown_errors),
            table_name: fields.fact("TableName")?,
            request_start_date: fields.fact("RequestStartDate")?,
            request_end_date: fields.fact("RequestEndDate")?,
            job_submission_time: fields.text("JobSubmissionTime"),
            job_completion_time: fields.text("JobCompletionTime"),
            columns_requested: fields.text("ColumnsRequested"),
            data_factory_name: fields.text("DataFactoryName"),
            public_key_version: fields.text("PublicKeyVersion"),
            decryption_key_details: fields.take("DecryptionKeyDetails"),
            rest: fields.rest(),
        })
    }
}

impl fmt::Debug for JobMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobMetadata")
            .field("copy_activity_id", &self.copy_activity_id)
            .field("tenant_id", &self.tenant_id)
            .field("rows_extracted", &self.rows_extracted)
            .field("errors", &self.errors)
            .field("table_name", &self.table_name)
            .finish_non_exhaustive()
    }
}

/// Why the job metadata cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It is larger than job metadata ever is. The drop is set aside.
    #[error("the job metadata has more than {limit} bytes, which none of Microsoft's has")]
    TooLarge {
        /// How many bytes are read.
        limit: u64,
    },
    /// There is something else than an object, or nothing. The drop is set aside.
    #[error("the job metadata does not begin with a JSON object")]
    NoObject,
    /// The object is damaged, or cut short. The drop is set aside.
    #[error("the job metadata is no JSON from line {line}, column {column} on")]
    NoJson {
        /// The line, from 1.
        line: usize,
        /// The column, in bytes.
        column: usize,
    },
    /// A value is not what its name asks for. The drop is set aside.
    #[error("`{name}` of the job metadata is not usable: expected {expected}, found {found}")]
    Field {
        /// The name, as Microsoft spells it.
        name: &'static str,
        /// What is there, without its content.
        found: &'static str,
        /// What would do.
        expected: &'static str,
    },
}

impl MetadataError {
    /// What the failure means for the drop.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::TooLarge { .. } | Self::NoObject | Self::NoJson { .. } | Self::Field { .. } => {
                Verdict::SetAside(Reason::Metadata)
            }
        }
    }
}

/// The members of the first object, in the order they came in.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(MetadataError::NoObject);
        }
        // serde_json's own words may quote what they stumbled over: the position is all that is told.
        match serde_json::Deserializer::from_slice(text).into_iter().next() {
            Some(Ok(fields)) => Ok(fields),
            Some(Err(error)) => Err(MetadataError::NoJson { line: error.line(), column: error.column() }),
            None => Err(MetadataError::NoObject),
        }
    }

    /// Takes `name` out; a null is as good as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        let mut found = self.0.extract_if(.., |(key, _)| key.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, value)| value);
        found.for_each(drop);
        first.filter(|value| !value.is_null())
    }

    /// A text, or what else is there as JSON; blank is as good as absent.
    fn text(&mut self, name: &str) -> Option<String> {
        let text = as_text(self.take(name)?);
        (!text.trim().is_empty()).then_some(text)
    }

    /// A text that is repeated in every message of the drop.
    fn fact(&mut self, name: &'static str) -> Result<Option<String>, MetadataError> {
        let text = self.text(name);
        if text.as_ref().is_some_and(|text| text.chars().count() > LONGEST_FACT) {
            return Err(MetadataError::Field { name, found: "a very long text", expected: "at most 1,000 characters" });
        }
        Ok(text)
    }

    fn guid(&mut self, name: &'static str) -> Result<Option<(String, TenantId)>, MetadataError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = match &value {
            Value::String(text) => text.trim(),
            _ => "no text",
        };
        match text.parse() {
            Ok(id) => Ok(Some((text.to_owned(), id))),
            Err(_) if text.is_empty() => Ok(None),
            Err(_) => Err(MetadataError::Field { name, found: kind(&value), expected: "a GUID" }),
        }
    }

    fn rows(&mut self, name: &'static str) -> Result<Option<u64>, MetadataError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => whole(number),
            Value::String(text) => text.trim().parse().ok().or_else(|| whole(&serde_json::from_str(text.trim()).ok()?)),
            _ => None,
        };
        number.map(Some).ok_or(MetadataError::Field {
            name,
            found: kind(&value),
            expected: "a whole number of rows, 0 or more",
        })
    }

    fn rest(self) -> Map<String, Value> {
        let mut rest = Map::new();
        for (name, value) in self.0 {
            rest.entry(name).or_insert(value);
        }
        rest
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = members.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// `Errors` as a person reads it, or nothing where it is blank: an empty text, an empty list.
fn shown_errors(errors: Value) -> Option<String> {
    let text = match errors {
        Value::Array(list) if list.is_empty() => return None,
        Value::Array(list) if list.iter().all(is_said) => list.into_iter().map(as_text).collect::<Vec<_>>().join("; "),
        other => as_text(other),
    };
    // Control characters alone say no more than blanks do.
    Some(one_line(&text, LONGEST_ERRORS)).filter(|line| !line.is_empty())
}

fn is_said(error: &Value) -> bool {
    error.as_str().is_none_or(|text| !text.trim().is_empty())
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The number of rows that `number` is: `6` and `6.0`, but not `-6` and `6.5`.
fn whole(number: &serde_json::Number) -> Option<u64> {
    /// From here on an f64 skips whole numbers.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_u64().or_else(|| {
        let float = number.as_f64()?;
        ((0.0..=EXACT).contains(&float) && float.fract() == 0.0).then_some(float as u64)
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "another number",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
