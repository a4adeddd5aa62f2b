//! The drops with an accepted notification whose run has not finished.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::drop::DropPath;

/// The number of drops with an accepted notification at once. Bounds the memory and the length of the queue for a permit.
pub(super) const MAX_NOTIFIED: usize = 1_000;

/// The drops that have been notified in this process, each with at most one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Notified(Arc<Mutex<HashMap<DropPath, Again>>>);

/// Whether a notification has come since the run of the drop began.
type Again = bool;

/// What to do with a notification.
pub(super) enum Accepted {
    /// The caller starts a run.
    First(NotifiedDrop),
    /// The run of an earlier notification takes care of this one.
    Repeated,
    /// There are [`MAX_NOTIFIED`] drops already.
    TooMany,
}

impl Notified {
    /// Accepts a notification of `drop` if an earlier one has been accepted and its run has not finished. The drop will
    /// be looked at again after that run.
    pub(super) fn accept_repeated(&self, drop: &DropPath) -> bool {
        self.drops().get_mut(drop).map(|again| *again = true).is_some()
    }

    /// Accepts a notification of `drop`.
    pub(super) fn accept(&self, drop: &DropPath) -> Accepted {
        let mut drops = self.drops();
        if let Some(again) = drops.get_mut(drop) {
            *again = true;
            return Accepted::Repeated;
        }
        if drops.len() >= MAX_NOTIFIED {
            return Accepted::TooMany;
        }
        drops.insert(drop.clone(), false);
        Accepted::First(NotifiedDrop { notified: self.clone(), drop: drop.clone(), is_listed: true })
    }

    fn drops(&self) -> MutexGuard<'_, HashMap<DropPath, Again>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of a drop in [`Notified`]. Dropping it removes the entry, so that the next notification starts a run.
pub(super) struct NotifiedDrop {
    notified: Notified,
    drop: DropPath,
    is_listed: bool,
}

impl NotifiedDrop {
    /// Begins a run, which takes care of all notifications so far.
    pub(super) fn begin_run(&self) {
        if let Some(again) = self.notified.drops().get_mut(&self.drop) {
            *again = false;
        }
    }

    /// Ends a run. Returns whether a notification has come since it began, so that the drop needs another run.
    /// Otherwise the entry is removed at the same moment, so the next notification starts a run: none is lost.
    pub(super) fn needs_another_run(&mut self) -> bool {
        let mut drops = self.notified.drops();
        let again = drops.get(&self.drop).is_some_and(|again| *again);
        if !again {
            drops.remove(&self.drop);
            self.is_listed = false;
        }
        again
    }
}

impl Drop for NotifiedDrop {
    fn drop(&mut self) {
        if self.is_listed {
            self.notified.drops().remove(&self.drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(notified: &Notified, drop: &DropPath) -> NotifiedDrop {
        match notified.accept(drop) {
            Accepted::First(entry) => entry,
            Accepted::Repeated | Accepted::TooMany => panic!("`{drop}` has been notified before"),
        }
    }

    #[test]
    fn notifications_before_a_run_are_one_and_those_during_it_cause_another() {
        let (notified, drop) = (Notified::default(), DropPath::new("datasets", "run"));
        let mut entry = first(&notified, &drop);
        assert!(notified.accept_repeated(&drop));
        entry.begin_run();
        assert!(!entry.needs_another_run());

        let mut entry = first(&notified, &drop);
        entry.begin_run();
        assert!(matches!(notified.accept(&drop), Accepted::Repeated));
        assert!(entry.needs_another_run());
        entry.begin_run();
        assert!(!entry.needs_another_run());
        assert!(!notified.accept_repeated(&drop));
    }

    #[test]
    fn a_run_that_panics_does_not_block_later_notifications() {
        let (notified, drop) = (Notified::default(), DropPath::new("datasets", "run"));
        std::mem::drop(first(&notified, &drop));
        first(&notified, &drop);
    }

    #[test]
    fn the_number_of_drops_is_limited() {
        let notified = Notified::default();
        let drops = |number| DropPath::new("datasets", format!("run-{number}"));
        let mut entries: Vec<_> = (0..MAX_NOTIFIED).map(|number| first(&notified, &drops(number))).collect();
        assert!(matches!(notified.accept(&drops(MAX_NOTIFIED)), Accepted::TooMany));
        assert!(matches!(notified.accept(&drops(7)), Accepted::Repeated));
        entries.pop();
        first(&notified, &drops(MAX_NOTIFIED));
    }
}
