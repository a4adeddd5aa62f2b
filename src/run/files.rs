//! The files of a drop: which of them a run works on, in which order, and what becomes of each.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{error, info};

use super::{AdmittedDrop, Look, Progress, RunError, Runner, Stopped, conclude::announce};
use crate::{
    deliver::{FileError, FileJob, deliver_file},
    drop::{FileVersion, metadata::JobMetadata},
    error_chain::error_chain,
    keys::Keys,
    ledger::{Claim, FileRecord, Status, Work},
    message::Failure,
    store::{Blob, StoreError, read},
    tenant_config::TenantConfig,
    verdict::{Reason, Verdict},
};

impl Runner {
    /// Works on `files`: first on those that are free, then on those whose worker has died meanwhile.
    pub(super) async fn work(
        &self,
        look: &Look,
        metadata: &JobMetadata,
        files: Vec<(&Blob, &FileVersion)>,
        progress: &mut Progress,
    ) -> Result<(), Stopped> {
        let (path, batch) = (&look.admitted.path, self.tenant_configs.of(look.admitted.tenant).limits.batch);
        let mut held_elsewhere = Vec::new();
        let mut has_aged = false;
        for (blob, file) in files {
            // While a file was delivered the next one may have been overwritten. The next look shows the new version, and
            // its record must not be replaced by one of the old.
            if has_aged && !self.is_current(blob).await? {
                continue;
            }
            progress.tried.insert(file.clone());
            match self.ledger.try_claim(path, file, batch).await? {
                Some(claim) => has_aged |= self.deliver(look, metadata, blob, claim, progress).await?,
                None => held_elsewhere.push((blob, file, Instant::now())),
            }
        }
        for (blob, file, since) in held_elsewhere {
            if has_aged && !self.is_current(blob).await? {
                progress.tried.remove(file);
                continue;
            }
            let claim = self.ledger.claim(path, file, batch, since).await?;
            has_aged |= self.deliver(look, metadata, blob, claim, progress).await?;
        }
        Ok(())
    }

    /// Whether the blob still is this version.
    async fn is_current(&self, blob: &Blob) -> Result<bool, StoreError> {
        Ok(self.store.find(&blob.path).await?.is_some_and(|now| now.etag == blob.etag))
    }

    /// Delivers a file, if the claim says that it is ours to; says whether it was.
    async fn deliver(
        &self,
        look: &Look,
        metadata: &JobMetadata,
        blob: &Blob,
        claim: Claim,
        progress: &mut Progress,
    ) -> Result<bool, Stopped> {
        let Claim::Held(mut work) = claim else {
            return Ok(false);
        };
        // Keys are asked for once there is something to decrypt, and then once a run.
        let version = &look.admitted.metadata_version;
        let keys = match progress.keys.take().filter(|(asked_for, _)| asked_for == version) {
            Some((_, keys)) => keys,
            None => self.keys.keys_of(&*self.store, &look.contents, metadata, look.admitted.tenant).await?,
        };
        let (_, keys) = progress.keys.insert((version.clone(), keys));
        self.deliver_with(&look.admitted, blob, keys, &mut *work).await?;
        Ok(true)
    }

    /// Delivers one file, or sets it aside.
    async fn deliver_with(
        &self,
        admitted: &AdmittedDrop,
        blob: &Blob,
        keys: &Keys,
        work: &mut dyn Work,
    ) -> Result<(), RunError> {
        let FileRecord { file, next_row: first_row, attempts, .. } = work.record().clone();
        let name = &file.name;
        if attempts > 1 {
            info!(drop.path = %admitted.facts.path, file.name = %name, attempts,
                "going on with `{name}` at row {first_row}");
        }
        let TenantConfig { sink, rules, limits } = self.tenant_configs.of(admitted.tenant);
        let job = FileJob { drop: &admitted.facts, file: &file, keys, rules, limits: *limits };
        let bytes = read(Arc::clone(&self.store), blob.clone(), self.window);
        let Err(error) = deliver_file(&job, bytes, sink, work).await else {
            let end_row = work.record().next_row;
            info!(drop.path = %admitted.facts.path, file.name = %name, rows = end_row - first_row,
                "delivered rows {first_row}..{end_row} of `{name}`");
            return Ok(());
        };
        match error.verdict() {
            Verdict::SetAside(reason) => self.set_aside(admitted, &file, reason, &error, work).await,
            Verdict::Retry => {
                // The next run then need not wait for the claim. What stopped this one is what is told.
                let _gone_by_then = work.release().await;
                Err(RunError::File { name: file.name, source: error })
            }
        }
    }

    /// Announces that a file is set aside, then records it: a crash between the two announces it again, by the same id.
    async fn set_aside(
        &self,
        admitted: &AdmittedDrop,
        file: &FileVersion,
        reason: Reason,
        error: &FileError,
        work: &mut dyn Work,
    ) -> Result<(), RunError> {
        let message = format!("file `{}` {}", file.name, error_chain(error));
        let rows_delivered = work.record().next_row - work.record().bad_rows;
        let failure = Failure { file: Some(&file.name), reason, message: &message, rows_delivered };
        let versions = std::slice::from_ref(file);
        work.confirm().await?;
        let sink = &self.tenant_configs.of(admitted.tenant).sink;
        announce(&**sink, &admitted.facts, versions, &failure).await?;
        work.finish(Status::SetAside(reason), Some(message.clone())).await?;
        error!(drop.path = %admitted.facts.path, file.name = %file.name, %reason, rows_delivered,
            "set aside: {message}; `vivadrop replay {}` starts it afresh", admitted.facts.path);
        Ok(())
    }
}
