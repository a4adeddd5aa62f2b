//! The files of a drop: claims and delivers them one after another.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{error, info};

use super::{AdmittedDrop, Progress, RunError, Runner, Snapshot, Stopped, conclude::notify_failed};
use crate::{
    deliver::{FileError, FileJob, deliver_file},
    drop::{FileVersion, metadata::JobMetadata},
    error_chain::error_chain,
    keys::{KeyError, Keys},
    ledger::{Claim, ClaimedFile, FileRecord, Status},
    message::Failure,
    store::{Blob, StoreError, read},
    tenant_config::TenantConfig,
    verdict::{Reason, Verdict},
};

impl Runner {
    /// Delivers `files`: first those that no other process holds, then those whose holder turns out to be dead. Files
    /// of live runs are left to these.
    pub(super) async fn process_files(
        &self,
        snapshot: &Snapshot,
        metadata: &JobMetadata,
        files: Vec<(&Blob, &FileVersion)>,
        progress: &mut Progress,
    ) -> Result<(), Stopped> {
        let path = &snapshot.admitted.path;
        let batch = self.tenant_configs.of(snapshot.admitted.tenant).limits.batch;
        let mut held_elsewhere = Vec::new();
        // Deliveries take time, so files may have been overwritten since the snapshot. The new version is left to the
        // next snapshot: a claim on the old version would replace the record of the new one.
        let mut has_delivered = false;
        for (blob, version) in files {
            if has_delivered && !self.is_current(blob).await? {
                continue;
            }
            progress.tried.insert(version.clone());
            match self.ledger.try_claim(path, version, batch).await? {
                Some(claim) => has_delivered |= self.process_file(snapshot, metadata, blob, claim, progress).await?,
                None => held_elsewhere.push((blob, version, Instant::now())),
            }
        }
        for (blob, version, since) in held_elsewhere {
            if has_delivered && !self.is_current(blob).await? {
                progress.tried.remove(version);
                continue;
            }
            let claim = self.ledger.claim(path, version, batch, since).await?;
            has_delivered |= self.process_file(snapshot, metadata, blob, claim, progress).await?;
        }
        Ok(())
    }

    /// Whether the newest version of the blob is still this one.
    async fn is_current(&self, blob: &Blob) -> Result<bool, StoreError> {
        Ok(self.store.find(&blob.path).await?.is_some_and(|newest| newest.etag == blob.etag))
    }

    /// Delivers a file if `claim` gives this run the right to; returns whether it did.
    async fn process_file(
        &self,
        snapshot: &Snapshot,
        metadata: &JobMetadata,
        blob: &Blob,
        claim: Claim,
        progress: &mut Progress,
    ) -> Result<bool, Stopped> {
        let Claim::Acquired(mut claimed) = claim else {
            return Ok(false);
        };
        let keys = self.keys(snapshot, metadata, progress).await?;
        self.deliver(&snapshot.admitted, blob, keys, &mut claimed).await?;
        Ok(true)
    }

    /// Gets the keys of the drop when the first file needs them. Later files use the same keys, unless the job metadata
    /// has been overwritten.
    async fn keys<'p>(
        &self,
        snapshot: &Snapshot,
        metadata: &JobMetadata,
        progress: &'p mut Progress,
    ) -> Result<&'p Keys, KeyError> {
        let version = &snapshot.admitted.metadata_version;
        let keys = match progress.keys.take() {
            Some((requested_for, keys)) if requested_for == *version => keys,
            _ => self.keys.keys_of(&*self.store, &snapshot.contents, metadata, snapshot.admitted.tenant).await?,
        };
        let (_, keys) = progress.keys.insert((version.clone(), keys));
        Ok(keys)
    }

    /// Delivers a claimed file from its checkpoint on. If it fails permanently, sets it aside.
    async fn deliver(
        &self,
        admitted: &AdmittedDrop,
        blob: &Blob,
        keys: &Keys,
        claimed: &mut ClaimedFile,
    ) -> Result<(), RunError> {
        let FileRecord { file, next_row: first_row, attempts, .. } = claimed.record().clone();
        let name = &file.name;
        if attempts > 1 {
            info!(drop.path = %admitted.facts.path, file.name = %name, attempts,
                "resuming `{name}` at row {first_row}");
        }
        let TenantConfig { sink, rules, limits } = self.tenant_configs.of(admitted.tenant);
        let job = FileJob { drop: &admitted.facts, file: &file, keys, rules, limits: *limits };
        let bytes = read(Arc::clone(&self.store), blob.clone(), self.window);
        let Err(error) = deliver_file(&job, bytes, sink, claimed).await else {
            let end_row = claimed.record().next_row;
            info!(drop.path = %admitted.facts.path, file.name = %name, rows = end_row - first_row,
                "delivered rows {first_row}..{end_row} of `{name}`");
            return Ok(());
        };
        match error.verdict() {
            Verdict::SetAside(reason) => self.set_file_aside(admitted, &file, reason, &error, claimed).await,
            Verdict::Retry => {
                // The next run then need not wait for the lease to lapse. The run reports why the delivery failed,
                // rather than why the release did.
                let _lapses_otherwise = claimed.release().await;
                Err(RunError::File { name: file.name, source: error })
            }
        }
    }

    /// Sets a file aside: notifies the sink, then records it. After a crash in between, the next run sends the message
    /// again, with the same id.
    async fn set_file_aside(
        &self,
        admitted: &AdmittedDrop,
        file: &FileVersion,
        reason: Reason,
        error: &FileError,
        claimed: &mut ClaimedFile,
    ) -> Result<(), RunError> {
        let message = format!("file `{}` {}", file.name, error_chain(error));
        let rows_delivered = claimed.record().next_row - claimed.record().bad_rows;
        let failure = Failure { file: Some(&file.name), reason, message: &message, rows_delivered };
        claimed.confirm().await?;
        let sink = &self.tenant_configs.of(admitted.tenant).sink;
        notify_failed(&**sink, &admitted.facts, std::slice::from_ref(file), &failure).await?;
        claimed.finish(Status::SetAside(reason), Some(message.clone())).await?;
        error!(drop.path = %admitted.facts.path, file.name = %file.name, %reason, rows_delivered,
            "set aside: {message}; after a fix, run `vivadrop replay {}`", admitted.facts.path);
        Ok(())
    }
}
