//! The order in which a sweep runs drops: in turn among tenants.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    drop::{DropPath, TenantId},
    store::ETag,
};

/// How many drops of a tenant run at once.
const MAX_PER_TENANT: usize = 2;

/// How many drops of a tenant wait for their turn.
const MAX_JOBS_PER_TENANT: usize = 1_000;

/// A drop to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) tenant: TenantId,
    pub(super) path: DropPath,
    /// The version of its entry in the index, if the index has one.
    pub(super) entry: Option<ETag>,
}

/// The drops to run, by tenant.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    tenants: BTreeMap<TenantId, Turn>,
    /// The number of jobs started so far.
    started: u64,
}

#[derive(Debug, Default)]
struct Turn {
    jobs: VecDeque<Job>,
    running: usize,
    /// The value of `Schedule::started` when the tenant's last job started.
    last: u64,
}

impl Schedule {
    /// Adds a job, unless its tenant has too many already: these are left for the next sweep.
    pub(super) fn push(&mut self, job: Job) {
        let jobs = &mut self.tenants.entry(job.tenant).or_default().jobs;
        if jobs.len() < MAX_JOBS_PER_TENANT {
            jobs.push_back(job);
        }
    }

    /// Starts the next job: of the tenants that have a turn left, the one with the fewest running jobs; of these, the one
    /// whose last job started first.
    pub(super) fn next(&mut self) -> Option<Job> {
        let has_turn = |turn: &&mut Turn| turn.running < MAX_PER_TENANT && !turn.jobs.is_empty();
        let turn = self.tenants.values_mut().filter(has_turn).min_by_key(|turn| (turn.running, turn.last))?;
        self.started += 1;
        turn.running += 1;
        turn.last = self.started;
        turn.jobs.pop_front()
    }

    /// Ends a job of `tenant`.
    pub(super) fn finished(&mut self, tenant: TenantId) {
        if let Some(turn) = self.tenants.get_mut(&tenant) {
            turn.running -= 1;
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
            schedule.push(job(1, name));
        }
        schedule.push(job(2, "a"));
        schedule.push(job(3, "b"));
        let order: Vec<_> = std::iter::from_fn(|| schedule.next()).map(|job| job.path.folder).collect();
        assert_eq!(order, ["1", "a", "b", "2"]);
        assert_eq!(schedule.next(), None);
        schedule.finished(job(1, "").tenant);
        assert_eq!(schedule.next().unwrap().path.folder, "3");
    }
}
