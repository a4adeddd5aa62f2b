//! Counts the runs and passes that wait for a permit or for memory that others hold.

use tokio::sync::watch;

/// The number of runs or passes that wait. Those that hold what they wait for can make room.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiters(watch::Sender<usize>);

impl Waiters {
    /// Counts one more until the result is dropped.
    pub(crate) fn enter(&self) -> Waiting {
        self.0.send_modify(|count| *count += 1);
        Waiting(self.clone())
    }

    /// Whether at least one run or pass waits.
    pub(crate) fn are_there(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Returns when at least one run or pass waits.
    pub(crate) async fn any(&self) {
        let waiting = self.0.subscribe().wait_for(|count| *count > 0).await.map(drop);
        waiting.expect("the sender is alive while it is borrowed");
    }
}

/// Counts as waiting until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Waiters);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}
