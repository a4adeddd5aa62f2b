//! Tenant authorization: which tenants are configured (`TENANTS`), and where each may write.
//!
//! Works on paths only. A customer can write any `TenantId` into the job metadata, so the path must confirm it.
//!
//! The *place* of an entry is where its tenant may write: the prefix of a long entry (`tenantId=container/prefix`), or
//! everything at and below a container or folder named by the GUID of a short entry (`tenantId`).

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, str::FromStr};

use super::{DropPath, InvalidDropPath, InvalidTenantId, TenantId};

/// How many places of a tenant a message names.
const MAX_NAMED_PLACES: usize = 3;

/// The tenants and the places where each may write: the setting `TENANTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenants {
    entries: Vec<Entry>,
    /// The tenants whose drops wait.
    paused: BTreeSet<TenantId>,
}

/// One entry of `TENANTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    tenant: TenantId,
    /// The prefix of the paths where the tenant may write (long form). Without it (short form), the tenant may write
    /// wherever its GUID is the container or a folder.
    prefix: Option<DropPath>,
}

impl Entry {
    /// The number of segments of `path`, counted from the container, that form the place of this entry; `None` if
    /// `path` is not at or below that place.
    fn depth_in(&self, path: &DropPath) -> Option<usize> {
        let Some(prefix) = &self.prefix else {
            let is_tenant = |segment: &str| segment.parse() == Ok(self.tenant);
            return Some(path.segments().position(is_tenant)? + 1);
        };
        let depth = prefix.segments().count();
        path.segments().take(depth).eq(prefix.segments()).then_some(depth)
    }
}

impl Tenants {
    /// Creates the list from tenants and the prefix where each may write. Without a prefix, a tenant may write wherever
    /// its GUID is the container or a folder.
    pub fn new(entries: impl IntoIterator<Item = (TenantId, Option<DropPath>)>) -> Self {
        let entries = entries.into_iter().map(|(tenant, prefix)| Entry { tenant, prefix }).collect();
        Self { entries, paused: BTreeSet::new() }
    }

    /// The same tenants, of which `paused` are paused.
    #[must_use]
    pub fn with_paused(self, paused: BTreeSet<TenantId>) -> Self {
        Self { paused, ..self }
    }

    /// Whether `tenant` is one of the tenants.
    pub fn contains(&self, tenant: TenantId) -> bool {
        self.entries.iter().any(|entry| entry.tenant == tenant)
    }

    /// The tenants that are paused.
    pub fn paused(&self) -> &BTreeSet<TenantId> {
        &self.paused
    }

    /// Whether the drops of `tenant` wait until the setting is changed.
    pub fn is_paused(&self, tenant: TenantId) -> bool {
        self.paused.contains(&tenant)
    }

    /// One sentence for each prefix at or below a prefix of another tenant: both tenants could write there.
    pub fn overlaps(&self) -> Vec<String> {
        let mut prefixes: Vec<(Vec<&str>, TenantId, &DropPath)> = self
            .entries
            .iter()
            .filter_map(|entry| Some((entry.prefix.as_ref()?, entry.tenant)))
            .map(|(prefix, tenant)| (prefix.segments().collect(), tenant, prefix))
            .collect();
        // A prefix comes directly before those below it, so `around` has all prefixes that contain the current one.
        prefixes.sort();
        let mut overlaps = Vec::new();
        let mut around: Vec<&(Vec<&str>, TenantId, &DropPath)> = Vec::new();
        for inner in &prefixes {
            while around.pop_if(|outer| !inner.0.starts_with(&outer.0)).is_some() {}
            if let Some((_, tenant, outer)) = around.iter().rev().find(|(_, tenant, _)| *tenant != inner.1) {
                overlaps.push(format!(
                    "{tenant}=`{outer}` and {}=`{}` overlap: give each tenant a place of its own",
                    inner.1, inner.2
                ));
            }
            around.push(inner);
        }
        overlaps
    }

    /// Decides whether the drop at `path` belongs to the tenant `claimed` in its job metadata; returns that tenant.
    ///
    /// `tenantId=container/prefix` admits the tenant at and below that prefix. `tenantId` alone admits it where its
    /// GUID is the container or a folder, unless the GUID or prefix of another tenant is further out. The outermost
    /// decides, because otherwise tenant A could create a folder named B inside its own folder and drop in the name of
    /// B.
    pub fn admit(&self, path: &DropPath, claimed: Option<TenantId>) -> Result<TenantId, Refusal> {
        let Some(tenant) = claimed else {
            return Err(Refusal::NoTenantId);
        };
        if !self.contains(tenant) {
            return Err(Refusal::UnknownTenant { tenant });
        }
        if self.is_below_own_prefix(tenant, path) {
            return Ok(tenant);
        }
        let Some(own_depth) = self.depth_in(tenant, path) else {
            return Err(Refusal::WrongPlace { tenant, places: self.describe_places(tenant) });
        };
        let is_further_out = |entry: &&Entry| entry.depth_in(path).is_some_and(|depth| depth < own_depth);
        match self.entries.iter().find(|entry| entry.tenant != tenant && is_further_out(entry)) {
            None => Ok(tenant),
            Some(outer) => Err(Refusal::InsideOtherTenant { tenant, owner: outer.tenant }),
        }
    }

    /// The places of `tenant`: the prefix of each long entry, and `None` for a short entry.
    pub fn places_of(&self, tenant: TenantId) -> impl Iterator<Item = Option<&DropPath>> {
        self.entries_of(tenant).map(|entry| entry.prefix.as_ref())
    }

    /// The places of `tenant` for a message, which names at most [`MAX_NAMED_PLACES`].
    fn describe_places(&self, tenant: TenantId) -> String {
        let mut places: Vec<_> = self
            .places_of(tenant)
            .take(MAX_NAMED_PLACES)
            .map(|place| match place {
                Some(prefix) => format!("in `{prefix}`"),
                None => format!("where a container or folder is named {tenant}"),
            })
            .collect();
        let more = self.places_of(tenant).count() - places.len();
        if more > 0 {
            places.push(format!("or in {more} other places"));
        }
        places.join(", ")
    }

    /// Whether `tenant` may write a drop at `path`.
    pub fn may_write(&self, tenant: TenantId, path: &DropPath) -> bool {
        self.admit(path, Some(tenant)).is_ok()
    }

    /// The tenants that may write at `path`, the one with the outermost place first. The first one owns a drop whose
    /// job metadata cannot be parsed.
    pub fn possible_owners(&self, path: &DropPath) -> Vec<TenantId> {
        let mut owners: Vec<(usize, TenantId)> = Vec::new();
        for tenant in self.ids() {
            if let Some(depth) = self.depth_in(tenant, path)
                && self.may_write(tenant, path)
            {
                owners.push((depth, tenant));
            }
        }
        owners.sort_by_key(|(depth, _)| *depth);
        owners.into_iter().map(|(_, tenant)| tenant).collect()
    }

    /// The containers of `DROP_CONTAINER=*`, each once: those of the prefixes, and the GUID of each short entry in
    /// lower case, because container names are lower case.
    pub fn containers(&self) -> Vec<String> {
        let mut containers = Vec::new();
        for entry in &self.entries {
            let container = match &entry.prefix {
                Some(prefix) => prefix.container.clone(),
                None => entry.tenant.to_string(),
            };
            if !containers.contains(&container) {
                containers.push(container);
            }
        }
        containers
    }

    /// Whether `name` is one of the containers of `DROP_CONTAINER=*`; a GUID matches in any case.
    pub fn covers_container(&self, name: &str) -> bool {
        let path = DropPath::new(name, "");
        self.entries.iter().any(|entry| match &entry.prefix {
            Some(prefix) => prefix.container == name,
            None => entry.depth_in(&path).is_some(),
        })
    }

    /// The tenants' prefixes that lie in none of `containers`.
    pub fn prefixes_outside(&self, containers: &[String]) -> impl Iterator<Item = (TenantId, &DropPath)> {
        let with_prefix = self.entries.iter().filter_map(|entry| Some((entry.tenant, entry.prefix.as_ref()?)));
        with_prefix.filter(|(_, prefix)| !containers.contains(&prefix.container))
    }

    /// The tenants that may write somewhere in the container `name`, each once.
    pub fn writers_in_container(&self, name: &str) -> Vec<TenantId> {
        let mut writers = self.ids();
        writers.retain(|tenant| {
            let own_folder = DropPath::new(name, tenant.to_string());
            let has_prefix_there = self
                .entries_of(*tenant)
                .any(|entry| entry.prefix.as_ref().is_some_and(|prefix| prefix.container == name));
            has_prefix_there || self.may_write(*tenant, &own_folder)
        });
        writers
    }

    /// All tenants, each once, in the order of the setting.
    pub fn ids(&self) -> Vec<TenantId> {
        let mut ids = Vec::new();
        for entry in &self.entries {
            if !ids.contains(&entry.tenant) {
                ids.push(entry.tenant);
            }
        }
        ids
    }

    /// Whether a prefix of `tenant` contains `path`. The setting names that place explicitly, so it counts even inside
    /// a folder named by another tenant's GUID. Two tenants' prefixes do not overlap: see [`overlaps`](Self::overlaps).
    fn is_below_own_prefix(&self, tenant: TenantId, path: &DropPath) -> bool {
        self.entries_of(tenant).any(|entry| entry.prefix.is_some() && entry.depth_in(path).is_some())
    }

    /// The depth of the outermost place of `tenant` that contains `path`.
    fn depth_in(&self, tenant: TenantId, path: &DropPath) -> Option<usize> {
        self.entries_of(tenant).filter_map(|entry| entry.depth_in(path)).min()
    }

    fn entries_of(&self, tenant: TenantId) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.tenant == tenant)
    }
}

/// Why a drop is not admitted. At most its job metadata has been read. The refusal is logged, and the event is answered
/// 2xx. Each text continues a sentence that begins with ``did not admit `datasets/run`: ``.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The drop lies where no tenant may write, whatever its job metadata says.
    #[error("no tenant of TENANTS may write there")]
    NoTenantMayWrite,
    /// The job metadata names no tenant.
    #[error("its job metadata has no TenantId")]
    NoTenantId,
    /// The job metadata names a tenant that is not in `TENANTS`.
    #[error("it names the tenant {tenant}, which is not in TENANTS")]
    UnknownTenant {
        /// The named tenant.
        tenant: TenantId,
    },
    /// The job metadata names a tenant that may not write at this path.
    #[error("it names the tenant {tenant}, which may not write there according to TENANTS, but only {places}")]
    WrongPlace {
        /// The named tenant.
        tenant: TenantId,
        /// Where it may write.
        places: String,
    },
    /// The drop lies in a folder named after the tenant, but inside the place of another tenant.
    #[error("it names the tenant {tenant}, but lies inside a place of the tenant {owner}")]
    InsideOtherTenant {
        /// The named tenant.
        tenant: TenantId,
        /// The tenant whose place contains the drop.
        owner: TenantId,
    },
}

/// All invalid entries of `TENANTS`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct InvalidTenants(pub Vec<String>);

impl FromStr for Tenants {
    type Err = InvalidTenants;

    /// Parses a comma-separated list of `tenantId`, `tenantId=container` and `tenantId=container/prefix`.
    fn from_str(text: &str) -> Result<Self, InvalidTenants> {
        let mut entries = Vec::new();
        let mut errors = Vec::new();
        // Empty entries, such as after a trailing comma, are ignored.
        for (number, entry) in (1..).zip(text.split(',').map(str::trim).filter(|entry| !entry.is_empty())) {
            match parse_entry(entry) {
                Ok(entry) => entries.push(entry),
                // By number: the text may be anything, such as a secret in the wrong setting.
                Err(error) => errors.push(format!("entry {number}: {error}")),
            }
        }
        if entries.is_empty() && errors.is_empty() {
            errors.push("expected a comma-separated list of `tenantId` or `tenantId=container/prefix`".into());
        }
        if errors.is_empty() { Ok(Self { entries, paused: BTreeSet::new() }) } else { Err(InvalidTenants(errors)) }
    }
}

fn parse_entry(text: &str) -> Result<Entry, String> {
    let (tenant, prefix) = match text.split_once('=') {
        Some((tenant, prefix)) => (tenant.trim(), Some(prefix.trim())),
        None => (text, None),
    };
    let tenant = tenant.parse().map_err(|error: InvalidTenantId| error.to_string())?;
    let prefix = prefix.map(parse_prefix).transpose()?;
    Ok(Entry { tenant, prefix })
}

/// Parses the prefix of a tenant: `container` or `container/prefix`.
pub(crate) fn parse_prefix(text: &str) -> Result<DropPath, String> {
    if text.contains('*') {
        return Err("a prefix covers everything below it: write it without `*`".into());
    }
    text.parse().map_err(|error: InvalidDropPath| error.to_string())
}
