//! Exports soon after an invocation: the platform may stop an idle instance before the SDK's next interval ends.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use opentelemetry_sdk::{metrics::SdkMeterProvider, trace::SdkTracerProvider};

/// The shortest time between two exports of metrics on request: every export sends all metrics, also those that have
/// not changed. Each span is sent only once, so spans are exported without delay.
const METRICS_EVERY: Duration = Duration::from_secs(10);

/// The providers whose data are exported. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Providers {
    pub(super) traces: Option<SdkTracerProvider>,
    pub(super) metrics: Option<SdkMeterProvider>,
}

impl Providers {
    /// Exports everything. Blocks until that has ended; both signals are exported at the same time.
    pub(super) fn flush(&self) {
        thread::scope(|scope| {
            scope.spawn(|| self.flush_metrics());
            self.flush_traces();
        });
    }

    /// Errors are logged by the exporter's client.
    fn flush_traces(&self) {
        if let Some(provider) = &self.traces {
            let _logged = provider.force_flush();
        }
    }

    /// As [`Self::flush_traces`].
    fn flush_metrics(&self) {
        if let Some(provider) = &self.metrics {
            let _logged = provider.force_flush();
        }
    }
}

/// The handle of a thread that exports on request.
pub(super) struct Flusher {
    /// Has room for one request, so that requests during an export cause one further export.
    requests: SyncSender<()>,
}

impl Flusher {
    /// Starts the thread. It ends with the process.
    pub(super) fn start(providers: Providers) -> io::Result<Self> {
        let (requests, received) = sync_channel(1);
        thread::Builder::new().name("telemetry".into()).spawn(move || run(&providers, &received))?;
        Ok(Self { requests })
    }

    /// Requests an export; does not block.
    pub(super) fn flush_soon(&self) {
        let _requested_already = self.requests.try_send(());
    }
}

/// Exports on every request: traces at once, metrics at most every [`METRICS_EVERY`].
fn run(providers: &Providers, requests: &Receiver<()>) {
    let mut next_metrics = Instant::now();
    let mut are_metrics_due = false;
    loop {
        let request = if are_metrics_due {
            requests.recv_timeout(next_metrics.saturating_duration_since(Instant::now()))
        } else {
            requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match request {
            Ok(()) => {
                are_metrics_due = true;
                providers.flush_traces();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= next_metrics {
            providers.flush_metrics();
            (are_metrics_due, next_metrics) = (false, Instant::now() + METRICS_EVERY);
        }
    }
}
