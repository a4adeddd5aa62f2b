//! Logs, and the export of traces and metrics by OpenTelemetry.
//!
//! [`logs`] writes log lines. [`export`] sends traces and metrics to an OTLP endpoint if the settings name one;
//! otherwise there are no threads and no buffers for them, and every call here does nothing. [`span`] has the spans of
//! the traces, [`metrics`] and [`http`] the metrics. Instrumentation is per run, file and batch, never per row.
//! Exported data contain no keys, no rows and no personal data. `docs/telemetry.md` lists all of them.

pub mod config;
pub mod export;
mod exporter;
mod flush;
pub(crate) mod http;
mod logs;
pub(crate) mod metrics;
pub(crate) mod resource;
pub mod sampler;
mod span;
mod sweep_gauges;

pub use self::{
    config::TelemetryConfig,
    logs::{init_for_host, init_for_terminal},
};
pub(crate) use self::{
    logs::{has_colours, is_first_occurrence},
    span::{Span, continue_trace, in_current_trace, traceparent_for_webhooks},
};
