//! Which directory a drop is joined to. Does no I/O.
//!
//! A pipeline run writes its exports into one folder: `{runId}/VivaInsights/{tenantId}` and
//! `{runId}/AADUser/{tenantId}`. They are written at the same time, so the directory may be complete later than the
//! other drop, or never. A drop is joined to the directory of its own run. If that directory is not complete in time,
//! the drop is joined to the tenant's newest complete directory.

use std::{collections::BTreeSet, time::Duration};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use crate::drop::{DropPath, TenantId};

/// `TableName` of a directory export.
const TABLE: &str = "BasicDataSet_v0.User_v1";

/// The folder of a directory export, if the job metadata has no `TableName`.
const DIRECTORY_FOLDER: &str = "AADUser";

/// The folder of the other export of a pipeline run.
const INSIGHTS_FOLDER: &str = "VivaInsights";

/// How old a directory of another pipeline run may be.
const MAX_AGE: time::Duration = time::Duration::days(30);

/// One version of a directory, to which rows are joined.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DirectorySnapshot {
    /// The path of the directory drop.
    #[serde(serialize_with = "as_text")]
    pub path: DropPath,
    /// The drop's `CopyActivityId`.
    pub id: Option<String>,
    /// The versions of its files, as a text that is the same for the same versions.
    #[serde(skip)]
    pub versions: String,
}

fn as_text<S: Serializer>(path: &DropPath, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(path)
}

/// A directory drop that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDirectory {
    /// The directory, in the version that has ended.
    pub snapshot: DirectorySnapshot,
    /// Whether all its rows are there. If not, it was set aside.
    pub is_complete: bool,
    /// When it ended.
    pub ended: OffsetDateTime,
}

/// Whether a drop is a directory export: by the `TableName` of its job metadata, or else by its folder.
pub fn is_directory(path: &DropPath, table: Option<&str>) -> bool {
    match table {
        Some(table) => table.eq_ignore_ascii_case(TABLE),
        None => path.folder.split('/').any(|segment| segment.eq_ignore_ascii_case(DIRECTORY_FOLDER)),
    }
}

/// Whether two drops of a tenant are exports of the same pipeline run: whether they lie in the same folder, apart from
/// the name of the export and the folders below it.
pub fn are_of_the_same_run(one: &DropPath, other: &DropPath, tenant: TenantId) -> bool {
    one != other && one.container == other.container && {
        let folder = run_folder(&one.folder, tenant);
        folder.is_some() && folder == run_folder(&other.folder, tenant)
    }
}

/// The path of the directory of the same pipeline run, if the run has the folders of our customer template; `None` if
/// `drop` lies elsewhere.
pub fn expected_directory(drop: &DropPath) -> Option<DropPath> {
    let mut segments: Vec<_> = drop.folder.split('/').collect();
    let export = segments.iter().position(|segment| segment.eq_ignore_ascii_case(INSIGHTS_FOLDER))?;
    segments[export] = DIRECTORY_FOLDER;
    Some(DropPath::new(&drop.container, segments.join("/")))
}

/// The folder of the pipeline run that has written the drop in `folder`: the folder around `AADUser` or `VivaInsights`,
/// or else around the last folder whose name is not the tenant id. `None` if that is the container itself and no folder
/// has the tenant id as its name: the container may have exports of many runs.
fn run_folder(folder: &str, tenant: TenantId) -> Option<Vec<&str>> {
    let mut segments: Vec<_> = folder.split('/').collect();
    let is_export =
        |segment: &&str| [DIRECTORY_FOLDER, INSIGHTS_FOLDER].iter().any(|name| segment.eq_ignore_ascii_case(name));
    if let Some(export) = segments.iter().position(is_export) {
        segments.truncate(export);
        return Some(segments);
    }
    let is_tenant = segments.len() > 1 && segments.last().is_some_and(|last| last.parse() == Ok(tenant));
    if is_tenant {
        segments.pop();
    }
    segments.pop();
    (is_tenant || !segments.is_empty()).then_some(segments)
}

/// The facts from which [`choose`] decides.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The drop whose rows are to be joined.
    pub drop: &'a DropPath,
    /// Its tenant.
    pub tenant: TenantId,
    /// The directories of the tenant that have ended.
    pub known: &'a [KnownDirectory],
    /// Snapshots whose blobs have been deleted or overwritten.
    pub gone: &'a BTreeSet<DirectorySnapshot>,
    /// When the ledger first saw the drop, if that is known.
    pub first_seen: Option<OffsetDateTime>,
    /// `DIRECTORY_WAIT`.
    pub wait: Duration,
    /// The current time.
    pub now: OffsetDateTime,
}

/// The decision about a drop whose rows are to be joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Its rows are joined to this directory. With `None`, they are joined to no directory: no row finds a person.
    Join(Option<DirectorySnapshot>),
    /// It waits for the directory of its run, at most until this time.
    WaitUntil(OffsetDateTime),
}

/// Chooses the directory of a drop.
pub fn choose(situation: &Situation<'_>) -> Choice {
    let Situation { drop, tenant, known, gone, first_seen, wait, now } = *situation;
    let is_usable = |directory: &&KnownDirectory| {
        directory.is_complete && directory.snapshot.path != *drop && !gone.contains(&directory.snapshot)
    };
    let is_own = |directory: &&KnownDirectory| are_of_the_same_run(drop, &directory.snapshot.path, tenant);
    let newest = |directories: &mut dyn Iterator<Item = &KnownDirectory>| {
        directories.max_by_key(|directory| directory.ended).map(|directory| directory.snapshot.clone())
    };
    if let Some(own) = newest(&mut known.iter().filter(is_own).filter(is_usable)) {
        return Choice::Join(Some(own));
    }
    let is_set_aside = known.iter().filter(is_own).any(|directory| !directory.is_complete);
    let wait: time::Duration = wait.try_into().unwrap_or(time::Duration::MAX);
    let end = first_seen.map(|first_seen| first_seen.saturating_add(wait));
    // If a machine with a fast clock has recorded `first_seen`, the drop waits for longer: rows that are joined too
    // early lack their people for good.
    if let Some(end) = end.filter(|end| !is_set_aside && now < *end) {
        return Choice::WaitUntil(end);
    }
    let is_recent = |directory: &&KnownDirectory| now - directory.ended <= MAX_AGE;
    Choice::Join(newest(&mut known.iter().filter(is_recent).filter(is_usable)))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";
    const NOON: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

    fn tenant() -> TenantId {
        TENANT.parse().unwrap()
    }

    fn path(folder: &str) -> DropPath {
        DropPath::new("datasets", folder.replace("TENANT", TENANT))
    }

    fn snapshot(folder: &str) -> DirectorySnapshot {
        DirectorySnapshot { path: path(folder), id: None, versions: "1".into() }
    }

    fn known(folder: &str, is_complete: bool, ended: OffsetDateTime) -> KnownDirectory {
        KnownDirectory { snapshot: snapshot(folder), is_complete, ended }
    }

    /// The choice at noon for a drop that was first seen some minutes before.
    fn choice(known: &[KnownDirectory], gone: &[DirectorySnapshot], minutes: i64) -> Choice {
        choose(&Situation {
            drop: &path("run/VivaInsights/TENANT"),
            tenant: tenant(),
            known,
            gone: &gone.iter().cloned().collect(),
            first_seen: Some(NOON - time::Duration::minutes(minutes)),
            wait: Duration::from_secs(3600),
            now: NOON,
        })
    }

    fn joined(folder: &str) -> Choice {
        Choice::Join(Some(snapshot(folder)))
    }

    const OWN: &str = "run/AADUser/TENANT";
    const OTHER: &str = "other/AADUser/TENANT";

    #[test]
    fn the_table_name_decides_and_without_it_the_folder() {
        let (own, drop) = (path(OWN), path("run/VivaInsights/TENANT"));
        assert!(is_directory(&drop, Some("BasicDataSet_v0.User_v1")));
        assert!(!is_directory(&own, Some("VivaInsightsDataset_v1")));
        assert!(is_directory(&own, None));
        assert!(!is_directory(&drop, None));
    }

    #[test]
    fn drops_of_a_run_are_siblings() {
        let is_same = |one: &str, other: &str| are_of_the_same_run(&path(one), &path(other), tenant());
        assert!(is_same("run/VivaInsights/TENANT", OWN));
        assert!(is_same("a/b/run/vivainsights/TENANT", "a/b/run/AADUSER/TENANT/x"));
        assert!(is_same("VivaInsights/TENANT", "AADUser/TENANT"));
        assert!(is_same("TENANT/run/insights", "TENANT/run/users"));
        assert!(is_same("run/insights/TENANT", "run/users/TENANT"));
        assert!(is_same("run/insights", "run/users"));
        assert!(!is_same("run/VivaInsights/TENANT", OTHER));
        assert!(!is_same("run/users", "run/users"), "a drop is not its own directory");
        assert!(!is_same("insights-1", "users-1"), "a container has many runs");
        let elsewhere = DropPath::new("other", path(OWN).folder);
        assert!(!are_of_the_same_run(&path("run/VivaInsights/TENANT"), &elsewhere, tenant()));
    }

    #[test]
    fn the_directory_is_expected_next_to_the_drop() {
        assert_eq!(expected_directory(&path("a/VivaInsights/TENANT")), Some(path("a/AADUser/TENANT")));
        assert_eq!(expected_directory(&path("a/insights/TENANT")), None);
    }

    #[test]
    fn the_directory_of_the_run_is_joined_even_if_another_one_is_newer() {
        let directories = [known(OWN, true, NOON - time::Duration::hours(2)), known(OTHER, true, NOON)];
        assert_eq!(choice(&directories, &[], 0), joined(OWN));
        assert_eq!(choice(&directories, &[], 10_000), joined(OWN));
    }

    #[test]
    fn a_drop_waits_for_the_directory_of_its_run_and_not_for_longer_than_the_limit() {
        let directories = [known(OTHER, true, NOON)];
        assert_eq!(choice(&directories, &[], 59), Choice::WaitUntil(NOON + time::Duration::minutes(1)));
        assert_eq!(choice(&directories, &[], 60), joined(OTHER));
        assert_eq!(choice(&[], &[], 60), Choice::Join(None));
    }

    #[test]
    fn a_drop_that_a_fast_clock_has_first_seen_waits_for_its_directory_all_the_same() {
        let end = NOON + time::Duration::hours(7);
        assert_eq!(choice(&[known(OTHER, true, NOON)], &[], -6 * 60), Choice::WaitUntil(end));
        assert_eq!(choice(&[known(OWN, true, NOON)], &[], -6 * 60), joined(OWN));
    }

    #[test]
    fn the_longest_wait_is_no_overflow() {
        let situation = Situation {
            drop: &path("run/VivaInsights/TENANT"),
            tenant: tenant(),
            known: &[],
            gone: &BTreeSet::new(),
            first_seen: Some(NOON),
            wait: Duration::MAX,
            now: NOON,
        };
        assert!(matches!(choose(&situation), Choice::WaitUntil(end) if end.year() == 9999));
    }

    #[test]
    fn the_wait_ends_when_the_directory_is_set_aside() {
        let directories = [known(OWN, false, NOON), known(OTHER, true, NOON)];
        assert_eq!(choice(&directories, &[], 0), joined(OTHER));
        assert_eq!(choice(&directories[..1], &[], 0), Choice::Join(None));
    }

    #[test]
    fn a_directory_of_another_run_is_at_most_30_days_old() {
        let old = |days| [known(OTHER, true, NOON - time::Duration::days(days))];
        assert_eq!(choice(&old(30), &[], 60), joined(OTHER));
        assert_eq!(choice(&old(31), &[], 60), Choice::Join(None));
    }

    #[test]
    fn a_snapshot_that_has_gone_is_not_chosen() {
        let directories = [known(OWN, true, NOON), known(OTHER, true, NOON)];
        assert_eq!(choice(&directories, &[snapshot(OWN)], 0), Choice::WaitUntil(NOON + time::Duration::hours(1)));
        assert_eq!(choice(&directories, &[snapshot(OWN)], 60), joined(OTHER));
        assert_eq!(choice(&directories, &[snapshot(OWN), snapshot(OTHER)], 60), Choice::Join(None));
    }
}
