//! The end of a drop: records it, tells the sink, and closes the drop's entries.
//!
//! An ending is recorded with its sequence number before it is sent, and only over the record that was read before the
//! snapshot. Before every try to send it, the record is read again: if another run has recorded another ending, this
//! run stops sending. So a late message never replaces a newer state at the receiver, which keeps the ending with the
//! highest sequence number. Announcing an ending needs no claim.

use std::sync::Arc;

use tracing::{debug, error, info, warn};

use super::{Outcome, Run, RunError, Snapshot, Step, conclude::RowCounts, directory::is_directory_drop};
use crate::{
    clock,
    error_chain::error_chain,
    ledger::{Announcement, DropState, Ending, LedgerError, Status},
    message::{DropFacts, EndingVersion, Failure, Message},
    sink::{CheckedDeliveryError, Sink, SinkError, deliver_checked},
    verdict::Reason,
};

impl Run<'_> {
    /// Sets the whole drop aside.
    pub(super) async fn set_drop_aside(
        &mut self,
        snapshot: &Arc<Snapshot>,
        reason: Reason,
        message: String,
    ) -> Result<Step, RunError> {
        self.read_progress(snapshot).await?;
        let counts = RowCounts::of(&self.progress);
        self.end(snapshot, counts.ending(&snapshot.scope, Some(reason), None, Some(message))).await
    }

    /// Records an ending and tells the sink.
    ///
    /// If the last ending was announced and says the same, only its scope is updated: the sink is not told again.
    pub(super) async fn end(&mut self, snapshot: &Arc<Snapshot>, ending: Ending) -> Result<Step, RunError> {
        let tenant = snapshot.admitted.tenant;
        match &mut self.record.ending {
            Some(last) if last.is_announced() && last.says_the_same_as(&ending) => {
                (last.scope, last.is_final) = (ending.scope, ending.is_final);
                self.note_announced_file(snapshot, ending.file.as_deref());
                self.record.failing = None;
                self.runner.ledger.write_drop_record(self.path, tenant, &mut self.record).await?;
                return Ok(self.ended(snapshot).await);
            }
            last => *last = Some(ending),
        }
        self.record.sequence += 1;
        self.record.failing = None;
        self.runner.ledger.write_drop_record(self.path, tenant, &mut self.record).await?;
        self.log_failure();
        self.announce(snapshot).await
    }

    /// Sends the recorded ending until the sink takes it, and records that. `progress` must be that of the snapshot.
    pub(super) async fn announce(&mut self, snapshot: &Arc<Snapshot>) -> Result<Step, RunError> {
        let ending = self.record.ending.clone().expect("the ending was recorded");
        let config = self.runner.tenant_configs.of(snapshot.admitted.tenant);
        let receiver = self.receiver.get_or_insert_with(|| config.receiver()).clone();
        let facts = DropFacts { generation: self.record.generation, ..snapshot.admitted.facts.clone() };
        let message = message_of(&facts, self.record.sequence, &ending, &*receiver.sink);
        let is_current = || async {
            if receiver.must_stop() {
                let source = receiver.breaker_error(&message);
                return Err(RunError::Notification { event: event_of(&ending), source });
            }
            let record = self.runner.ledger.drop_record(self.path).await?;
            let is_current = (record.sequence, record.replays) == (self.record.sequence, self.record.replays);
            if is_current { Ok(()) } else { Err(LedgerError::Conflict(self.path.clone()).into()) }
        };
        let sent = if ending.reason.is_none() && self.is_silent(&snapshot.admitted) {
            Ok(None)
        } else {
            deliver_checked(&*receiver.sink, &message, is_current).await.map(|()| Some(message.id.clone()))
        };
        let announcement = match sent {
            Ok(id) => Announcement::Done(id),
            Err(CheckedDeliveryError::Check(error)) => return Err(error),
            Err(CheckedDeliveryError::Sink(error @ SinkError::Rejected { .. })) if ending.reason.is_none() => {
                let refused = Ending {
                    reason: Some(Reason::Refused),
                    message: Some(error_chain(&error)),
                    recorded: clock::now(),
                    ..ending
                };
                return Box::pin(self.end(snapshot, refused)).await;
            }
            // If the sink rejects even this message, the drop is set aside all the same.
            Err(CheckedDeliveryError::Sink(error @ SinkError::Rejected { .. })) => {
                let path = self.path;
                warn!(drop.path = %path, "the sink rejected `drop.failed` of `{path}`: {}", error_chain(&error));
                Announcement::Rejected
            }
            Err(CheckedDeliveryError::Sink(source)) => {
                return Err(RunError::Notification { event: event_of(&ending), source });
            }
        };
        let recorded = self.record.ending.as_mut().expect("the ending was recorded");
        recorded.announcement = announcement;
        self.note_announced_file(snapshot, ending.file.as_deref());
        self.record.failing = None;
        self.runner.ledger.write_drop_record(self.path, snapshot.admitted.tenant, &mut self.record).await?;
        if ending.reason.is_none() {
            let (path, Ending { rows, bad_rows, .. }) = (self.path, ending);
            info!(drop.path = %path, rows, bad_rows, "completed `{path}`: {rows} rows");
        }
        Ok(self.ended(snapshot).await)
    }

    /// Logs that the drop was set aside, as soon as that is recorded: the sink may be down.
    fn log_failure(&self) {
        let Some((ending, reason)) = self.record.ending.as_ref().and_then(|ending| Some((ending, ending.reason?)))
        else {
            return;
        };
        let (path, message) = (self.path, ending.message.as_deref().unwrap_or_default());
        error!(drop.path = %path, file.name = ending.file, %reason, rows_delivered = ending.rows,
            "set aside: {message}; after a fix, run `vivadrop replay {path}`");
    }

    /// Records that the sink was told about `file`, if the file was set aside. It may also be a file that is still
    /// running, if the drop was given up because of it.
    fn note_announced_file(&mut self, snapshot: &Snapshot, file: Option<&str>) {
        if let Some(file) = file
            && let Some(Status::SetAside(reason)) = self.progress.get(file).map(|progress| progress.status)
            && let Some(version) = snapshot.version_text(file)
        {
            self.record.note_announced(&version, reason);
        }
    }

    /// Whether the current version of `file` is set aside.
    pub(super) fn is_set_aside(&self, file: &str) -> bool {
        self.progress.get(file).is_some_and(|file| matches!(file.status, Status::SetAside(_)))
    }

    /// The next step after the sink was told about an ending.
    pub(super) async fn ended(&self, snapshot: &Arc<Snapshot>) -> Step {
        let ending = self.record.ending.as_ref().expect("the ending was recorded");
        if !ending.is_final {
            return Step::Again;
        }
        self.close(snapshot).await;
        Step::End(match Outcome::from(ending) {
            Outcome::Completed { rows, bad_rows, .. } => Outcome::Completed { rows, bad_rows, earlier: None },
            outcome => outcome,
        })
    }

    /// Makes the drops due that wait for this drop as their directory, updates this drop's entry in the list, and
    /// removes it from the index of unfinished drops. If a request fails, the next sweep does the rest.
    pub(super) async fn close(&self, snapshot: &Snapshot) {
        let ledger = &self.runner.ledger;
        let result = async {
            self.publish_directory(snapshot).await?;
            let state = match &self.record.ending {
                Some(Ending { reason: None, .. }) => DropState::Completed,
                Some(_) | None => DropState::SetAside,
            };
            ledger.write_list_entry(&self.list_entry(snapshot, state)).await?;
            if state == DropState::Completed && !is_directory_drop(&snapshot.admitted) {
                self.runner.due_imports.add(snapshot.admitted.tenant);
            }
            match &self.entry {
                Some(entry) => ledger.remove_unfinished(self.path, entry).await,
                None => Ok(()),
            }
        };
        if let Err(error) = result.await {
            let path = self.path;
            debug!(drop.path = %path, "the next sweep will close `{path}`: {}", error_chain(&error));
        }
    }
}

/// The message about an ending.
fn message_of(drop: &DropFacts, sequence: u64, ending: &Ending, sink: &dyn Sink) -> Message {
    let version = EndingVersion { sequence, files: ending.scope.as_text() };
    let Some(reason) = ending.reason else {
        return Message::completed(drop, &version, ending.scope.file_count, ending.rows, ending.bad_rows);
    };
    let message = ending.message.as_deref().unwrap_or_default();
    let failure = Failure { file: ending.file.as_deref(), reason, message, rows_delivered: ending.rows };
    Message::failed(drop, &version, &failure, sink.largest_message())
}

/// The ending in words, for an error about its message.
fn event_of(ending: &Ending) -> String {
    match ending.reason {
        None => "every row was delivered".into(),
        Some(reason) => format!("permanent failure ({reason}: {})", ending.message.as_deref().unwrap_or_default()),
    }
}
