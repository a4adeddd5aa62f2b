//! The directory join of a run: chooses the directory of a drop or waits for it, and wakes the drops that wait.
//!
//! The choice is recorded in the drop's record before the first row is sent, so that every run sends the same rows. No
//! wake-up is lost: the run of a drop that waits first writes the entries of the drop and then looks for the directory
//! once more; the run of a directory first records that the directory has ended and then makes the waiting drops due.
//! [`table`] loads the directory after a file was claimed; its memory is freed before the drop ends.

mod table;

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use futures::TryStreamExt;

pub use self::table::DirectoryError;
use self::table::Loaded;
use super::{
    AdmittedDrop, DueDrop, Outcome, Run, RunError, Runner, Snapshot, Step, conclude::RowCounts, read_metadata,
};
use crate::{
    clock,
    directory::{
        Choice, DirectoryConfig, DirectoryMode, DirectorySnapshot, KnownDirectory, Situation, are_of_the_same_run,
        choose, expected_directory, is_directory,
    },
    drop::{
        TenantId,
        discover::{self, DropContents},
        metadata::JobMetadata,
    },
    ledger::{DropState, LedgerError, PinnedDirectory, Scope},
    pipeline::FileRules,
    sink::{Receiver, breaker::Breaker, discard::Discard},
    store::StoreError,
};

/// The directory that the rows of a run are joined to.
#[derive(Default)]
pub(super) struct RunDirectory {
    /// The snapshots that this run has found deleted or overwritten.
    gone: BTreeSet<DirectorySnapshot>,
    /// The directory that this run has chosen, and its blobs, until it is loaded.
    chosen: Option<(DirectorySnapshot, DirectoryContents)>,
    /// The table, as soon as the first file was claimed.
    loaded: Option<Loaded>,
}

/// The blobs and the job metadata of a directory.
struct DirectoryContents {
    blobs: DropContents,
    metadata: JobMetadata,
}

impl Run<'_> {
    /// The settings for directories of the drop's tenant.
    fn directory_config(&self, admitted: &AdmittedDrop) -> &DirectoryConfig {
        &self.runner.tenant_configs.of(admitted.tenant).directory
    }

    /// Whether the rows of the drop are joined to a directory.
    fn is_joined(&self, admitted: &AdmittedDrop) -> bool {
        self.directory_config(admitted).joins() && !is_directory_drop(admitted)
    }

    /// Whether the drop is a directory that is only joined: it sends no message but `drop.failed`.
    pub(super) fn is_silent(&self, admitted: &AdmittedDrop) -> bool {
        self.directory_config(admitted).mode == DirectoryMode::Join && is_directory_drop(admitted)
    }

    /// How the files of the drop are read.
    pub(super) fn rules_of_rows(&self, admitted: &AdmittedDrop) -> Cow<'_, FileRules> {
        let rules = &self.runner.tenant_configs.of(admitted.tenant).rules;
        if is_directory_drop(admitted) {
            Cow::Owned(rules.clone().for_directory_export(!self.is_silent(admitted)))
        } else {
            Cow::Borrowed(rules)
        }
    }

    /// The destination of the drop's rows. Rows of a directory that is only joined are discarded.
    pub(super) fn receiver_of_rows(&self, admitted: &AdmittedDrop) -> Receiver {
        if self.is_silent(admitted) {
            let breaker = Arc::<Breaker>::default();
            return Receiver { sink: Arc::new(Discard), openings: breaker.openings(), breaker };
        }
        self.receiver.clone().expect("the tenant is known")
    }

    /// Chooses the directory of the drop and records the choice, unless that was done. If the drop waits for its
    /// directory, returns the end of the run.
    pub(super) async fn pin_directory(&mut self, snapshot: &Snapshot) -> Result<Option<Step>, RunError> {
        if !self.is_joined(&snapshot.admitted) || self.record.directory.is_some() {
            return Ok(None);
        }
        let (path, ledger, tenant) = (self.path, &self.runner.ledger, snapshot.admitted.tenant);
        let mut waits = None;
        loop {
            match self.choose_directory(snapshot).await? {
                Choice::Join(chosen) => {
                    if waits.is_some() {
                        // The entry still says that the drop waits. If the process is killed, the next sweep must run
                        // it.
                        self.entry = Some(ledger.mark_unfinished(path, tenant, clock::now()).await?);
                    }
                    self.record.directory = Some(PinnedDirectory { snapshot: chosen });
                    self.runner.ledger.write_drop_record(path, tenant, &mut self.record).await?;
                    return Ok(None);
                }
                Choice::WaitUntil(until) if waits == Some(until) => {
                    self.start_directory(snapshot).await?;
                    return Ok(Some(self.end_waiting(Outcome::Waiting(until))));
                }
                Choice::WaitUntil(until) => {
                    let mut entry = self.list_entry(snapshot, DropState::Waiting);
                    entry.next_try = Some(until);
                    ledger.write_list_entry(&entry).await?;
                    if let Some(entry) = &self.entry {
                        ledger.postpone(path, tenant, until, entry).await?;
                    }
                    // The directory may have ended before the entries were written: look once more.
                    waits = Some(until);
                }
            }
        }
    }

    /// Makes the directory of the drop's pipeline run due, if its blobs are there: its event may have been lost, or it
    /// may have ended before vivadrop recorded directories.
    async fn start_directory(&self, snapshot: &Snapshot) -> Result<(), RunError> {
        let Runner { store, ledger, tenants, limits, due_drops, .. } = self.runner;
        let Some(path) = expected_directory(self.path) else { return Ok(()) };
        let Some(contents) = discover::list_contents(&**store, &path, limits.max_files).await? else {
            return Ok(());
        };
        let tenant = snapshot.admitted.tenant;
        let admitted = AdmittedDrop::admit(&**store, tenants, &contents, 0).await?;
        if admitted.is_ok_and(|admitted| admitted.tenant == tenant && is_directory_drop(&admitted)) {
            let entry = ledger.mark_unfinished(&path, tenant, clock::now()).await?;
            due_drops.add(DueDrop { tenant, path, entry });
        }
        Ok(())
    }

    /// Chooses among the directories whose blobs have not been deleted or overwritten.
    async fn choose_directory(&mut self, snapshot: &Snapshot) -> Result<Choice, RunError> {
        let tenant = snapshot.admitted.tenant;
        let known = self.runner.ledger.directories(tenant).await?;
        loop {
            let choice = choose(&Situation {
                drop: self.path,
                tenant,
                known: &known,
                gone: &self.directory.gone,
                first_seen: self.record.first_seen,
                wait: self.directory_config(&snapshot.admitted).wait,
                now: clock::now(),
            });
            let Choice::Join(Some(chosen)) = choice else { return Ok(choice) };
            if let Some(contents) = self.runner.contents_of(&chosen, tenant).await? {
                self.directory.chosen = Some((chosen.clone(), contents));
                return Ok(Choice::Join(Some(chosen)));
            }
            self.directory.gone.insert(chosen);
        }
    }

    /// If the drop is a directory: records that it has ended, and makes the drops that wait for it due at once.
    pub(super) async fn publish_directory(&self, snapshot: &Snapshot) -> Result<(), LedgerError> {
        let (ledger, admitted) = (&self.runner.ledger, &snapshot.admitted);
        let Some(ending) = self.record.ending.as_ref().filter(|_| is_directory_drop(admitted)) else {
            return Ok(());
        };
        let is_complete = ending.reason.is_none();
        if is_complete && !self.has_all_rows(snapshot) {
            // The directory was complete, but files have been deleted since, or a record is no longer valid.
            return Ok(());
        }
        let directory = KnownDirectory {
            snapshot: DirectorySnapshot {
                path: self.path.clone(),
                id: admitted.facts.id.clone(),
                versions: snapshot.scope.files.clone().unwrap_or_default(),
            },
            is_complete,
            ended: ending.recorded,
        };
        ledger.record_directory(admitted.tenant, &directory).await?;
        if !self.directory_config(admitted).joins() {
            return Ok(());
        }
        let now = clock::now();
        let mut entries = ledger.unfinished();
        while let Some(entry) = entries.try_next().await? {
            let is_waiting = entry.tenant == admitted.tenant && entry.not_before > now;
            if is_waiting && are_of_the_same_run(&entry.path, self.path, admitted.tenant) {
                let version = ledger.mark_unfinished(&entry.path, entry.tenant, now).await?;
                self.runner.due_drops.add(DueDrop { tenant: entry.tenant, path: entry.path, entry: version });
            }
        }
        Ok(())
    }

    /// Whether the files of the snapshot are known to have all rows. `progress` must be that of the snapshot.
    fn has_all_rows(&self, snapshot: &Snapshot) -> bool {
        snapshot.expected_rows().is_none_or(|expected| RowCounts::of(&self.progress).rows == expected)
    }
}

impl Runner {
    /// The blobs and the job metadata of a directory; `None` if this version of the directory was deleted or
    /// overwritten, or if the tenant may no longer write there.
    async fn contents_of(
        &self,
        directory: &DirectorySnapshot,
        tenant: TenantId,
    ) -> Result<Option<DirectoryContents>, StoreError> {
        let (store, limits) = (&*self.store, self.limits);
        let Some(blobs) = discover::list_contents(store, &directory.path, limits.max_files).await? else {
            return Ok(None);
        };
        if Scope::of(&blobs).files.as_ref() != Some(&directory.versions) {
            return Ok(None);
        }
        let Ok(metadata) = read_metadata(store, &blobs.metadata).await? else {
            return Ok(None);
        };
        let owner = self.tenants.admit(&directory.path, metadata.tenant_id);
        Ok((owner.ok() == Some(tenant)).then_some(DirectoryContents { blobs, metadata }))
    }
}

/// Whether the drop is a directory export.
pub(super) fn is_directory_drop(admitted: &AdmittedDrop) -> bool {
    is_directory(&admitted.path, admitted.facts.table.as_deref())
}
