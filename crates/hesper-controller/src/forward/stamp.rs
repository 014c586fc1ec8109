//! Whose telemetry it is, by the same rule as at the collectors' doors. Pure.

use hesper_otlp::{
    Batch, Stamp,
    stamp::{RESERVED_PREFIX, StampError, stamp as apply},
};
use hesper_telemetry::origin::Sender;

/// Id and name of the sender, and for whom it was forwarded; as gateways of the mesh name them.
const IDENTITY_ID: &str = "hesper.identity.id";
const IDENTITY_NAME: &str = "hesper.identity.name";
const FORWARDED_FOR: &str = "hesper.forwarded.for";

/// Takes out what claims to be ours, wherever it is, and names the sender on each resource.
///
/// # Errors
/// It has too many resources.
pub(super) fn stamp(batch: Batch, sender: &Sender) -> Result<Batch, StampError> {
    let ours = Stamp::new(RESERVED_PREFIX)
        .with(IDENTITY_ID, &sender.id)
        .with(IDENTITY_NAME, &sender.name)
        .with_list(FORWARDED_FOR, [sender.name.as_str()]);
    Ok(Batch { payload: apply(batch.signal, &batch.payload, &ours)?, ..batch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_otlp::Signal;
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        common::v1::{AnyValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
        resource::v1::Resource,
        trace::v1::{ResourceSpans, ScopeSpans, Span, span},
    };
    use prost::Message as _;

    fn kv(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn text(key: &str) -> KeyValue {
        kv(key, Value::StringValue("spoofed".into()))
    }

    /// The same claims at every place where attributes are, and deep inside of a value.
    fn claims() -> Vec<KeyValue> {
        let inside = KeyValueList { values: vec![text("hesper.identity.id"), text("kept")] };
        vec![
            text("hesper.identity.name"),
            text("hesper.identity.name"),
            text("hesper.forwarded.for"),
            text("mesh.service.name"),
            kv("deep", Value::KvlistValue(inside)),
        ]
    }

    #[test]
    fn claims_go_wherever_they_are_and_the_rest_stays() {
        let event = span::Event { attributes: claims(), ..span::Event::default() };
        let link = span::Link { attributes: claims(), ..span::Link::default() };
        let one = Span { attributes: claims(), events: vec![event], links: vec![link], ..Span::default() };
        let scope = InstrumentationScope { attributes: claims(), ..InstrumentationScope::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: vec![one], ..ScopeSpans::default() }];
        let resource = Some(Resource { attributes: claims(), ..Resource::default() });
        let with = ResourceSpans { resource, scope_spans: scope_spans.clone(), ..ResourceSpans::default() };
        let without = ResourceSpans { resource: None, scope_spans, ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![with, without] };
        let batch = Batch { signal: Signal::Traces, payload: request.encode_to_vec().into() };
        let sender = Sender { id: "i1".into(), name: "shop".into() };
        let stamped = stamp(batch, &sender).expect("stamped");
        let request = ExportTraceServiceRequest::decode(&*stamped.payload).expect("OTLP");
        let told = format!("{request:?}");
        let times = |what: &str| told.matches(what).count();
        assert_eq!(request.resource_spans.len(), 2);
        assert_eq!(times("\"hesper.identity.id\""), 2, "once for each resource: {told}");
        assert_eq!(times("\"hesper.identity.name\""), 2);
        assert_eq!(times("\"hesper.forwarded.for\""), 2);
        assert_eq!(times("\"kept\""), 9, "every other one");
        assert_eq!(times("\"mesh.service.name\""), 9);
        for spans in request.resource_spans {
            let attributes = spans.resource.expect("a resource").attributes;
            let ours = attributes
                .iter()
                .filter(|kv| kv.key.starts_with("hesper.identity") || kv.key.starts_with("hesper.forwarded"));
            let ours: Vec<String> = ours.map(|kv| format!("{:?}", kv.value)).collect();
            assert!(ours.len() == 3 && ours.iter().all(|value| !value.contains("spoofed")), "{ours:?}");
        }
    }
}
