//! The end of a drop: decides it from the records of the files, notifies the sink, and records it.
//!
//! An ending is recorded after the sink has acknowledged the message about it, and only over the record that was read
//! before the snapshot. If a run crashes in between, or if another run comes to the same ending, the message is sent
//! again with the same id.

use std::collections::BTreeMap;

use tracing::{error, info, warn};

use super::{Outcome, RunError, Runner, Snapshot};
use crate::{
    drop::FileVersion,
    error_chain::error_chain,
    ledger::{Ending, FileRecord, Scope, Status},
    message::{DropFacts, Failure, Message, MessageId},
    sink::{self, Sink, SinkError},
    verdict::Reason,
};

impl Snapshot {
    /// The outcome that an earlier run has recorded, if the versions that it is about have not changed.
    pub(super) fn recorded_outcome(&self) -> Option<Outcome> {
        let ending = self.record.ending.as_ref()?;
        let is_current = match &ending.scope {
            Scope::Metadata(version) => *version == self.admitted.metadata_version,
            Scope::Files(version, files) => *version == self.admitted.metadata_version && *files == self.versions,
        };
        is_current.then_some(match ending.reason {
            None => Outcome::Completed { rows: ending.rows, bad_rows: ending.bad_rows },
            Some(reason) => Outcome::SetAside { reason, message: ending.message.clone(), is_over: true },
        })
    }

    /// The current versions of the job metadata and of all files.
    fn scope(&self) -> Scope {
        Scope::Files(self.admitted.metadata_version.clone(), self.versions.clone())
    }
}

/// The row counts of all files of a drop.
struct RowCounts {
    /// Rows before the checkpoints, including bad rows.
    rows: u64,
    bad_rows: u64,
}

impl RowCounts {
    fn of(records: &BTreeMap<String, FileRecord>) -> Self {
        Self {
            rows: records.values().map(|record| record.next_row).sum(),
            bad_rows: records.values().map(|record| record.bad_rows).sum(),
        }
    }

    fn delivered(&self) -> u64 {
        self.rows - self.bad_rows
    }

    fn ending(
        &self,
        scope: Scope,
        reason: Option<Reason>,
        message: Option<String>,
        notification: Option<MessageId>,
    ) -> Ending {
        Ending { scope, reason, message, rows: self.delivered(), bad_rows: self.bad_rows, notification }
    }
}

impl Runner {
    /// Ends the drop if all of its files have ended and no row is missing. `expected` is `NumberOfRowsExtracted`.
    pub(super) async fn conclude(
        &self,
        snapshot: &Snapshot,
        records: &BTreeMap<String, FileRecord>,
        expected: Option<u64>,
    ) -> Result<Outcome, RunError> {
        let counts = RowCounts::of(records);
        let has_ended = |record: &FileRecord| record.status != Status::Running;
        let is_over = records.len() == snapshot.versions.len() && records.values().all(has_ended);
        let set_aside = records.values().find_map(|record| match record.status {
            Status::SetAside(reason) => Some((reason, record.message.clone())),
            Status::Running | Status::Done => None,
        });
        if let Some((reason, message)) = set_aside {
            if is_over {
                // The sink was notified when the file was set aside.
                let ending = counts.ending(snapshot.scope(), Some(reason), message.clone(), None);
                self.ledger.record_ending(&snapshot.admitted.path, &ending, &snapshot.record).await?;
            }
            return Ok(Outcome::SetAside { reason, message, is_over });
        }
        if let Some(expected) = expected.filter(|&expected| counts.rows > expected) {
            let rows = counts.rows;
            let message = format!("the files have at least {rows} rows, but `NumberOfRowsExtracted` is {expected}");
            return self.set_drop_aside(snapshot, snapshot.scope(), Reason::RowCount, &message).await;
        }
        // If the metadata does not say how many rows to expect, a drop needs at least one file to be complete.
        let is_complete = expected.map_or(!snapshot.versions.is_empty(), |expected| counts.rows == expected);
        if is_over && is_complete {
            return self.complete(snapshot, &counts).await;
        }
        let (path, rows) = (&snapshot.admitted.path, counts.rows);
        let of = expected.map_or_else(String::new, |expected| format!(" of {expected}"));
        info!(drop.path = %path, rows, "`{path}` is open: {rows}{of} rows delivered, waiting for the rest");
        Ok(Outcome::Open { rows, of: expected })
    }

    async fn complete(&self, snapshot: &Snapshot, counts: &RowCounts) -> Result<Outcome, RunError> {
        let (path, rows, bad_rows) = (&snapshot.admitted.path, counts.delivered(), counts.bad_rows);
        let message = Message::completed(&snapshot.admitted.facts, &snapshot.versions, rows, bad_rows);
        let sink = &self.tenant_configs.of(snapshot.admitted.tenant).sink;
        match sink::deliver(&**sink, &message).await {
            Ok(()) => {}
            Err(error @ SinkError::Rejected { .. }) => {
                return self.set_drop_aside(snapshot, snapshot.scope(), Reason::Refused, &error_chain(&error)).await;
            }
            Err(source @ (SinkError::Misconfigured { .. } | SinkError::Unavailable { .. })) => {
                return Err(RunError::Notification { event: "every row was delivered".into(), source });
            }
        }
        let ending = counts.ending(snapshot.scope(), None, None, Some(message.id));
        self.ledger.record_ending(path, &ending, &snapshot.record).await?;
        info!(drop.path = %path, rows, bad_rows, "completed `{path}`: {rows} rows");
        Ok(Outcome::Completed { rows, bad_rows })
    }

    /// Sets the whole drop aside: notifies the sink, then records the ending.
    pub(super) async fn set_drop_aside(
        &self,
        snapshot: &Snapshot,
        scope: Scope,
        reason: Reason,
        message: &str,
    ) -> Result<Outcome, RunError> {
        let path = &snapshot.admitted.path;
        let counts = RowCounts::of(&self.ledger.file_records(path, &snapshot.versions).await?);
        let rows_delivered = counts.delivered();
        let failure = Failure { file: None, reason, message, rows_delivered };
        let sink = &self.tenant_configs.of(snapshot.admitted.tenant).sink;
        let notification = notify_failed(&**sink, &snapshot.admitted.facts, &scope.versions(), &failure).await?;
        let ending = counts.ending(scope, Some(reason), Some(message.to_owned()), Some(notification));
        self.ledger.record_ending(path, &ending, &snapshot.record).await?;
        error!(drop.path = %path, %reason, rows_delivered,
            "set aside `{path}`: {message}; after a fix, run `vivadrop replay {path}`");
        Ok(Outcome::SetAside { reason, message: Some(message.to_owned()), is_over: true })
    }
}

/// Sends `drop.failed` to the sink, and returns the message's id. If the sink rejects this message, the drop or file is
/// set aside all the same; if the sink is unavailable or accepts no message at all, the notification is retried.
pub(super) async fn notify_failed(
    sink: &dyn Sink,
    drop: &DropFacts,
    versions: &[FileVersion],
    failure: &Failure<'_>,
) -> Result<MessageId, RunError> {
    let failed = Message::failed(drop, versions, failure, sink.largest_message());
    match sink::deliver(sink, &failed).await {
        Ok(()) => {}
        Err(error @ SinkError::Rejected { .. }) => {
            warn!(drop.path = %drop.path, "the sink rejected `drop.failed` of `{}`: {}", drop.path, error_chain(&error));
        }
        Err(source @ (SinkError::Misconfigured { .. } | SinkError::Unavailable { .. })) => {
            let event = format!("permanent failure ({}: {})", failure.reason, failure.message);
            return Err(RunError::Notification { event, source });
        }
    }
    Ok(failed.id)
}
