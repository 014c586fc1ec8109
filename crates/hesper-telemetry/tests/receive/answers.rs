//! What is answered: checks 29 to 50, as far as a server makes them.

use crate::support::{BOTH, HTTP, Plan, Recorder, TRACES, frame, http1, payload, points, send, spans};
use hesper_otlp::{Encoding, PartialSuccess, Refusal, Signal, status::Code};
use hesper_telemetry::receive::Outcome;
use http::Method;
use opentelemetry_proto::tonic::collector::{
    metrics::v1::metrics_service_client::MetricsServiceClient,
    trace::v1::trace_service_client::TraceServiceClient,
};
use std::{sync::Arc, time::Duration};

const TRACES_RPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const JSON: (&str, &str) = ("content-type", "application/json");

fn refusing(refusal: Refusal) -> Arc<Recorder> {
    Recorder::new(move |_| Err(refusal.clone()))
}

#[tokio::test]
async fn check_29_and_30_full_success_says_nothing_in_the_requests_type() {
    let server = Plan::of(BOTH).run().await;
    let reply = server.proto(TRACES, &[], payload(Signal::Traces, 1)).await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b""[..]));
    assert_eq!(reply.headers["content-type"], "application/x-protobuf");
    let reply = server.post(TRACES, &[JSON], "{}").await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b"{}"[..]));
    assert_eq!(reply.headers["content-type"], "application/json");
    let reply = server.call(TRACES_RPC, &[], frame(0, &payload(Signal::Traces, 1))).await;
    assert_eq!((reply.status, &reply.body[..], reply.grpc().code()), (200, &[0; 5][..], Code::Ok));
    assert_eq!(reply.headers["content-type"], "application/grpc");
}

#[tokio::test]
async fn check_31_partial_success_has_the_exact_number() {
    let sink = Recorder::new(|_| Ok(PartialSuccess { rejected: 2, message: "two are too old".into() }));
    let server = Plan { sink, ..Plan::of(BOTH) }.run().await;
    let url = format!("http://{}", server.address);
    let mut traces = TraceServiceClient::connect(url.clone()).await.expect("a connection");
    let partial =
        traces.export(spans(5)).await.expect("taken").into_inner().partial_success.expect("partial");
    assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (2, "two are too old"));
    let seen = server.counter.last();
    assert_eq!((seen.outcome, seen.accepted, seen.refused), (Outcome::Accepted, 3, 2));
    let mut metrics = MetricsServiceClient::connect(url).await.expect("a connection");
    let partial =
        metrics.export(points(5)).await.expect("taken").into_inner().partial_success.expect("partial");
    assert_eq!(partial.rejected_data_points, 2);
    let reply = server.post("/v1/logs", &[JSON], "{}").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        &reply.body[..],
        br#"{"partialSuccess":{"errorMessage":"two are too old","rejectedLogRecords":"2"}}"#
    );
}

#[tokio::test]
async fn check_32_a_warning_rejects_nothing() {
    let sink = Recorder::new(|_| Ok(PartialSuccess { rejected: 0, message: "your client is old".into() }));
    let server = Plan { sink, ..Plan::of(BOTH) }.run().await;
    let mut client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    let partial =
        client.export(spans(5)).await.expect("taken").into_inner().partial_success.expect("a warning");
    assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (0, "your client is old"));
    assert_eq!(server.counter.last().accepted, 5);
    let reply = server.proto(TRACES, &[], "").await;
    let read = PartialSuccess::decode(Signal::Traces, Encoding::Protobuf, &reply.body).expect("an answer");
    assert_eq!(read.expect("a warning").message, "your client is old");
}

#[tokio::test]
async fn check_34_every_failure_is_a_status_in_the_requests_encoding() {
    for (refusal, status) in [
        (Refusal::Denied("no".into()), 403),
        (Refusal::Internal("no".into()), 500),
        (Refusal::Quota { reason: "no".into(), after: Duration::from_secs(3) }, 429),
    ] {
        let server = Plan { sink: refusing(refusal), ..Plan::of(HTTP) }.run().await;
        for content_type in ["application/x-protobuf", "application/json"] {
            let reply = server.post(TRACES, &[("content-type", content_type)], "").await;
            assert_eq!((reply.status, reply.header("content-type")), (status, content_type));
            assert_eq!(reply.failure().message, "no");
        }
    }
}

#[tokio::test]
async fn check_35_what_cannot_be_read_is_bad_request() {
    let server = Plan::of(BOTH).run().await;
    let json = |text: &'static str| server.post(TRACES, &[JSON], text);
    let zipped = server.proto(TRACES, &[("content-encoding", "gzip")], "no gzip").await;
    let bad_id = json(r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}"#).await;
    for reply in [server.proto(TRACES, &[], "\x0a\x05a").await, json("{").await, bad_id, zipped] {
        assert_eq!((reply.status, reply.failure().code()), (400, Code::InvalidArgument), "{reply:?}");
        assert!(!reply.failure().violations().is_empty(), "{reply:?}");
    }
    let reply = server.call(TRACES_RPC, &[], frame(0, b"\x0a\x05a")).await;
    assert_eq!(reply.grpc().code(), Code::InvalidArgument);
    assert!(!reply.grpc().violations().is_empty());
    assert_eq!(server.counter.last().outcome, Outcome::Refused("malformed"));
    assert_eq!(server.sink.take().len(), 0);
}

#[tokio::test]
async fn check_36_and_38_what_may_be_sent_again_says_so_over_both_protocols() {
    let after = Duration::from_secs(7);
    for (refusal, status, code) in [
        (Refusal::Overloaded { reason: "full".into(), after }, 503, Code::Unavailable),
        (Refusal::Quota { reason: "full".into(), after }, 429, Code::ResourceExhausted),
    ] {
        let server = Plan { sink: refusing(refusal), ..Plan::of(BOTH) }.run().await;
        let reply = server.proto(TRACES, &[], payload(Signal::Traces, 4)).await;
        assert_eq!((reply.status, reply.header("retry-after")), (status, "7"), "checks 40 and 42");
        assert_eq!(reply.failure().retry_delay(), Some(after));
        let reply = server.call(TRACES_RPC, &[], frame(0, &payload(Signal::Traces, 4))).await;
        assert_eq!((reply.grpc().code(), reply.grpc().retry_delay()), (code, Some(after)), "check 40");
        assert_eq!((server.counter.last().accepted, server.counter.last().refused), (0, 4));
    }
}

#[tokio::test]
async fn check_40_a_generated_client_finds_the_retry_info() {
    let refusal = Refusal::Overloaded { reason: "100 % full: é".into(), after: Duration::from_millis(1500) };
    let server = Plan { sink: refusing(refusal), ..Plan::of(BOTH) }.run().await;
    let mut client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    let status = client.export(spans(1)).await.expect_err("refused");
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "100 % full: é"));
    let read =
        hesper_otlp::status::Status::from_bytes(Encoding::Protobuf, status.details()).expect("a status");
    assert_eq!(read.retry_delay(), Some(Duration::from_millis(1500)));
}

#[tokio::test]
async fn check_50_answers_are_bounded() {
    let sink = Recorder::new(|_| Ok(PartialSuccess { rejected: 1, message: "long ".repeat(2 << 20) }));
    let server = Plan { sink, ..Plan::of(BOTH) }.run().await;
    for headers in [JSON, ("content-type", "application/x-protobuf")] {
        let reply = server.post(TRACES, &[headers], "").await;
        assert!(reply.status == 200 && reply.body.len() <= 4 << 20, "{}", reply.body.len());
        let encoding = Encoding::of_content_type(headers.1).expect("an encoding");
        let read = PartialSuccess::decode(Signal::Traces, encoding, &reply.body).expect("an answer");
        assert_eq!(read.expect("partial").rejected, 1);
    }
    let reply = server.call(TRACES_RPC, &[], frame(0, b"")).await;
    assert!(reply.grpc().code() == Code::Ok && reply.body.len() <= (4 << 20) + 5);
    let long = Plan { sink: refusing(Refusal::Denied("é".repeat(9000))), ..Plan::of(BOTH) }.run().await;
    let reply = long.call(TRACES_RPC, &[], frame(0, b"")).await;
    assert_eq!(reply.grpc().code(), Code::PermissionDenied, "and its text fits the headers that peers take");
}

#[tokio::test]
async fn configured_headers_are_in_every_answer() {
    let server = Plan::of("{http: {response_headers: {x-site: a}}}").run().await;
    assert_eq!(server.proto(TRACES, &[], "").await.headers["x-site"], "a");
    assert_eq!(server.proto("/nowhere", &[], "").await.headers["x-site"], "a");
}

#[tokio::test]
async fn browsers_are_answered_as_the_settings_say() {
    let settings = "{http: {cors: {allowed_origins: ['https://*.shop.example'], allowed_headers: [x-tenant], max_age: 60}}}";
    let server = Plan::of(settings).run().await;
    let ask = |origin| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "x-tenant"),
        ];
        async move {
            send(&http1(), Method::OPTIONS, server.address, TRACES, &headers, "").await.expect("an answer")
        }
    };
    let yes = ask("https://web.shop.example").await;
    assert_eq!((yes.status, yes.header("access-control-allow-origin")), (204, "https://web.shop.example"));
    assert_eq!(yes.headers["access-control-max-age"], "60");
    assert_eq!(ask("https://evil.example").await.headers.get("access-control-allow-origin"), None);
    let reply = server.post(TRACES, &[JSON, ("origin", "https://web.shop.example")], "{}").await;
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (200, "https://web.shop.example")
    );
}
