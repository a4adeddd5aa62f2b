//! One run over a drop: whose it is, its keys, its files in turn, and how it ends.
//!
//! An event, a command and a sweep all do the same: they name a drop, and a run does whatever is left to do there. So an
//! event that comes twice, or too early, or not at all, changes when something happens and never what.

mod dossier;

use std::sync::Arc;

use tracing::{error, info, warn};

use crate::{
    deliver::{FileError, FileJob, Limits, deliver_file},
    drop::{
        BlobPath, DropPath,
        discover::{self, DropContents},
        metadata::MetadataError,
        tenant::{Foreign, Tenants},
    },
    keys::{KeyError, KeySource, Keys},
    ledger::{Claim, Ending, FileRecord, Ledger, LedgerError, Scope, Status},
    message::{Failure, FileVersion, Message},
    pipeline::FileRules,
    sink::{Sink, SinkError},
    store::{Blob, ReadWindow, Store, StoreError, read},
    verdict::{Reason, Verdict},
};
pub use dossier::{Dossier, read_metadata};

/// All that a run needs, wired together once.
#[derive(Debug)]
pub struct Runner {
    /// Where drops lie.
    pub store: Arc<dyn Store>,
    /// Where batches go.
    pub sink: Arc<dyn Sink>,
    /// What is known of drops.
    pub ledger: Arc<dyn Ledger>,
    /// Who may drop, and where.
    pub tenants: Tenants,
    /// Where keys come from.
    pub keys: KeySource,
    /// How files are read.
    pub rules: FileRules,
    /// What one file may take.
    pub limits: Limits,
    /// How much of a file is read ahead.
    pub window: ReadWindow,
}

/// How a run left the drop.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every row was taken, and that was announced.
    Completed {
        /// Rows delivered over all runs.
        rows: u64,
        /// Rows that could not be decoded.
        bad_rows: u64,
    },
    /// There are rows still to come, or another run works on them.
    Open {
        /// Rows of the drop that are in, bad ones counted.
        rows: u64,
        /// How many there will be, where the metadata says so.
        of: Option<u64>,
    },
    /// The drop, or a file of it, was set aside.
    SetAside(Reason),
    /// There is no job metadata: not a drop, or not yet.
    NoDrop,
    /// It is not one of ours, or does not lie where it may.
    Foreign(Foreign),
}

/// Why a run ended before its work was done. The event is to be repeated.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store did not answer.
    #[error("the drop cannot be listed or read")]
    Store(#[from] StoreError),
    /// The API, the vault or the token service did not answer.
    #[error("the keys of the drop cannot be had")]
    Keys(#[source] KeyError),
    /// A file stopped.
    #[error("file `{name}` stopped")]
    File {
        /// Which file.
        name: String,
        /// Why.
        source: FileError,
    },
    /// How the drop ended could not be announced.
    #[error("how the drop ended could not be announced")]
    Announce(#[source] SinkError),
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What stopped a run: either verdict.
enum Stopped {
    TryAgain(RunError),
    SetAside { reason: Reason, message: String },
}

impl<E: Into<RunError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::TryAgain(error.into())
    }
}

impl From<KeyError> for Stopped {
    fn from(error: KeyError) -> Self {
        match error.verdict() {
            Verdict::TryAgain => Self::TryAgain(RunError::Keys(error)),
            Verdict::SetAside(reason) => Self::SetAside { reason, message: chain(&error) },
        }
    }
}

impl Runner {
    /// Does what is left to do in the drop at `path`, beginning with the blob `first` if it is one of its files.
    pub async fn run(&self, path: &DropPath, first: Option<&BlobPath>) -> Result<Outcome, RunError> {
        let Some(contents) = discover::contents(&*self.store, path).await? else {
            return Ok(Outcome::NoDrop);
        };
        let dossier = match Dossier::open(&*self.store, &self.tenants, &contents).await? {
            Ok(dossier) => dossier,
            Err(foreign) => {
                warn!(drop.path = %path, "refused `{path}`: {foreign}");
                return Ok(Outcome::Foreign(foreign));
            }
        };
        if let Some(outcome) = self.ended_before(&dossier, &contents).await? {
            return Ok(outcome);
        }
        match self.work(&dossier, &contents, first).await {
            Ok(outcome) => Ok(outcome),
            Err(Stopped::TryAgain(error)) => Err(error),
            Err(Stopped::SetAside { reason, message }) => {
                self.fail_drop(&dossier, Scope::Metadata(dossier.metadata_version.clone()), reason, &message).await
            }
        }
    }

    async fn work(
        &self,
        dossier: &Dossier,
        contents: &DropContents,
        first: Option<&BlobPath>,
    ) -> Result<Outcome, Stopped> {
        let metadata = dossier.metadata.as_ref().map_err(|error: &MetadataError| Stopped::SetAside {
            reason: Reason::Metadata,
            message: error.to_string(),
        })?;
        if let Some(errors) = &metadata.errors {
            return Err(Stopped::SetAside { reason: Reason::Errors, message: errors.clone() });
        }

        let mut keys = None;
        let mut files: Vec<_> = contents.files.iter().collect();
        files.sort_by_key(|file| Some(&file.path) != first);
        for blob in files {
            let file = FileVersion { name: contents.relative(blob).to_owned(), etag: blob.etag.clone() };
            let Claim::Held(mut work) = self.ledger.claim(&contents.path, &file).await? else {
                continue;
            };
            // Keys are asked for once there is something to decrypt, and then once a run.
            let keys = match &keys {
                Some(keys) => keys,
                None => keys.insert(self.keys.keys_of(&*self.store, contents, metadata, dossier.tenant).await?),
            };
            self.deliver(dossier, blob, &file, keys, &mut *work).await?;
        }
        self.conclude(dossier, metadata.rows_extracted).await
    }

    /// Delivers one file, or sets it aside.
    async fn deliver(
        &self,
        dossier: &Dossier,
        blob: &Blob,
        file: &FileVersion,
        keys: &Keys,
        work: &mut dyn crate::ledger::Work,
    ) -> Result<(), RunError> {
        let job = FileJob { drop: &dossier.facts, file, keys, rules: &self.rules, limits: self.limits };
        let first_row = work.record().next_row;
        let bytes = read(Arc::clone(&self.store), blob.clone(), self.window);
        let Err(error) = deliver_file(&job, bytes, &self.sink, work).await else {
            let end_row = work.record().next_row;
            let name = &file.name;
            info!(drop.path = %dossier.facts.path, file.name = %name, rows = end_row - first_row,
                "delivered rows {first_row}..{end_row} of `{name}`");
            return Ok(());
        };
        let Verdict::SetAside(reason) = error.verdict() else {
            return Err(RunError::File { name: file.name.clone(), source: error });
        };
        let message = format!("file `{}` {}", file.name, chain(&error));
        let rows_delivered = delivered(work.record());
        error!(drop.path = %dossier.facts.path, file.name = %file.name, %reason, rows_delivered,
            "set aside: {message}; `vivadrop replay {}` starts it afresh", dossier.facts.path);
        let failure = Failure { file: Some(&file.name), reason, message: &message, rows_delivered };
        self.announce(&Message::failed(&dossier.facts, std::slice::from_ref(file), &failure)).await?;
        work.finish(Status::SetAside(reason)).await?;
        Ok(())
    }

    /// Ends the drop if nothing is missing any more. It is listed anew: of two runs that finish at the same time, the later
    /// one sees everything.
    async fn conclude(&self, dossier: &Dossier, expected: Option<u64>) -> Result<Outcome, Stopped> {
        let path = &dossier.path;
        let Some(contents) = discover::contents(&*self.store, path).await? else {
            return Ok(Outcome::NoDrop);
        };
        let versions = versions_of(&contents);
        let mut records = self.ledger.files(path).await?;
        records.retain(|_, record| versions.contains(&record.file));

        let rows = records.values().map(|record| record.next_row).sum();
        if let Some(reason) = records.values().find_map(|record| match record.status {
            Status::SetAside(reason) => Some(reason),
            Status::Running | Status::Done => None,
        }) {
            return Ok(Outcome::SetAside(reason));
        }
        if let Some(expected) = expected.filter(|&expected| rows > expected) {
            let message = format!("the files hold at least {rows} rows, and `NumberOfRowsExtracted` is {expected}");
            let scope = Scope::Files(dossier.metadata_version.clone(), versions);
            return Ok(self.fail_drop(dossier, scope, Reason::RowCount, &message).await?);
        }
        let is_all_done = records.len() == versions.len() && records.values().all(|r| r.status == Status::Done);
        if !is_all_done || expected.is_some_and(|expected| rows < expected) {
            return Ok(Outcome::Open { rows, of: expected });
        }

        let bad_rows = records.values().map(|record| record.bad_rows).sum();
        let message = Message::completed(&dossier.facts, &versions, rows - bad_rows, bad_rows);
        let scope = Scope::Files(dossier.metadata_version.clone(), versions);
        match self.sink.deliver(&message).await {
            Ok(()) => {}
            Err(error @ SinkError::Refused { .. }) => {
                return Ok(self.fail_drop(dossier, scope, Reason::Refused, &chain(&error)).await?);
            }
            Err(error @ SinkError::Unavailable { .. }) => return Err(RunError::Announce(error).into()),
        }
        let rows = rows - bad_rows;
        self.ledger.end(path, &Ending { scope, reason: None, rows, bad_rows, announced: message.id }).await?;
        info!(drop.path = %path, rows, bad_rows, "completed `{path}`: {rows} rows");
        Ok(Outcome::Completed { rows, bad_rows })
    }

    /// How the drop ended in an earlier run, if what that ending was about has not changed.
    async fn ended_before(&self, dossier: &Dossier, contents: &DropContents) -> Result<Option<Outcome>, RunError> {
        let Some(ending) = self.ledger.ending(&contents.path).await? else {
            return Ok(None);
        };
        let is_current = match &ending.scope {
            Scope::Metadata(version) => *version == dossier.metadata_version,
            Scope::Files(version, files) => *version == dossier.metadata_version && *files == versions_of(contents),
        };
        Ok(is_current.then_some(match ending.reason {
            None => Outcome::Completed { rows: ending.rows, bad_rows: ending.bad_rows },
            Some(reason) => Outcome::SetAside(reason),
        }))
    }

    /// Sets the whole drop aside.
    async fn fail_drop(
        &self,
        dossier: &Dossier,
        scope: Scope,
        reason: Reason,
        message: &str,
    ) -> Result<Outcome, RunError> {
        let path = &dossier.path;
        let records = self.ledger.files(path).await?;
        let rows: u64 = records.values().map(delivered).sum();
        let bad_rows = records.values().map(|record| record.bad_rows).sum();
        error!(drop.path = %path, %reason, rows_delivered = rows,
            "set aside `{path}`: {message}; `vivadrop replay {path}` starts it afresh");
        let failure = Failure { file: None, reason, message, rows_delivered: rows };
        let failed = Message::failed(&dossier.facts, &scope.versions(), &failure);
        self.announce(&failed).await?;
        self.ledger.end(path, &Ending { scope, reason: Some(reason), rows, bad_rows, announced: failed.id }).await?;
        Ok(Outcome::SetAside(reason))
    }

    /// Tells the receiver that something was set aside. One that refuses to hear it changes nothing.
    async fn announce(&self, message: &Message) -> Result<(), RunError> {
        match self.sink.deliver(message).await {
            Ok(()) => Ok(()),
            Err(error @ SinkError::Refused { .. }) => {
                warn!("the receiver does not want to know that something was set aside: {}", chain(&error));
                Ok(())
            }
            Err(error @ SinkError::Unavailable { .. }) => Err(RunError::Announce(error)),
        }
    }
}

/// How many rows of a file were taken.
fn delivered(record: &FileRecord) -> u64 {
    record.next_row - record.bad_rows
}

fn versions_of(contents: &DropContents) -> Vec<FileVersion> {
    let version = |blob: &Blob| FileVersion { name: contents.relative(blob).to_owned(), etag: blob.etag.clone() };
    contents.files.iter().map(version).collect()
}

/// An error and what is behind it, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let behind = std::iter::successors(error.source(), |error| error.source());
    behind.fold(error.to_string(), |line, error| format!("{line}: {error}"))
}
