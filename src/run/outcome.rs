//! The result of a run.

use time::OffsetDateTime;

use crate::{
    date::date_and_time,
    drop::{DropPath, tenant::Refusal},
    ledger::Ending,
    verdict::Reason,
};

/// The state of the drop at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has acknowledged every row and the `drop.completed` message.
    Completed {
        /// Rows delivered, over all runs.
        rows: u64,
        /// Rows that could not be decoded.
        bad_rows: u64,
        /// When an earlier run completed the drop; `None` if this run did.
        earlier: Option<OffsetDateTime>,
    },
    /// Rows are missing, or another run works on them.
    Open {
        /// Rows delivered so far, including bad rows.
        rows: u64,
        /// How many rows the drop will have, if the job metadata says so.
        of: Option<u64>,
    },
    /// The drop, or one of its files, was set aside by this run or an earlier one.
    SetAside {
        /// Why the drop or file was set aside.
        reason: Reason,
        /// The reason in words, if it is recorded.
        message: Option<String>,
        /// Whether nothing is left to do. False while another run works on other files.
        is_over: bool,
    },
    /// The receiver or a service asked to wait: the drop is retried at this time.
    Postponed(OffsetDateTime),
    /// The drop waits for the directory that its rows are joined to, until this time at most.
    Waiting(OffsetDateTime),
    /// The tenant is paused: sweeps run the drop when it no longer is.
    Paused,
    /// There is no job metadata: this is not a drop, or not yet.
    NoDrop,
    /// The drop does not belong to a tenant of `TENANTS`, or lies where its tenant may not write.
    Refused(Refusal),
}

impl Outcome {
    /// Whether nothing is left to do until blobs are added or overwritten.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Completed { .. } | Self::NoDrop | Self::Refused(_) => true,
            Self::SetAside { is_over, .. } => *is_over,
            Self::Open { .. } | Self::Postponed(_) | Self::Waiting(_) | Self::Paused => false,
        }
    }

    /// A sentence for people about the outcome of the drop at `path`.
    pub fn describe(&self, path: &DropPath) -> String {
        match self {
            Self::Completed { rows, earlier: Some(earlier), .. } => {
                format!("`{path}` was already completed on {}: {rows} rows", date_and_time(*earlier))
            }
            Self::Completed { rows, bad_rows: 0, .. } => format!("completed `{path}`: {rows} rows"),
            Self::Completed { rows, bad_rows, .. } => format!("completed `{path}`: {rows} rows, {bad_rows} bad rows"),
            Self::Open { rows, of: Some(of) } => format!("`{path}` is open: {rows} of {of} rows"),
            Self::Open { rows, of: None } => format!("`{path}` is open: {rows} rows"),
            Self::SetAside { reason, .. } => format!("`{path}` is set aside: {reason}"),
            Self::Postponed(until) => {
                format!("`{path}` is retried at {}, as its receiver asked", date_and_time(*until))
            }
            Self::Waiting(until) => {
                format!("`{path}` waits for the directory of its run, until {} at most", date_and_time(*until))
            }
            Self::Paused => format!("`{path}` waits, because its tenant is paused in TENANTS"),
            Self::NoDrop => format!("`{path}` has no job metadata: it is not a drop, or was deleted"),
            Self::Refused(refusal) => format!("did not admit `{path}`: {refusal}"),
        }
    }
}

impl From<&Ending> for Outcome {
    /// The state of a drop that ended in an earlier run.
    fn from(ending: &Ending) -> Self {
        match ending.reason {
            None => Self::Completed { rows: ending.rows, bad_rows: ending.bad_rows, earlier: Some(ending.recorded) },
            Some(reason) => Self::SetAside { reason, message: ending.message.clone(), is_over: true },
        }
    }
}
