//! Where one drop stands.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::remedy::{OF_PAUSED_TENANT, OF_UNKNOWN_TENANT, remedy};
use crate::{
    directory::is_directory,
    drop::{TenantId, tenant::Tenants},
    ledger::{DropState, ListEntry},
    verdict::Reason,
};

/// How long a drop may be retried before a person should look at it.
pub const RETRIED_LONG: Duration = Duration::days(1);

/// Where a drop stands, the least urgent state first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The sink has acknowledged every row.
    Completed,
    /// The drop waits for the directory that its rows are joined to, or for the end of its tenant's pause.
    Waiting,
    /// Rows are missing, or a run works on the drop.
    Open,
    /// Something did not answer; the drop is retried.
    Retrying,
    /// The tenant's next drop has not arrived in time. There is no drop in this state, only a tenant.
    Overdue,
    /// Retrying cannot help.
    SetAside,
}

impl State {
    /// The state as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Waiting => "waiting",
            Self::Open => "open",
            Self::Retrying => "retrying",
            Self::Overdue => "overdue",
            Self::SetAside => "set-aside",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<DropState> for State {
    fn from(state: DropState) -> Self {
        match state {
            DropState::Open => Self::Open,
            DropState::Waiting => Self::Waiting,
            DropState::Retrying => Self::Retrying,
            DropState::SetAside => Self::SetAside,
            DropState::Completed => Self::Completed,
        }
    }
}

/// How many files of a drop have ended, and how many it has. Null if the drop has not arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileCounts {
    /// Files whose rows are all acknowledged.
    pub done: Option<u64>,
    /// Files that were set aside.
    pub set_aside: Option<u64>,
    /// All files.
    pub total: Option<u64>,
}

/// Where a drop stands, and what to do. Unknown values are null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DropStatus {
    /// The tenant that the drop belongs to.
    pub tenant_id: TenantId,
    /// The drop path, `container/folder`; null if the tenant's drop is overdue.
    pub path: Option<String>,
    /// Where the drop stands.
    pub state: State,
    /// Rows delivered, including bad rows.
    pub rows: Option<u64>,
    /// `NumberOfRowsExtracted` of the job metadata.
    pub expected_rows: Option<u64>,
    /// The files of the drop.
    pub files: FileCounts,
    /// Since when the drop is in this state.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Failed runs since the last progress.
    pub attempts: Option<u64>,
    /// When the drop is retried, or stops waiting.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_try: Option<OffsetDateTime>,
    /// Why the drop was set aside.
    pub reason: Option<Reason>,
    /// Why the drop was set aside, or the last failure.
    pub message: Option<String>,
    /// The remedy, in one sentence; null if there is nothing to do.
    pub remedy: Option<Cow<'static, str>>,
    /// When the newest blob of the drop was written.
    #[serde(skip, default = "unix_epoch")]
    pub arrived: OffsetDateTime,
}

fn unix_epoch() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

impl DropStatus {
    /// The status of a tenant whose next drop was due at `due`.
    pub fn overdue(tenant_id: TenantId, due: OffsetDateTime) -> Self {
        Self {
            tenant_id,
            path: None,
            state: State::Overdue,
            rows: None,
            expected_rows: None,
            files: FileCounts { done: None, set_aside: None, total: None },
            since: due,
            attempts: None,
            next_try: None,
            reason: None,
            message: None,
            remedy: remedy(State::Overdue, None, None).map(Cow::Borrowed),
            arrived: due,
        }
    }

    /// Says so if the drop is not finished and sweeps skip it, because its tenant is paused or is not in `tenants`,
    /// those of `TENANTS`.
    pub(super) fn compare_with(&mut self, tenants: &Tenants) {
        let is_unfinished = matches!(self.state, State::Waiting | State::Open | State::Retrying);
        let (why, remedy) = if !tenants.contains(self.tenant_id) {
            ("the tenant is not in TENANTS", OF_UNKNOWN_TENANT)
        } else if tenants.is_paused(self.tenant_id) {
            ("the tenant is paused in TENANTS", OF_PAUSED_TENANT)
        } else {
            return;
        };
        if !is_unfinished {
            return;
        }
        if self.state == State::Waiting {
            // What was recorded, such as the wait for a directory, is no longer true.
            (self.message, self.next_try) = (Some(why.into()), None);
        }
        self.remedy = Some(Cow::Borrowed(remedy));
    }

    /// Whether a person has to do something: the drop was set aside, is overdue, or has been retried for more than a
    /// day.
    pub fn needs_person(&self, now: OffsetDateTime) -> bool {
        match self.state {
            State::SetAside | State::Overdue => true,
            State::Retrying => now - self.since > RETRIED_LONG,
            State::Completed | State::Waiting | State::Open => false,
        }
    }

    /// Whether the drop is a directory export, by its path.
    pub(super) fn is_directory(&self) -> bool {
        let path = self.path.as_deref().and_then(|path| path.parse().ok());
        path.is_some_and(|path| is_directory(&path, None))
    }

    /// About how many bytes of memory the status takes.
    pub(super) fn memory(&self) -> usize {
        let texts = [&self.path, &self.message].into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<Self>() + texts
    }
}

impl From<ListEntry> for DropStatus {
    fn from(entry: ListEntry) -> Self {
        let state = entry.state.into();
        // A drop with too many blobs has no summary of them.
        let has_listing = entry.listing.blobs > 0;
        Self {
            tenant_id: entry.tenant,
            path: Some(entry.path.to_string()),
            state,
            rows: Some(entry.rows),
            expected_rows: entry.expected_rows,
            files: FileCounts {
                done: Some(entry.files_done),
                set_aside: Some(entry.files_set_aside),
                total: Some(entry.files),
            },
            since: entry.since,
            attempts: Some(entry.attempts),
            next_try: entry.next_try,
            reason: entry.reason,
            message: entry.message,
            remedy: remedy(state, entry.reason, entry.next_try).map(Cow::Borrowed),
            arrived: if has_listing { entry.listing.newest } else { entry.since },
        }
    }
}
