//! The controller's own spans: what a request leaves behind, connected by parent ids, and nothing where nobody records.

#[path = "api/support.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use hesper_observe::events::Begin;
use hesper_pki::{csr, key};
use hesper_trace::{Limits, Spans, Tracer, settings::Rate};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value as Any,
    trace::v1::{Span, span::SpanKind, status::StatusCode as Code},
};
use prost::Message as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use support::Harness;
use tracing_subscriber::layer::SubscriberExt as _;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Records only what comes with a sampled parent.
fn record() -> Spans {
    let tracer = Tracer {
        service_name: "hesper-controller".into(),
        version: "test".into(),
        resource: Vec::new(),
        rate: Rate::new(0).expect("a rate"),
        limits: Limits { delay: Duration::from_secs(3600), ..Limits::default() },
    };
    let installed = hesper_trace::install(&tracer).expect("the first");
    let subscriber = tracing_subscriber::registry().with(installed.layer);
    tracing::subscriber::set_global_default(subscriber).expect("the first");
    installed.spans
}

/// What has ended so far.
async fn ended(spans: &Spans) -> Vec<Span> {
    spans.flush();
    let batch = spans.next().await.expect("not closed");
    let request = ExportTraceServiceRequest::decode(&*batch.request).expect("OTLP");
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let value = span.attributes.iter().find(|kv| kv.key == key)?.value.clone()?.value?;
    Some(match value {
        Any::StringValue(text) => json!(text),
        Any::IntValue(number) => json!(number),
        other => panic!("{key}: {other:?}"),
    })
}

async fn traced(h: &Harness, request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let request = request.bearer_auth(&h.token).header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    support::read(request.send().await.expect("answer")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_leaves_one_connected_trace() {
    let spans = record();
    let h = Harness::start().await;
    let mut follower = h.running().events().subscribe(Begin::Now);
    h.get("/identities").await;
    assert_eq!(spans.counters().ended(), 0, "nobody asked for it");

    // A change: request, session, transaction; and its event names the place.
    let body = json!({ "name": "node" });
    let create = h.client.post(h.url("/edge/management/v1/identities?x=secret")).json(&body);
    let (status, made) = traced(&h, create).await;
    assert_eq!(status, StatusCode::CREATED);
    let all = ended(&spans).await;
    assert!(all.iter().all(|span| hex(&span.trace_id) == TRACE), "one trace");
    let request = named(&all, "POST /edge/management/v1/identities");
    assert_eq!((hex(&request.parent_span_id), request.kind), (CALLER.into(), SpanKind::Server as i32));
    assert_eq!(attribute(request, "http.response.status_code"), Some(json!(201)));
    assert_eq!(attribute(request, "http.request.method"), Some(json!("POST")));
    assert_eq!(attribute(request, "client.address"), Some(json!("127.0.0.1")));
    assert_eq!(attribute(request, "mesh.identity.name"), Some(json!("Default Admin")));
    for name in ["store get", "store txn"] {
        let operation = named(&all, name);
        assert_eq!(operation.parent_span_id, request.span_id, "{name}");
        assert_eq!(attribute(operation, "db.system.name"), Some(json!("sqlite")));
    }
    assert!(attribute(named(&all, "store txn"), "mesh.store.revision").is_some());
    assert!(!format!("{all:?}").contains("secret"), "no query, no header, no body");
    assert!(!format!("{all:?}").contains(&h.token));
    let event = follower.next().await.events.remove(0);
    let line: Value = serde_json::from_str(&event.line).expect("JSON");
    assert_eq!((&line["traceId"], &line["spanId"]), (&json!(TRACE), &json!(hex(&request.span_id))));

    // An enrollment.
    let text = csr::to_pem(&csr::make(&key::generate().expect("key")).expect("CSR"));
    let body = json!({ "token": made["data"]["enrollment"]["jwt"], "csr": text });
    for (status, outcome) in [(StatusCode::OK, "success"), (StatusCode::CONFLICT, "denied")] {
        let mut body = body.clone();
        if outcome == "denied" {
            body["csr"] = json!(csr::to_pem(&csr::make(&key::generate().expect("key")).expect("CSR")));
        }
        let enroll = h.client.post(h.url("/edge/client/v1/enroll")).json(&body);
        assert_eq!(traced(&h, enroll).await.0, status);
        let all = ended(&spans).await;
        let (request, enroll) = (named(&all, "POST /edge/client/v1/enroll"), named(&all, "enroll"));
        assert_eq!(enroll.parent_span_id, request.span_id);
        assert_eq!(attribute(enroll, "mesh.outcome"), Some(json!(outcome)));
        assert_eq!(attribute(enroll, "mesh.enrollment.method"), Some(json!("ott")));
        assert_eq!(attribute(enroll, "mesh.identity.name"), Some(json!("node")));
        assert!(request.status.as_ref().is_none_or(|s| s.code != Code::Error as i32), "no error of ours");
    }

    // A refusal is no error of the server.
    let get = h.client.get(h.url("/edge/management/v1/identities"));
    let get = get.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).send().await.expect("answer");
    assert_eq!(get.status(), StatusCode::UNAUTHORIZED);
    let all = ended(&spans).await;
    let request = named(&all, "GET /edge/management/v1/identities");
    assert_eq!(attribute(request, "error.type"), Some(json!("UNAUTHORIZED")));
    assert_eq!(attribute(request, "mesh.outcome"), Some(json!("denied")));
}
