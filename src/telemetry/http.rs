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
    let (method, url, started) = (request.method().to_string(), request.url().clone(), Instant::now());
    let result = client.execute(request).await;
    let outcome = match &result {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) if error.is_timeout() => Err("timeout"),
        Err(_) => Err("connection"),
    };
    record(started.elapsed(), method, &url, outcome);
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
        let (method, url, started) = (request.method().as_str().to_owned(), request.url().clone(), Instant::now());
        let result = next[0].send(context, request, &next[1..]).await;
        let outcome = result.as_ref().map(|response| u16::from(response.status())).map_err(|_| "connection");
        record(started.elapsed(), method, &url, outcome);
        result
    }
}

/// Records a request that got a response with this status, or failed with an `error.type`. A request that was cancelled is
/// not recorded.
fn record(duration: Duration, method: String, url: &Url, outcome: Result<u16, &'static str>) {
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or_default();
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("server.address", host),
        KeyValue::new("server.port", i64::from(port)),
    ];
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
