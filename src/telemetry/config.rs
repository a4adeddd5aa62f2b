//! The configuration of the export: the parsed `OTEL_*` settings.

use std::{fmt, time::Duration};

use opentelemetry_sdk::metrics::Temporality;
use reqwest::header::HeaderMap;
use url::Url;

use super::sampler::SamplerConfig;

/// The settings of the export. By default, nothing is exported.
#[derive(Debug, Clone, Default)]
pub struct TelemetryConfig {
    /// Where traces are sent; `None` if they are not exported.
    pub traces: Option<OtlpEndpoint>,
    /// Where metrics are sent; `None` if they are not exported.
    pub metrics: Option<OtlpEndpoint>,
    /// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`: which traces are recorded.
    pub sampler: SamplerConfig,
    /// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`: whether sums and histograms are totals or differences.
    pub temporality: Temporality,
    /// The attributes of the resource: the service, the function app and its instance.
    pub resource: Vec<(String, String)>,
    /// `TELEMETRY_TENANTS`: metrics carry tenant ids.
    pub tenants: bool,
    /// `WEBHOOK_TRACEPARENT`: requests to webhooks carry the trace context.
    pub webhook_traceparent: bool,
}

/// An OTLP endpoint for one signal.
#[derive(Clone)]
pub struct OtlpEndpoint {
    /// The whole URL, such as `https://collector.example/v1/traces`.
    pub url: Url,
    /// Headers of every request. They may contain an API key.
    pub headers: HeaderMap,
    /// The time limit of one export.
    pub timeout: Duration,
    /// Whether requests are compressed with gzip.
    pub gzip: bool,
}

impl fmt::Debug for OtlpEndpoint {
    /// Prints only the origin and the options: path, query and headers may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpEndpoint")
            .field("origin", &self.url.origin().ascii_serialization())
            .field("timeout", &self.timeout)
            .field("gzip", &self.gzip)
            .finish_non_exhaustive()
    }
}
