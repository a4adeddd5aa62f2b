//! Delivers messages with retries: the loop around [`Sink::try_deliver`], which is the same for every sink.

use std::{convert::Infallible, future::ready, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::{FailedTry, Sink, SinkError};
use crate::{
    http_response::StatusClass,
    message::{Message, MessageId},
    retry::Backoff,
    telemetry::metrics,
};

/// Delivers `message`; returns once the destination has taken responsibility for it.
///
/// Retries transient failures within [`Sink::retry_budget`]. Fails at once if the destination rejects this message, or
/// every message.
pub async fn deliver(sink: &dyn Sink, message: &Message) -> Result<(), SinkError> {
    match deliver_checked(sink, message, || ready(Ok::<_, Infallible>(()))).await {
        Ok(()) => Ok(()),
        Err(CheckedDeliveryError::Sink(error)) => Err(error),
        Err(CheckedDeliveryError::Check(never)) => match never {},
    }
}

/// Why a message was not delivered by [`deliver_checked`].
#[derive(Debug)]
pub enum CheckedDeliveryError<E> {
    /// The destination did not acknowledge the message.
    Sink(SinkError),
    /// The check before a try failed, so this try was not made. An earlier try may have delivered the message, without
    /// an acknowledgement.
    Check(E),
}

/// As [`deliver`], but calls `check` before every try, and stops at its first error: a message that has become obsolete
/// is not sent again.
pub async fn deliver_checked<E, F>(
    sink: &dyn Sink,
    message: &Message,
    check: impl FnMut() -> F,
) -> Result<(), CheckedDeliveryError<E>>
where
    F: Future<Output = Result<(), E>>,
{
    let started = Instant::now();
    let result = try_until_final(sink, message, check).await;
    if sink.is_measured()
        && let Some(outcome) = outcome_of(&result)
    {
        metrics::record_delivery(message, outcome, started.elapsed());
    }
    result
}

/// The result of a delivery as metrics name it; `None` if the check before a try has stopped the delivery.
fn outcome_of<E>(result: &Result<(), CheckedDeliveryError<E>>) -> Option<&'static str> {
    match result {
        Ok(()) => Some(metrics::DELIVERED),
        Err(CheckedDeliveryError::Sink(SinkError::Rejected { .. })) => Some("rejected"),
        Err(CheckedDeliveryError::Sink(SinkError::Misconfigured { .. })) => Some("misconfigured"),
        Err(CheckedDeliveryError::Sink(SinkError::Unavailable { .. })) => Some("unavailable"),
        Err(CheckedDeliveryError::Check(_)) => None,
    }
}

/// The loop of [`deliver_checked`].
async fn try_until_final<E, F>(
    sink: &dyn Sink,
    message: &Message,
    mut check: impl FnMut() -> F,
) -> Result<(), CheckedDeliveryError<E>>
where
    F: Future<Output = Result<(), E>>,
{
    let mut backoff = Backoff::start(sink.retry_budget());
    loop {
        check().await.map_err(CheckedDeliveryError::Check)?;
        let Err(failed) = sink.try_deliver(message).await else {
            return Ok(());
        };
        let wait = wait_after(&failed, &mut backoff, &message.id).map_err(CheckedDeliveryError::Sink)?;
        log_failed_try(sink, &message.id, &failed.answer, backoff.attempts());
        sleep(wait).await;
    }
}

/// How long to wait before the next try; the error of the delivery if there is no next try.
fn wait_after(failed: &FailedTry, backoff: &mut Backoff, id: &MessageId) -> Result<Duration, SinkError> {
    let (id, answer) = (id.to_string(), failed.answer.clone());
    match failed.class {
        StatusClass::Transient => backoff.wait_after_failure(failed.retry_after).map_err(|spent| {
            SinkError::Unavailable { id, tries: spent.attempts, answer, retry_after: spent.retry_after }
        }),
        StatusClass::Request => Err(SinkError::Rejected { id, answer }),
        StatusClass::Service => Err(SinkError::Misconfigured { id, problem: answer }),
    }
}

/// Logs the first failed try of a message as a warning and further ones only for debugging. The last one is not logged
/// here, but where its verdict is decided.
fn log_failed_try(sink: &dyn Sink, id: &MessageId, answer: &str, number: u32) {
    let name = sink.name();
    if number == 1 {
        let limit = sink.retry_budget().total.as_secs();
        warn!(webhook.id = %id, sink = name, answer,
            "`{id}` was not delivered to {name}, retrying for up to {limit} s: {answer}");
    } else {
        debug!(webhook.id = %id, sink = name, answer, number,
            "`{id}` was not delivered to {name} in try {number}: {answer}");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Mutex, PoisonError},
    };

    use async_trait::async_trait;

    use super::*;
    use crate::retry::RetryBudget;

    /// Fails with these results, and then accepts messages.
    #[derive(Debug, Default)]
    struct Scripted {
        failures: Mutex<VecDeque<FailedTry>>,
        tries: Mutex<u32>,
    }

    impl Scripted {
        fn new(failures: impl IntoIterator<Item = FailedTry>) -> Self {
            Self { failures: Mutex::new(failures.into_iter().collect()), tries: Mutex::new(0) }
        }

        fn tries(&self) -> u32 {
            *self.tries.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[async_trait]
    impl Sink for Scripted {
        async fn try_deliver(&self, _: &Message) -> Result<(), FailedTry> {
            *self.tries.lock().unwrap() += 1;
            self.failures.lock().unwrap().pop_front().map_or(Ok(()), Err)
        }

        fn retry_budget(&self) -> RetryBudget {
            RetryBudget::lasting(Duration::from_secs(240))
        }

        fn name(&self) -> String {
            "the test".to_owned()
        }
    }

    fn busy(seconds: u64) -> FailedTry {
        FailedTry { retry_after: Some(Duration::from_secs(seconds)), ..FailedTry::transient("busy") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_failure_is_retried_at_the_time_that_the_destination_asked_for() {
        let (sink, started) = (Scripted::new([busy(100), FailedTry::transient("down")]), Instant::now());
        deliver(&sink, &Message::check()).await.unwrap();
        assert_eq!(sink.tries(), 3);
        assert!((100..102).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_after_beyond_the_retry_budget_is_in_the_error() {
        let (sink, message) = (Scripted::new([busy(100), busy(150)]), Message::check());
        let error = deliver(&sink, &message).await.unwrap_err();
        assert_eq!((sink.tries(), error.retry_after()), (2, Some(Duration::from_secs(150))));
        let expected = format!("the receiver did not acknowledge the message `{}` in 2 tries: busy", message.id);
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_is_not_retried() {
        let misconfigured = FailedTry { class: StatusClass::Service, ..busy(1) };
        for failed in [FailedTry::rejected("no"), misconfigured] {
            let (sink, is_rejection) = (Scripted::new([failed.clone()]), failed.class == StatusClass::Request);
            let error = deliver(&sink, &Message::check()).await.unwrap_err();
            assert_eq!(matches!(error, SinkError::Rejected { .. }), is_rejection, "{error}");
            assert_eq!(matches!(error, SinkError::Misconfigured { .. }), !is_rejection, "{error}");
            assert_eq!((sink.tries(), error.retry_after()), (1, None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_check_runs_before_every_try_and_its_error_stops_them() {
        for checks_that_pass in 0..3 {
            let (sink, mut checks) = (Scripted::new([busy(1), busy(1), busy(1)]), 0);
            let check = || {
                checks += 1;
                ready(if checks > checks_that_pass { Err("superseded") } else { Ok(()) })
            };
            let result = deliver_checked(&sink, &Message::check(), check).await;
            assert!(matches!(result, Err(CheckedDeliveryError::Check("superseded"))), "{result:?}");
            assert_eq!((sink.tries(), checks), (checks_that_pass, checks_that_pass + 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_with_a_check_that_borrows_can_run_in_a_task() {
        async fn run(sink: &dyn Sink, ledger: &Mutex<u32>) -> Result<(), CheckedDeliveryError<String>> {
            let check = || async {
                sleep(Duration::from_millis(1)).await;
                *ledger.lock().map_err(|error| error.to_string())? += 1;
                Ok(())
            };
            deliver_checked(sink, &Message::check(), check).await
        }
        let task = tokio::spawn(async {
            let ledger = Mutex::new(0);
            run(&Scripted::new([busy(1)]), &ledger).await.unwrap();
            ledger.into_inner().unwrap()
        });
        assert_eq!(task.await.unwrap(), 2);
    }
}
