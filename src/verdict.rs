//! The verdict on a failure: *retry* or *set aside*.
//!
//! Every error that can stop a file or a drop has a `verdict()` method, an exhaustive match. The HTTP status for the
//! Functions host, the retries and the ledger all use it, so that they always agree.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The consequence of a failure for the file or drop that it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The drop is not at fault: the failure is transient, or a person has to correct a permission, an address or a
    /// secret. The run stops here without losing anything, the Functions host is asked to send the event again, and
    /// sweeps run the drop later.
    Retry,
    /// The drop or file itself is at fault, so a retry cannot help. This is recorded and announced once, and the event
    /// is reported to the Functions host as done.
    SetAside(Reason),
}

/// Why a drop or one of its files was set aside, as in `drop.failed` and in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The job metadata reports errors: Microsoft extracted no data.
    Errors,
    /// The job metadata is missing or cannot be read.
    Metadata,
    /// The Viva Insights API or the vault has no keys for this drop.
    NoKey,
    /// No layout fits the decrypted bytes, or a key cannot be unwrapped.
    WrongKey,
    /// The file is not encrypted, and `ALLOW_PLAINTEXT` is not set.
    Plaintext,
    /// The bytes are damaged: an invalid gzip stream, invalid padding, or a truncated file.
    Damaged,
    /// More than `BAD_ROWS_ALLOWED` rows are bad: not JSON objects, nested deeper than `MAX_ROW_DEPTH`, with a number
    /// that is too long, or with a column that cannot be decrypted.
    BadRow,
    /// A line is longer than `MAX_ROW_BYTES`.
    RowTooLong,
    /// The files have more rows than `NumberOfRowsExtracted`, or rows were still missing after 30 days.
    RowCount,
    /// The sink rejected this message and would reject it again, a row is too large for the sink's messages, or the
    /// sink denied access for all of `GIVE_UP_AFTER`.
    Refused,
    /// The drop has more than `MAX_FILES` blobs.
    TooManyFiles,
    /// The directory that the rows are joined to does not fit into `DIRECTORY_MEMORY`.
    DirectoryTooLarge,
    /// Something did not answer, or denied access, for all of `GIVE_UP_AFTER`.
    Unavailable,
    /// A defect of vivadrop: five runs in a row have panicked in the same file.
    Internal,
}

impl Reason {
    /// The reason as it is written in messages and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Metadata => "metadata",
            Self::NoKey => "no-key",
            Self::WrongKey => "wrong-key",
            Self::Plaintext => "plaintext",
            Self::Damaged => "damaged",
            Self::BadRow => "bad-row",
            Self::RowTooLong => "row-too-long",
            Self::RowCount => "row-count",
            Self::Refused => "refused",
            Self::TooManyFiles => "too-many-files",
            Self::DirectoryTooLarge => "directory-too-large",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_displayed_as_it_is_serialized() {
        for reason in [
            Reason::Errors,
            Reason::NoKey,
            Reason::BadRow,
            Reason::RowTooLong,
            Reason::TooManyFiles,
            Reason::DirectoryTooLarge,
        ] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }
}
