//! Receives the body of a POST request, within limits of size and time.

use std::time::Duration;

use axum::body::Body;
use futures::TryStreamExt;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::payload::{PayloadTooLarge, PayloadTrimmer, TrimmedPayload};

/// How long a client may send nothing.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// How long a body may take. Enough for a blob of 200 MB as Base64, on loopback.
const BODY_LIMIT: Duration = Duration::from_secs(60);

/// The number of large bodies that are received at once. Each takes up to 1.3 MiB of memory.
///
/// Further large bodies wait instead of getting a 503, which the host would count as a failure of the event: after five
/// failures it gives up. Small bodies, such as all events of a correctly configured host, need no permit, so they never
/// wait for slow clients; the limit on connections also limits their number.
const MAX_LARGE_BODIES: usize = 16;

/// The size above which a body is large, in bytes.
const SMALL_BODY_BYTES: usize = 16 << 10;

/// Why a body could not be received.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The payload is too large even without its long strings. No Functions host sends such a payload.
    #[error(transparent)]
    TooLarge(PayloadTooLarge),
    /// The client has disconnected, or the chunks are not valid.
    #[error("the request body was interrupted: {0}")]
    Interrupted(axum::Error),
    /// The client exceeded the time limit between two parts of the body, or that of the whole body.
    #[error("the request body did not arrive in time: there may be {} s between two parts, and {} s for all of them",
        IDLE_LIMIT.as_secs(), BODY_LIMIT.as_secs())]
    TooSlow,
}

/// Receives bodies, and limits the memory that they take.
pub(super) struct BodyReader {
    large_bodies: Semaphore,
}

impl Default for BodyReader {
    fn default() -> Self {
        Self { large_bodies: Semaphore::new(MAX_LARGE_BODIES) }
    }
}

impl BodyReader {
    /// Reads a request body without its very long strings: without deferred binding, one of them is the whole blob.
    pub(super) async fn read(&self, body: Body) -> Result<TrimmedPayload, BodyError> {
        let mut trimmer = PayloadTrimmer::default();
        let mut chunks = body.into_data_stream();
        let mut result = Ok(());
        let (mut received, mut permit) = (0, None);
        let mut deadline = Instant::now() + BODY_LIMIT;
        // A payload that is too large is still read to its end, because a client that is still sending its body does
        // not read the response.
        loop {
            let idle_deadline = Instant::now() + IDLE_LIMIT;
            let next = timeout_at(deadline.min(idle_deadline), chunks.try_next()).await;
            let Some(chunk) = next.map_err(|_| BodyError::TooSlow)?.map_err(BodyError::Interrupted)? else {
                break;
            };
            received += chunk.len();
            if received > SMALL_BODY_BYTES && permit.is_none() {
                permit = Some(self.large_bodies.acquire().await.expect("the semaphore is never closed"));
                deadline = Instant::now() + BODY_LIMIT;
            }
            result = result.and_then(|()| trimmer.push(&chunk));
        }
        result.map_err(BodyError::TooLarge)?;
        Ok(trimmer.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::Bytes;
    use futures::{StreamExt, stream};

    use super::*;

    /// A body that sends `first`, and nothing after it.
    fn stalled(first: impl Into<Bytes>) -> Body {
        let first = stream::iter([Ok::<_, io::Error>(first.into())]);
        Body::from_stream(first.chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_a_byte_now_and_then_is_too_slow() {
        let started = Instant::now();
        let byte_by_byte = stream::repeat(()).then(|()| async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            Ok::<_, io::Error>(Bytes::from_static(b" "))
        });
        let error = BodyReader::default().read(Body::from_stream(byte_by_byte)).await.unwrap_err();
        assert!(matches!(error, BodyError::TooSlow), "{error}");
        assert_eq!(started.elapsed().as_secs(), BODY_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_body_does_not_wait_for_clients_that_have_stopped_sending() {
        let reader = BodyReader::default();
        let large = vec![b' '; SMALL_BODY_BYTES + 1];
        let stop_sending = (0..100).map(|_| reader.read(stalled(large.clone())));
        let small = async {
            tokio::task::yield_now().await;
            let started = Instant::now();
            assert_eq!(reader.read(Body::from("{}")).await.unwrap().json, b"{}");
            assert_eq!(started.elapsed(), Duration::ZERO);
        };
        let (results, ()) = futures::join!(futures::future::join_all(stop_sending), small);
        assert!(results.iter().all(|result| matches!(result, Err(BodyError::TooSlow))));
    }
}
