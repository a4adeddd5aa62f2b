//! Measures the HTTP requests that vivadrop sends: `http.client.request.duration`, until the headers of the response.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::http::{
    Context, Request,
    policies::{Policy, PolicyResult},
};
use opentelemetry::KeyValue;
use reqwest::{RequestBuilder, Response};
use tokio::time::Instant;
use url::Url;

use super::metrics::{are_exported, record_request};

/// Sends a request, and measures it if metrics are exported.
pub(crate) async fn send(request: RequestBuilder) -> reqwest::Result<Response> {
    if !are_exported() {
        return request.send().await;
    }
    let (client, request) = request.build_split();
    let request = request?;
    let (attributes, started) = (attributes(request.method().as_str(), request.url()), Instant::now());
    let result = client.execute(request).await;
    let outcome = match &result {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) if error.is_timeout() => Err("timeout"),
        Err(_) => Err("connection"),
    };
    record(started.elapsed(), attributes, outcome);
    result
}

/// The policies that measure the requests of a client of the Azure SDK: none unless metrics are exported.
pub(crate) fn policies() -> Vec<Arc<dyn Policy>> {
    if are_exported() { vec![Arc::new(Measure)] } else { Vec::new() }
}

/// Measures each try of a request of the Azure SDK.
#[derive(Debug)]
struct Measure;

#[async_trait]
impl Policy for Measure {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let (attributes, started) = (attributes(request.method().as_str(), request.url()), Instant::now());
        let result = next[0].send(context, request, &next[1..]).await;
        let outcome = result.as_ref().map(|response| u16::from(response.status())).map_err(|_| "connection");
        record(started.elapsed(), attributes, outcome);
        result
    }
}

/// The attributes of a request: its method, and the host. The rest of the URL may contain a secret.
fn attributes(method: &str, url: &Url) -> Vec<KeyValue> {
    vec![
        KeyValue::new("http.request.method", method.to_owned()),
        KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()),
        KeyValue::new("server.port", i64::from(url.port_or_known_default().unwrap_or_default())),
    ]
}

/// Records a request that got a response with this status, or failed with an `error.type`. A request that was cancelled
/// is not recorded.
fn record(duration: Duration, mut attributes: Vec<KeyValue>, outcome: Result<u16, &'static str>) {
    match outcome {
        Ok(status) => {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
            if status >= 400 {
                attributes.push(KeyValue::new("error.type", status.to_string()));
            }
        }
        Err(kind) => attributes.push(KeyValue::new("error.type", kind)),
    }
    record_request(duration, &attributes);
}
