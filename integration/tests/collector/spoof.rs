//! No client says who it is: whatever claims to be of ours is gone when it arrives, wherever it hides, and all else is as it was.

use hesper_integration::{Collector, Stack, http, otlp::OtlpSink, wait_until};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, metric::Data,
    },
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span,
        span::{Event, Link},
    },
};
use prost::Message;
use std::{fs, net::SocketAddr, path::Path};

/// What every hiding place holds beside the lies, and must hold afterwards.
const HONEST: &str = "honest";

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// Lies in every form, around and between honest attributes.
fn lies() -> Vec<KeyValue> {
    let map = |values| Value::KvlistValue(KeyValueList { values });
    let list = Value::ArrayValue(ArrayValue {
        values: vec![AnyValue { value: Some(Value::StringValue("centre".into())) }],
    });
    vec![
        text("hesper.identity.id", "i-boss"),
        text("hesper.identity.name", "boss"),
        text(HONEST, "yes"),
        text("hesper.identity.name", "boss, again"),
        attribute("hesper.forwarded.for", list),
        attribute("hesper.identity", map(vec![text("name", "boss")])),
        text("hesper.", "the prefix alone"),
        KeyValue { key: "hesper.identity.id".into(), value: None, ..KeyValue::default() },
        text("hesper.identity.name", ""),
    ]
}

/// Honest attributes with lies inside their values.
fn nested() -> Vec<KeyValue> {
    let map = |values| Value::KvlistValue(KeyValueList { values });
    let inner = map([vec![text(HONEST, "deep")], lies()].concat());
    let listed = Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(map(lies())) }] });
    [lies(), vec![attribute("map", map(vec![attribute("inner", inner)])), attribute("list", listed)]].concat()
}

fn resource() -> Option<Resource> {
    Some(Resource { attributes: nested(), ..Resource::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "liar".into(),
        attributes: nested(),
        ..InstrumentationScope::default()
    })
}

fn traces() -> ExportTraceServiceRequest {
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "span".into(),
        attributes: nested(),
        events: vec![Event { name: "event".into(), attributes: nested(), ..Event::default() }],
        links: vec![Link {
            trace_id: vec![1; 16],
            span_id: vec![3; 8],
            attributes: nested(),
            ..Link::default()
        }],
        ..Span::default()
    };
    let scopes = vec![ScopeSpans { scope: scope(), spans: vec![span], ..ScopeSpans::default() }];
    let without = ResourceSpans { resource: None, scope_spans: scopes.clone(), ..ResourceSpans::default() };
    let with = ResourceSpans { resource: resource(), scope_spans: scopes, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![with.clone(), without, with] }
}

fn metrics() -> ExportMetricsServiceRequest {
    let exemplars = || vec![Exemplar { filtered_attributes: nested(), ..Exemplar::default() }];
    let number =
        || NumberDataPoint { attributes: nested(), exemplars: exemplars(), ..NumberDataPoint::default() };
    let histogram =
        HistogramDataPoint { attributes: nested(), exemplars: exemplars(), ..HistogramDataPoint::default() };
    let exponential = ExponentialHistogramDataPoint {
        attributes: nested(),
        exemplars: exemplars(),
        ..ExponentialHistogramDataPoint::default()
    };
    let summary = SummaryDataPoint { attributes: nested(), ..SummaryDataPoint::default() };
    let kinds = [
        Data::Gauge(Gauge { data_points: vec![number()] }),
        Data::Sum(Sum { data_points: vec![number()], aggregation_temporality: 2, ..Sum::default() }),
        Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 }),
        Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![exponential],
            aggregation_temporality: 2,
        }),
        Data::Summary(Summary { data_points: vec![summary] }),
    ];
    let metrics = kinds.map(|data| Metric {
        name: "metric".into(),
        metadata: nested(),
        data: Some(data),
        ..Metric::default()
    });
    let scope = ScopeMetrics { scope: scope(), metrics: metrics.into(), ..ScopeMetrics::default() };
    let resource =
        ResourceMetrics { resource: resource(), scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

fn logs() -> ExportLogsServiceRequest {
    let record = LogRecord {
        attributes: nested(),
        body: Some(AnyValue { value: Some(Value::StringValue("body".into())) }),
        ..LogRecord::default()
    };
    let scope = ScopeLogs { scope: scope(), log_records: vec![record], ..ScopeLogs::default() };
    let resource = ResourceLogs { resource: resource(), scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }
}

/// A field of protobuf that holds bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).expect("seven bits"));
    [&bytes, content].concat()
}

/// Requests that no encoder writes but every decoder reads: the last of several keys counts, messages in parts are one.
fn odd_traces() -> Vec<Vec<u8>> {
    let value = field(2, &field(1, b"boss"));
    let twice = [field(1, b"innocent"), field(1, b"hesper.identity.name"), value.clone()].concat();
    let late = [value, field(1, b"hesper.identity.name")].concat();
    let honest = text(HONEST, "yes").encode_to_vec();
    let attributes = |number| [field(number, &twice), field(number, &honest), field(number, &late)].concat();
    let span = [field(1, &[1; 16]), field(2, &[2; 8]), field(5, b"span"), attributes(9)].concat();
    let scope = [field(1, &[field(1, b"liar"), attributes(3)].concat()), field(2, &span)].concat();
    let resource = [field(1, &field(1, &honest)), field(1, &attributes(1))].concat();
    // A resource in two parts, before and after its spans.
    let parts = [field(1, &attributes(1)), field(2, &scope), field(1, &attributes(1))].concat();
    vec![field(1, &[resource, field(2, &scope)].concat()), field(1, &parts)]
}

/// Posts it, as a program without an SDK would.
fn post(to: SocketAddr, path: &str, body: &[u8], headers: &[&str], directory: &Path) -> http::Response {
    let file = directory.join("body");
    fs::write(&file, body).expect("write the body");
    let (url, body) = (format!("http://{to}{path}"), format!("@{}", file.display()));
    let mut arguments = vec!["--data-binary", &body];
    headers.iter().for_each(|header| arguments.extend(["-H", header]));
    http::curl(None, &[&arguments[..], &[&url]].concat()).expect("an answer")
}

/// Everything that lies, as path and body.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut corpus = vec![
        ("/v1/traces", traces().encode_to_vec()),
        ("/v1/metrics", metrics().encode_to_vec()),
        ("/v1/logs", logs().encode_to_vec()),
    ];
    corpus.extend(odd_traces().into_iter().map(|body| ("/v1/traces", body)));
    corpus
}

/// What arrived says of whom it is just what it must, once on each resource, and nothing else of it is of ours.
#[track_caller]
fn check(sink: &OtlpSink, identity: Option<&str>, forwarded_for: Option<&str>) {
    for received in sink.received() {
        let shown = format!("{:?}", received.request);
        let mut stamps = 0;
        for resource in received.request.resources() {
            assert_eq!(resource.get("hesper.identity.name").as_deref(), identity, "{shown}");
            assert_eq!(resource.get("hesper.identity.id").is_some(), identity.is_some(), "{shown}");
            assert_eq!(resource.get("hesper.forwarded.for").as_deref(), forwarded_for, "{shown}");
            stamps += resource.keys().iter().filter(|key| key.starts_with("hesper.")).count();
        }
        assert_eq!(shown.matches("\"hesper.").count(), stamps, "{shown}");
        assert!(!shown.contains("boss") && shown.contains(HONEST), "{shown}");
    }
}

/// A gateway that tells another about somebody, as only gateways are believed.
const FORGED: [&str; 3] = [
    "hesper-forwarded-bin: ChAKBmktYm9zcxIEYm9zcxIUChAAAAAAAAAAAAAAAAAAAAAAEAE=",
    "hesper-identity: boss",
    "x-honest: yes",
];
const PROTOBUF: &str = "content-type: application/x-protobuf";

#[test]
fn nobody_on_loopback_says_who_they_are() {
    let sink = OtlpSink::start();
    let config = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters: {{otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}}}}}
service: {{pipelines: {{traces: &p {{receivers: [otlp], exporters: [otlp_grpc]}}, metrics: *p, logs: *p}}}}
",
        sink.grpc()
    );
    let collector = Collector::new("collector", &config).start();
    let directory = collector.path("");
    let corpus = corpus();
    for (path, body) in &corpus {
        let headers = [&[PROTOBUF][..], &FORGED].concat();
        let answer = post(collector.told("otlp/http"), path, body, &headers, &directory);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    wait_until("all has arrived", Stack::PATIENCE, || sink.received().len() >= corpus.len());
    check(&sink, None, None);
}

#[test]
fn a_user_with_a_password_is_stamped_as_that_user() {
    let sink = OtlpSink::start();
    let config = format!(
        "extensions: {{basicauth/server: {{htpasswd: {{inline: \"user-1:1234\\n\"}}}}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0', auth: {{authenticator: basicauth/server}}}}}}}}}}
exporters: {{otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}}}}}
service:
  extensions: [basicauth/server]
  pipelines: {{traces: &p {{receivers: [otlp], exporters: [otlp_grpc]}}, metrics: *p, logs: *p}}
",
        sink.grpc()
    );
    let collector = Collector::new("collector", &config).start();
    let directory = collector.path("");
    let corpus = corpus();
    for (path, body) in &corpus {
        let headers = [&[PROTOBUF, "authorization: Basic dXNlci0xOjEyMzQ="][..], &FORGED].concat();
        let answer = post(collector.told("otlp/http"), path, body, &headers, &directory);
        assert_eq!(answer.status, 200, "{answer:?}");
        // The seed's example has a newline in its password.
        let newline = [PROTOBUF, "authorization: Basic dXNlci0xOjEyMzQK"];
        let refused = post(collector.told("otlp/http"), path, body, &newline, &directory);
        assert_eq!(refused.status, 401, "{refused:?}");
    }
    wait_until("all has arrived", Stack::PATIENCE, || sink.received().len() >= corpus.len());
    check(&sink, Some("user-1"), None);
}

#[test]
fn over_the_mesh_the_certificate_says_who_it_is() {
    let sink = OtlpSink::start();
    let stack = Stack::start();
    let (centre, shop) = (stack.enroll("centre", &[]), stack.enroll("shop", &[]));
    stack.cli(["create", "config", "otlp.config", "otlp.v1", r##"{"gateways":["#gateway"]}"##]).ok();
    stack.cli(["create", "service", "otlp", "--configs", "otlp.config"]).ok();
    stack.allow("Bind", "otlp", "@centre");
    stack.allow("Dial", "otlp", "@shop,#gateway");
    let centre =
        Collector::new("centre", &crate::ground::centre("otlp", sink.grpc())).identity(&centre).start();
    // The shop dials the service itself; what it says of itself in headers and attributes is worth nothing.
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &shop, "otlp:0"]);
    let (directory, corpus) = (centre.path(""), corpus());
    for (path, body) in &corpus {
        let headers = [&[PROTOBUF][..], &FORGED].concat();
        let answer = post(proxy.told("otlp"), path, body, &headers, &directory);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    wait_until("all has arrived", Stack::PATIENCE, || sink.received().len() >= corpus.len());
    check(&sink, Some("shop"), None);
}
