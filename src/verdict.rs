//! What a failure means: *try again* or *set aside*.
//!
//! Every error that can stop a file or a drop has a `verdict()`, an exhaustive match. The HTTP status for the host, the
//! retry and the ledger all ask it, so that no two of them can disagree.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a failure means for the file or drop it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Something did not answer. The host is told to repeat the event; nothing is lost by stopping here.
    TryAgain,
    /// Repeating cannot help. It is recorded and announced once, and the host is told that the event is done with.
    SetAside(Reason),
}

/// Why a drop, or one of its files, was set aside: the words of `drop.failed` and of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The job metadata reports errors: Microsoft extracted no data.
    Errors,
    /// The job metadata is missing or unreadable.
    Metadata,
    /// The Viva Insights API or the vault refuses to give the keys.
    NoKey,
    /// No layout fits the decrypted bytes, or a key does not unwrap.
    WrongKey,
    /// The file is not encrypted, and that is not allowed.
    Plaintext,
    /// The bytes are not what was sent: a broken gzip stream, broken padding, a file cut short.
    Damaged,
    /// More rows than `BAD_ROWS_ALLOWED` are no JSON objects or have columns that cannot be decrypted.
    BadRow,
    /// A line is longer than `MAX_ROW_BYTES`.
    RowTooLong,
    /// The files hold more rows than `NumberOfRowsExtracted`.
    RowCount,
    /// The sink refused a batch.
    Refused,
}

impl Reason {
    /// The reason as messages and the ledger spell it.
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
    fn a_reason_is_written_as_it_is_displayed() {
        for reason in [Reason::Errors, Reason::NoKey, Reason::BadRow, Reason::RowTooLong, Reason::RowCount] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }
}
