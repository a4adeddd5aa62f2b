//! Work that several threads do, handed on in the order in which it came. Knows nothing of what is done.
//!
//! Every thread that wakes takes time from one that works, and here the one that gives the work out has the most to do. So
//! few are woken: the next one only when work piles up, and whoever waits for what was done only once for each piece of it.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

/// Where work is given out.
///
/// Its threads are of the blocking pool, which has hundreds: enough for the few files that a process has in hand. One stays until this is dropped and all work is done; others are called when work
/// piles up, and leave when there is none.
pub(super) struct WorkerPool<W, D> {
    largest: usize,
    /// How much work waits before another thread is called.
    ahead: usize,
    given: Arc<AtomicU64>,
    permits: Arc<Semaphore>,
    queue: Arc<Queue<W>>,
    done: mpsc::Sender<Done<D>>,
    work: Arc<dyn Fn(W) -> D + Send + Sync>,
}

/// Where what was done comes out, in order.
pub(super) struct InOrder<D> {
    next: u64,
    /// How many pieces of work there were so far.
    given: Arc<AtomicU64>,
    permits: Arc<Semaphore>,
    done: mpsc::Receiver<Done<D>>,
    /// What was done before its turn.
    early: BTreeMap<u64, Done<D>>,
}

/// The work panicked; or nobody came to do it, since the runtime ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panicked;

/// Whoever waited for what is done has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unwanted;

/// A piece of work: its number, and its permit, which it has until it is handed on.
struct Piece<W> {
    number: u64,
    work: W,
    permit: OwnedSemaphorePermit,
}

struct Done<D> {
    number: u64,
    result: Result<D, Panicked>,
    _permit: OwnedSemaphorePermit,
}

struct Queue<W> {
    waiting: Mutex<Waiting<W>>,
    changed: Condvar,
}

struct Waiting<W> {
    pieces: VecDeque<Piece<W>>,
    threads: usize,
    /// Whether the one thread that there is has nothing to do.
    is_idle: bool,
    is_over: bool,
}

/// A crew of up to `largest` threads that do `work`. Besides what they do, up to `ahead` pieces of it wait to be done or to
/// be handed on.
pub(super) fn worker_pool<W: Send + 'static, D: Send + 'static>(
    largest: NonZeroUsize,
    ahead: usize,
    work: impl Fn(W) -> D + Send + Sync + 'static,
) -> (WorkerPool<W, D>, InOrder<D>) {
    let room = ahead + largest.get();
    let permits = Arc::new(Semaphore::new(room));
    // As wide as there are permits, so that nobody who has one waits.
    let (done, receiver) = mpsc::channel(room);
    let waiting = Waiting { pieces: VecDeque::new(), threads: 0, is_idle: false, is_over: false };
    let queue = Arc::new(Queue { waiting: Mutex::new(waiting), changed: Condvar::new() });
    let given = Arc::new(AtomicU64::new(0));
    let in_order = InOrder {
        next: 0,
        given: Arc::clone(&given),
        permits: Arc::clone(&permits),
        done: receiver,
        early: BTreeMap::new(),
    };
    let work = Arc::new(work);
    (WorkerPool { largest: largest.get(), ahead, given, permits, queue, done, work }, in_order)
}

impl<W: Send + 'static, D: Send + 'static> WorkerPool<W, D> {
    /// Gives out the next piece of work; waits until there is a permit for it. Is called from the blocking pool.
    pub(super) fn push(&mut self, work: W) -> Result<(), Unwanted> {
        let permit = Handle::current().block_on(Arc::clone(&self.permits).acquire_owned()).map_err(|_| Unwanted)?;
        let mut waiting = self.queue.waiting();
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        waiting.pieces.push_back(Piece { number, work, permit });
        let has_too_few = waiting.threads == 0 || waiting.pieces.len() >= self.ahead;
        if waiting.is_idle {
            self.queue.changed.notify_one();
        } else if has_too_few && waiting.threads < self.largest {
            waiting.threads += 1;
            let (queue, done, work) = (Arc::clone(&self.queue), self.done.clone(), Arc::clone(&self.work));
            tokio::task::spawn_blocking(move || queue.do_all(&*work, &done));
        }
        Ok(())
    }

    /// Waits until nobody waits for what is done any more.
    pub(super) async fn unwanted(&self) {
        self.done.closed().await;
    }
}

impl<W, D> Drop for WorkerPool<W, D> {
    fn drop(&mut self) {
        self.queue.waiting().is_over = true;
        self.queue.changed.notify_one();
    }
}

impl<W> Queue<W> {
    /// Does pieces of work until there will be no more.
    fn do_all<D>(&self, work: &dyn Fn(W) -> D, done: &mpsc::Sender<Done<D>>) {
        while let Some(piece) = self.next() {
            let result = catch_unwind(AssertUnwindSafe(|| work(piece.work))).map_err(|_| Panicked);
            if done.blocking_send(Done { number: piece.number, result, _permit: piece.permit }).is_err() {
                return;
            }
        }
    }

    /// The next piece of work; `None` when there will be no more, or not enough for this thread as well.
    fn next(&self) -> Option<Piece<W>> {
        let mut waiting = self.waiting();
        if waiting.threads == 1 {
            let has_none = |waiting: &mut Waiting<W>| {
                waiting.is_idle = waiting.pieces.is_empty() && !waiting.is_over;
                waiting.is_idle
            };
            waiting = self.changed.wait_while(waiting, has_none).unwrap_or_else(PoisonError::into_inner);
        }
        let piece = waiting.pieces.pop_front();
        waiting.threads -= usize::from(piece.is_none());
        piece
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<W>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D> InOrder<D> {
    /// What was done next, or `None` when the crew has ended.
    pub(super) async fn next(&mut self) -> Option<Result<D, Panicked>> {
        loop {
            if let Some(done) = self.early.remove(&self.next) {
                self.next += 1;
                return Some(done.result);
            }
            match self.done.recv().await {
                Some(done) => {
                    self.early.insert(done.number, done);
                }
                // What never came must not look like the end.
                None if self.next < self.given.load(Ordering::Relaxed) => return Some(Err(Panicked)),
                None => return None,
            }
        }
    }
}

impl<D> Drop for InOrder<D> {
    fn drop(&mut self) {
        self.permits.close();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, thread};

    use tokio::task::spawn_blocking;

    use super::*;

    fn threads(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    #[tokio::test]
    async fn what_was_done_comes_out_in_order_whoever_was_quicker() {
        for count in 1..5 {
            // The first of every four takes longest.
            let work = |number: u32| {
                (number..number.next_multiple_of(4)).for_each(|_| thread::yield_now());
                number
            };
            let (mut worker_pool, mut done) = worker_pool(threads(count), 3, work);
            let giving = spawn_blocking(move || (0..500).try_for_each(|number| worker_pool.push(number)));
            for number in 0..500 {
                assert_eq!(done.next().await, Some(Ok(number)), "{count} threads");
            }
            assert_eq!(done.next().await, None);
            assert_eq!(giving.await.unwrap(), Ok(()));
        }
    }

    #[tokio::test]
    async fn no_more_is_begun_than_there_is_room_for() {
        let begun = Arc::new(AtomicUsize::new(0));
        let (count, room) = (Arc::clone(&begun), 5);
        let (mut worker_pool, mut done) = worker_pool(threads(2), 3, move |()| count.fetch_add(1, Ordering::SeqCst));
        let giving = spawn_blocking(move || (0..50).try_for_each(|_| worker_pool.push(())));
        for taken in 1..=50 {
            done.next().await.unwrap().unwrap();
            assert!(begun.load(Ordering::SeqCst) <= taken + room);
        }
        assert_eq!(giving.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn work_that_panics_ends_in_its_turn_and_the_thread_goes_on() {
        let work = |number: u32| {
            assert!(number != 1, "on purpose");
            number
        };
        let (mut worker_pool, mut done) = worker_pool(threads(1), 4, work);
        spawn_blocking(move || (0..3).try_for_each(|number| worker_pool.push(number))).await.unwrap().unwrap();
        assert_eq!(done.next().await, Some(Ok(0)));
        assert_eq!(done.next().await, Some(Err(Panicked)));
        assert_eq!(done.next().await, Some(Ok(2)));
        assert_eq!(done.next().await, None);
    }

    #[tokio::test]
    async fn work_that_nobody_does_is_not_the_end() {
        let (mut worker_pool, mut done) = worker_pool(threads(1), 4, |number: u32| number);
        // As if a thread had been called that never came.
        worker_pool.queue.waiting().threads = 1;
        spawn_blocking(move || worker_pool.push(7)).await.unwrap().unwrap();
        assert_eq!(done.next().await, Some(Err(Panicked)));
    }

    #[tokio::test]
    async fn whoever_gives_work_out_is_told_that_nobody_waits_while_there_is_none() {
        let (worker_pool, done) = worker_pool::<(), ()>(threads(1), 1, |()| ());
        let giving = tokio::spawn(async move { worker_pool.unwanted().await });
        drop(done);
        giving.await.unwrap();
    }

    #[tokio::test]
    async fn work_is_refused_once_nobody_waits_for_it() {
        let (mut worker_pool, done) = worker_pool(threads(2), 1, |()| ());
        let giving = spawn_blocking(move || (0..9).try_for_each(|_| worker_pool.push(())));
        drop(done);
        assert_eq!(giving.await.unwrap(), Err(Unwanted));
    }
}
