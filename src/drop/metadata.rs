//! Parses the job metadata of a drop.
//!
//! Accepts every spelling of the JSON that has been observed. Whether its `TenantId` is authorized is decided in
//! [`tenant`](super::tenant).

#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::TenantId;
use crate::{
    json::{Members, deserialize_members},
    keys::details::KeyDetails,
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
    /// `DecryptionKeyDetails`: wrapped keys. Never printed.
    pub decryption_key_details: Option<KeyDetails>,
}

impl JobMetadata {
    /// Parses the first JSON object in `bytes`. Ignores a byte-order mark before it and anything after it.
    ///
    /// Names are matched case-insensitively. If a name occurs twice, the first one counts. Members with other names are
    /// skipped: they take no memory, whatever they contain.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut fields = Fields::parse(bytes)?;
        let (tenant_id, errors) = (fields.guid("TenantId")?.map(|(_, id)| id), fields.errors()?);
        let copy_activity_id = fields.guid("CopyActivityId").map(|guid| guid.map(|(text, _)| text));
        match (fields.rest(), errors) {
            // Such a drop has no data, so only Microsoft's text counts.
            (rest, errors @ Some(_)) => {
                let copy_activity_id = copy_activity_id.unwrap_or_default();
                Ok(Self { copy_activity_id, tenant_id, errors, ..rest.unwrap_or_default() })
            }
            (rest, errors) => Ok(Self { copy_activity_id: copy_activity_id?, tenant_id, errors, ..rest? }),
        }
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
    /// The blob was deleted before the drop ended.
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

/// The names of the members that are read.
const NAMES: [&str; 12] = [
    "CopyActivityId",
    "TenantId",
    "NumberOfRowsExtracted",
    "Errors",
    "TableName",
    "RequestStartDate",
    "RequestEndDate",
    "JobSubmissionTime",
    "JobCompletionTime",
    "ColumnsRequested",
    "DataFactoryName",
    "PublicKeyVersion",
];

/// The name of the member with wrapped keys.
const KEY_DETAILS: &str = "DecryptionKeyDetails";

/// The members of the first object that are read, as they are written: the value of each of [`NAMES`], and of
/// [`KEY_DETAILS`].
#[derive(Default)]
struct Fields([Option<Box<RawValue>>; NAMES.len() + 1]);

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

    /// All members but `TenantId`, `CopyActivityId` and `Errors`.
    fn rest(&mut self) -> Result<JobMetadata, MetadataError> {
        Ok(JobMetadata {
            copy_activity_id: None,
            tenant_id: None,
            errors: None,
            rows_extracted: self.rows("NumberOfRowsExtracted")?,
            table_name: self.repeated_text("TableName")?,
            request_start_date: self.repeated_text("RequestStartDate")?,
            request_end_date: self.repeated_text("RequestEndDate")?,
            job_submission_time: self.text("JobSubmissionTime")?,
            job_completion_time: self.text("JobCompletionTime")?,
            columns_requested: self.text("ColumnsRequested")?,
            data_factory_name: self.text("DataFactoryName")?,
            public_key_version: self.text("PublicKeyVersion")?,
            decryption_key_details: self.key_details()?,
        })
    }

    /// Takes the member called `name`; `None` if it is missing or null.
    fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.0[index_of(name)?].take().filter(|value| value.get() != "null")
    }

    /// A string, or the JSON of any other value; `None` if it is missing or blank.
    fn text(&mut self, name: &'static str) -> Result<Option<String>, MetadataError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = text_of(&value).ok_or_else(|| not_text(name))?;
        Ok(Some(text).filter(|text| !text.trim().is_empty()))
    }

    /// A text that every message of the drop repeats, so its length is limited.
    fn repeated_text(&mut self, name: &'static str) -> Result<Option<String>, MetadataError> {
        let text = self.text(name)?;
        if text.as_ref().is_some_and(|text| text.chars().count() > MAX_REPEATED_CHARS) {
            return Err(MetadataError::Field { name, found: "a longer string", expected: "at most 1,000 characters" });
        }
        Ok(text)
    }

    /// A GUID as spelled, and parsed; `None` if it is missing or blank.
    fn guid(&mut self, name: &'static str) -> Result<Option<(String, TenantId)>, MetadataError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let invalid = MetadataError::Field { name, found: kind(&value), expected: "a GUID" };
        let Some(text) = string_of(&value) else { return Err(invalid) };
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let id = text.parse().map_err(|_| invalid)?;
        Ok(Some((text.to_owned(), id)))
    }

    /// A number of rows, written as a number or as a number in a string; `None` if it is missing.
    fn rows(&mut self, name: &'static str) -> Result<Option<u64>, MetadataError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let string = string_of(&value);
        let text = string.as_deref().map_or(value.get(), str::trim);
        let number = text.parse().ok().or_else(|| as_row_count(&serde_json::from_str(text).ok()?));
        number.map(Some).ok_or(MetadataError::Field {
            name,
            found: kind(&value),
            expected: "a whole number of rows, 0 or more",
        })
    }

    /// The text to show for `Errors`; `None` if it is blank: an empty list, or text of only blanks and control
    /// characters.
    fn errors(&mut self) -> Result<Option<String>, MetadataError> {
        let Some(errors) = self.take("Errors") else { return Ok(None) };
        let joined = serde_json::from_str(errors.get()).unwrap_or_default();
        let text = match joined {
            JoinedErrors { count: 0, is_list: true, .. } => return Ok(None),
            JoinedErrors { is_list: true, has_blank: false, text, .. } => text,
            JoinedErrors { .. } => text_of(&errors).ok_or_else(|| not_text("Errors"))?,
        };
        // `one_line` also trims control characters, so text of only those counts as blank.
        Ok(Some(one_line(&text, MAX_ERRORS_CHARS)).filter(|line| !line.is_empty()))
    }

    fn key_details(&mut self) -> Result<Option<KeyDetails>, MetadataError> {
        let Some(details) = self.take(KEY_DETAILS) else { return Ok(None) };
        let error = MetadataError::Field {
            name: KEY_DETAILS,
            found: "text that cannot be decoded, or deep nesting",
            expected: "wrapped keys",
        };
        serde_json::from_str(details.get()).map(Some).map_err(|_| error)
    }
}

/// The position of the member called `name`, in any case.
fn index_of(name: &str) -> Option<usize> {
    NAMES.iter().chain([&KEY_DETAILS]).position(|known| known.eq_ignore_ascii_case(name))
}

impl Members for Fields {
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, values: &mut A) -> Result<bool, A::Error> {
        match index_of(name).map(|index| &mut self.0[index]) {
            Some(slot @ None) => {
                *slot = Some(values.next_value()?);
                Ok(true)
            }
            Some(Some(_)) | None => Ok(false),
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_members(deserializer)
    }
}

/// The elements of a list of errors, joined.
#[derive(Default)]
struct JoinedErrors {
    is_list: bool,
    count: usize,
    has_blank: bool,
    text: String,
}

impl<'de> Deserialize<'de> for JoinedErrors {
    /// Fails if the JSON is not a list.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = JoinedErrors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<JoinedErrors, A::Error> {
                let mut errors = JoinedErrors { is_list: true, ..JoinedErrors::default() };
                while let Some(element) = elements.next_element::<&RawValue>()? {
                    if errors.count > 0 {
                        errors.text.push_str("; ");
                    }
                    errors.count += 1;
                    // An escape that is not text is shown as it is written.
                    let text = text_of(element).unwrap_or_else(|| element.get().to_owned());
                    errors.has_blank |= is_string(element) && text.trim().is_empty();
                    errors.text.push_str(&text);
                }
                Ok(errors)
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

fn not_text(name: &'static str) -> MetadataError {
    MetadataError::Field { name, found: "an escape that is not text", expected: "text" }
}

fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// The text of a string. `None` for other values, and if an escape is not text.
fn string_of(value: &RawValue) -> Option<String> {
    if is_string(value) { serde_json::from_str(value.get()).ok() } else { None }
}

/// The text of a string, or the JSON of any other value without white space between its tokens. `None` if an escape of
/// the string is not text.
fn text_of(value: &RawValue) -> Option<String> {
    if is_string(value) {
        return string_of(value);
    }
    let (mut in_string, mut is_escaped) = (false, false);
    let is_kept = |&c: &char| {
        if in_string {
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            return true;
        }
        in_string = c == '"';
        !c.is_ascii_whitespace()
    };
    Some(value.get().chars().filter(is_kept).collect())
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
fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "another string",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        _ => "another number",
    }
}
