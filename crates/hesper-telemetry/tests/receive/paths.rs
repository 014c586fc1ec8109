//! Where what is received: checks 2 to 6.

use crate::support::{
    BOTH, GRPC, HTTP, Plan, TRACES, frame, http1, http2, payload, points, records, send, spans,
};
use hesper_otlp::{Signal, status::Code};
use hesper_telemetry::receive::{Outcome, Protocol};
use http::{Method, Version};
use opentelemetry_proto::tonic::collector::{
    logs::v1::logs_service_client::LogsServiceClient,
    metrics::v1::metrics_service_client::MetricsServiceClient,
    profiles::v1development::{ExportProfilesServiceRequest, profiles_service_client::ProfilesServiceClient},
    trace::v1::trace_service_client::TraceServiceClient,
};
use prost::Message;

#[tokio::test]
async fn check_02_each_signal_over_grpc_by_generated_clients() {
    let server = Plan::of(GRPC).run().await;
    let url = format!("http://{}", server.address);
    let taken = |signal: Signal, bytes: Vec<u8>, items: u64| {
        let received = server.sink.only();
        assert_eq!((received.batch.signal, received.counts.items), (signal, items));
        assert_eq!(received.batch.payload, bytes, "the bytes are those that came");
    };
    let mut traces = TraceServiceClient::connect(url.clone()).await.expect("a connection");
    let answer = traces.export(spans(3)).await.expect("taken").into_inner();
    assert_eq!(answer.partial_success, None);
    taken(Signal::Traces, spans(3).encode_to_vec(), 3);
    let mut metrics = MetricsServiceClient::connect(url.clone()).await.expect("a connection");
    metrics.export(points(4)).await.expect("taken");
    taken(Signal::Metrics, points(4).encode_to_vec(), 4);
    let mut logs = LogsServiceClient::connect(url.clone()).await.expect("a connection");
    logs.export(records(5)).await.expect("taken");
    taken(Signal::Logs, records(5).encode_to_vec(), 5);
    let mut profiles = ProfilesServiceClient::connect(url).await.expect("a connection");
    let request = ExportProfilesServiceRequest::decode(payload(Signal::Profiles, 1)).expect("a request");
    profiles.export(request.clone()).await.expect("taken");
    taken(Signal::Profiles, request.encode_to_vec(), 1);
}

#[tokio::test]
async fn check_03_each_signal_at_its_path_over_http() {
    let server = Plan::of(HTTP).run().await;
    for signal in Signal::ALL {
        let count = if signal == Signal::Profiles { 1 } else { 7 };
        let reply = server.proto(signal.http_path(), &[], payload(signal, count)).await;
        assert_eq!(reply.status, 200, "{signal}");
        let received = server.sink.only();
        assert_eq!((received.batch.signal, received.counts.items), (signal, count as u64));
        let seen = server.counter.last();
        assert_eq!(
            (seen.protocol, seen.signal, seen.outcome),
            (Protocol::Http, Some(signal), Outcome::Accepted)
        );
        assert_eq!(
            (seen.accepted, seen.refused, seen.bytes),
            (count as u64, 0, received.batch.payload.len())
        );
    }
}

#[tokio::test]
async fn check_03_paths_are_what_the_settings_say() {
    let server =
        Plan::of("{http: {traces_url_path: /in/spans, profiles_url_path: /v1/profiles}}").run().await;
    assert_eq!(server.proto("/in/spans", &[], payload(Signal::Traces, 1)).await.status, 200);
    assert_eq!(server.proto("/v1/profiles?x=y", &[], payload(Signal::Profiles, 1)).await.status, 200);
    assert_eq!(server.proto(TRACES, &[], payload(Signal::Traces, 1)).await.status, 404);
    assert_eq!(server.proto("/v1/metrics", &[], payload(Signal::Metrics, 1)).await.status, 200);
}

#[tokio::test]
async fn check_04_http_1_and_2_on_one_port() {
    let server = Plan::of(HTTP).run().await;
    for (client, version) in [(http1(), Version::HTTP_11), (http2(), Version::HTTP_2)] {
        let headers = [("content-type", "application/x-protobuf")];
        let reply =
            send(&client, Method::POST, server.address, TRACES, &headers, payload(Signal::Traces, 1)).await;
        let reply = reply.expect("an answer");
        assert_eq!((reply.status, reply.version), (200, version));
    }
}

#[tokio::test]
async fn check_05_grpc_and_http_on_one_port() {
    let server = Plan::of(BOTH).run().await;
    let mut client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    client.export(spans(1)).await.expect("taken");
    assert_eq!(server.counter.last().protocol, Protocol::Grpc);
    assert_eq!(server.proto(TRACES, &[], payload(Signal::Traces, 1)).await.status, 200);
    let json = server.post(TRACES, &[("content-type", "application/json")], "{}").await;
    assert_eq!((json.status, server.counter.last().protocol), (200, Protocol::Http));
    assert_eq!(server.sink.take().len(), 3);
}

#[tokio::test]
async fn check_06_a_signal_in_no_pipeline_is_not_served() {
    let server = Plan { signals: vec![Signal::Traces], ..Plan::of(BOTH) }.run().await;
    let reply = server.proto("/v1/logs", &[], payload(Signal::Logs, 1)).await;
    assert_eq!((reply.status, reply.failure().code()), (404, Code::Unimplemented));
    let reply = server.call(Signal::Logs.grpc_path(), &[], frame(0, &payload(Signal::Logs, 1))).await;
    assert_eq!(reply.grpc().code(), Code::Unimplemented);
    let seen = server.counter.last();
    assert_eq!((seen.signal, seen.outcome), (Some(Signal::Logs), Outcome::Refused("not_served")));
}

#[tokio::test]
async fn what_is_no_otlp_is_told_so() {
    let server = Plan::of(GRPC).run().await;
    let reply =
        server.call("/opentelemetry.proto.collector.trace.v1.TraceService/Import", &[], frame(0, b"")).await;
    assert_eq!((reply.status, reply.grpc().code()), (200, Code::Unimplemented));
    let reply = server.call("/grpc.health.v1.Health/Check", &[], frame(0, b"")).await;
    assert_eq!(reply.grpc().code(), Code::Unimplemented);
    // Somebody sends OTLP/HTTP to the port of gRPC.
    let reply = server.post(TRACES, &[("content-type", "application/json")], "{}").await;
    assert_eq!(reply.status, 415);
    assert!(reply.failure().message.contains("HTTP/1.1"), "{reply:?}");
    let headers = [("content-type", "application/grpc+json")];
    let path = Signal::Traces.grpc_path();
    let reply = send(&http2(), Method::POST, server.address, path, &headers, frame(0, b"{}")).await;
    assert_eq!(reply.expect("an answer").status, 415);
    assert_eq!(server.sink.take().len(), 0);
}
