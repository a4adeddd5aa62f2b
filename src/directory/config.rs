//! The settings for the directory exports of a tenant.

use std::time::Duration;

use super::DirectoryRules;

/// `DIRECTORY`: whether the rows of a directory export are delivered, joined, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DirectoryMode {
    /// They are delivered like any rows.
    #[default]
    Deliver,
    /// They are joined to the rows of other drops, and not delivered themselves.
    Join,
    /// They are joined to the rows of other drops, and delivered as well.
    Both,
}

/// The settings for the directory exports of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// `DIRECTORY`.
    pub mode: DirectoryMode,
    /// `DIRECTORY_COLUMNS`, `DIRECTORY_KEY` and `DIRECTORY_MEMORY`.
    pub rules: DirectoryRules,
    /// `DIRECTORY_WAIT`: how long a drop waits for the directory of its pipeline run, from the time when the ledger
    /// first saw the drop.
    pub wait: Duration,
}

impl Default for DirectoryConfig {
    /// Directory rows are delivered; a drop that joins waits for an hour.
    fn default() -> Self {
        Self { mode: DirectoryMode::default(), rules: DirectoryRules::default(), wait: Duration::from_secs(3600) }
    }
}

impl DirectoryConfig {
    /// Whether rows are joined to the directory.
    pub fn joins(&self) -> bool {
        self.mode != DirectoryMode::Deliver
    }
}
