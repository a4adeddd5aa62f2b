//! The JSON text of records: formats and parses it, without I/O.

mod drop;
mod file;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

pub(super) use self::{
    drop::{format_drop, parse_drop},
    file::{file_metadata, format_file, parse_file, parse_file_metadata, parse_named_file},
};
use super::LedgerError;
use crate::{
    drop::{DropPath, InvalidDropPath},
    store::BlobPath,
};

/// The version of the record format. Version 1 is read as well.
pub(super) const VERSION: u64 = 2;

/// The path of a drop, as text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct DropPathJson(pub(super) DropPath);

impl TryFrom<String> for DropPathJson {
    type Error = InvalidDropPath;

    fn try_from(text: String) -> Result<Self, InvalidDropPath> {
        text.parse().map(Self)
    }
}

impl From<DropPathJson> for String {
    fn from(path: DropPathJson) -> Self {
        path.0.to_string()
    }
}

fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

/// The format version of a record. It is checked first, because members may have another meaning in other versions.
fn version(path: &BlobPath, bytes: &[u8]) -> Result<u64, LedgerError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    match parse::<Versioned>(path, bytes)?.version {
        0 => Err(invalid(path, "version 0 does not exist")),
        version @ 1..=VERSION => Ok(version),
        version => Err(LedgerError::NewerVersion { path: path.clone(), version }),
    }
}

/// Parses a record whose members are the same in all versions.
pub(super) fn parse_versioned<T: DeserializeOwned>(path: &BlobPath, bytes: &[u8]) -> Result<T, LedgerError> {
    version(path, bytes)?;
    parse(path, bytes)
}

pub(super) fn parse<T: DeserializeOwned>(path: &BlobPath, bytes: &[u8]) -> Result<T, LedgerError> {
    serde_json::from_slice(bytes).map_err(|error| invalid(path, &error.to_string()))
}

fn invalid(path: &BlobPath, problem: &str) -> LedgerError {
    LedgerError::Invalid { path: path.clone(), problem: problem.to_owned() }
}

pub(super) fn format(json: &impl Serialize) -> Vec<u8> {
    let mut text =
        serde_json::to_vec_pretty(json).expect("records have only strings, numbers and times in their range");
    text.push(b'\n');
    text
}

/// Cuts a time to milliseconds, which are easier to read and still show the order of events.
pub(super) fn to_millisecond(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_millisecond(time.millisecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
