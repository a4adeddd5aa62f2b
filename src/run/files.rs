//! The files of a drop: claims and delivers them one after another.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt, StreamExt, TryStreamExt};
use tokio::time::Instant;
use tracing::info;

use super::{
    AdmittedDrop, Run, RunError, Snapshot, Stopped,
    observe::{report_file, report_keys},
};
use crate::{
    deliver::{FileError, FileJob, Join, deliver_file},
    drop::{FileVersion, metadata::JobMetadata},
    error_chain::error_chain,
    keys::{KeyError, Keys},
    ledger::{Claim, ClaimRequest, ClaimedFile, FileRecord, Status},
    message::DropFacts,
    store::{Blob, StoreError, read},
    telemetry::{Span, metrics},
    verdict::{Reason, Verdict},
};

/// How many files may fail at the receiver before the run leaves the others to the next run.
const MAX_SINK_FAILURES: u32 = 2;

/// How many runs in a row may panic in a file before it is set aside.
const MAX_PANICS: u32 = 5;

/// The files that failed in a run and will be retried.
#[derive(Default)]
pub(super) struct Failures {
    /// The first failure, but one that is not a denial rather than a denial: a drop that was denied only sometimes is
    /// not given up as `refused`.
    pub(super) first: Option<RunError>,
    /// How many of them failed because the receiver did not take their rows.
    at_sink: u32,
}

impl Failures {
    fn add(&mut self, error: RunError) {
        self.at_sink += u32::from(matches!(error, RunError::File { source: FileError::Sink { .. }, .. }));
        if self.first.as_ref().is_none_or(|first| first.is_denied() && !error.is_denied()) {
            self.first = Some(error);
        }
    }
}

impl Run<'_> {
    /// Delivers `files`: first those that no other process holds, then those whose holder turns out to be dead. Files
    /// of live runs are left to those runs. A file that fails does not stop the files after it, unless the receiver
    /// asks to wait, or has failed for [`MAX_SINK_FAILURES`] files; a failure is returned at the end.
    pub(super) async fn process_files(
        &mut self,
        snapshot: &Snapshot,
        metadata: &JobMetadata,
        files: Vec<(&Blob, &FileVersion)>,
    ) -> Result<(), Stopped> {
        let mut held_elsewhere = Vec::new();
        // Deliveries take time, so files may have been overwritten since the snapshot. The new version is left to the
        // next snapshot: a claim on the old version would replace the record of the new one.
        let mut has_delivered = false;
        for (blob, version) in files {
            if has_delivered && !self.is_current(blob).await? {
                continue;
            }
            self.tried.insert(self.attempt(snapshot, version));
            match self.runner.ledger.try_claim(&self.claim_request(snapshot, version)).await? {
                Some(claim) => {
                    has_delivered |= self.process_file(snapshot, metadata, blob, claim).await?;
                }
                None => held_elsewhere.push((blob, version, Instant::now())),
            }
            if self.failures.at_sink >= MAX_SINK_FAILURES {
                break;
            }
        }
        for (blob, version, since) in held_elsewhere {
            if self.failures.at_sink >= MAX_SINK_FAILURES {
                break;
            }
            if has_delivered && !self.is_current(blob).await? {
                self.tried.remove(&self.attempt(snapshot, version));
                continue;
            }
            let claim = self.runner.ledger.claim(&self.claim_request(snapshot, version), since).await?;
            has_delivered |= self.process_file(snapshot, metadata, blob, claim).await?;
        }
        self.failures.first.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn claim_request(&self, snapshot: &Snapshot, file: &FileVersion) -> ClaimRequest {
        ClaimRequest {
            drop: self.path.clone(),
            file: file.clone(),
            batch: self.runner.tenant_configs.of(snapshot.admitted.tenant).limits.batch,
            replays: self.record.replays,
            is_new: !self.progress.contains_key(&file.name),
            progress: self.progress_flag.clone(),
            generation: self.record.generation,
            keys: snapshot.scope.keys_version(),
            run: self.span.traceparent(),
        }
    }

    /// Whether the newest version of the blob is still this one.
    async fn is_current(&self, blob: &Blob) -> Result<bool, StoreError> {
        Ok(self.runner.store.find(&blob.path).await?.is_some_and(|newest| newest.etag == blob.etag))
    }

    /// Delivers a file if `claim` gives this run the right to; returns whether it did.
    async fn process_file(
        &mut self,
        snapshot: &Snapshot,
        metadata: &JobMetadata,
        blob: &Blob,
        claim: Claim,
    ) -> Result<bool, Stopped> {
        let mut claimed = match claim {
            Claim::Acquired(claimed) => claimed,
            Claim::Ended(_) | Claim::HeldByLiveRun => return Ok(false),
            Claim::Outdated => {
                self.is_record_outdated = true;
                return Ok(false);
            }
        };
        self.request_keys(snapshot, metadata).await?;
        let join = match self.load_directory(snapshot).await {
            Ok(join) => join,
            Err(stopped) => {
                if matches!(stopped, Stopped::ChooseAgain) {
                    self.tried.remove(&self.attempt(snapshot, &claimed.record().file));
                }
                // The run may claim the file again.
                let _lapses_otherwise = claimed.release().await;
                return Err(stopped);
            }
        };
        let span = self.start_file_span(&claimed);
        let delivered = span.scope(self.deliver(&snapshot.admitted, join.as_ref(), blob, &mut claimed)).await;
        report_file(&span, claimed.record(), delivered.as_ref().err());
        drop(span);
        match delivered {
            Ok(()) => {}
            Err(error) if error.stops_the_run() => return Err(error.into()),
            Err(error) => self.failures.add(error),
        }
        Ok(true)
    }

    /// Gets the keys of the drop when the first file needs them. Later files use the same keys, unless the job metadata
    /// or the key details have been overwritten.
    async fn request_keys(&mut self, snapshot: &Snapshot, metadata: &JobMetadata) -> Result<(), KeyError> {
        let is_valid = |(requested_for, _): &(_, Keys)| snapshot.scope.covers_keys_of(requested_for);
        if !self.keys.as_ref().is_some_and(is_valid) {
            let Run { runner, .. } = self;
            let span = Span::start("keys");
            let keys = runner.keys.keys_of(&*runner.store, &snapshot.contents, metadata, snapshot.admitted.tenant);
            let keys = span.scope(keys).await;
            report_keys(&span, &keys);
            let keys = keys?;
            self.keys = Some((snapshot.scope.clone(), keys));
        }
        Ok(())
    }

    /// Delivers a claimed file from its checkpoint on. If it fails permanently, sets it aside.
    async fn deliver(
        &self,
        admitted: &AdmittedDrop,
        join: Option<&Join>,
        blob: &Blob,
        claimed: &mut ClaimedFile,
    ) -> Result<(), RunError> {
        let FileRecord { file, next_row: first_row, attempts, .. } = claimed.record().clone();
        let (path, name) = (self.path, &file.name);
        if attempts > 1 {
            info!(drop.path = %path, file.name = %name, attempts, "resuming `{name}` of `{path}` at row {first_row}");
        }
        let rules = &self.rules_of_rows(admitted);
        let limits = self.runner.tenant_configs.of(admitted.tenant).limits;
        let receiver = &self.receiver_of_rows(admitted);
        let (_, keys) = self.keys.as_ref().expect("the keys were requested before");
        let facts = DropFacts { generation: self.record.generation, ..admitted.facts.clone() };
        let job = FileJob { drop: &facts, file: &file, keys, join, rules, limits };
        let bytes = read(Arc::clone(&self.runner.store), blob.clone(), self.runner.window);
        let tenant = admitted.tenant;
        let bytes = bytes.inspect_ok(move |bytes| metrics::count_bytes_read(tenant, bytes.len())).boxed();
        let delivery = AssertUnwindSafe(deliver_file(&job, bytes, receiver, claimed)).catch_unwind().await;
        let Err(error) = delivery.unwrap_or(Err(FileError::Panicked)) else {
            let end_row = claimed.record().next_row;
            info!(drop.path = %path, file.name = %name, rows = end_row - first_row,
                "delivered rows {first_row}..{end_row} of `{name}` of `{path}`");
            return Ok(());
        };
        let verdict = match error {
            FileError::Panicked if claimed.count_panic() >= MAX_PANICS => Verdict::SetAside(Reason::Internal),
            _ => error.verdict(),
        };
        match verdict {
            Verdict::SetAside(reason) => {
                let message = format!("file `{name}` {}", error_chain(&error));
                let rows_delivered = claimed.record().next_row - claimed.record().bad_rows;
                claimed.finish(Status::SetAside(reason), Some(message.clone())).await?;
                info!(drop.path = %path, file.name = %name, %reason, rows_delivered, "set aside a file of `{path}`: {message}");
                Ok(())
            }
            Verdict::Retry => {
                // The next run then need not wait for the lease to lapse. A failure of the release is not reported,
                // because the failure of the delivery is more important.
                let _lapses_otherwise = claimed.release().await;
                Err(RunError::File { name: file.name, source: error })
            }
        }
    }
}
