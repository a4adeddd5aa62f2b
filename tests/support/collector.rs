//! An OpenTelemetry collector: receives OTLP over HTTP and decodes it with the official definitions. When it is
//! dropped, it checks that it could decode every request, and that nothing it has received contains a secret.

use std::{
    collections::BTreeMap,
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data},
};
use prost::Message;
use tokio::{net::TcpListener, task::AbortHandle};

use super::{command::LONG, secrets::Secrets};

/// How the collector answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    Accept,
    Reject(StatusCode),
    /// Reads requests and never answers.
    Hang,
}

/// A collector on loopback.
pub(crate) struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    secrets: Secrets,
    server: AbortHandle,
}

struct Shared {
    behaviour: Behaviour,
    received: Mutex<Received>,
    /// The signals of the requests that are not as expected.
    unexpected: Mutex<Vec<String>>,
}

/// What a collector has received.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    pub(crate) spans: Vec<Span>,
    /// The last value of each series of each metric, by name.
    pub(crate) metrics: BTreeMap<String, ReceivedMetric>,
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) headers: Vec<HeaderMap>,
    /// How many requests had metrics.
    pub(crate) metric_exports: usize,
    pub(crate) requests: usize,
    text: String,
}

/// A span with readable ids and attributes.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// The id of the parent; empty for a root.
    pub(crate) parent: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) events: Vec<String>,
    /// The relation and the span of each link, as `trace-span`.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) is_error: bool,
}

/// A metric with all series that were received.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReceivedMetric {
    pub(crate) unit: String,
    pub(crate) bounds: Vec<f64>,
    /// Value of a sum or gauge, count of a histogram, by attributes.
    pub(crate) series: BTreeMap<BTreeMap<String, String>, f64>,
}

impl Received {
    /// The spans with this name.
    pub(crate) fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// The only span with this name.
    pub(crate) fn only(&self, name: &str) -> &Span {
        let spans = self.named(name);
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans[0]
    }
}

impl Collector {
    /// Starts a collector that accepts everything.
    pub(crate) async fn start(secrets: &Secrets) -> Self {
        Self::start_with(secrets, Behaviour::Accept).await
    }

    /// Starts a collector that answers in this way.
    pub(crate) async fn start_with(secrets: &Secrets, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { behaviour, received: Mutex::default(), unexpected: Mutex::default() });
        let routes = Router::new().route("/v1/{signal}", post(receive)).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await }).abort_handle();
        Self { address, shared, secrets: secrets.clone(), server }
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A copy of what was received so far.
    pub(crate) fn received(&self) -> Received {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `expected` is true of what was received.
    pub(crate) async fn wait_for(&self, expected: impl Fn(&Received) -> bool) -> Received {
        let started = Instant::now();
        loop {
            let received = self.received();
            if expected(&received) {
                return received;
            }
            assert!(started.elapsed() < LONG, "the collector has not received it: {received:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
        if !std::thread::panicking() {
            let unexpected = self.shared.unexpected.lock().unwrap_or_else(PoisonError::into_inner).clone();
            assert_eq!(unexpected, [""; 0], "requests with these signals are not as expected: see the panics above");
            self.secrets.check(&self.received().text);
        }
    }
}

/// Decodes a request, and answers as configured.
async fn receive(
    State(shared): State<Arc<Shared>>,
    Path(signal): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    // A panic in the server's task would fail no test.
    let added = catch_unwind(AssertUnwindSafe(|| {
        let mut received = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.add(&signal, headers, &body);
    }));
    if added.is_err() {
        shared.unexpected.lock().unwrap_or_else(PoisonError::into_inner).push(signal);
    }
    match shared.behaviour {
        Behaviour::Accept => StatusCode::OK,
        Behaviour::Reject(status) => status,
        Behaviour::Hang => std::future::pending().await,
    }
}

impl Received {
    /// Adds a request. Panics if it is not as expected.
    fn add(&mut self, signal: &str, headers: HeaderMap, body: &[u8]) {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let mut bytes = Vec::new();
        if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            MultiGzDecoder::new(body).read_to_end(&mut bytes).unwrap();
        } else {
            bytes.extend_from_slice(body);
        }
        self.requests += 1;
        self.headers.push(headers);
        self.text += &String::from_utf8_lossy(&bytes);
        match signal {
            "traces" => self.add_traces(ExportTraceServiceRequest::decode(&bytes[..]).unwrap()),
            "metrics" => self.add_metrics(ExportMetricsServiceRequest::decode(&bytes[..]).unwrap()),
            other => panic!("`{other}` was exported"),
        }
    }

    fn add_traces(&mut self, request: ExportTraceServiceRequest) {
        for resource in request.resource_spans {
            self.resource.extend(texts(&resource.resource.unwrap_or_default().attributes));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.extend(spans.map(|span| Span {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: texts(&span.attributes),
                events: span.events.into_iter().map(|event| event.name).collect(),
                links: span.links.iter().map(link).collect(),
                is_error: span.status.is_some_and(|status| status.code == 2),
            }));
        }
    }

    fn add_metrics(&mut self, request: ExportMetricsServiceRequest) {
        self.metric_exports += 1;
        for resource in request.resource_metrics {
            self.resource.extend(texts(&resource.resource.unwrap_or_default().attributes));
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                self.metrics.entry(metric.name.clone()).or_default().add(metric);
            }
        }
    }
}

impl ReceivedMetric {
    fn add(&mut self, metric: Metric) {
        use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::{AsDouble, AsInt};
        self.unit = metric.unit;
        let numbers = match metric.data.unwrap() {
            Data::Gauge(gauge) => gauge.data_points,
            Data::Sum(sum) => sum.data_points,
            Data::Histogram(histogram) => {
                for point in histogram.data_points {
                    self.bounds = point.explicit_bounds;
                    self.series.insert(texts(&point.attributes), point.count as f64);
                }
                return;
            }
            other => panic!("{other:?}"),
        };
        for point in numbers {
            let value = match point.value.unwrap() {
                AsDouble(value) => value,
                AsInt(value) => value as f64,
            };
            self.series.insert(texts(&point.attributes), value);
        }
    }
}

/// The relation and the span of a link.
fn link(link: &opentelemetry_proto::tonic::trace::v1::span::Link) -> (String, String) {
    let relation = texts(&link.attributes).remove("vivadrop.link").unwrap();
    (relation, format!("{}-{}", hex(&link.trace_id), hex(&link.span_id)))
}

/// Attributes as texts, by name.
fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(&attribute.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
