//! Parses the job metadata of a drop.
//!
//! Accepts every spelling of the JSON that has been observed. Whether its `TenantId` is authorized is decided in
//! [`tenant`](super::tenant).

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

/// Length limit of the text shown for `Errors`, in characters.
const MAX_ERRORS_CHARS: usize = 1_000;

/// Length limit, in characters, of a value that every message of the drop repeats. A longer one would leave too little
/// room for rows in a queue message.
const MAX_REPEATED_CHARS: usize = 1_000;

/// The job metadata of a drop.
#[derive(Clone, Default, PartialEq)]
pub struct JobMetadata {
    /// `CopyActivityId`: a GUID, spelled as in the metadata. It is the id of the drop's keys in the Viva Insights API.
    pub copy_activity_id: Option<String>,
    /// `TenantId`: the tenant that the drop claims to belong to.
    pub tenant_id: Option<TenantId>,
    /// `NumberOfRowsExtracted`.
    pub rows_extracted: Option<u64>,
    /// `Errors`, as one line of at most 1,000 characters; `None` if it is blank. If it is present, the drop has no
    /// data.
    pub errors: Option<String>,
    /// `TableName`.
    pub table_name: Option<String>,
    /// `RequestStartDate`, as spelled in the metadata.
    pub request_start_date: Option<String>,
    /// `RequestEndDate`, as spelled in the metadata.
    pub request_end_date: Option<String>,
    /// `JobSubmissionTime`, as spelled in the metadata.
    pub job_submission_time: Option<String>,
    /// `JobCompletionTime`, as spelled in the metadata.
    pub job_completion_time: Option<String>,
    /// `ColumnsRequested`: comma-separated names.
    pub columns_requested: Option<String>,
    /// `DataFactoryName`.
    pub data_factory_name: Option<String>,
    /// `PublicKeyVersion`: the version of the key pair that the keys are wrapped with.
    pub public_key_version: Option<String>,
    /// `DecryptionKeyDetails`: wrapped keys, parsed by [`keys::details`](crate::keys::details). Never printed.
    pub decryption_key_details: Option<Value>,
    /// All other members, under their original names. Never printed.
    pub rest: Map<String, Value>,
}

impl JobMetadata {
    /// Parses the first JSON object in `bytes`. Ignores a byte-order mark before it and anything after it.
    ///
    /// Names are matched case-insensitively. If a name occurs twice, the first one counts.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut fields = Fields::parse(bytes)?;
        Ok(Self {
            copy_activity_id: fields.guid("CopyActivityId")?.map(|(text, _)| text),
            tenant_id: fields.guid("TenantId")?.map(|(_, id)| id),
            rows_extracted: fields.rows("NumberOfRowsExtracted")?,
            errors: fields.take("Errors").and_then(errors_text),
            table_name: fields.repeated_text("TableName")?,
            request_start_date: fields.repeated_text("RequestStartDate")?,
            request_end_date: fields.repeated_text("RequestEndDate")?,
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

/// Why the job metadata cannot be used. Every such failure is permanent: the drop is set aside.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The blob exceeds the size limit.
    #[error("the job metadata has more than {limit} bytes, far more than Microsoft writes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The blob was deleted before the drop was over.
    #[error("the job metadata has been deleted")]
    Missing,
    /// The blob is empty, or begins with something other than a JSON object.
    #[error("the job metadata does not begin with a JSON object")]
    NotAnObject,
    /// The object is damaged or truncated.
    #[error("the job metadata is not valid JSON: line {line}, column {column}")]
    InvalidJson {
        /// The line, counted from 1.
        line: usize,
        /// The column, in bytes.
        column: usize,
    },
    /// A value has the wrong type or form.
    #[error("`{name}` of the job metadata is not usable: expected {expected}, found {found}")]
    Field {
        /// The name, as Microsoft spells it.
        name: &'static str,
        /// The kind of value found, without its content.
        found: &'static str,
        /// The expected form.
        expected: &'static str,
    },
}

impl MetadataError {
    /// The consequence of the failure for the drop.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::TooLarge { .. }
            | Self::Missing
            | Self::NotAnObject
            | Self::InvalidJson { .. }
            | Self::Field { .. } => Verdict::SetAside(Reason::Metadata),
        }
    }
}

/// The members of the first object, in their original order.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(MetadataError::NotAnObject);
        }
        // serde_json's own error text may quote the input, so only the position is reported.
        match serde_json::Deserializer::from_slice(text).into_iter().next() {
            Some(Ok(fields)) => Ok(fields),
            Some(Err(error)) => Err(MetadataError::InvalidJson { line: error.line(), column: error.column() }),
            None => Err(MetadataError::NotAnObject),
        }
    }

    /// Removes all members called `name` and returns the first; `None` if it is missing or null.
    fn take(&mut self, name: &str) -> Option<Value> {
        let mut matches = self.0.extract_if(.., |(key, _)| key.eq_ignore_ascii_case(name));
        let first = matches.next().map(|(_, value)| value);
        // `extract_if` removes only the members that it has yielded.
        matches.for_each(drop);
        first.filter(|value| !value.is_null())
    }

    /// A string, or the JSON of any other value; `None` if it is missing or blank.
    fn text(&mut self, name: &str) -> Option<String> {
        let text = as_text(self.take(name)?);
        (!text.trim().is_empty()).then_some(text)
    }

    /// A text that every message of the drop repeats, so its length is limited.
    fn repeated_text(&mut self, name: &'static str) -> Result<Option<String>, MetadataError> {
        let text = self.text(name);
        if text.as_ref().is_some_and(|text| text.chars().count() > MAX_REPEATED_CHARS) {
            return Err(MetadataError::Field { name, found: "a longer string", expected: "at most 1,000 characters" });
        }
        Ok(text)
    }

    /// A GUID as spelled, and parsed; `None` if it is missing or blank.
    fn guid(&mut self, name: &'static str) -> Result<Option<(String, TenantId)>, MetadataError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let invalid = MetadataError::Field { name, found: kind(&value), expected: "a GUID" };
        let Some(text) = value.as_str().map(str::trim) else { return Err(invalid) };
        if text.is_empty() {
            return Ok(None);
        }
        let id = text.parse().map_err(|_| invalid)?;
        Ok(Some((text.to_owned(), id)))
    }

    /// A number of rows, written as a number or as a number in a string; `None` if it is missing.
    fn rows(&mut self, name: &'static str) -> Result<Option<u64>, MetadataError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => as_row_count(number),
            Value::String(text) => {
                let text = text.trim();
                text.parse().ok().or_else(|| as_row_count(&serde_json::from_str(text).ok()?))
            }
            _ => None,
        };
        number.map(Some).ok_or(MetadataError::Field {
            name,
            found: kind(&value),
            expected: "a whole number of rows, 0 or more",
        })
    }

    /// The members that were not taken. If a name occurs twice, the first one counts.
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
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
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
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The text to show for `Errors`; `None` if it is blank: an empty list, or text of only blanks and control characters.
fn errors_text(errors: Value) -> Option<String> {
    let text = match errors {
        Value::Array(list) if list.is_empty() => return None,
        Value::Array(list) if !list.iter().any(is_blank) => {
            list.into_iter().map(as_text).collect::<Vec<_>>().join("; ")
        }
        other => as_text(other),
    };
    // `one_line` also trims control characters, so text of only those counts as blank.
    Some(one_line(&text, MAX_ERRORS_CHARS)).filter(|line| !line.is_empty())
}

fn is_blank(error: &Value) -> bool {
    error.as_str().is_some_and(|text| text.trim().is_empty())
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// `number` as a whole number of rows: `6` and `6.0` are accepted, `-6` and `6.5` are not.
fn as_row_count(number: &serde_json::Number) -> Option<u64> {
    /// 2^53: above it, an `f64` cannot represent every whole number.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_u64().or_else(|| {
        let float = number.as_f64()?;
        ((0.0..=MAX_EXACT).contains(&float) && float.fract() == 0.0).then_some(float as u64)
    })
}

/// The kind of `value`, for an error message that does not quote it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "another number",
        Value::String(_) => "another string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
