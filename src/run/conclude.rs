//! Judges a drop when no file is left that this run could process.

use std::{collections::BTreeMap, sync::Arc};

use time::Duration;
use tracing::info;

use super::{Outcome, Run, RunError, Snapshot, Step};
use crate::{
    clock,
    ledger::{Announcement, DropState, Ending, FileProgress, LedgerError, ListEntry, Scope, Status},
    verdict::Reason,
};

/// How long a drop may stay open because rows are missing.
const MAX_OPEN: Duration = Duration::days(30);

/// How many files that were set aside are announced, each with an ending of its own. The bound keeps a customer from
/// filling the record of the drop.
const MAX_ANNOUNCED_FILES: usize = 100;

/// How often sweeps run an open drop. Events and listings of the container find new files earlier.
const OPEN_CHECK: Duration = Duration::hours(1);

/// The row counts of all files of a drop.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowCounts {
    /// Rows before the checkpoints, including bad rows.
    pub(super) rows: u64,
    pub(super) bad_rows: u64,
}

impl RowCounts {
    pub(super) fn of(progress: &BTreeMap<String, FileProgress>) -> Self {
        Self {
            rows: progress.values().map(|file| file.next_row).sum(),
            bad_rows: progress.values().map(|file| file.bad_rows).sum(),
        }
    }

    pub(super) fn delivered(self) -> u64 {
        self.rows - self.bad_rows
    }

    /// A final ending with these counts that is not yet announced.
    pub(super) fn ending(
        self,
        scope: &Scope,
        reason: Option<Reason>,
        file: Option<String>,
        message: Option<String>,
    ) -> Ending {
        Ending {
            scope: scope.clone(),
            reason,
            file,
            message,
            rows: self.delivered(),
            bad_rows: self.bad_rows,
            recorded: clock::now(),
            announcement: Announcement::Pending,
            is_final: true,
        }
    }
}

impl Run<'_> {
    /// Ends the drop if a file was set aside, if there are too many rows, or if all files have ended and no row is
    /// missing. Otherwise leaves the drop open, for up to [`MAX_OPEN`]. `expected` is `NumberOfRowsExtracted`.
    pub(super) async fn conclude(&mut self, snapshot: &Arc<Snapshot>, expected: Option<u64>) -> Result<Step, RunError> {
        let counts = RowCounts::of(&self.progress);
        let have_all_ended = self.have_all_files_ended(snapshot);
        if let Some(ending) = self.unannounced_failure(snapshot).await? {
            return self.end(snapshot, ending).await;
        }
        if self.progress.values().any(|file| matches!(file.status, Status::SetAside(_))) {
            return self.keep_failure(snapshot, have_all_ended).await;
        }
        if let Some(expected) = expected.filter(|&expected| counts.rows > expected) {
            let rows = counts.rows;
            let message = format!("the files have at least {rows} rows, but `NumberOfRowsExtracted` is {expected}");
            return self
                .end(snapshot, counts.ending(&snapshot.scope, Some(Reason::RowCount), None, Some(message)))
                .await;
        }
        // If the metadata does not say how many rows to expect, a drop needs at least one file to be complete.
        let is_complete = expected.map_or(!snapshot.versions.is_empty(), |expected| counts.rows == expected);
        if have_all_ended && is_complete {
            return self.end(snapshot, counts.ending(&snapshot.scope, None, None, None)).await;
        }
        if self.were_files_only_deleted(snapshot) {
            return self.keep_ending(snapshot).await;
        }
        let open_since = self.record.first_seen.unwrap_or_else(clock::now);
        let was_open = self.record.ending.is_none();
        if have_all_ended && was_open && clock::now() - open_since >= MAX_OPEN {
            let (rows, days) = (counts.rows, MAX_OPEN.whole_days());
            let of = expected.map_or_else(String::new, |expected| format!(" of {expected}"));
            let message = format!("only {rows}{of} rows arrived within {days} days");
            return self
                .end(snapshot, counts.ending(&snapshot.scope, Some(Reason::RowCount), None, Some(message)))
                .await;
        }
        self.stay_open(snapshot, counts.rows, expected, have_all_ended).await.map(Step::End)
    }

    /// Whether every file is done or set aside. If not, another run works on the others.
    fn have_all_files_ended(&self, snapshot: &Snapshot) -> bool {
        self.progress.len() == snapshot.versions.len()
            && self.progress.values().all(|file| file.status != Status::Running)
    }

    /// The ending about the first file that was set aside and is not announced; `None` if there is no such file.
    async fn unannounced_failure(&self, snapshot: &Snapshot) -> Result<Option<Ending>, LedgerError> {
        let mut failed = self.progress.iter().filter_map(|(name, file)| match file.status {
            Status::SetAside(reason) => Some((name, file, reason)),
            Status::Running | Status::Done => None,
        });
        let has_announced_enough = self.record.announced_files.len() >= MAX_ANNOUNCED_FILES;
        let is_announced = |name: &str, reason: Reason| {
            let version = snapshot.version_text(name);
            has_announced_enough || version.is_some_and(|version| self.record.is_announced(&version, reason))
        };
        let have_all_ended = self.have_all_files_ended(snapshot);
        let Some((name, file, reason)) = failed.find(|(name, _, reason)| !is_announced(name, *reason)) else {
            return Ok(None);
        };
        let record = self.runner.ledger.file_record(self.path, name).await?;
        let message = record.and_then(|record| record.message);
        let counts = RowCounts { rows: file.next_row, bad_rows: file.bad_rows };
        let ending = counts.ending(&snapshot.scope, Some(reason), Some(name.clone()), message);
        let is_final = have_all_ended && !failed.any(|(name, _, reason)| !is_announced(name, reason));
        Ok(Some(Ending { is_final, ..ending }))
    }

    /// Keeps the ending about a file that was set aside.
    async fn keep_failure(&mut self, snapshot: &Arc<Snapshot>, have_all_ended: bool) -> Result<Step, RunError> {
        let ending = self.record.ending.as_ref();
        if !have_all_ended && let Some((reason, ending)) = ending.and_then(|ending| Some((ending.reason?, ending))) {
            return Ok(Step::End(Outcome::SetAside { reason, message: ending.message.clone(), is_over: false }));
        }
        if ending.and_then(|ending| ending.file.as_deref()).is_some_and(|file| self.is_set_aside(file)) {
            return self.keep_ending(snapshot).await;
        }
        // All files were announced, but a later ending, which no longer holds, has replaced theirs.
        self.record.announced_files.clear();
        Ok(Step::Again)
    }

    /// Keeps the last ending, which now covers the current files.
    async fn keep_ending(&mut self, snapshot: &Arc<Snapshot>) -> Result<Step, RunError> {
        let ending = self.record.ending.as_mut().expect("there is an ending to keep");
        (ending.scope, ending.is_final) = (snapshot.scope.clone(), true);
        self.record.failing = None;
        self.runner.ledger.write_drop_record(self.path, snapshot.admitted.tenant, &mut self.record).await?;
        Ok(self.ended(snapshot).await)
    }

    /// Whether the drop was completed and has only lost files since: customers delete files that were delivered.
    fn were_files_only_deleted(&self, snapshot: &Snapshot) -> bool {
        let Some(ending) = self.record.ending.as_ref().filter(|ending| ending.is_announced()) else {
            return false;
        };
        ending.reason.is_none()
            && self.tried.is_empty()
            && ending.scope.covers_keys_of(&snapshot.scope)
            && snapshot.versions.len() < ending.scope.file_count
    }

    /// Leaves the drop open: rows are missing, or another run works on them.
    async fn stay_open(
        &mut self,
        snapshot: &Snapshot,
        rows: u64,
        expected: Option<u64>,
        have_all_ended: bool,
    ) -> Result<Outcome, RunError> {
        let (path, ledger, tenant) = (self.path, &self.runner.ledger, snapshot.admitted.tenant);
        // A run that could judge the drop has not failed.
        let has_failed = self.record.failing.take().is_some();
        // A drop that had ended is open again from now on.
        let has_opened_again = have_all_ended && self.record.ending.take().is_some();
        if has_opened_again {
            self.record.first_seen = Some(clock::now());
        }
        if has_failed || has_opened_again {
            ledger.write_drop_record(path, tenant, &mut self.record).await?;
        }
        ledger.write_list_entry(&self.list_entry(snapshot, DropState::Open)).await?;
        // If another run works on files, the entry stays due, because that run may be killed.
        if let Some(entry) = self.entry.as_ref().filter(|_| have_all_ended) {
            ledger.postpone(path, tenant, clock::now() + OPEN_CHECK, entry).await?;
        }
        let of = expected.map_or_else(String::new, |expected| format!(" of {expected}"));
        info!(drop.path = %path, rows, "`{path}` is open: {rows}{of} rows delivered, waiting for the rest");
        Ok(Outcome::Open { rows, of: expected })
    }

    /// The entry of the drop in the list of all drops.
    pub(super) fn list_entry(&self, snapshot: &Snapshot, state: DropState) -> ListEntry {
        let count = |is_counted: fn(Status) -> bool| {
            self.progress.values().filter(|file| is_counted(file.status)).count() as u64
        };
        let (ending, failing) = (self.record.ending.as_ref(), self.record.failing.as_ref());
        let now = clock::now();
        let since = match state {
            DropState::Completed | DropState::SetAside => ending.map(|ending| ending.recorded),
            DropState::Retrying => failing.map(|failing| failing.since),
            DropState::Open | DropState::Waiting => self.record.first_seen,
        };
        let is_ended = matches!(state, DropState::Completed | DropState::SetAside);
        let ending = ending.filter(|_| is_ended);
        // The records of files may have been deleted or damaged since the drop was completed.
        let rows = match ending {
            Some(Ending { reason: None, rows, bad_rows, .. }) => rows + bad_rows,
            _ => RowCounts::of(&self.progress).rows,
        };
        ListEntry {
            path: self.path.clone(),
            tenant: snapshot.admitted.tenant,
            state,
            rows,
            expected_rows: snapshot.expected_rows(),
            files_done: count(|status| status == Status::Done),
            files_set_aside: count(|status| matches!(status, Status::SetAside(_))),
            files: snapshot.versions.len() as u64,
            since: since.unwrap_or(now),
            attempts: failing.map_or(0, |failing| failing.attempts.into()),
            next_try: failing.map(|failing| failing.not_before),
            reason: ending.and_then(|ending| ending.reason),
            message: match state {
                DropState::Retrying => failing.map(|failing| failing.error.clone()),
                _ => ending.and_then(|ending| ending.message.clone()),
            },
            is_over: ending.is_some_and(Ending::is_announced),
            listing: snapshot.contents.listing,
        }
    }
}
