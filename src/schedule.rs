//! The order in which drops are run: in turn among tenants.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    drop::{DropPath, TenantId},
    store::ETag,
};

/// How many events of a tenant are held: their drops run, or their answers are delayed after a failed run. The host
/// sends only a few events at a time, so a tenant whose runs fail must not hold all of them.
const MAX_EVENTS_PER_TENANT: usize = 2;

/// How many drops of a tenant wait.
const MAX_WAITING_PER_TENANT: usize = 1_000;

/// A drop to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) tenant: TenantId,
    pub(crate) path: DropPath,
    /// The version of its entry in the index of unfinished drops, if it is known.
    pub(crate) entry: Option<ETag>,
}

/// The drops that wait, and how many run, by tenant.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    tenants: BTreeMap<TenantId, TenantJobs>,
    /// The number of jobs started so far.
    started: u64,
}

/// The jobs and events of one tenant.
#[derive(Debug, Default)]
struct TenantJobs {
    waiting: VecDeque<Job>,
    running: usize,
    /// The number of events that are held.
    events: usize,
    /// The value of `Schedule::started` when the tenant's last job started.
    last: u64,
}

impl Schedule {
    /// Adds a job; returns whether its tenant has room for it.
    pub(crate) fn push(&mut self, job: Job) -> bool {
        let waiting = &mut self.tenants.entry(job.tenant).or_default().waiting;
        let has_room = waiting.len() < MAX_WAITING_PER_TENANT;
        if has_room {
            waiting.push_back(job);
        }
        has_room
    }

    /// Starts the drop of an event of `tenant`; returns whether no job of the tenant waits, and fewer than
    /// [`MAX_EVENTS_PER_TENANT`] of its events are held.
    pub(crate) fn try_start_event(&mut self, tenant: TenantId) -> bool {
        let jobs = self.tenants.entry(tenant).or_default();
        let may_start = jobs.waiting.is_empty() && jobs.events < MAX_EVENTS_PER_TENANT;
        if may_start {
            self.started += 1;
            (jobs.running, jobs.last) = (jobs.running + 1, self.started);
            jobs.events += 1;
        }
        may_start
    }

    /// Starts the next job: of the tenants that `permit` gives a permit, that of the tenant with the fewest running
    /// jobs; of these, that of the tenant whose last job started first. Asks for no permit that it does not use.
    pub(crate) fn next<P>(&mut self, permit: impl Fn(TenantId) -> Option<P>) -> Option<(Job, P)> {
        let mut candidates: Vec<_> = self.tenants.iter_mut().filter(|(_, jobs)| !jobs.waiting.is_empty()).collect();
        candidates.sort_by_key(|(_, jobs)| (jobs.running, jobs.last));
        let (jobs, permit) = candidates.into_iter().find_map(|(tenant, jobs)| Some((jobs, permit(*tenant)?)))?;
        self.started += 1;
        (jobs.running, jobs.last) = (jobs.running + 1, self.started);
        jobs.waiting.pop_front().map(|job| (job, permit))
    }

    /// Whether a job waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.tenants.values().any(|jobs| !jobs.waiting.is_empty())
    }

    /// Removes the jobs that wait.
    pub(crate) fn drain(&mut self) -> Vec<Job> {
        self.tenants.values_mut().flat_map(|jobs| jobs.waiting.drain(..)).collect()
    }

    /// Ends a job of `tenant`.
    pub(crate) fn finished(&mut self, tenant: TenantId) {
        self.update(tenant, |jobs| jobs.running -= 1);
    }

    /// Ends an event of `tenant`: it is answered.
    pub(crate) fn answered(&mut self, tenant: TenantId) {
        self.update(tenant, |jobs| jobs.events -= 1);
    }

    fn update(&mut self, tenant: TenantId, change: impl FnOnce(&mut TenantJobs)) {
        if let Some(jobs) = self.tenants.get_mut(&tenant) {
            change(jobs);
            if jobs.running == 0 && jobs.events == 0 && jobs.waiting.is_empty() {
                self.tenants.remove(&tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn job(tenant: u128, name: &str) -> Job {
        Job { tenant: TenantId(Uuid::from_u128(tenant)), path: DropPath::new("datasets", name), entry: None }
    }

    #[test]
    fn a_tenant_with_many_drops_leaves_turns_to_the_others() {
        let mut schedule = Schedule::default();
        for name in ["1", "2", "3", "4"] {
            assert!(schedule.push(job(1, name)));
        }
        schedule.push(job(2, "a"));
        schedule.push(job(3, "b"));
        let order: Vec<_> = std::iter::from_fn(|| schedule.next(Some)).map(|(job, _)| job.path.folder).collect();
        assert_eq!(order, ["1", "a", "b", "2", "3", "4"]);
    }

    #[test]
    fn a_job_that_need_not_wait_does_not_overtake_those_that_do() {
        let (mut schedule, tenant) = (Schedule::default(), job(1, "").tenant);
        assert!(schedule.try_start_event(tenant));
        schedule.push(job(1, "1"));
        assert!(!schedule.try_start_event(tenant), "a job waits");
        assert_eq!(schedule.next(Some).unwrap().0.path.folder, "1");
        assert!(schedule.try_start_event(tenant));
        assert!(!schedule.try_start_event(tenant), "two events are held");
    }

    #[test]
    fn a_tenant_that_may_not_start_does_not_delay_the_others() {
        let mut schedule = Schedule::default();
        schedule.push(job(1, "1"));
        schedule.push(job(2, "a"));
        let unless_first = |tenant| (tenant != job(1, "").tenant).then_some(());
        assert_eq!(schedule.next(unless_first).unwrap().0.path.folder, "a");
        assert_eq!(schedule.next(unless_first), None);
    }

    #[test]
    fn the_number_of_waiting_drops_of_a_tenant_is_bounded() {
        let mut schedule = Schedule::default();
        let accepted =
            (0..MAX_WAITING_PER_TENANT + 5).filter(|number| schedule.push(job(1, &number.to_string()))).count();
        assert_eq!(accepted, MAX_WAITING_PER_TENANT);
        assert!(schedule.push(job(2, "a")));
    }
}
