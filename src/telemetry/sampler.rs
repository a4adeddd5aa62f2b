//! Which traces are recorded.

use opentelemetry_sdk::trace::{Sampler, ShouldSample};

/// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerConfig {
    /// Whether a trace that the sender of the request has recorded is recorded here, too.
    pub parent_based: bool,
    /// The fraction of the other traces that is recorded.
    pub ratio: f64,
}

impl Default for SamplerConfig {
    /// Records every trace.
    fn default() -> Self {
        Self { parent_based: true, ratio: 1.0 }
    }
}

impl SamplerConfig {
    /// The sampler. It does not adopt the decision of a sender that has not recorded its trace: the Functions host
    /// marks every trace like that (`traceparent` ends in `-00`), so nothing would ever be recorded.
    pub(super) fn sampler(self) -> Box<dyn ShouldSample> {
        let root = if self.ratio >= 1.0 { Sampler::AlwaysOn } else { Sampler::TraceIdRatioBased(self.ratio) };
        let remote_sampled = if self.parent_based { Sampler::AlwaysOn } else { root.clone() };
        let sampler = Sampler::parent_based(root.clone())
            .with_remote_parent_sampled(remote_sampled)
            .with_remote_parent_not_sampled(root);
        Box::new(sampler)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::{
        Context,
        trace::{SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState},
    };
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    /// Whether a span is recorded whose parent is on another machine, has these flags, and the trace id `trace`.
    fn is_recorded(config: SamplerConfig, trace: u128, flags: TraceFlags) -> bool {
        let trace = TraceId::from(trace);
        let parent = SpanContext::new(trace, SpanId::from(1_u64), flags, true, TraceState::default());
        let context = Context::new().with_remote_span_context(parent);
        let result = config.sampler().should_sample(Some(&context), trace, "run", &SpanKind::Consumer, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_trace_that_the_host_has_not_sampled_is_recorded() {
        assert!(is_recorded(SamplerConfig::default(), 1, TraceFlags::default()));
        assert!(!is_recorded(SamplerConfig { parent_based: true, ratio: 0.0 }, 1, TraceFlags::default()));
    }

    #[test]
    fn only_a_parent_based_sampler_adopts_the_decision_to_record() {
        assert!(is_recorded(SamplerConfig { parent_based: true, ratio: 0.0 }, 1, TraceFlags::SAMPLED));
        assert!(!is_recorded(SamplerConfig { parent_based: false, ratio: 0.0 }, 1, TraceFlags::SAMPLED));
    }

    #[test]
    fn the_ratio_is_the_fraction_of_traces_that_are_recorded() {
        let config = SamplerConfig { parent_based: true, ratio: 0.25 };
        let mut random = fastrand::Rng::with_seed(1);
        let recorded = (0..4_000).filter(|_| is_recorded(config, random.u128(..), TraceFlags::default())).count();
        assert!((800..1_200).contains(&recorded), "{recorded} of 4000");
    }
}
