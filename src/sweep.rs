//! The sweep: finds the drops that no event has brought to an end, and runs them.
//!
//! Events get lost and hosts crash, so a sweep lists the drop containers and runs every drop whose newest blob is newer
//! than the watermark. A run does only the remaining work, so a drop that has ended, or that a live run works on, costs
//! a few requests.
//!
//! The watermark is a point in time. It stays 15 minutes before the newest blob of each drop that has not ended. If all
//! drops have ended, it rises to the newest blob, but not beyond 15 minutes ago. So the drops that a sweep skips have
//! ended, or have been open for more than 30 days, and no drop is delivered again after the ledger has forgotten it. If
//! somebody replays an old drop, sweeps do not continue the replay.

mod watermark;

use std::{collections::BTreeMap, fmt};

use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use tracing::{error, info};

use crate::{
    drop::{DropPath, discover},
    error_chain::error_chain,
    run::{Outcome, RunError, Runner},
    store::{Blob, StoreError},
};

/// The age at which a drop that has not ended no longer holds back the watermark.
const MAX_OPEN: Duration = Duration::days(30);

/// How far the watermark stays below the present and below drops that have not ended. It must exceed clock differences,
/// and the time that a listing may lag behind writes.
const MARGIN: Duration = Duration::minutes(15);

/// What a sweep found and did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Drops newer than the watermark.
    pub drops: usize,
    /// Drops that are completed, by this sweep or before.
    pub completed: usize,
    /// Drops with missing rows.
    pub open: usize,
    /// Drops that are set aside, or that have a file that is.
    pub set_aside: usize,
    /// Drops that are not ours.
    pub refused: usize,
    /// Drops that will be retried, each with its error.
    pub failed: Vec<(DropPath, String)>,
    /// Drops that are left for the next sweep, because the time budget was used up.
    pub left: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drops, completed, open, set_aside, refused, failed, left } = self;
        write!(f, "swept {drops} drops: {completed} completed, {open} open, {set_aside} set aside, {refused} refused")?;
        write!(f, ", {} will be retried", failed.len())?;
        if *left > 0 { write!(f, ", {left} left for the next sweep") } else { Ok(()) }
    }
}

/// Why a sweep stopped.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A drop container cannot be listed. The next sweep lists it again.
    #[error("cannot list the drops")]
    List(#[source] StoreError),
    /// The watermark cannot be read or written. The next sweep starts at the same watermark as this one.
    #[error("cannot read or write the watermark")]
    Watermark(#[source] StoreError),
}

/// Runs the drops of `containers` that are newer than the watermark in `state_container`, oldest first, then raises the
/// watermark. Starts no run once the sweep has taken longer than `budget`: the drops that are left wait for the next
/// sweep.
pub async fn sweep(
    runner: &Runner,
    containers: &[String],
    state_container: &str,
    budget: std::time::Duration,
) -> Result<Report, SweepError> {
    let started = Instant::now();
    let now = OffsetDateTime::now_utc();
    let watermark = watermark::read(&*runner.store, state_container).await.map_err(SweepError::Watermark)?;
    let mut drops = Vec::new();
    for container in containers {
        let blobs = runner.store.list(container, "").await.map_err(SweepError::List)?;
        drops.extend(newest_blob_by_drop(&blobs).into_iter().filter(|(_, newest)| *newest > watermark));
    }
    drops.sort_by_key(|(_, newest)| *newest);

    let mut report = Report { drops: drops.len(), left: drops.len(), ..Report::default() };
    // Never above the newest blob that was listed, because our clock may be ahead of the store's.
    let mut new_watermark = drops.last().map_or(watermark, |(_, newest)| *newest.min(&(now - MARGIN)));
    for (path, newest) in drops {
        if started.elapsed() > budget {
            new_watermark = new_watermark.min(newest - MARGIN);
            break;
        }
        report.left -= 1;
        let outcome = runner.run(&path, None).await;
        let has_ended = report.count(path, outcome);
        if !has_ended && now - newest <= MAX_OPEN {
            new_watermark = new_watermark.min(newest - MARGIN);
        }
    }
    if new_watermark > watermark {
        watermark::write(&*runner.store, state_container, new_watermark).await.map_err(SweepError::Watermark)?;
    }
    info!(drops = report.drops, left = report.left, "{report}");
    Ok(report)
}

impl Report {
    /// Counts the outcome of a run; returns whether the drop has ended.
    fn count(&mut self, path: DropPath, outcome: Result<Outcome, RunError>) -> bool {
        match outcome {
            Ok(Outcome::Completed { .. }) => {
                self.completed += 1;
                true
            }
            Ok(Outcome::SetAside { is_over, .. }) => {
                self.set_aside += 1;
                is_over
            }
            Ok(Outcome::Refused(_)) => {
                self.refused += 1;
                true
            }
            Ok(Outcome::Open { .. } | Outcome::NoDrop) => {
                self.open += 1;
                false
            }
            Err(error) => {
                let why = error_chain(&error);
                error!(drop.path = %path, "`{path}` will be retried: {why}");
                self.failed.push((path, why));
                false
            }
        }
    }
}

/// Finds the drops among `blobs`; returns each with the time of its newest blob.
fn newest_blob_by_drop(blobs: &[Blob]) -> Vec<(DropPath, OffsetDateTime)> {
    let mut drops = BTreeMap::new();
    for blob in blobs.iter().filter(|blob| blob.size > 0) {
        if let Some(drop) = discover::drop_of_metadata(&blob.path) {
            drops.insert(drop, blob.modified);
        }
    }
    for blob in blobs {
        // A blob of a nested drop also counts for the outer drop. That may cost a run with nothing to do, but misses no
        // drop.
        for (at, _) in blob.path.name.rmatch_indices('/') {
            let folder = DropPath::new(&blob.path.container, &blob.path.name[..at]);
            if let Some(newest) = drops.get_mut(&folder) {
                *newest = blob.modified.max(*newest);
            }
        }
        if let Some(newest) = drops.get_mut(&DropPath::new(&blob.path.container, "")) {
            *newest = blob.modified.max(*newest);
        }
    }
    drops.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BlobPath, ETag};

    fn blob(name: &str, minute: i64) -> Blob {
        let modified = OffsetDateTime::UNIX_EPOCH + Duration::minutes(minute);
        Blob { path: BlobPath::new("datasets", name), etag: ETag("1".into()), size: 1, modified }
    }

    fn newest(blobs: &[Blob]) -> Vec<(String, i64)> {
        let minute = |time: OffsetDateTime| (time - OffsetDateTime::UNIX_EPOCH).whole_minutes();
        newest_blob_by_drop(blobs).into_iter().map(|(path, time)| (path.to_string(), minute(time))).collect()
    }

    #[test]
    fn a_drop_is_as_new_as_its_newest_blob() {
        let blobs = [
            blob("a/metadata/JobMetadata/Metadata.json", 1),
            blob("a/part-0.json.gz", 5),
            blob("b/metadata/JobMetadata/Metadata.json", 2),
            blob("c/part-0.json.gz", 9),
        ];
        assert_eq!(newest(&blobs), [("datasets/a".into(), 5), ("datasets/b".into(), 2)]);
    }

    #[test]
    fn a_container_may_be_a_drop() {
        let blobs = [blob("metadata/JobMetadata/Metadata.json", 1), blob("deep/part-0.json.gz", 3)];
        assert_eq!(newest(&blobs), [("datasets".into(), 3)]);
    }
}
