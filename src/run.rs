//! One run over a drop: whose it is, its keys, its files in turn, and how it ends.
//!
//! An event, a command and a sweep all do the same: they name a drop, and a run does whatever is left to do there. So an
//! event that comes twice, or too early, or not at all, changes when something happens and never what.
//!
//! A run looks, works, and looks again, until a look shows nothing that it has not tried: only then does it conclude. So of
//! two runs that finish at the same time the later one sees everything; and a file that was overwritten while this run had
//! it is not left to an event that was already answered because this run had it.

mod admitted;
mod conclude;
mod files;

use std::{collections::BTreeSet, sync::Arc};

use tracing::{debug, warn};

use crate::{
    deliver::FileError,
    drop::{
        DropPath, FileVersion,
        discover::{self, DropContents},
        tenant::{Refusal, Tenants},
    },
    error_chain::error_chain,
    keys::{KeyError, KeySource, Keys},
    ledger::{Known, Ledger, LedgerError, Scope, Status},
    sink::SinkError,
    store::{Blob, BlobPath, ReadWindow, Store, StoreError},
    telemetry::is_first_occurrence,
    tenant_config::TenantConfigs,
    verdict::{Reason, Verdict},
};
pub use admitted::{AdmittedDrop, read_metadata};

/// All that a run needs, wired together once.
#[derive(Debug)]
pub struct Runner {
    /// Where drops lie.
    pub store: Arc<dyn Store>,
    /// What is known of drops.
    pub ledger: Arc<dyn Ledger>,
    /// Who may drop, and where.
    pub tenants: Tenants,
    /// Where keys come from.
    pub keys: KeySource,
    /// How the drops of each tenant are read, and where their rows go.
    pub tenant_configs: TenantConfigs,
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
    /// The drop, or a file of it, was set aside, by this run or an earlier one.
    SetAside {
        /// Why.
        reason: Reason,
        /// The same in words, where they are on record.
        message: Option<String>,
        /// Whether nothing is left to be done, as there is while another run works on other files.
        is_over: bool,
    },
    /// There is no job metadata: not a drop, or not yet.
    NoDrop,
    /// It is not one of ours, or does not lie where it may.
    Foreign(Refusal),
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
    /// How the drop or one of its files ended could not be announced.
    #[error("{ending}, which could not be announced")]
    Announce {
        /// How it ended.
        ending: String,
        /// Why it could not.
        source: SinkError,
    },
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
            Verdict::Retry => Self::TryAgain(RunError::Keys(error)),
            Verdict::SetAside(reason) => Self::SetAside { reason, message: error_chain(&error) },
        }
    }
}

/// The drop as it was at some instant.
struct Look {
    /// What was known of it before it was listed.
    known: Known,
    contents: DropContents,
    admitted: AdmittedDrop,
    /// The files, in the order of the listing.
    versions: Vec<FileVersion>,
}

/// What a run remembers between looks.
#[derive(Default)]
struct Progress {
    /// The files that it has worked on, or that others have.
    tried: BTreeSet<FileVersion>,
    /// The keys that this version of the job metadata leads to.
    keys: Option<(FileVersion, Keys)>,
}

impl Runner {
    /// Does what is left to do in the drop at `path`, beginning with the blob `first` if it is one of its files.
    pub async fn run(&self, path: &DropPath, first: Option<&BlobPath>) -> Result<Outcome, RunError> {
        let mut progress = Progress::default();
        loop {
            // Known before listed: an ending that another run records after that is noticed when this one records its own.
            let known = self.ledger.known(path).await?;
            let Some(contents) = discover::list_contents(&*self.store, path).await? else {
                return Ok(Outcome::NoDrop);
            };
            let admitted = match AdmittedDrop::open(&*self.store, &self.tenants, &contents, known.generation).await? {
                Ok(admitted) => admitted,
                Err(foreign) => {
                    let line = format!("refused `{path}`: {foreign}");
                    if is_first_occurrence(&line) {
                        warn!(drop.path = %path, "{line}");
                    } else {
                        debug!(drop.path = %path, "{line}");
                    }
                    return Ok(Outcome::Foreign(foreign));
                }
            };
            let look = Look { known, versions: versions_of(&contents), contents, admitted };
            if let Some(outcome) = look.ended_before() {
                return Ok(outcome);
            }
            match self.go_on(&look, first, &mut progress).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {}
                Err(Stopped::TryAgain(error)) => return Err(error),
                Err(Stopped::SetAside { reason, message }) => {
                    let scope = Scope::Metadata(look.admitted.metadata_version.clone());
                    return self.fail_drop(&look, scope, reason, &message).await;
                }
            }
        }
    }

    /// Starts the drop at `path` afresh, whatever came of it before, and does what there is to do. The same rows have the
    /// same ids as before, unless new ones are asked for.
    pub async fn replay(&self, path: &DropPath, new_ids: bool) -> Result<Outcome, RunError> {
        let Some(contents) = discover::list_contents(&*self.store, path).await? else {
            return Ok(Outcome::NoDrop);
        };
        let admitted = match AdmittedDrop::open(&*self.store, &self.tenants, &contents, 0).await? {
            Ok(admitted) => admitted,
            Err(foreign) => return Ok(Outcome::Foreign(foreign)),
        };
        let batch = self.tenant_configs.of(admitted.tenant).limits.batch;
        self.ledger.reopen(path, &versions_of(&contents), batch, new_ids).await?;
        self.run(path, None).await
    }

    /// Works on the files that are left, or ends the drop where there are none.
    async fn go_on(
        &self,
        look: &Look,
        first: Option<&BlobPath>,
        progress: &mut Progress,
    ) -> Result<Option<Outcome>, Stopped> {
        let metadata = look
            .admitted
            .metadata
            .as_ref()
            .map_err(|error| Stopped::SetAside { reason: Reason::Metadata, message: error.to_string() })?;
        if let Some(errors) = &metadata.errors {
            return Err(Stopped::SetAside { reason: Reason::Errors, message: errors.clone() });
        }
        let records = self.ledger.files(&look.admitted.path, &look.versions).await?;
        let is_left = |file: &FileVersion| {
            let is_running = records.get(&file.name).is_none_or(|record| record.status == Status::Running);
            is_running && !progress.tried.contains(file)
        };
        let files = look.contents.files.iter().zip(&look.versions);
        let mut left: Vec<_> = files.filter(|(_, file)| is_left(file)).collect();
        if left.is_empty() {
            return self.conclude(look, &records, metadata.rows_extracted).await.map(Some).map_err(Into::into);
        }
        left.sort_by_key(|(blob, _)| Some(&blob.path) != first);
        self.work(look, metadata, left, progress).await?;
        Ok(None)
    }
}

fn versions_of(contents: &DropContents) -> Vec<FileVersion> {
    let version = |blob: &Blob| FileVersion { name: contents.relative(blob).to_owned(), etag: blob.etag.clone() };
    contents.files.iter().map(version).collect()
}
