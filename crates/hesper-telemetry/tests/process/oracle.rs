//! Actions on the bytes are the same actions on messages.

use crate::processor;
use hesper_otlp::{Batch, Signal};
use hesper_telemetry::{
    origin::Origin,
    process::{Messages, Processor, Work},
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, metric::Data,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use proptest::{collection::vec, prelude::*};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

fn any_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let value = prop_oneof![
        Just(None),
        "[a-c]{0,3}".prop_map(|text| Some(Value::StringValue(text))),
        any::<i64>().prop_map(|n| Some(Value::IntValue(n))),
    ];
    let pair = (prop::sample::select(KEYS.to_vec()), value).prop_map(|(key, value)| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value }),
        key_strindex: 0,
    });
    vec(pair, 0..4)
}

fn data(kind: usize, attributes: Vec<KeyValue>) -> Data {
    match kind {
        0 => Data::Gauge(Gauge { data_points: vec![NumberDataPoint { attributes, ..Default::default() }] }),
        1 => {
            let data_points = vec![NumberDataPoint { attributes, ..Default::default() }];
            Data::Sum(Sum { data_points, ..Default::default() })
        }
        2 => {
            let data_points = vec![HistogramDataPoint { attributes, ..Default::default() }];
            Data::Histogram(Histogram { data_points, ..Default::default() })
        }
        3 => {
            let data_points = vec![ExponentialHistogramDataPoint { attributes, ..Default::default() }];
            Data::ExponentialHistogram(ExponentialHistogram { data_points, ..Default::default() })
        }
        _ => Data::Summary(Summary {
            data_points: vec![SummaryDataPoint { attributes, ..Default::default() }],
        }),
    }
}

fn any_messages() -> impl Strategy<Value = Messages> {
    let resource = any_attributes().prop_map(|attributes| Resource { attributes, ..Default::default() });
    (0..3_usize, prop::option::of(resource), vec((0..5_usize, any_attributes()), 0..4)).prop_map(
        |(signal, resource, items)| match signal {
            0 => {
                let span = |(_, attributes)| Span { attributes, ..Default::default() };
                let spans = items.into_iter().map(span).collect();
                let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
                let of = ResourceSpans { resource, scope_spans, ..Default::default() };
                Messages::Traces(ExportTraceServiceRequest { resource_spans: vec![of] })
            }
            1 => {
                let metric =
                    |(kind, attributes)| Metric { data: Some(data(kind, attributes)), ..Default::default() };
                let metrics = items.into_iter().map(metric).collect();
                let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
                let of = ResourceMetrics { resource, scope_metrics, ..Default::default() };
                Messages::Metrics(ExportMetricsServiceRequest { resource_metrics: vec![of] })
            }
            _ => {
                let record = |(_, attributes)| LogRecord { attributes, ..Default::default() };
                let log_records = items.into_iter().map(record).collect();
                let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
                let of = ResourceLogs { resource, scope_logs, ..Default::default() };
                Messages::Logs(ExportLogsServiceRequest { resource_logs: vec![of] })
            }
        },
    )
}

fn any_actions() -> impl Strategy<Value = String> {
    let source =
        prop::sample::select(vec!["value: 7", "from_context: client.address", "from_context: auth.none"]);
    let verb = prop::sample::select(vec!["insert", "update", "upsert", "delete"]);
    let one =
        (prop::sample::select(KEYS.to_vec()), source, verb).prop_map(|(key, source, verb)| match verb {
            "delete" => format!("{{key: {key}, action: delete}}"),
            verb => format!("{{key: {key}, {source}, action: {verb}}}"),
        });
    vec(one, 1..5).prop_map(|all| format!("[{}]", all.join(", ")))
}

fn decoded(work: Work) -> Messages {
    let Batch { signal, payload } = work.into_batch();
    let mut messages = Messages::decode(signal, payload).expect("a request");
    // An empty resource is as good as none.
    messages.resources();
    messages
}

fn check(step: &dyn Processor, messages: &Messages) {
    let signal = match messages {
        Messages::Traces(_) => Signal::Traces,
        Messages::Metrics(_) => Signal::Metrics,
        Messages::Logs(_) => Signal::Logs,
        Messages::Profiles(_) => Signal::Profiles,
    };
    let origin = Origin { peer: Some([10, 0, 0, 1].into()), ..Origin::default() };
    let work = Work::new(Batch { signal, payload: messages.encode() });
    let mut messages = work.clone();
    messages.messages().expect("a request");
    assert!(work.is_bytes() && !messages.is_bytes());
    let of_bytes = step.process(work, &origin).expect("taken").expect("left");
    let of_messages = step.process(messages, &origin).expect("taken").expect("left");
    assert_eq!(decoded(of_bytes), decoded(of_messages));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn bytes_and_messages_are_changed_alike(messages in any_messages(), actions in any_actions()) {
        check(&*processor("resource", &format!("{{attributes: {actions}}}")), &messages);
        check(&*processor("attributes", &format!("{{actions: {actions}}}")), &messages);
    }
}
