//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): who asked, in which trace, and whether it is recorded.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use rand::Rng as _;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Header, metadata key and environment variable (in capitals) of the trace.
pub const TRACEPARENT: &str = "traceparent";
/// The same of what tracing systems add to it.
pub const TRACESTATE: &str = "tracestate";
/// Longest `traceparent` that is looked at: a later version may be longer than the 55 bytes of today's.
const TRACEPARENT_MAX: usize = 128;
/// Longest `tracestate` that is handed on (Trace Context, 3.3.1.5: at least 512).
const TRACESTATE_MAX: usize = 512;

/// A place in a trace: the span from which something is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext(SpanContext);

/// What the propagator reads from.
struct Given<'a> {
    traceparent: &'a str,
    tracestate: &'a str,
}

impl Extractor for Given<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.traceparent),
            TRACESTATE => Some(self.tracestate).filter(|state| !state.is_empty()),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

impl TraceContext {
    /// Reads both values; the second may be empty. None when the first is not valid; a `tracestate` that is not valid, or too
    /// long, is left out.
    pub fn parse(traceparent: &str, tracestate: &str) -> Option<Self> {
        if traceparent.is_empty() || traceparent.len() > TRACEPARENT_MAX {
            return None;
        }
        // The propagator takes members without a key for valid.
        let broken = tracestate.split(',').any(|member| member.trim_start().starts_with('='));
        let tracestate = if broken || tracestate.len() > TRACESTATE_MAX { "" } else { tracestate };
        let given = Given { traceparent, tracestate };
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &given);
        let span = context.span().span_context().clone();
        span.is_valid().then_some(Self(span))
    }

    /// That of an HTTP request; none without a `traceparent`, or with several.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let (first, None) = (all.next()?, all.next()) else { return None };
        // Several lines are one list (RFC 9110, 5.3).
        let states: Vec<&str> = headers.get_all(TRACESTATE).iter().filter_map(|v| v.to_str().ok()).collect();
        Self::parse(first.to_str().ok()?, &states.join(","))
    }

    /// That of the program that started this one: the variables `TRACEPARENT` and `TRACESTATE`.
    pub fn from_environment() -> Option<Self> {
        let read = |name: &str| std::env::var(name.to_ascii_uppercase()).unwrap_or_default();
        Self::parse(&read(TRACEPARENT), &read(TRACESTATE))
    }

    /// What to tell whom is asked from here. While tracing is on and nothing is recorded, that it is not to be recorded either; none
    /// when tracing is off.
    pub fn current() -> Option<Self> {
        Self::of(&Span::current()).or_else(|| crate::entry::unsampled().cloned())
    }

    /// The place of this span; none when it is not recorded.
    pub fn of(span: &Span) -> Option<Self> {
        if span.is_disabled() {
            return None;
        }
        let context = span.context().span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }

    /// One that says: not recorded.
    pub(crate) fn new_unsampled() -> Self {
        let mut rng = rand::rng();
        let (trace, span) = (rng.random_range(1..=u128::MAX), rng.random_range(1..=u64::MAX));
        let (trace, span) = (TraceId::from(trace), SpanId::from(span));
        Self(SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::default()))
    }

    /// Does who asks record it?
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }

    /// The trace, as 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }

    /// The span, as 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        self.0.span_id().to_string()
    }

    /// Both as bytes.
    pub fn ids(&self) -> ([u8; 16], [u8; 8]) {
        (self.0.trace_id().to_bytes(), self.0.span_id().to_bytes())
    }

    /// The value of `traceparent`.
    pub fn traceparent(&self) -> String {
        let flags = (self.0.trace_flags() & TraceFlags::SAMPLED).to_u8();
        format!("00-{}-{}-{flags:02x}", self.0.trace_id(), self.0.span_id())
    }

    /// The value of `tracestate`; mostly empty.
    pub fn tracestate(&self) -> String {
        self.0.trace_state().header()
    }

    /// Puts both into a request, in place of what was there.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.remove(TRACESTATE);
        for (name, value) in [(TRACEPARENT, self.traceparent()), (TRACESTATE, self.tracestate())] {
            let Ok(value) = HeaderValue::try_from(value) else { continue };
            if !value.is_empty() {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// For links.
    pub(crate) fn span_context(&self) -> SpanContext {
        self.0.clone()
    }

    /// As the parent of spans in this process.
    pub(crate) fn remote(&self) -> Context {
        Context::new().with_remote_span_context(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_one_is_read_and_written_as_it_was() {
        let context = TraceContext::parse(GOOD, "vendor=1,other=2").expect("valid");
        assert!(context.is_sampled());
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id(), "00f067aa0ba902b7");
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("old=1"));
        context.write(&mut headers);
        assert_eq!(headers[TRACEPARENT], GOOD);
        assert_eq!(headers[TRACESTATE], "vendor=1,other=2");
        assert_eq!(TraceContext::from_headers(&headers), Some(context));
    }

    #[test]
    fn what_is_no_trace_context_is_none() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad, ""), None, "{bad}");
        }
        let mut twice = HeaderMap::new();
        twice.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        twice.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(TraceContext::from_headers(&twice), None);
    }

    #[test]
    fn a_state_that_is_too_long_or_broken_is_left_out() {
        for state in ["=", "x", &"a=1,".repeat(200)] {
            let context = TraceContext::parse(GOOD, state).expect("valid");
            assert_eq!(context.tracestate(), "", "{state}");
        }
    }

    #[test]
    fn an_unsampled_one_says_so() {
        let context = TraceContext::new_unsampled();
        let read = TraceContext::parse(&context.traceparent(), "").expect("valid");
        assert!(!read.is_sampled());
    }

    proptest! {
        #[test]
        fn whatever_is_read_can_be_written(traceparent in ".{0,60}", tracestate in ".{0,80}") {
            if let Some(context) = TraceContext::parse(&traceparent, &tracestate) {
                let again = TraceContext::parse(&context.traceparent(), &context.tracestate());
                prop_assert_eq!(again.map(|c| c.trace_id()), Some(context.trace_id()));
            }
        }
    }
}
