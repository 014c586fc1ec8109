//! What a sink got, as traces.

use hesper_integration::otlp::{Attributes, OtlpSink, Requests};
use opentelemetry_proto::tonic::trace::v1::Span as Raw;

/// A span and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// `service.name` of its resource.
    pub(crate) service: String,
    pub(crate) raw: Raw,
}

impl Span {
    pub(crate) fn name(&self) -> &str {
        &self.raw.name
    }

    /// The text of an attribute; empty without one.
    pub(crate) fn get(&self, key: &str) -> String {
        Attributes(self.raw.attributes.clone()).get(key).unwrap_or_default()
    }
}

/// Every span that a sink got.
pub(crate) fn spans(sink: &OtlpSink) -> Vec<Span> {
    sink.received().iter().flat_map(|received| of_request(&received.request)).collect()
}

fn of_request(request: &Requests) -> Vec<Span> {
    let Requests::Traces(request) = request else { return Vec::new() };
    let mut spans = Vec::new();
    for resource in &request.resource_spans {
        let attributes = resource.resource.as_ref().map(|r| r.attributes.clone()).unwrap_or_default();
        let service = Attributes(attributes).get("service.name").unwrap_or_default();
        let raws = resource.scope_spans.iter().flat_map(|scope| &scope.spans);
        spans.extend(raws.map(|raw| Span { service: service.clone(), raw: raw.clone() }));
    }
    spans
}

/// The spans on the way from the root of this one's trace to it, root first, as `service: name`. A parent that is not there ends the way
/// with `…`.
pub(crate) fn way(all: &[Span], span: &Span) -> Vec<String> {
    let mut way = Vec::new();
    let mut at = span.clone();
    loop {
        way.push(format!("{}: {}", at.service, at.name()));
        if at.raw.parent_span_id.is_empty() {
            break;
        }
        let parent = all.iter().find(|other| {
            other.raw.trace_id == at.raw.trace_id && other.raw.span_id == at.raw.parent_span_id
        });
        match parent {
            Some(parent) => at = parent.clone(),
            None => {
                way.push("…".to_owned());
                break;
            }
        }
    }
    way.reverse();
    way
}
