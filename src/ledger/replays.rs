//! Plans of replays, and the replay runs that carry them out.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    Ledger, LedgerError,
    entry::{self, number, optional_number},
    json, paths,
};
use crate::{
    clock,
    drop::TenantId,
    status::State,
    store::{ETag, Listing, StoreError, WriteIf},
    verdict::Reason,
};

/// A frozen list of drops to deliver again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayPlan {
    /// The id of the plan, and of its replay run.
    pub id: String,
    /// When the plan was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// How the drops were selected.
    pub filter: PlanFilter,
    /// The drops, in the order of their arrival.
    pub drops: Vec<PlannedDrop>,
    /// Sums over all drops of the plan.
    pub counts: PlanCounts,
}

/// How the drops of a plan were selected: by every condition that is set.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanFilter {
    /// Only drops of this tenant.
    pub tenant: Option<TenantId>,
    /// Only drops that were set aside for this reason.
    pub reason: Option<Reason>,
    /// Only drops in this state.
    pub state: Option<State>,
    /// Only drops that are in their state since this time or later.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    /// The largest number of drops.
    pub limit: Option<u16>,
}

/// A drop of a plan, as it was when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedDrop {
    /// The drop path.
    pub path: String,
    /// The tenant that the drop belongs to.
    pub tenant_id: TenantId,
    /// Where the drop stood.
    pub state: State,
    /// Why it was set aside.
    pub reason: Option<Reason>,
    /// Rows that were delivered, and will be delivered again with the same ids.
    pub rows: u64,
}

/// Sums over all drops of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanCounts {
    /// Drops of the plan.
    pub drops: u64,
    /// Drops that the filter selects, including those beyond the limit.
    pub matching: u64,
    /// Rows of the plan's drops that were delivered already.
    pub rows_delivered: u64,
}

/// Whether a replay run starts more drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayState {
    /// Sweeps start its drops.
    Running,
    /// Its first drops have ended; a person resumes or cancels it.
    Paused,
    /// No more drops are started. Those that were started end by themselves.
    Cancelled,
    /// Every drop has ended.
    Done,
}

impl ReplayState {
    /// The state as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
        }
    }
}

/// The processes that may advance a replay run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayedBy {
    /// A process that has all tenants of the plan in its `TENANTS`.
    #[default]
    All,
    /// Also a process that has some of them, because no process has advanced the run for long. Drops of the other
    /// tenants count as failed.
    Some,
}

/// The progress of a plan that is carried out. It has the plan's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub struct ReplayRun {
    /// The id of the plan.
    pub id: String,
    /// Whether more drops are started.
    pub state: ReplayState,
    /// Drops of the plan.
    #[serde(deserialize_with = "number")]
    pub total: u64,
    /// After how many drops the run pauses; `None` if it does not pause.
    #[serde(default, deserialize_with = "optional_number")]
    pub first: Option<u64>,
    /// Drops that were started: the first ones of the plan.
    #[serde(deserialize_with = "number")]
    pub started: u64,
    /// Drops that were completed since they were started.
    #[serde(deserialize_with = "number")]
    pub done: u64,
    /// Drops that were set aside again, or cannot be replayed.
    #[serde(deserialize_with = "number")]
    pub failed: u64,
    /// The drops that were started and have not ended, as indexes in the plan, separated by commas.
    #[serde(default)]
    pub(super) pending: String,
    /// How often each of these drops had been replayed when the run claimed it, as `index:replays`, separated by
    /// commas. Older vivadrops did not record it.
    #[serde(default, rename = "replaysbefore", skip_serializing_if = "String::is_empty")]
    pub(super) replays_before: String,
    /// The processes that may advance the run.
    #[serde(default)]
    pub by: ReplayedBy,
    /// When the run was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When the run was last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated: OffsetDateTime,
}

impl ReplayRun {
    /// A run of `plan` that has started no drop yet. It pauses after `first` drops, if there is such a number.
    pub fn new(plan: &ReplayPlan, first: Option<u64>) -> Self {
        let now = json::to_millisecond(clock::now());
        Self {
            id: plan.id.clone(),
            state: if plan.drops.is_empty() { ReplayState::Done } else { ReplayState::Running },
            total: plan.drops.len() as u64,
            first,
            started: 0,
            done: 0,
            failed: 0,
            pending: String::new(),
            replays_before: String::new(),
            by: ReplayedBy::default(),
            created: now,
            updated: now,
        }
    }

    /// The drops that were started and have not ended, as indexes in the plan.
    pub fn pending(&self) -> Vec<usize> {
        self.pending.split(',').filter_map(|index| index.parse().ok()).collect()
    }

    /// Sets the drops that were started and have not ended.
    pub fn set_pending(&mut self, pending: &[usize]) {
        let texts: Vec<_> = pending.iter().map(usize::to_string).collect();
        self.pending = texts.join(",");
        let counts = self.counts_before().filter(|(index, _)| pending.contains(index));
        let texts: Vec<_> = counts.map(|(index, replays)| format!("{index}:{replays}")).collect();
        self.replays_before = texts.join(",");
    }

    /// Claims the next drop, which has been replayed `replays` times so far, and appends its index to `pending`.
    pub(crate) fn claim_next(&mut self, pending: &mut Vec<usize>, replays: u32) {
        let index = usize::try_from(self.started).expect("a plan has few drops");
        pending.push(index);
        self.started += 1;
        self.replays_before = format!("{},{index}:{replays}", self.replays_before);
    }

    /// How often the pending drop `index` had been replayed when the run claimed it; `None` if an older vivadrop has
    /// claimed it.
    pub(crate) fn replays_before(&self, index: usize) -> Option<u32> {
        self.counts_before().find(|(found, _)| *found == index).map(|(_, replays)| replays)
    }

    fn counts_before(&self) -> impl Iterator<Item = (usize, u32)> {
        self.replays_before.split(',').filter_map(|count| {
            let (index, replays) = count.split_once(':')?;
            Some((index.parse().ok()?, replays.parse().ok()?))
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u64,
    #[serde(flatten)]
    record: T,
}

impl Ledger {
    /// Records a plan.
    pub async fn write_plan(&self, plan: &ReplayPlan) -> Result<(), LedgerError> {
        let text = json::format(&Versioned { version: json::VERSION, record: plan });
        self.store.write(&self.blob(paths::plan(&plan.id)), text.into(), WriteIf::Always).await?;
        Ok(())
    }

    /// The plan with this id; `None` if there is none.
    pub async fn plan(&self, id: &str) -> Result<Option<ReplayPlan>, LedgerError> {
        let path = self.blob(paths::plan(id));
        match self.read(&path).await? {
            Some((_, bytes)) => Ok(Some(json::parse_versioned::<Versioned<_>>(&path, &bytes)?.record)),
            None => Ok(None),
        }
    }

    /// The replay run of the plan with this id, and the version of its record; `None` if there is none.
    pub async fn replay_run(&self, id: &str) -> Result<Option<(ETag, ReplayRun)>, LedgerError> {
        let path = self.blob(paths::replay_run(id));
        match self.read(&path).await? {
            Some((version, bytes)) => Ok(Some((version, json::parse(&path, &bytes)?))),
            None => Ok(None),
        }
    }

    /// Writes the record of a replay run over the version that was read, or a new record if `version` is `None`.
    /// Returns the new version, or `None` if somebody else has written the record since.
    pub async fn write_replay_run(
        &self,
        run: &mut ReplayRun,
        version: Option<&ETag>,
    ) -> Result<Option<ETag>, LedgerError> {
        run.updated = json::to_millisecond(clock::now());
        let (bytes, metadata) = entry::format(run);
        let condition = version.map_or(WriteIf::Absent, |version| WriteIf::Matches(version.clone()));
        let path = self.blob(paths::replay_run(&run.id));
        match self.store.write_with_metadata(&path, bytes.clone(), &metadata, condition).await {
            Ok(version) => Ok(Some(version)),
            // Our own write may have succeeded, and its response was lost.
            Err(StoreError::Changed(_)) => {
                let found = self.read(&path).await?;
                Ok(found.filter(|(_, found)| *found == bytes).map(|(version, _)| version))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Lists all replay runs with the versions of their records. Skips blobs that are not records.
    pub fn replay_runs(&self) -> Listing<'_, (ETag, ReplayRun)> {
        self.entries(paths::REPLAYS)
    }
}
