//! Starts and ends the export of traces and metrics.

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use opentelemetry::{KeyValue, metrics::MeterProvider, trace::TracerProvider};
use opentelemetry_otlp::{
    Compression, ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanLimits},
};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    config::{OtlpEndpoint, TelemetryConfig},
    exporter::OtlpClient,
    flush::{Flusher, Providers},
    metrics::Metrics,
};

/// How long [`finish`] waits for the last export.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// The maximum number of attributes, events and links of a span. vivadrop's spans have fewer.
const MAX_SPAN_ITEMS: u32 = 32;

/// The name of the instrumentation scope.
const SCOPE: &str = "vivadrop";

static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();

/// The export of this process.
pub(super) struct Telemetry {
    pub(super) tracer: Option<SdkTracer>,
    pub(super) metrics: Option<Metrics>,
    /// `WEBHOOK_TRACEPARENT`.
    pub(super) webhook_traceparent: bool,
    providers: Providers,
    flusher: Flusher,
}

/// The export of this process; `None` if there is none.
pub(super) fn telemetry() -> Option<&'static Telemetry> {
    TELEMETRY.get()
}

/// Why the export cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// TLS or the resolver cannot be initialized.
    #[error("cannot create the HTTP client for telemetry")]
    Client(#[from] reqwest::Error),
    /// The SDK rejects the endpoint.
    #[error("cannot create the exporter of telemetry")]
    Exporter(#[from] ExporterBuildError),
    /// A thread cannot be started.
    #[error("cannot start the thread that exports telemetry")]
    Thread(#[from] std::io::Error),
}

/// Starts the export of this process, once. Does nothing if `config` exports nothing. Connects to nothing yet.
///
/// Must be called within the runtime, and before the parts are built that send requests.
pub fn start(config: &TelemetryConfig) -> Result<(), ExportError> {
    if (config.traces.is_none() && config.metrics.is_none()) || TELEMETRY.get().is_some() {
        return Ok(());
    }
    let resource = config.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let resource = Resource::builder_empty().with_attributes(resource).build();
    let traces = config.traces.as_ref().map(|endpoint| tracer_provider(endpoint, config, resource.clone()));
    let metrics = config.metrics.as_ref().map(|endpoint| meter_provider(endpoint, config, resource));
    let providers = Providers { traces: traces.transpose()?, metrics: metrics.transpose()? };
    let meter = providers.metrics.as_ref().map(|provider| provider.meter(SCOPE));
    let telemetry = Telemetry {
        tracer: providers.traces.as_ref().map(|provider| provider.tracer(SCOPE)),
        metrics: meter.map(|meter| Metrics::new(&meter, config.tenants)),
        webhook_traceparent: config.webhook_traceparent,
        flusher: Flusher::start(providers.clone())?,
        providers,
    };
    TELEMETRY.get_or_init(|| telemetry);
    Ok(())
}

/// Requests an export of the recorded data, and does not wait for it. Calls during an export cause one further export.
pub fn flush_soon() {
    if let Some(telemetry) = telemetry() {
        telemetry.flusher.flush_soon();
    }
}

/// Exports the recorded data at the end of the process. Waits up to 2 s.
pub async fn finish() {
    if let Some(telemetry) = telemetry() {
        let flush = spawn_blocking(|| telemetry.providers.flush());
        // A collector that does not answer in time loses this export.
        let _elapsed = timeout(FINISH_LIMIT, flush).await;
    }
}

fn tracer_provider(
    endpoint: &OtlpEndpoint,
    config: &TelemetryConfig,
    resource: Resource,
) -> Result<SdkTracerProvider, ExportError> {
    let exporter = SpanExporter::builder().with_http();
    let exporter = configure(exporter, endpoint)?.build()?;
    let limits = SpanLimits {
        max_attributes_per_span: MAX_SPAN_ITEMS,
        max_events_per_span: MAX_SPAN_ITEMS,
        max_links_per_span: MAX_SPAN_ITEMS,
        ..SpanLimits::default()
    };
    let builder = SdkTracerProvider::builder().with_resource(resource).with_span_limits(limits);
    let builder = builder.with_sampler(config.sampler.sampler());
    Ok(builder.with_span_processor(BatchSpanProcessor::builder(exporter).build()).build())
}

fn meter_provider(
    endpoint: &OtlpEndpoint,
    config: &TelemetryConfig,
    resource: Resource,
) -> Result<SdkMeterProvider, ExportError> {
    let exporter = MetricExporter::builder().with_http().with_temporality(config.temporality);
    let exporter = configure(exporter, endpoint)?.build()?;
    let reader = PeriodicReader::builder(exporter).build();
    Ok(SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build())
}

/// Applies the settings of the endpoint to the builder of an exporter.
fn configure<B: WithExportConfig + WithHttpConfig>(builder: B, endpoint: &OtlpEndpoint) -> Result<B, ExportError> {
    let headers = endpoint.headers.iter();
    let headers: HashMap<_, _> = headers
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let builder = builder
        .with_http_client(OtlpClient::new(endpoint)?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint.url.as_str())
        .with_timeout(endpoint.timeout)
        .with_headers(headers);
    Ok(if endpoint.gzip { builder.with_compression(Compression::Gzip) } else { builder })
}
