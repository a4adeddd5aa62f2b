//! A worker pool that runs jobs on several threads and yields their results in the order of the jobs. It knows nothing
//! of what the jobs do.
//!
//! Waking a thread takes time from the thread that wakes it, and the one that submits the jobs has the most work of
//! all. So threads are rarely woken: another worker starts only when jobs pile up, and the consumer is woken once per
//! result. For the same reason, the thread that submits jobs runs some of them itself when too many pile up. If it
//! slept, the system would often run two workers on one core while another core is idle for a moment.
//!
//! Kept because the obvious replacement, `buffered` over `spawn_blocking`, took 9 % longer for `decode` of a million
//! rows on two cores, and 7 % more CPU: medians of 15 pairs of runs, with a spread of 6 % to 18 %.

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
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc},
};

/// The submitting end of a worker pool.
///
/// Workers run on tokio's blocking threads, of which there are hundreds: enough for the few files that a process works
/// on at once. One worker stays until this is dropped and all jobs are done. More start when jobs pile up, and stop
/// when no job waits.
pub(super) struct WorkerPool<I, R> {
    max_workers: usize,
    /// Whether the thread that submits jobs runs some of them: unless the pool has only one thread, the worker's.
    helps: bool,
    max_permits: usize,
    /// How many jobs have been submitted.
    submitted: Arc<AtomicU64>,
    permits: Arc<Semaphore>,
    queue: Arc<Queue<I>>,
    results: mpsc::Sender<JobResult<R>>,
    run: Arc<dyn Fn(I) -> R + Send + Sync>,
}

/// The results of a worker pool, in the order of the jobs.
pub(super) struct OrderedResults<R> {
    /// The number of the job whose result is next.
    next: u64,
    /// How many jobs have been submitted.
    submitted: Arc<AtomicU64>,
    permits: Arc<Semaphore>,
    results: mpsc::Receiver<JobResult<R>>,
    /// Results of jobs after the next one, by the job's number.
    early: BTreeMap<u64, JobResult<R>>,
}

/// A job panicked, or no thread ran it because the runtime is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panicked;

/// The consumer has dropped its [`OrderedResults`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConsumerGone;

/// A submitted job. Its permits are released when the consumer takes the result.
struct Job<I> {
    number: u64,
    input: I,
    permits: OwnedSemaphorePermit,
}

struct JobResult<R> {
    number: u64,
    result: Result<R, Panicked>,
    _permits: OwnedSemaphorePermit,
}

struct Queue<I> {
    state: Mutex<QueueState<I>>,
    changed: Condvar,
}

struct QueueState<I> {
    jobs: VecDeque<Job<I>>,
    workers: usize,
    /// Whether the only worker waits for a job.
    is_idle: bool,
    /// Whether no more jobs will be submitted.
    is_closed: bool,
}

/// Creates a pool that calls `run` for each job on up to `threads` threads: one of them is the thread that submits the
/// jobs, unless there is only one.
///
/// At most `backlog` jobs of one permit wait to be run or to be taken by the consumer, in addition to one for each of
/// the threads.
pub(super) fn worker_pool<I: Send + 'static, R: Send + 'static>(
    threads: NonZeroUsize,
    backlog: usize,
    run: impl Fn(I) -> R + Send + Sync + 'static,
) -> (WorkerPool<I, R>, OrderedResults<R>) {
    let max_permits = backlog + threads.get();
    let permits = Arc::new(Semaphore::new(max_permits));
    // As many places as permits, so that a worker never waits for the consumer.
    let (results, receiver) = mpsc::channel(max_permits);
    let state = QueueState { jobs: VecDeque::new(), workers: 0, is_idle: false, is_closed: false };
    let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new() });
    let submitted = Arc::new(AtomicU64::new(0));
    let ordered = OrderedResults {
        next: 0,
        submitted: Arc::clone(&submitted),
        permits: Arc::clone(&permits),
        results: receiver,
        early: BTreeMap::new(),
    };
    let (max_workers, helps, run) = ((threads.get() - 1).max(1), threads.get() > 1, Arc::new(run));
    (WorkerPool { max_workers, helps, max_permits, submitted, permits, queue, results, run }, ordered)
}

impl<I: Send + 'static, R: Send + 'static> WorkerPool<I, R> {
    /// Submits a job that takes this number of `permits`, or all of the pool if that is less: more than one for a job
    /// that needs more memory than others. As long as they are not free, runs jobs of the queue, and waits if there are
    /// none. Must be called on a blocking thread.
    pub(super) fn push(&mut self, input: I, permits: usize) -> Result<(), ConsumerGone> {
        let permits = permits.clamp(1, self.max_permits);
        // As many jobs as can wait in addition to those that run. If so many wait, another worker starts.
        let backlog = (self.max_permits / permits).saturating_sub(self.max_workers);
        let permits = self.acquire(u32::try_from(permits).unwrap_or(u32::MAX))?;
        let mut state = self.queue.lock();
        let number = self.submitted.fetch_add(1, Ordering::Relaxed);
        state.jobs.push_back(Job { number, input, permits });
        let needs_worker = state.workers == 0 || state.jobs.len() >= backlog;
        if state.is_idle {
            self.queue.changed.notify_one();
        } else if needs_worker && state.workers < self.max_workers {
            state.workers += 1;
            let (queue, results, run) = (Arc::clone(&self.queue), self.results.clone(), Arc::clone(&self.run));
            tokio::task::spawn_blocking(move || queue.work(&*run, &results));
        }
        Ok(())
    }

    /// Takes permits, and runs jobs until they are free.
    fn acquire(&self, permits: u32) -> Result<OwnedSemaphorePermit, ConsumerGone> {
        loop {
            match Arc::clone(&self.permits).try_acquire_many_owned(permits) {
                Ok(permits) => return Ok(permits),
                Err(TryAcquireError::Closed) => return Err(ConsumerGone),
                Err(TryAcquireError::NoPermits) => {}
            }
            let waiting = || self.queue.lock().jobs.pop_front();
            let Some(job) = self.helps.then(waiting).flatten() else { break };
            job.run(&*self.run, &self.results)?;
        }
        let acquired = Arc::clone(&self.permits).acquire_many_owned(permits);
        Handle::current().block_on(acquired).map_err(|_closed| ConsumerGone)
    }

    /// Waits until the consumer is gone.
    pub(super) async fn consumer_gone(&self) {
        self.results.closed().await;
    }
}

impl<I, R> Drop for WorkerPool<I, R> {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_one();
    }
}

impl<I> Job<I> {
    /// Runs the job and sends its result to the consumer.
    fn run<R>(self, run: &dyn Fn(I) -> R, results: &mpsc::Sender<JobResult<R>>) -> Result<(), ConsumerGone> {
        let Self { number, input, permits } = self;
        let result = catch_unwind(AssertUnwindSafe(|| run(input))).map_err(|_| Panicked);
        results.blocking_send(JobResult { number, result, _permits: permits }).map_err(|_closed| ConsumerGone)
    }
}

impl<I> Queue<I> {
    /// Runs jobs until this worker is no longer needed.
    fn work<R>(&self, run: &dyn Fn(I) -> R, results: &mpsc::Sender<JobResult<R>>) {
        while let Some(job) = self.next() {
            if job.run(run, results).is_err() {
                return;
            }
        }
    }

    /// The next job. The only worker waits for one until the queue is closed; other workers get `None` if no job waits.
    fn next(&self) -> Option<Job<I>> {
        let mut state = self.lock();
        if state.workers == 1 {
            let must_wait = |state: &mut QueueState<I>| {
                state.is_idle = state.jobs.is_empty() && !state.is_closed;
                state.is_idle
            };
            state = self.changed.wait_while(state, must_wait).unwrap_or_else(PoisonError::into_inner);
        }
        let job = state.jobs.pop_front();
        state.workers -= usize::from(job.is_none());
        job
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> OrderedResults<R> {
    /// The result of the next job, or `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<Result<R, Panicked>> {
        loop {
            if let Some(early) = self.early.remove(&self.next) {
                self.next += 1;
                return Some(early.result);
            }
            match self.results.recv().await {
                Some(result) => {
                    self.early.insert(result.number, result);
                }
                // A missing result is an error, not the end: otherwise a file would be reported complete with rows
                // missing.
                None if self.next < self.submitted.load(Ordering::Relaxed) => return Some(Err(Panicked)),
                None => return None,
            }
        }
    }
}

impl<R> Drop for OrderedResults<R> {
    fn drop(&mut self) {
        self.permits.close();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, thread, time::Duration};

    use tokio::task::spawn_blocking;

    use super::*;

    fn threads(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    #[tokio::test]
    async fn results_come_in_the_order_of_the_jobs() {
        for count in 1..5 {
            // The first of every four jobs takes longest.
            let run = |number: u32| {
                (number..number.next_multiple_of(4)).for_each(|_| thread::yield_now());
                number
            };
            let (mut pool, mut results) = worker_pool(threads(count), 3, run);
            let submitting = spawn_blocking(move || (0..500).try_for_each(|number| pool.push(number, 1)));
            for number in 0..500 {
                assert_eq!(results.next().await, Some(Ok(number)), "{count} threads");
            }
            assert_eq!(results.next().await, None);
            assert_eq!(submitting.await.unwrap(), Ok(()));
        }
    }

    #[tokio::test]
    async fn the_number_of_jobs_ahead_of_the_consumer_is_bounded() {
        let started = Arc::new(AtomicUsize::new(0));
        let (counter, max_jobs) = (Arc::clone(&started), 5);
        let (mut pool, mut results) = worker_pool(threads(2), 3, move |()| counter.fetch_add(1, Ordering::SeqCst));
        let submitting = spawn_blocking(move || (0..50).try_for_each(|_| pool.push((), 1)));
        for taken in 1..=50 {
            results.next().await.unwrap().unwrap();
            assert!(started.load(Ordering::SeqCst) <= taken + max_jobs);
        }
        assert_eq!(submitting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_job_that_takes_all_permits_or_more_runs_alone() {
        let running = Arc::new(AtomicUsize::new(0));
        let run = {
            let running = Arc::clone(&running);
            move |()| {
                let others = running.fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                others
            }
        };
        let (mut pool, mut results) = worker_pool(threads(4), 3, run);
        let submitting = spawn_blocking(move || (0..50).try_for_each(|job| pool.push((), 7 + job)));
        for _ in 0..50 {
            assert_eq!(results.next().await, Some(Ok(0)));
        }
        assert_eq!(submitting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn the_thread_that_submits_jobs_runs_waiting_ones_instead_of_waiting() {
        let (second, ran) = std::sync::mpsc::channel();
        let ran = Mutex::new(ran);
        // The first job waits for the second one, and of the two threads, one is the worker.
        let run = move |number: u32| match number {
            0 => ran.lock().unwrap().recv_timeout(Duration::from_secs(30)).is_ok(),
            _ => second.send(()).is_ok(),
        };
        let (mut pool, mut results) = worker_pool(threads(2), 0, run);
        let submitting = spawn_blocking(move || (0..3).try_for_each(|number| pool.push(number, 1)));
        for number in 0..3 {
            assert_eq!(results.next().await, Some(Ok(true)), "job {number}");
        }
        assert_eq!(submitting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_panic_fails_its_job_and_the_worker_goes_on() {
        let run = |number: u32| {
            assert!(number != 1, "on purpose");
            number
        };
        let (mut pool, mut results) = worker_pool(threads(1), 4, run);
        spawn_blocking(move || (0..3).try_for_each(|number| pool.push(number, 1))).await.unwrap().unwrap();
        assert_eq!(results.next().await, Some(Ok(0)));
        assert_eq!(results.next().await, Some(Err(Panicked)));
        assert_eq!(results.next().await, Some(Ok(2)));
        assert_eq!(results.next().await, None);
    }

    #[tokio::test]
    async fn a_job_that_no_worker_runs_is_an_error() {
        let (mut pool, mut results) = worker_pool(threads(1), 4, |number: u32| number);
        // As if a worker had been spawned that never started.
        pool.queue.lock().workers = 1;
        spawn_blocking(move || pool.push(7, 1)).await.unwrap().unwrap();
        assert_eq!(results.next().await, Some(Err(Panicked)));
    }

    #[tokio::test]
    async fn a_gone_consumer_is_noticed_without_submitting_a_job() {
        let (pool, results) = worker_pool::<(), ()>(threads(1), 1, |()| ());
        let waiting = tokio::spawn(async move { pool.consumer_gone().await });
        drop(results);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn submitting_fails_once_the_consumer_is_gone() {
        let (mut pool, results) = worker_pool(threads(2), 1, |()| ());
        let submitting = spawn_blocking(move || (0..9).try_for_each(|_| pool.push((), 1)));
        drop(results);
        assert_eq!(submitting.await.unwrap(), Err(ConsumerGone));
    }
}
