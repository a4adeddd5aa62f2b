//! Continues a drop whose record cannot be parsed, and the imports of a tenant whose record was deleted.

use futures::{TryStreamExt, future::try_join_all};

use super::{
    CONCURRENT_READS, CycleImport, DropRecord, Ledger, LedgerError, TenantImports, imports::LostDefinitions, json,
    paths,
};
use crate::{
    clock,
    drop::{DropPath, TenantId},
    store::BlobPath,
};

impl Ledger {
    /// The record that a replay of the drop continues instead of the one at `path`, which cannot be parsed:
    /// - `replays` is the highest one in the records of the drop's files, so that no progress of a file counts in the
    ///   next replay, and no file's record is ahead of it;
    /// - `generation` is the highest one there, so that the same rows keep their ids. If no file has a record, it is 0,
    ///   and rows that were sent have the ids of the first generation again;
    /// - `sequence` is the current time in Unix seconds. A drop has fewer endings than seconds, so it is above that of
    ///   every earlier ending, and receivers take the next ending as the state of the drop.
    pub(super) async fn salvaged_record(&self, drop: &DropPath, path: &BlobPath) -> Result<DropRecord, LedgerError> {
        let version = self.store.find(path).await?.map(|blob| blob.etag);
        let folder = paths::file_records(drop);
        let listing = self.store.list(&self.container, &folder);
        let records: Vec<BlobPath> = listing.map_ok(|blob| blob.path).try_collect().await?;
        let (mut replays, mut generation) = (0, 0);
        for chunk in records.chunks(CONCURRENT_READS) {
            for (file_replays, file_generation) in try_join_all(chunk.iter().map(|path| self.counters(path))).await? {
                replays = file_replays.max(replays);
                generation = file_generation.max(generation);
            }
        }
        Ok(DropRecord { replays, generation, sequence: unix_time(), version, ..DropRecord::default() })
    }

    /// The record that continues the imports of a tenant that has none. If there are records of cycles, or the index
    /// says that there was a record, a person has deleted it. Receivers ignore messages with numbers that they have
    /// seen, so every number continues above those before:
    /// - the revision, the `sequence` and the number of the definitions are the current time in Unix seconds. There
    ///   were fewer messages and edits than seconds;
    /// - the number of requests is the highest one in the records of the cycles, which distinguish imports by it.
    ///
    /// Requests and deletions that were not done are lost, but receivers are told about every attribute that was
    /// imported and is not defined any more.
    pub(super) async fn salvaged_imports(&self, tenant: TenantId) -> Result<TenantImports, LedgerError> {
        let folder = paths::cycle_imports(tenant);
        let mut listing = self.store.list(&self.container, &folder);
        let has_cycles = listing.try_next().await?.is_some();
        if !has_cycles && !self.imports_entry(tenant).await?.is_some_and(|entry| entry.has_record) {
            return Ok(TenantImports::default());
        }
        let imports = self.cycle_imports(tenant).await?;
        let names = imports.iter().flat_map(CycleImport::known_attributes).map(str::to_owned);
        Ok(TenantImports {
            revision: unix_time(),
            sequence: unix_time(),
            requested: imports.iter().map(|import| import.run).max().unwrap_or_default(),
            lost: LostDefinitions { number: unix_time(), attributes: names.collect() },
            ..TenantImports::default()
        })
    }

    /// The replay and the generation that the record of a file belongs to; both 0 if the record cannot be parsed, or
    /// was deleted.
    async fn counters(&self, path: &BlobPath) -> Result<(u32, u32), LedgerError> {
        let record = match self.read(path).await {
            Ok(Some((_, bytes))) => json::parse_named_file(path, "", &bytes),
            Ok(None) => return Ok((0, 0)),
            Err(error) => Err(error),
        };
        match record {
            Ok(record) => Ok((record.replays, record.generation)),
            Err(LedgerError::Invalid { .. }) => Ok((0, 0)),
            Err(error) => Err(error),
        }
    }
}

fn unix_time() -> u64 {
    clock::now().unix_timestamp().unsigned_abs()
}
