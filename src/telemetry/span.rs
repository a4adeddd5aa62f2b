//! The spans `run`, `keys` and `file`, and the trace that they belong to.
//!
//! A span is the child of the span within whose future it is started. A spawned task does not inherit that span: its
//! future must be wrapped with [`in_current_trace`].

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::Either;
use opentelemetry::{
    Context, KeyValue, Value,
    context::FutureExt,
    propagation::TextMapPropagator,
    trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::Span as SdkSpan};

use super::export::telemetry;

/// The name of the W3C trace context header.
const TRACEPARENT: &str = "traceparent";

/// The maximum length of a status description, in characters.
const MAX_DESCRIPTION: usize = 500;

/// A span; clones share it. Ends when the last clone is dropped. Does nothing if traces are not exported.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span(Option<Arc<Mutex<SdkSpan>>>);

impl Span {
    /// Starts a span that is a child of the current one.
    pub(crate) fn start(name: &'static str) -> Self {
        Self::start_as(name, SpanKind::Internal)
    }

    /// Starts the span of a run: a child of the host's span, if the host has sent one.
    pub(crate) fn start_run() -> Self {
        Self::start_as("run", SpanKind::Consumer)
    }

    fn start_as(name: &'static str, kind: SpanKind) -> Self {
        let tracer = telemetry().and_then(|telemetry| telemetry.tracer.as_ref());
        Self(tracer.map(|tracer| {
            let builder = tracer.span_builder(name).with_kind(kind);
            Arc::new(Mutex::new(tracer.build_with_context(builder, &Context::current())))
        }))
    }

    /// Runs `work` within the span: spans that it starts are children of this one.
    pub(crate) fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        match self.context() {
            Some(span) => Either::Left(work.with_context(Context::current().with_remote_span_context(span))),
            None => Either::Right(work),
        }
    }

    /// Sets an attribute. Every attribute is set once.
    pub(crate) fn set(&self, name: &'static str, value: impl Into<Value>) {
        self.change(|span| span.set_attribute(KeyValue::new(name, value)));
    }

    /// Sets an attribute to a text.
    pub(crate) fn set_text(&self, name: &'static str, text: &dyn Display) {
        self.change(|span| span.set_attribute(KeyValue::new(name, text.to_string())));
    }

    /// Marks the span as failed. `kind` is the low-cardinality `error.type`.
    pub(crate) fn fail(&self, kind: &'static str, description: &dyn Display) {
        self.change(|span| {
            let description: String = description.to_string().chars().take(MAX_DESCRIPTION).collect();
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(description));
        });
    }

    /// Records that something happened, at this time.
    pub(crate) fn event(&self, name: &'static str) {
        self.change(|span| span.add_event(name, Vec::new()));
    }

    /// Links the span to the one that `traceparent` names, if it is valid.
    pub(crate) fn link(&self, traceparent: &str, relation: &'static str) {
        self.change(|span| {
            if let Some(context) = parse(traceparent) {
                span.add_link(context, vec![KeyValue::new("vivadrop.link", relation)]);
            }
        });
    }

    /// The span as a `traceparent`, to link to it later; `None` if it is not recorded.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.context().filter(SpanContext::is_sampled).map(|span| format(&span))
    }

    fn context(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|span| span.lock().unwrap_or_else(PoisonError::into_inner).span_context().clone())
    }

    fn change(&self, change: impl FnOnce(&mut SdkSpan)) {
        if let Some(span) = &self.0 {
            change(&mut span.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Runs `work` in the trace of a request with this `traceparent` header. Without a valid header, every span that `work`
/// starts is the root of a new trace.
pub(crate) fn continue_trace<F: Future>(
    traceparent: Option<&str>,
    work: F,
) -> impl Future<Output = F::Output> + use<F> {
    match telemetry().and(traceparent).and_then(parse) {
        Some(parent) => Either::Left(work.with_context(Context::new().with_remote_span_context(parent))),
        None => Either::Right(work),
    }
}

/// Runs `work`, which is spawned as a task, within the current span.
pub(crate) fn in_current_trace<F: Future>(work: F) -> impl Future<Output = F::Output> {
    match telemetry() {
        Some(_) => Either::Left(work.with_current_context()),
        None => Either::Right(work),
    }
}

/// The `traceparent` header for a request to a webhook, if `WEBHOOK_TRACEPARENT` is set and there is a current span.
pub(crate) fn traceparent_for_webhooks() -> Option<String> {
    telemetry().filter(|telemetry| telemetry.webhook_traceparent)?;
    let context = Context::current();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| format(&span))
}

/// The span that a `traceparent` names; `None` if it is not valid.
fn parse(traceparent: &str) -> Option<SpanContext> {
    let header = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &header);
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

fn format(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8() & 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_parsed_and_formatted() {
        for flags in ["00", "01"] {
            let traceparent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            let span = parse(&traceparent).unwrap();
            assert!(span.is_remote());
            assert_eq!(super::format(&span), traceparent);
        }
    }

    #[test]
    fn an_invalid_traceparent_is_ignored() {
        for invalid in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(parse(invalid), None, "{invalid}");
        }
    }

    #[tokio::test]
    async fn without_an_export_spans_do_nothing() {
        let span = Span::start("run");
        span.set("vivadrop.rows", 1);
        span.fail("internal", &"text");
        assert_eq!(span.scope(async { Span::start("file").traceparent() }).await, None);
        assert_eq!(traceparent_for_webhooks(), None);
    }
}
