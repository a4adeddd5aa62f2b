//! The runs of this process, and the drops that wait for one.
//!
//! The host sends only a few events at a time, so an event whose drop cannot run now is not held. Its drop is recorded
//! in the index of unfinished drops, in case the process ends, and waits in this queue; the event is answered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use crate::{
    drop::{DropPath, TenantId},
    run_permits::{RunPermit, RunPermits},
    schedule::{Job, Schedule},
    store::ETag,
};

/// The maximum number of drops of all tenants in the queue. Sweeps find further ones in the index.
const MAX_WAITING: usize = 10_000;

/// How often the queue checks whether a sweep has released a permit, or a receiver that failed may be tried again.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// The drops that run or wait.
#[derive(Debug)]
pub(super) struct RunQueue {
    /// The permits of the process, which a sweep uses as well.
    permits: RunPermits,
    state: Mutex<State>,
    /// Notified when a drop begins to wait, and when a run ends.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    schedule: Schedule,
    /// The drops that wait, or that run after they have waited.
    drops: HashMap<DropPath, JobState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobState {
    Waiting,
    Running {
        /// Whether the drop was pushed again since the run began, so that another run must follow.
        again: bool,
    },
}

/// The result of [`RunQueue::push`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The drop waits.
    Waiting,
    /// The drop waits or runs already. If it runs, another run will follow.
    Repeated,
    /// Too many drops wait.
    Full,
}

impl State {
    /// Whether the drop waits or runs already. If it runs, another run will follow.
    fn repeat(&mut self, path: &DropPath) -> bool {
        match self.drops.get_mut(path) {
            Some(JobState::Running { again }) => {
                *again = true;
                true
            }
            state => state.is_some(),
        }
    }
}

impl RunQueue {
    /// A queue for runs with these permits.
    pub(super) fn new(permits: RunPermits) -> Self {
        Self { permits, state: Mutex::default(), changed: Notify::new() }
    }

    /// Begins a run for an event of `tenant`; `None` if it must wait. Drop the first value when the run ends, and the
    /// second when the event is answered.
    pub(super) fn try_start_event(self: &Arc<Self>, tenant: TenantId) -> Option<(StartedRun, HeldEvent)> {
        let permit = self.permits.try_acquire(tenant)?;
        if !self.state().schedule.try_start_event(tenant) {
            return None;
        }
        let run = StartedRun { queue: Arc::clone(self), tenant, path: None, permit: Some(permit) };
        Some((run, HeldEvent { queue: Arc::clone(self), tenant }))
    }

    /// Whether the drop waits or runs already. If it runs, another run will follow.
    pub(super) fn repeat(&self, path: &DropPath) -> bool {
        self.state().repeat(path)
    }

    /// Adds a drop to the queue.
    pub(super) fn push(&self, tenant: TenantId, path: DropPath, entry: Option<ETag>) -> Pushed {
        let mut state = self.state();
        if state.repeat(&path) {
            return Pushed::Repeated;
        }
        if state.drops.len() >= MAX_WAITING {
            return Pushed::Full;
        }
        if !state.schedule.push(Job { tenant, path: path.clone(), entry }) {
            return Pushed::Full;
        }
        state.drops.insert(path, JobState::Waiting);
        drop(state);
        self.changed.notify_one();
        Pushed::Waiting
    }

    /// Waits until a drop may run, and returns it. `may_start` returns whether the circuit breaker of a tenant's
    /// receiver lets a run start.
    pub(super) async fn next(self: &Arc<Self>, may_start: impl Fn(TenantId) -> bool) -> (Job, StartedRun) {
        loop {
            if let Some(started) = self.start_next(&may_start) {
                return started;
            }
            let _elapsed = timeout(POLL_EVERY, self.changed.notified()).await;
        }
    }

    fn start_next(self: &Arc<Self>, may_start: impl Fn(TenantId) -> bool) -> Option<(Job, StartedRun)> {
        let mut state = self.state();
        // `may_start` is called last, because it lets only one run through while the breaker is open.
        let permit = |tenant| self.permits.try_acquire(tenant).filter(|_| may_start(tenant));
        let (job, permit) = state.schedule.next(permit)?;
        state.drops.insert(job.path.clone(), JobState::Running { again: false });
        let (tenant, path) = (job.tenant, Some(job.path.clone()));
        Some((job, StartedRun { queue: Arc::clone(self), tenant, path, permit: Some(permit) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that has begun; dropping it ends the run.
pub(super) struct StartedRun {
    queue: Arc<RunQueue>,
    tenant: TenantId,
    /// The drop, if it has waited.
    path: Option<DropPath>,
    /// `None` once the run has ended.
    permit: Option<RunPermit>,
}

impl Drop for StartedRun {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.schedule.finished(self.tenant);
        if let Some(path) = self.path.take()
            && let Some(JobState::Running { again: true }) = state.drops.remove(&path)
            && state.schedule.push(Job { tenant: self.tenant, path: path.clone(), entry: None })
        {
            state.drops.insert(path, JobState::Waiting);
        }
        drop(state);
        drop(self.permit.take());
        self.queue.changed.notify_one();
    }
}

/// An event whose answer the host waits for; dropping it ends the event.
pub(super) struct HeldEvent {
    queue: Arc<RunQueue>,
    tenant: TenantId,
}

impl Drop for HeldEvent {
    fn drop(&mut self) {
        self.queue.state().schedule.answered(self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId(Uuid::from_u128(number))
    }

    fn path(name: &str) -> DropPath {
        DropPath::new("datasets", name)
    }

    #[test]
    fn a_tenant_has_two_run_permits_and_leaves_the_others_to_other_tenants() {
        let queue = Arc::new(RunQueue::new(RunPermits::default()));
        let permits: Vec<_> = (0..2).map(|_| queue.try_start_event(tenant(1)).unwrap()).collect();
        assert!(queue.try_start_event(tenant(1)).is_none());
        let others: Vec<_> = (2..4).map(|number| queue.try_start_event(tenant(number)).unwrap()).collect();
        assert!(queue.try_start_event(tenant(4)).is_none(), "four run");
        drop(permits);
        assert!(queue.try_start_event(tenant(1)).is_some());
        drop(others);
    }

    #[test]
    fn a_waiting_drop_that_is_pushed_again_runs_once_and_a_running_drop_runs_again() {
        let queue = Arc::new(RunQueue::new(RunPermits::default()));
        assert_eq!(queue.push(tenant(1), path("a"), None), Pushed::Waiting);
        assert_eq!(queue.push(tenant(1), path("a"), None), Pushed::Repeated);
        let (_, permit) = queue.start_next(|_| true).unwrap();
        assert!(queue.start_next(|_| true).is_none());
        assert_eq!(queue.push(tenant(1), path("a"), None), Pushed::Repeated);
        drop(permit);
        let (job, permit) = queue.start_next(|_| true).unwrap();
        assert_eq!(job.path, path("a"));
        drop(permit);
        assert!(queue.start_next(|_| true).is_none());
        assert!(queue.state().drops.is_empty());
    }

    #[test]
    fn the_number_of_waiting_drops_is_bounded() {
        let queue = RunQueue::new(RunPermits::default());
        let pushed = (0..1_001).map(|number| queue.push(tenant(1), path(&number.to_string()), None));
        assert_eq!(pushed.filter(|pushed| *pushed == Pushed::Waiting).count(), 1_000);
        assert_eq!(queue.push(tenant(2), path("a"), None), Pushed::Waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_may_be_tried_again_is_noticed() {
        let queue = Arc::new(RunQueue::new(RunPermits::default()));
        queue.push(tenant(1), path("a"), None);
        let start = tokio::time::Instant::now();
        let (job, _permit) = queue.next(|_| start.elapsed() > Duration::from_secs(60)).await;
        assert_eq!(job.path, path("a"));
        assert!(start.elapsed() < Duration::from_secs(70));
    }
}
