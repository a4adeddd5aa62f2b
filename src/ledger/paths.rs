//! The blob names of records.
//!
//! Two different drops or files never share a record, whatever their names are. A customer chooses the names, and the
//! account may have a hierarchical namespace, where `x.json` cannot be a file and a folder. So a name that could be
//! mistaken for another path is replaced by its hash.

use sha2::{Digest, Sha256};

use super::LIST_COPY_VERSION;
use crate::{
    drop::{DropPath, TenantId},
    hex::hex,
};

/// The folder of the records of all drops.
pub(super) const DROPS: &str = "drops/";

/// The folder of the list of all drops.
pub(super) const LIST: &str = "list/";

/// The folder of the entries of unfinished drops.
pub(super) const UNFINISHED: &str = "unfinished/";

/// The folder of the records of each tenant's directories.
const DIRECTORIES: &str = "directories/";

/// The folder of the tenants' definitions of attributes, which people may edit.
pub(super) const DEFINITIONS: &str = "attributes/";

/// The folder of the records of each tenant's imports of attributes.
const IMPORTS: &str = "imports/";

/// The folder of plans.
const PLANS: &str = "plans/";

/// The folder of replay runs.
pub(super) const REPLAYS: &str = "replays/";

/// The folder of the entries of customers.
pub(super) const CUSTOMERS: &str = "customers/";

/// The folder of the entries of the tenants' imports.
pub(super) const IMPORTS_DUE: &str = "imports-due/";

/// The folder of the records of periodic tasks.
const PERIODIC: &str = "periodic/";

/// The folder, in any folder, of records whose names are replaced by hashes.
const HASHED: &str = "hashed";

/// The folder of the records of a drop's files.
const FILES: &str = "files";

/// The longest name, in bytes, that is part of a record's path.
const MAX_NAME: usize = 200;

/// The longest drop path, in bytes, that is part of a record's path. The name of a blob has 1,024 characters at most.
const MAX_DROP_PATH: usize = 700;

/// The record of a drop.
pub(super) fn drop_record(drop: &DropPath) -> String {
    format!("{}/drop.json", folder(drop))
}

/// The folder of the records of a drop's files, with a slash at the end.
pub(super) fn file_records(drop: &DropPath) -> String {
    format!("{}/{FILES}/", folder(drop))
}

/// The record of the file `name` of a drop.
pub(super) fn file_record(drop: &DropPath, name: &str) -> String {
    let folder = file_records(drop);
    // In version 1, `files/drop.json` is the record of a drop in a folder called `files`.
    if is_plain(name) && name != "drop" {
        format!("{folder}{name}.json")
    } else {
        format!("{folder}{HASHED}/{}.json", hash(name))
    }
}

/// The entry of a drop in the list of all drops.
pub(super) fn list_entry(drop: &DropPath) -> String {
    format!("{LIST}{}.json", hash(&drop.to_string()))
}

/// The copy of the entries of all drops and customers.
pub(super) fn list_copy() -> String {
    format!("list-copy/v{}.jsonl.gz", LIST_COPY_VERSION)
}

/// The entry of an unfinished drop.
pub(super) fn unfinished_entry(drop: &DropPath) -> String {
    format!("{UNFINISHED}{}.json", hash(&drop.to_string()))
}

/// The record of the directories of a tenant.
pub(super) fn directories(tenant: TenantId) -> String {
    format!("{DIRECTORIES}{tenant}.json")
}

/// The definitions of attributes of a tenant.
pub(super) fn definitions(tenant: TenantId) -> String {
    format!("{DEFINITIONS}{tenant}.json")
}

/// The record of the imports of a tenant.
pub(super) fn imports(tenant: TenantId) -> String {
    format!("{IMPORTS}{tenant}/tenant.json")
}

/// The plan with this id.
pub(super) fn plan(id: &str) -> String {
    format!("{PLANS}{id}.json")
}

/// The replay run of the plan with this id.
pub(super) fn replay_run(id: &str) -> String {
    format!("{REPLAYS}{id}.json")
}

/// The entry of a customer.
pub(super) fn customer(tenant: TenantId) -> String {
    format!("{CUSTOMERS}{tenant}.json")
}

/// The folder of the records of a tenant's imports of cycles, with a slash at the end.
pub(super) fn cycle_imports(tenant: TenantId) -> String {
    format!("{IMPORTS}{tenant}/cycles/")
}

/// The record of the import of a cycle. People choose the names, so they are replaced by a hash.
pub(super) fn cycle_import(tenant: TenantId, program: &str, cycle: &str) -> String {
    format!("{}{}.json", cycle_imports(tenant), hash(&format!("{} {program}{cycle}", program.len())))
}

/// A record of imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImportsRecord {
    /// Of a tenant.
    Tenant,
    /// Of a cycle.
    Cycle,
}

/// The kind of the record of imports with this path; `None` if it is another record.
pub(super) fn imports_record(name: &str) -> Option<ImportsRecord> {
    let (_tenant, rest) = name.strip_prefix(IMPORTS)?.split_once('/')?;
    Some(if rest.starts_with("cycles/") { ImportsRecord::Cycle } else { ImportsRecord::Tenant })
}

/// The blob that a process leases while it imports for a tenant.
pub(super) fn imports_lease(tenant: TenantId) -> String {
    format!("{IMPORTS}{tenant}/lease.json")
}

/// The entry of a tenant's imports.
pub(super) fn imports_entry(tenant: TenantId) -> String {
    format!("{IMPORTS_DUE}{tenant}.json")
}

/// The record of the time at which `task` was last done.
pub(super) fn periodic(task: &str) -> String {
    format!("{PERIODIC}{}.json", hash(task))
}

/// The path of a drop's record in version 1, if it differs from today's path.
pub(super) fn drop_record_v1(drop: &DropPath) -> Option<String> {
    let path = format!("{DROPS}{drop}/drop.json");
    (path != drop_record(drop)).then_some(path)
}

/// The path of the record of the file `name` of a drop in version 1, if it differs from today's path.
pub(super) fn file_record_v1(drop: &DropPath, name: &str) -> Option<String> {
    let path = format!("{}{name}.json", file_records_v1(drop));
    (path != file_record(drop, name)).then_some(path)
}

/// The folder of the records of a drop's files in version 1, with a slash at the end.
pub(super) fn file_records_v1(drop: &DropPath) -> String {
    format!("{DROPS}{drop}/{FILES}/")
}

/// The drop path in the name of a blob that is the record of a drop, or a placeholder if the name has only a hash of
/// the path. `None` if the blob is another record.
pub(super) fn drop_of_record(name: &str) -> Option<&str> {
    let folder = name.strip_prefix(DROPS)?.strip_suffix("/drop.json")?;
    // In version 1, `files/drop.json` is also the record of a file called `drop`.
    if folder.split('/').any(|segment| segment == FILES) {
        return None;
    }
    Some(if folder.split('/').next() == Some(HASHED) { "CONTAINER/FOLDER" } else { folder })
}

/// The folder of a drop's records.
fn folder(drop: &DropPath) -> String {
    let path = drop.to_string();
    let is_own = |segment: &str| [FILES, HASHED].contains(&segment) || segment.ends_with(".json");
    if path.len() <= MAX_DROP_PATH && drop.segments().all(|segment| is_plain(segment) && !is_own(segment)) {
        format!("{DROPS}{path}")
    } else {
        format!("{DROPS}{HASHED}/{}", hash(&path))
    }
}

fn is_plain(name: &str) -> bool {
    !name.contains(['/', '%']) && name.len() <= MAX_NAME
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn drop(path: &str) -> DropPath {
        path.parse().unwrap()
    }

    #[test]
    fn ordinary_drops_and_files_have_readable_paths() {
        let path = drop("datasets/run/VivaInsights/9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10");
        assert_eq!(drop_record(&path), format!("drops/{path}/drop.json"));
        assert_eq!(file_record(&path, "part-0.json.gz"), format!("drops/{path}/files/part-0.json.gz.json"));
        assert_eq!((drop_record_v1(&path), file_record_v1(&path, "part-0.json.gz")), (None, None));
    }

    #[test]
    fn no_two_drops_or_files_share_a_record_and_no_record_is_also_a_folder() {
        let long = "x".repeat(201);
        let drops =
            ["c/a", "c/a/files/b", "c/a/files", "c/a/b", "c/a/drop.json", "c/a/x.json", "hashed/x", "c/a%2Fb", "c"];
        let files = ["drop", "b/drop", "files", "hashed", "hashed/x", "b", "b.json", "a/b", "a%2Fb", &long, "x.json/y"];
        let drops: Vec<_> = drops.into_iter().map(drop).collect();
        let mut records: Vec<String> = drops.iter().map(drop_record).collect();
        records.extend(drops.iter().flat_map(|drop| files.iter().map(|file| file_record(drop, file))));
        let distinct: BTreeSet<_> = records.iter().collect();
        assert_eq!(distinct.len(), records.len());
        for record in &records {
            let folder = format!("{record}/");
            assert!(!records.iter().any(|other| other.starts_with(&folder)), "{record} is a folder as well");
            assert!(record.len() <= 1_024);
        }
    }

    #[test]
    fn the_record_of_a_drop_is_known_by_its_name() {
        assert_eq!(drop_of_record(&drop_record(&drop("c/a"))), Some("c/a"));
        assert_eq!(drop_of_record(&drop_record(&drop("c/files/b"))), Some("CONTAINER/FOLDER"));
        assert_eq!(drop_of_record(&file_record(&drop("c/a"), "drop")), None);
        assert_eq!(drop_of_record("drops/c/a/files/drop.json"), None);
        assert_eq!(drop_of_record(&directories(TenantId(uuid::Uuid::nil()))), None);
    }

    #[test]
    fn version_1_is_looked_up_only_if_the_path_has_changed() {
        assert_eq!(file_record_v1(&drop("c/a"), "b/x").as_deref(), Some("drops/c/a/files/b/x.json"));
        assert_eq!(drop_record_v1(&drop("c/a/files/b")).as_deref(), Some("drops/c/a/files/b/drop.json"));
    }
}
