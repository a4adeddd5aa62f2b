//! The sweep: looks for drops that no event brought to an end, and works on them.
//!
//! Events get lost, and so do hosts. A sweep lists what lies in the drop containers, and runs every drop that is newer than
//! the watermark. A run does what is left to do, so a drop that has ended, or that a living run works on, costs a look.
//!
//! The watermark stands before the oldest drop that has not ended, or else at the newest blob. All drops up to it have ended,
//! or were open for too long, and are not looked at again, nor delivered again once the ledger has forgotten them; a drop
//! that gets a new blob is as new as that blob. Whoever replays a drop sees to its end himself.

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

/// How long a drop may be open before it is no longer waited for: it must not keep the watermark down for ever.
const OPEN_AT_MOST: Duration = Duration::days(30);

/// How far the watermark stays behind the present and behind what has not ended: what is listed in one moment need not be
/// all that was written before it, and clocks differ, by less than this.
const MARGIN: Duration = Duration::minutes(15);

/// What a sweep found and did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Drops newer than the watermark.
    pub drops: usize,
    /// Those of them that are complete, by now or before.
    pub completed: usize,
    /// Those with rows still to come.
    pub open: usize,
    /// Those that are set aside, or of which a file is.
    pub set_aside: usize,
    /// Those that are none of ours.
    pub refused: usize,
    /// Those that are to be tried again, and why.
    pub failed: Vec<(DropPath, String)>,
    /// Those that are left for the next sweep.
    pub left: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drops, completed, open, set_aside, refused, failed, left } = self;
        write!(f, "swept {drops} drops: {completed} completed, {open} open, {set_aside} set aside, {refused} refused")?;
        write!(f, ", {} to be tried again", failed.len())?;
        if *left > 0 { write!(f, ", {left} left for the next sweep") } else { Ok(()) }
    }
}

/// Why a sweep could not look around.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A drop container cannot be listed. The next sweep tries again.
    #[error("the drops cannot be listed")]
    List(#[source] StoreError),
    /// The watermark cannot be read or written. The next sweep begins where this one did.
    #[error("the watermark cannot be kept")]
    Watermark(#[source] StoreError),
}

/// Works on every drop of `containers` that is newer than the watermark, oldest first. No drop is begun once `budget` is
/// used up: what is left is the next sweep's. The watermark is kept in `state_container`.
pub async fn sweep(
    runner: &Runner,
    containers: &[String],
    state_container: &str,
    budget: std::time::Duration,
) -> Result<Report, SweepError> {
    let begun = Instant::now();
    let now = OffsetDateTime::now_utc();
    let watermark = watermark::read(&*runner.store, state_container).await.map_err(SweepError::Watermark)?;
    let mut drops = Vec::new();
    for container in containers {
        let blobs = runner.store.list(container, "").await.map_err(SweepError::List)?;
        drops.extend(newest_by_drop(&blobs).into_iter().filter(|(_, newest)| *newest > watermark));
    }
    drops.sort_by_key(|(_, newest)| *newest);

    let mut report = Report { drops: drops.len(), left: drops.len(), ..Report::default() };
    // As far as the watermark may rise. Never beyond what was listed: our clock may be ahead of the store's.
    let mut settled = drops.last().map_or(watermark, |(_, newest)| *newest.min(&(now - MARGIN)));
    for (path, newest) in drops {
        if begun.elapsed() > budget {
            settled = settled.min(newest - MARGIN);
            break;
        }
        report.left -= 1;
        let outcome = runner.run(&path, None).await;
        let is_abandoned = now - newest > OPEN_AT_MOST;
        if !(report.count(path, outcome) || is_abandoned) {
            settled = settled.min(newest - MARGIN);
        }
    }
    if settled > watermark {
        watermark::write(&*runner.store, state_container, settled).await.map_err(SweepError::Watermark)?;
    }
    info!(drops = report.drops, left = report.left, "{report}");
    Ok(report)
}

impl Report {
    /// Counts how a drop was left; says whether it has ended.
    fn count(&mut self, path: DropPath, outcome: Result<Outcome, RunError>) -> bool {
        match outcome {
            Ok(Outcome::Completed { .. }) => self.completed += 1,
            Ok(Outcome::SetAside { is_over, .. }) => {
                self.set_aside += 1;
                return is_over;
            }
            Ok(Outcome::Foreign(_)) => self.refused += 1,
            Ok(Outcome::Open { .. } | Outcome::NoDrop) => {
                self.open += 1;
                return false;
            }
            Err(error) => {
                let why = error_chain(&error);
                error!(drop.path = %path, "`{path}` is to be tried again: {why}");
                self.failed.push((path, why));
                return false;
            }
        }
        true
    }
}

/// Each drop among `blobs`, with the time of its newest blob.
fn newest_by_drop(blobs: &[Blob]) -> Vec<(DropPath, OffsetDateTime)> {
    let mut drops = BTreeMap::new();
    for blob in blobs.iter().filter(|blob| blob.size > 0) {
        if let Some(drop) = discover::drop_of_metadata(&blob.path) {
            drops.insert(drop, blob.modified);
        }
    }
    for blob in blobs {
        // Of nested drops the outer one counts as new too: that costs a look, and misses nothing.
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
        newest_by_drop(blobs).into_iter().map(|(path, time)| (path.to_string(), minute(time))).collect()
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
