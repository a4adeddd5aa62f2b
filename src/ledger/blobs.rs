//! The ledger as JSON blobs: `drops/{drop path}/drop.json` and `drops/{drop path}/files/{file}.json`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    Claim, Ending, FileRecord, Known, LEASE, Ledger, LedgerError, Status,
    keeper::Lease,
    record,
    work::{Held, Living},
};
use crate::{
    batch::BatchLimits,
    drop::{DropPath, FileVersion},
    store::{Blob, BlobPath, ETag, ReadWholeError, Store, StoreError, WriteIf, read_whole},
};

/// The largest record that is read. One of a drop lists its files, some hundred bytes each.
const LARGEST_RECORD: u64 = 16 << 20;

/// How many records are read at once.
pub(super) const READS_AT_ONCE: usize = 8;

/// How often a record is read anew because it was written meanwhile: at most once a second, so one is enough.
const READS: usize = 5;

/// A ledger in a container of a store. Cloned, it is the same ledger.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn Store>,
    container: Arc<str>,
    living: Living,
    /// What keeps claims and gives them up.
    tasks: TaskTracker,
}

impl Blobs {
    /// The ledger in `container`, which is made when missing.
    pub fn new(store: Arc<dyn Store>, container: impl Into<Arc<str>>) -> Self {
        Self { store, container: container.into(), living: Living::default(), tasks: TaskTracker::new() }
    }

    fn at(&self, drop: &DropPath, below: &str) -> BlobPath {
        BlobPath::new(&*self.container, format!("drops/{drop}/{below}"))
    }

    fn of_drop(&self, drop: &DropPath) -> BlobPath {
        self.at(drop, "drop.json")
    }

    fn of_file(&self, drop: &DropPath, name: &str) -> BlobPath {
        self.at(drop, &format!("files/{name}.json"))
    }

    /// Leases the record of `file`, which is made when missing, and sees what it says.
    async fn take(&self, path: BlobPath, file: &FileVersion, batch: BatchLimits) -> Result<Option<Claim>, LedgerError> {
        let mut asked = Instant::now();
        let mut made = None;
        let mut lease = self.store.lease(&path, LEASE).await;
        if let Err(StoreError::Missing(_)) = lease {
            made = self.make(&path, FileRecord::new(file.clone(), batch)).await?;
            asked = Instant::now();
            lease = self.store.lease(&path, LEASE).await;
        }
        let Some(id) = lease? else {
            return Ok(None);
        };
        let lease = Lease { store: Arc::clone(&self.store), path, id };
        match self.begin(&lease, file, batch, made).await {
            Ok((etag, record)) if record.status == Status::Running => {
                let work = Held::begin(lease, etag, record, asked, &self.living, &self.tasks);
                Ok(Some(Claim::Held(Box::new(work))))
            }
            Ok((_, record)) => {
                lease.release().await;
                Ok(Some(Claim::Ended(record)))
            }
            Err(error) => {
                lease.release().await;
                Err(error)
            }
        }
    }

    /// Writes the first record of a file. `None` where another run was quicker.
    async fn make(&self, path: &BlobPath, record: FileRecord) -> Result<Option<(ETag, FileRecord)>, LedgerError> {
        match self.store.write(path, record::of_file(&record).into(), WriteIf::Absent).await {
            Ok(etag) => Ok(Some((etag, record))),
            Err(StoreError::Changed(_) | StoreError::LeaseConflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The record under our lease: as it is where the file has ended, else with this run counted.
    async fn begin(
        &self,
        lease: &Lease,
        file: &FileVersion,
        batch: BatchLimits,
        made: Option<(ETag, FileRecord)>,
    ) -> Result<(ETag, FileRecord), LedgerError> {
        let missing = || StoreError::Missing(lease.path.clone());
        let found = self.store.find(&lease.path).await?.ok_or_else(missing)?;
        if let Some(made) = made.filter(|(etag, _)| *etag == found.etag) {
            return Ok(made);
        }
        let bytes = read_whole(&*self.store, &found, LARGEST_RECORD).await?;
        let mut record = record::file(&lease.path, &file.name, &bytes)?;
        if record.file == *file {
            if record.status != Status::Running {
                return Ok((found.etag, record));
            }
            record.attempts = record.attempts.saturating_add(1);
            record.updated = OffsetDateTime::now_utc();
        } else {
            record = FileRecord::new(file.clone(), batch);
        }
        let mut etag = found.etag;
        lease.write(&mut etag, &record).await?;
        Ok((etag, record))
    }

    /// The record of `file` in the blob that was found, by the file's name; `None` where it is about another version.
    async fn current(&self, file: FileVersion, found: Blob) -> Result<Option<(String, FileRecord)>, LedgerError> {
        let path = found.path.clone();
        let Some((_, bytes)) = self.read_found(found).await? else {
            return Ok(None);
        };
        let record = record::file(&path, &file.name, &bytes)?;
        Ok((record.file == file).then_some((file.name, record)))
    }

    /// What a record says now, with its version.
    async fn read(&self, path: &BlobPath) -> Result<Option<(ETag, Bytes)>, LedgerError> {
        match self.store.find(path).await? {
            Some(found) => self.read_found(found).await,
            None => Ok(None),
        }
    }

    /// Every record of the ledger.
    pub(super) async fn records(&self) -> Result<Vec<Blob>, StoreError> {
        self.store.list(&self.container, "drops/").await
    }

    pub(super) async fn read_found(&self, mut found: Blob) -> Result<Option<(ETag, Bytes)>, LedgerError> {
        for _ in 1..READS {
            match read_whole(&*self.store, &found, LARGEST_RECORD).await {
                Err(ReadWholeError::Store(StoreError::Changed(_) | StoreError::Missing(_))) => {}
                bytes => return Ok(Some((found.etag, bytes?))),
            }
            match self.store.find(&found.path).await? {
                Some(newer) => found = newer,
                None => return Ok(None),
            }
        }
        Ok(Some((found.etag.clone(), read_whole(&*self.store, &found, LARGEST_RECORD).await?)))
    }
}

#[async_trait]
impl Ledger for Blobs {
    async fn try_claim(
        &self,
        drop: &DropPath,
        file: &FileVersion,
        batch: BatchLimits,
    ) -> Result<Option<Claim>, LedgerError> {
        let path = self.of_file(drop, &file.name);
        // A run of this very process that has not let go is alive: no need to wait and see.
        if self.living.has(&path) {
            return Ok(Some(Claim::AnsweredByAnother));
        }
        let (ledger, asked, file) = (self.clone(), path.clone(), file.clone());
        // On a task of its own: where the run is cancelled meanwhile, what it was to get is dropped, and so given up.
        let taking = self.tasks.spawn(async move { ledger.take(asked, &file, batch).await });
        taking.await.unwrap_or_else(|end| Err(StoreError::from_join_error(&path, end).into()))
    }

    async fn files(
        &self,
        drop: &DropPath,
        versions: &[FileVersion],
    ) -> Result<BTreeMap<String, FileRecord>, LedgerError> {
        let asked: HashMap<_, _> = versions.iter().map(|file| (self.of_file(drop, &file.name), file.clone())).collect();
        let found = self.store.list(&self.container, &self.at(drop, "files/").name).await?;
        let found = found.into_iter().filter_map(|blob| Some((asked.get(&blob.path)?.clone(), blob)));
        let records: Vec<_> = found.map(|(file, blob)| self.current(file, blob)).collect();
        stream::iter(records)
            .buffer_unordered(READS_AT_ONCE)
            .try_filter_map(async |record| Ok(record))
            .try_collect()
            .await
    }

    async fn known(&self, drop: &DropPath) -> Result<Known, LedgerError> {
        let path = self.of_drop(drop);
        Ok(match self.read(&path).await? {
            None => Known::default(),
            Some((etag, bytes)) => {
                let (ending, generation) = record::drop(&path, &bytes)?;
                Known { ending, generation, version: Some(etag) }
            }
        })
    }

    async fn end(&self, drop: &DropPath, ending: &Ending, known: &Known) -> Result<(), LedgerError> {
        let condition = known.version.clone().map_or(WriteIf::Absent, WriteIf::Matches);
        let text = record::of_drop(Some(ending), known.generation, OffsetDateTime::now_utc());
        match self.store.write(&self.of_drop(drop), text.into(), condition).await {
            Ok(_) => Ok(()),
            // Our own write, whose answer was lost, or another run that came to the same end.
            Err(StoreError::Changed(_)) => match self.known(drop).await?.ending {
                Some(now) if now.agrees_with(ending) => Ok(()),
                _ => Err(LedgerError::Overtaken(drop.clone())),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn reopen(
        &self,
        drop: &DropPath,
        versions: &[FileVersion],
        batch: BatchLimits,
        new_ids: bool,
    ) -> Result<(), LedgerError> {
        for file in versions {
            let path = self.of_file(drop, &file.name);
            let id = match self.store.lease(&path, LEASE).await {
                Ok(id) => id.ok_or_else(|| LedgerError::InUse(path.clone()))?,
                Err(StoreError::Missing(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let lease = Lease { store: Arc::clone(&self.store), path, id };
            let (mut etag, bytes) =
                self.read(&lease.path).await?.ok_or_else(|| StoreError::Missing(lease.path.clone()))?;
            // Whatever is there: a record that cannot be read is replaced as well.
            let before = record::file(&lease.path, &file.name, &bytes).ok().filter(|_| !new_ids);
            let batch = before.map_or(batch, |record| record.batch);
            let record = FileRecord { attempts: 0, ..FileRecord::new(file.clone(), batch) };
            let written = lease.write(&mut etag, &record).await;
            lease.release().await;
            written?;
        }
        let path = self.of_drop(drop);
        let found = self.read(&path).await?;
        let generation = found
            .as_ref()
            .and_then(|(_, bytes)| record::drop(&path, bytes).ok())
            .map_or(0, |(_, generation)| generation);
        let condition = found.map_or(WriteIf::Absent, |(etag, _)| WriteIf::Matches(etag));
        let text = record::of_drop(None, generation.wrapping_add(new_ids.into()), OffsetDateTime::now_utc());
        self.store.write(&path, text.into(), condition).await?;
        Ok(())
    }

    async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }
}
