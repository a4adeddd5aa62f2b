//! Whose drop it is: `TENANTS`, and whether a drop lies where the tenant that it names may write.
//!
//! Knows paths alone. A customer can write anything into their own folder, so the job metadata's `TenantId` is a claim,
//! and the place where the drop lies is what decides.

#[cfg(test)]
mod tests;

use std::str::FromStr;

use super::{DropPath, TenantId};

/// Who may drop, and where: the setting `TENANTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenants(Vec<Entry>);

/// One entry of `TENANTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    tenant: TenantId,
    /// Where the tenant may write; without it, wherever its GUID is the container or a folder.
    place: Option<DropPath>,
}

impl Entry {
    /// How many segments of `path`, from the container on, lead to where this entry lets its tenant write; `None` where it
    /// does not.
    fn reach(&self, path: &DropPath) -> Option<usize> {
        let Some(place) = &self.place else {
            let own = |segment: &str| segment.parse() == Ok(self.tenant);
            return Some(path.segments().position(own)? + 1);
        };
        let depth = place.segments().count();
        path.segments().take(depth).eq(place.segments()).then_some(depth)
    }
}

impl Tenants {
    /// Each tenant with a place where it may write; without one, wherever its GUID is the container or a folder.
    pub fn of(entries: impl IntoIterator<Item = (TenantId, Option<DropPath>)>) -> Self {
        Self(entries.into_iter().map(|(tenant, place)| Entry { tenant, place }).collect())
    }

    /// Decides whether a drop at `path` that names `claimed` as its tenant may be read as that tenant's.
    ///
    /// With `tenantId=container/prefix` it may at and below that place. With `tenantId` alone it may where that GUID is
    /// the container or a folder, unless another tenant's GUID or place comes before it: the outer folder decides, or
    /// tenant A could make a folder named B inside its own and drop in B's name.
    pub fn admit(&self, path: &DropPath, claimed: Option<TenantId>) -> Result<TenantId, Refusal> {
        let Some(tenant) = claimed else {
            return Err(Refusal::NoTenantId { path: path.clone() });
        };
        if !self.0.iter().any(|entry| entry.tenant == tenant) {
            let path = path.clone();
            return Err(Refusal::UnknownTenant { tenant, path });
        }
        if self.is_at_its_place(tenant, path) {
            return Ok(tenant);
        }
        let Some(own) = self.reach(tenant, path) else {
            let path = path.clone();
            return Err(Refusal::WrongPlace { tenant, path });
        };
        let outer = self.0.iter().find(|entry| {
            let before = entry.reach(path).is_some_and(|reach| reach < own);
            before && entry.tenant != tenant
        });
        match outer {
            None => Ok(tenant),
            Some(outer) => Err(Refusal::InsideAnothers { tenant, owner: outer.tenant, path: path.clone() }),
        }
    }

    /// Whether a drop at `path` may be `tenant`'s.
    pub fn may_write(&self, tenant: TenantId, path: &DropPath) -> bool {
        self.admit(path, Some(tenant)).is_ok()
    }

    /// Who may have written a drop at `path`, the outermost place first: whose drop it is when it does not say.
    pub fn places(&self, path: &DropPath) -> Vec<TenantId> {
        let mut writers: Vec<(usize, TenantId)> = Vec::new();
        for tenant in self.0.iter().map(|entry| entry.tenant) {
            let known = writers.iter().any(|(_, writer)| *writer == tenant);
            if let (Some(reach), false, true) = (self.reach(tenant, path), known, self.may_write(tenant, path)) {
                writers.push((reach, tenant));
            }
        }
        writers.sort_by_key(|(reach, _)| *reach);
        writers.into_iter().map(|(_, tenant)| tenant).collect()
    }

    /// The containers that the entries name, each once: those of `tenantId=container/…`, and each GUID of the short form
    /// in small letters, as container names are. What `DROP_CONTAINER=*` stands for.
    pub fn containers(&self) -> Vec<String> {
        let mut containers = Vec::new();
        for entry in &self.0 {
            let container = match &entry.place {
                Some(place) => place.container.clone(),
                None => entry.tenant.to_string(),
            };
            if !containers.contains(&container) {
                containers.push(container);
            }
        }
        containers
    }

    /// Whether the entries name the container `name`: see [`containers`](Self::containers).
    pub fn covers_container(&self, name: &str) -> bool {
        let path = DropPath::new(name, "");
        self.0.iter().any(|entry| match &entry.place {
            Some(place) => place.container == name,
            None => entry.reach(&path).is_some(),
        })
    }

    /// The places of tenants that lie in none of `containers`.
    pub fn places_outside(&self, containers: &[String]) -> impl Iterator<Item = (TenantId, &DropPath)> {
        let placed = self.0.iter().filter_map(|entry| Some((entry.tenant, entry.place.as_ref()?)));
        placed.filter(|(_, place)| !containers.contains(&place.container))
    }

    /// Whose drops are believed somewhere in the container `name`, each once.
    pub fn writers(&self, name: &str) -> Vec<TenantId> {
        let mut writers = self.ids();
        writers.retain(|tenant| {
            let own_folder = DropPath::new(name, tenant.to_string());
            let is_placed =
                self.entries_of(*tenant).any(|entry| entry.place.as_ref().is_some_and(|place| place.container == name));
            is_placed || self.may_write(*tenant, &own_folder)
        });
        writers
    }

    /// Every tenant, each once, in the order of the setting.
    pub fn ids(&self) -> Vec<TenantId> {
        let mut ids = Vec::new();
        for entry in &self.0 {
            if !ids.contains(&entry.tenant) {
                ids.push(entry.tenant);
            }
        }
        ids
    }

    /// Whether an entry of the long form lets `tenant` write at `path`: the setting says so in as many words.
    fn is_at_its_place(&self, tenant: TenantId, path: &DropPath) -> bool {
        self.entries_of(tenant).any(|entry| entry.place.is_some() && entry.reach(path).is_some())
    }

    fn reach(&self, tenant: TenantId, path: &DropPath) -> Option<usize> {
        self.entries_of(tenant).filter_map(|entry| entry.reach(path)).min()
    }

    fn entries_of(&self, tenant: TenantId) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| entry.tenant == tenant)
    }
}

/// Why a drop is refused before anything but its job metadata is read. It is logged, and the host is told that the event is
/// done with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The job metadata names no tenant.
    #[error("the job metadata of `{path}` has no TenantId")]
    NoTenantId {
        /// The drop.
        path: DropPath,
    },
    /// The job metadata names a tenant that is not in `TENANTS`.
    #[error("`{path}` names the tenant {tenant}, which is not in TENANTS")]
    UnknownTenant {
        /// Who is named.
        tenant: TenantId,
        /// The drop.
        path: DropPath,
    },
    /// The job metadata names a tenant that may not write there.
    #[error("`{path}` names the tenant {tenant}, which by TENANTS may not write there")]
    WrongPlace {
        /// Who is named.
        tenant: TenantId,
        /// The drop.
        path: DropPath,
    },
    /// The drop lies in a folder named like the tenant, inside another tenant's place.
    #[error("`{path}` names the tenant {tenant}, and lies inside a place of the tenant {owner}")]
    InsideAnothers {
        /// Who is named.
        tenant: TenantId,
        /// Whose place it is.
        owner: TenantId,
        /// The drop.
        path: DropPath,
    },
}

/// Entries of `TENANTS` are not usable; all of them are listed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct BadTenants(pub Vec<String>);

impl FromStr for Tenants {
    type Err = BadTenants;

    /// Reads a comma list of `tenantId`, `tenantId=container` and `tenantId=container/prefix`.
    fn from_str(text: &str) -> Result<Self, BadTenants> {
        let mut entries = Vec::new();
        let mut bad = Vec::new();
        // A comma too many, such as one at the end, names nobody and harms nobody.
        for written in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry(written) {
                Ok(entry) => entries.push(entry),
                Err(why) => bad.push(format!("`{written}`: {why}")),
            }
        }
        match (entries.is_empty(), bad.is_empty()) {
            (false, true) => Ok(Self(entries)),
            (_, false) => Err(BadTenants(bad)),
            (true, true) => {
                Err(BadTenants(vec!["expected a comma list of `tenantId` or `tenantId=container/prefix`".into()]))
            }
        }
    }
}

fn entry(written: &str) -> Result<Entry, String> {
    let (tenant, place) = match written.split_once('=') {
        Some((tenant, place)) => (tenant.trim(), Some(place.trim())),
        None => (written, None),
    };
    let tenant = tenant.parse().map_err(|no_guid| format!("{no_guid}"))?;
    let place = place.map(place_of).transpose()?;
    Ok(Entry { tenant, place })
}

/// Reads a place: `container` or `container/prefix`.
pub(crate) fn place_of(written: &str) -> Result<DropPath, String> {
    if written.contains('*') {
        return Err("a place covers all that is below it: write it without `*`".into());
    }
    written.parse().map_err(|no_path| format!("{no_path}"))
}
