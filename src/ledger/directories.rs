//! The directory exports of each tenant that have ended, so that choosing one costs a request.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    Ledger, LedgerError,
    json::{self, DropPathJson},
    paths,
};
use crate::{
    directory::{DirectorySnapshot, KnownDirectory},
    drop::TenantId,
    store::{ETag, StoreError, WriteIf},
};

/// How many directories of a tenant are kept: those that ended last.
const MAX_DIRECTORIES: usize = 100;

#[derive(Default, Serialize, Deserialize)]
struct DirectoriesJson {
    version: u64,
    directories: Vec<DirectoryJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DirectoryJson {
    path: DropPathJson,
    id: Option<String>,
    versions: String,
    status: StatusJson,
    #[serde(with = "time::serde::rfc3339")]
    ended: OffsetDateTime,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StatusJson {
    Completed,
    SetAside,
}

impl From<DirectoryJson> for KnownDirectory {
    fn from(json: DirectoryJson) -> Self {
        let snapshot = DirectorySnapshot { path: json.path.0, id: json.id, versions: json.versions };
        Self { snapshot, is_complete: json.status == StatusJson::Completed, ended: json.ended }
    }
}

impl From<KnownDirectory> for DirectoryJson {
    fn from(KnownDirectory { snapshot, is_complete, ended }: KnownDirectory) -> Self {
        let status = if is_complete { StatusJson::Completed } else { StatusJson::SetAside };
        let DirectorySnapshot { path, id, versions } = snapshot;
        Self { path: DropPathJson(path), id, versions, status, ended }
    }
}

impl Ledger {
    /// The directories of `tenant` that have ended: at most the 100 that ended last.
    pub async fn directories(&self, tenant: TenantId) -> Result<Vec<KnownDirectory>, LedgerError> {
        let (_, directories) = self.read_directories(tenant).await?;
        Ok(directories)
    }

    /// Records that a directory has ended. Replaces an earlier record of the same drop.
    pub async fn record_directory(&self, tenant: TenantId, directory: &KnownDirectory) -> Result<(), LedgerError> {
        loop {
            let (version, mut directories) = match self.read_directories(tenant).await {
                Err(LedgerError::Invalid { path, .. }) => {
                    self.store.delete(&path, None).await?;
                    continue;
                }
                read => read?,
            };
            if directories.contains(directory) {
                return Ok(());
            }
            directories.retain(|other| other.snapshot.path != directory.snapshot.path);
            directories.push(directory.clone());
            directories.sort_by_key(|directory| directory.ended);
            directories.drain(..directories.len().saturating_sub(MAX_DIRECTORIES));
            let directories = directories.into_iter().map(DirectoryJson::from).collect();
            let text = json::format(&DirectoriesJson { version: json::VERSION, directories });
            let condition = version.map_or(WriteIf::Absent, WriteIf::Matches);
            match self.store.write(&self.blob(paths::directories(tenant)), text.into(), condition).await {
                Err(StoreError::Changed(_)) => {}
                written => return Ok(written.map(|_| ())?),
            }
        }
    }

    async fn read_directories(&self, tenant: TenantId) -> Result<(Option<ETag>, Vec<KnownDirectory>), LedgerError> {
        let path = self.blob(paths::directories(tenant));
        let Some((version, bytes)) = self.read(&path).await? else {
            return Ok((None, Vec::new()));
        };
        let json: DirectoriesJson = json::parse_versioned(&path, &bytes)?;
        Ok((Some(version), json.directories.into_iter().map(KnownDirectory::from).collect()))
    }
}
