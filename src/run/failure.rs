//! Failed runs: records why the drop failed and when it is retried, and gives up in the end.

use std::sync::Arc;

use time::{Duration, OffsetDateTime};
use tracing::{debug, error};

use super::{
    AdmittedDrop, Outcome, Run, RunError, Snapshot, Step,
    backoff::{Failure, add_failure, add_wait_for_memory, was_paused_since},
    conclude::RowCounts,
};
use crate::{
    clock,
    deliver::FileError,
    drop::{
        discover::{DropContents, ListingSummary},
        metadata::MetadataError,
    },
    error_chain::error_chain,
    ledger::{Announcement, DropState, Ending, LedgerError, Scope},
    message::DropFacts,
    sink::SinkError,
    store::{Blob, ETag},
    verdict::Reason,
};

/// How long vivadrop tries to send an ending that the sink does not take.
const ANNOUNCE_FOR: Duration = Duration::days(30);

impl RunError {
    /// Whether another run has taken over, so that nothing has failed.
    fn is_taken_over(&self) -> bool {
        let lost = |error: &LedgerError| matches!(error, LedgerError::LeaseLost(_) | LedgerError::Conflict(_));
        match self {
            Self::Ledger(error) | Self::File { source: FileError::Ledger(error), .. } => lost(error),
            _ => false,
        }
    }

    /// Whether the files after the one that failed would fail as well, or must not be sent yet.
    pub(super) fn stops_the_run(&self) -> bool {
        match self {
            Self::File { source, .. } => {
                source.retry_after().is_some() || matches!(source, FileError::Ledger(LedgerError::NewerVersion { .. }))
            }
            Self::Store(_)
            | Self::Keys(_)
            | Self::Directory { .. }
            | Self::Notification { .. }
            | Self::NoMetadata
            | Self::TimeLimit(_)
            | Self::Ledger(_) => true,
        }
    }

    /// The reason for setting the drop aside if this is still the failure after `GIVE_UP_AFTER`. `is_denied` applies to
    /// all failures in that time.
    fn final_reason(&self, is_denied: bool) -> Reason {
        match self {
            Self::NoMetadata => Reason::Metadata,
            _ if is_denied => Reason::Refused,
            _ => Reason::Unavailable,
        }
    }

    /// Whether the sink denied access, or rejects every message.
    pub(super) fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::File { source: FileError::Sink { source: SinkError::Misconfigured { .. }, .. }, .. }
                | Self::Notification { source: SinkError::Misconfigured { .. }, .. }
        )
    }

    /// The file that failed.
    fn file(&self) -> Option<&str> {
        match self {
            Self::File { name, .. } => Some(name),
            _ => None,
        }
    }
}

impl Run<'_> {
    /// Handles a drop without job metadata. There is nothing to do unless the drop is unfinished: then its recorded
    /// ending is announced, or the run fails.
    pub(super) async fn without_metadata(&mut self) -> Result<Step, RunError> {
        let is_announced = self.record.ending.as_ref().map(Ending::is_announced);
        match (is_announced, self.snapshot_without_metadata()) {
            (None, Some(_)) => Err(RunError::NoMetadata),
            (Some(false), Some(snapshot)) => self.announce(&Arc::new(snapshot)).await,
            (Some(true), _) | (_, None) => {
                if let Some(entry) = &self.entry {
                    self.runner.ledger.remove_unfinished(self.path, entry).await?;
                }
                Ok(Step::End(Outcome::NoDrop))
            }
        }
    }

    /// Records a failure of this run and when the drop is retried; returns the error. If the drop has failed for
    /// `GIVE_UP_AFTER` without progress, sets it aside.
    ///
    /// If the ledger cannot be written either, the entry in the index stays due, and the next sweep runs the drop.
    pub(super) async fn record_failure(&mut self, error: RunError) -> Result<Outcome, RunError> {
        if error.is_taken_over() {
            return Err(error);
        }
        match self.try_to_record(&error).await {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(error),
            Err(why) => {
                let path = self.path;
                debug!(drop.path = %path, "cannot record the failure of `{path}`: {}", error_chain(&why));
                Err(error)
            }
        }
    }

    /// Does the work of `record_failure`. Returns the outcome if the drop has ended; `None` if it will be retried.
    async fn try_to_record(&mut self, error: &RunError) -> Result<Option<Outcome>, RunError> {
        let Some(snapshot) = self.snapshot.clone().or_else(|| self.snapshot_without_metadata().map(Arc::new)) else {
            // The run failed before it knew the tenant of the drop.
            return Ok(None);
        };
        let (path, ledger, tenant) = (self.path, &self.runner.ledger, snapshot.admitted.tenant);
        let now = clock::now();
        self.record = ledger.drop_record(path).await?;
        // Only progress and pauses of the tenant end a series of failures.
        let mut previous = self.record.failing.take().filter(|_| !self.progress_flag.is_set());
        if let Some(failing) = &previous
            && let Some(paused) = ledger.last_paused(tenant).await?
            && was_paused_since(failing, paused, now)
        {
            previous = None;
        }
        let is_wait = error.is_memory_in_use();
        let failing = if is_wait {
            add_wait_for_memory(previous, error_chain(error), now)
        } else {
            let (is_denied, retry_after) = (error.is_denied(), error.retry_after());
            add_failure(previous, Failure { error: error_chain(error), is_denied, retry_after }, now)
        };
        let (not_before, is_denied) = (failing.not_before, failing.is_denied);
        let counted = now - failing.since - failing.waited;
        self.record.failing = Some(failing);
        let pending_since = self.record.ending.as_ref().filter(|ending| !ending.is_announced()).map(|e| e.recorded);
        match pending_since {
            Some(recorded) if now - recorded >= ANNOUNCE_FOR => return self.stop_announcing(&snapshot).await.map(Some),
            None if !is_wait && counted >= self.runner.limits.give_up_after => {
                return self.give_up(&snapshot, error, is_denied).await;
            }
            Some(_) | None => {}
        }
        ledger.write_drop_record(path, tenant, &mut self.record).await?;
        if let Some(entry) = &self.entry {
            ledger.postpone(path, tenant, not_before, entry).await?;
        }
        // Without a listing, the last entry in the list says more about the drop than this run could.
        if self.snapshot.is_some() {
            self.read_progress(&snapshot).await?;
            self.runner.ledger.write_list_entry(&self.list_entry(&snapshot, DropState::Retrying)).await?;
        }
        Ok(None)
    }

    /// Sets the drop aside because it has failed for too long.
    async fn give_up(
        &mut self,
        snapshot: &Arc<Snapshot>,
        error: &RunError,
        is_denied: bool,
    ) -> Result<Option<Outcome>, RunError> {
        self.read_progress(snapshot).await?;
        let file = error.file().map(str::to_owned);
        let counts = match file.as_ref().and_then(|name| self.progress.get(name)) {
            Some(file) => RowCounts { rows: file.next_row, bad_rows: file.bad_rows },
            None => RowCounts::of(&self.progress),
        };
        let ending =
            counts.ending(&snapshot.scope, Some(error.final_reason(is_denied)), file, Some(error_chain(error)));
        match self.end(snapshot, ending).await? {
            Step::End(outcome) => Ok(Some(outcome)),
            Step::Again => Ok(None),
        }
    }

    /// Stops sending an ending that the sink has not taken for 30 days.
    async fn stop_announcing(&mut self, snapshot: &Arc<Snapshot>) -> Result<Outcome, RunError> {
        let path = self.path;
        self.read_progress(snapshot).await?;
        let ending = self.record.ending.as_mut().expect("there is an ending to announce");
        (ending.announcement, ending.is_final) = (Announcement::GivenUp, true);
        let outcome = Outcome::from(&*ending);
        self.record.failing = None;
        self.runner.ledger.write_drop_record(path, snapshot.admitted.tenant, &mut self.record).await?;
        error!(drop.path = %path,
            "the sink has not taken the end of the drop for {} days: it is not sent again; to deliver the drop again, \
             run `vivadrop replay {path}`",
            ANNOUNCE_FOR.whole_days());
        self.close(snapshot).await;
        Ok(outcome)
    }

    /// A snapshot of an unfinished drop whose job metadata was deleted, from the record.
    fn snapshot_without_metadata(&self) -> Option<Snapshot> {
        let tenant = self.record.tenant?;
        let facts = DropFacts::new(tenant, self.path, self.record.generation);
        let metadata = Blob {
            path: self.path.blob("metadata/JobMetadata"),
            etag: ETag(String::new()),
            size: 0,
            modified: OffsetDateTime::UNIX_EPOCH,
        };
        let contents = DropContents {
            path: self.path.clone(),
            metadata,
            key_details: None,
            files: Vec::new(),
            too_many_blobs: false,
            listing: ListingSummary::default(),
        };
        let admitted = AdmittedDrop { path: self.path.clone(), tenant, metadata: Err(MetadataError::Missing), facts };
        Some(Snapshot { scope: Scope::of(&contents), versions: Vec::new(), contents, admitted })
    }
}
