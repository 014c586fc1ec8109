//! What is bounded: checks 47, 48, 52, and those who send slowly or without end.

use crate::support::{BOTH, HTTP, Plan, TRACES, frame, gzip, http1, http2, payload, send, soon};
use bytes::Bytes;
use hesper_otlp::{Signal, status::Code};
use hesper_telemetry::receive::Outcome;
use http::{Method, Request};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{convert::Infallible, io::Write, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const RPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const SMALL: &str = "{grpc: {max_recv_msg_size_mib: 1}, http: {max_request_body_size: 1048576}}";
const MIB: usize = 1 << 20;

/// A request of nothing but an unknown field, so many bytes long.
fn filler(len: usize) -> Vec<u8> {
    let mut bytes = vec![0xc2, 0x3e];
    let mut rest = len - 6;
    for _ in 0..3 {
        bytes.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes.resize(len, b'a');
    bytes
}

#[tokio::test]
async fn check_47_and_48_the_limit_holds_before_and_after_decompression() {
    let server = Plan::of(SMALL).run().await;
    let (fits, large) = (filler(MIB), filler(MIB + 1));
    assert_eq!(server.proto(TRACES, &[], fits.clone()).await.status, 200);
    assert_eq!(server.proto(TRACES, &[("content-encoding", "gzip")], gzip(&fits)).await.status, 200);
    assert_eq!(server.call(RPC, &[], frame(0, &fits)).await.grpc().code(), Code::Ok);
    assert_eq!(
        server.call(RPC, &[("grpc-encoding", "gzip")], frame(1, &gzip(&fits))).await.grpc().code(),
        Code::Ok
    );
    assert!(server.sink.take().iter().all(|received| received.batch.payload == fits));
    for (coding, body) in [
        ("identity", large.clone()),
        ("gzip", gzip(&large)),
        ("zstd", zstd::encode_all(&large[..], 1).expect("zstd")),
    ] {
        let reply = server.proto(TRACES, &[("content-encoding", coding)], body.clone()).await;
        assert_eq!((reply.status, reply.failure().code()), (413, Code::ResourceExhausted), "{coding}");
        assert_eq!(reply.failure().retry_delay(), None);
        assert!(reply.failure().message.contains("1048576"), "{reply:?}");
        let flag = u8::from(coding != "identity");
        let reply = server.call(RPC, &[("grpc-encoding", coding)], frame(flag, &body)).await;
        assert_eq!(
            (reply.grpc().code(), reply.grpc().retry_delay()),
            (Code::ResourceExhausted, None),
            "{coding}"
        );
        assert_eq!(server.counter.last().outcome, Outcome::Refused("too_large"));
    }
    assert_eq!((server.sink.take().len(), server.admission.in_flight()), (0, 0));
}

#[tokio::test]
async fn check_47_the_default_is_64_mib() {
    let server = Plan::of(BOTH).run().await;
    assert_eq!(server.proto(TRACES, &[], filler(64 * MIB)).await.status, 200);
    let reply = server.call(RPC, &[], frame(0, &filler(64 * MIB))).await;
    assert_eq!(reply.grpc().code(), Code::Ok);
    server.sink.take();
    let reply = send(
        &http2(),
        Method::POST,
        server.address,
        RPC,
        &[("content-type", "application/grpc")],
        frame(0, &filler(64 * MIB + 1)),
    )
    .await;
    assert_eq!(reply.expect("an answer").grpc().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn check_48_one_who_only_writes_gets_the_answer_too() {
    let server = Plan::of(SMALL).run().await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 20000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("written");
    soon("the body", stream.write_all(&vec![0; 20_000_000])).await.expect("nobody resets the connection");
    let mut answer = Vec::new();
    soon("the answer", stream.read_to_end(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
}

/// Ten MiB that become ten GiB, without having them.
fn bomb() -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 16 * MIB];
    for _ in 0..4 {
        encoder.write_all(&zeros).expect("gzip");
    }
    let member = encoder.finish().expect("gzip");
    member.repeat(10 * MIB / member.len()).into()
}

#[tokio::test]
async fn check_52_a_bomb_is_bounded() {
    let server = Plan::of(BOTH).run().await;
    let bomb = bomb();
    let reply = server.proto(TRACES, &[("content-encoding", "gzip")], bomb.clone()).await;
    assert_eq!((reply.status, reply.failure().code()), (413, Code::ResourceExhausted));
    let reply = server.call(RPC, &[("grpc-encoding", "gzip")], frame(1, &bomb)).await;
    assert_eq!(reply.grpc().code(), Code::ResourceExhausted);
    assert_eq!((server.sink.take().len(), server.admission.in_flight()), (0, 0));
}

#[tokio::test]
async fn bodies_without_end_are_refused_at_the_limit() {
    let server = Plan::of(SMALL).run().await;
    for version2 in [false, true] {
        let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 64 << 10])));
        let endless = StreamBody::new(futures::stream::repeat_with(chunk));
        let client = Client::builder(TokioExecutor::new()).http2_only(version2).build_http();
        let request = Request::post(format!("http://{}{TRACES}", server.address))
            .header("content-type", "application/x-protobuf");
        let reply = soon("an answer", client.request(request.body(endless).expect("a request")))
            .await
            .expect("an answer");
        assert_eq!(reply.status(), 413);
    }
}

#[tokio::test]
async fn slow_bodies_are_given_up() {
    let quick = |builder: hesper_telemetry::receive::Builder| builder.body_time(Duration::from_millis(200));
    let server = Plan { more: quick, ..Plan::of(BOTH) }.run().await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 100\r\n\r\nab";
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    let never = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request =
        Request::post(format!("http://{}{RPC}", server.address)).header("content-type", "application/grpc");
    let reply =
        soon("an answer", client.request(request.body(never).expect("a request"))).await.expect("an answer");
    assert_eq!(reply.headers()["grpc-status"], "14");
    assert_eq!(server.admission.in_flight(), 0);
}

#[tokio::test]
async fn a_caller_waits_no_longer_than_it_says() {
    let server = Plan::of(BOTH).run().await;
    server.sink.open(false);
    let reply = server.call(RPC, &[("grpc-timeout", "100m")], frame(0, &payload(Signal::Traces, 1))).await;
    assert_eq!(reply.grpc().code(), Code::Unavailable);
    let http = Plan::of("{http: {write_timeout: 100ms}}").run().await;
    http.sink.open(false);
    assert_eq!(http.proto(TRACES, &[], "").await.status, 503);
}

#[tokio::test]
async fn floods_of_headers_are_refused() {
    let server = Plan::of(BOTH).run().await;
    let long = "a".repeat(40 << 10);
    let reply = server.proto(TRACES, &[("x-long", &long)], "").await;
    assert_eq!(reply.status, 431);
    let names: Vec<String> = (0..200).map(|i| format!("x-{i}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "a")).collect();
    assert_eq!(server.proto(TRACES, &many, "").await.status, 431);
    let headers = [("content-type", "application/grpc"), ("x-long", long.as_str())];
    let reply = send(&http2(), Method::POST, server.address, RPC, &headers, frame(0, b"")).await;
    assert!(reply.map_or(true, |reply| reply.status == 431), "refused, or the client does not even send it");
    assert_eq!(server.sink.take().len(), 0);
}

#[tokio::test]
async fn slow_heads_are_cut() {
    let server = Plan::of("{http: {read_header_timeout: 200ms, idle_timeout: 1h}}").run().await;
    for start in ["", "P", "POST /v1/traces HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.write_all(start.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        let read = soon("the end", stream.read_to_end(&mut answer)).await;
        assert!(read.is_err() || answer.is_empty(), "{start}: {answer:?}");
    }
    // A connection that rests between requests is not slow with a head.
    let client = http1();
    let headers = [("content-type", "application/x-protobuf")];
    for _ in 0..2 {
        let reply =
            send(&client, Method::POST, server.address, TRACES, &headers, "").await.expect("an answer");
        assert_eq!(reply.status, 200);
    }
}

#[tokio::test]
async fn an_early_answer_leaves_the_connection_of_http_2_alone() {
    let server = Plan::of(HTTP).run().await;
    let client = http2();
    let headers = [("content-type", "text/plain")];
    let refused = send(&client, Method::POST, server.address, TRACES, &headers, vec![0; 4 * MIB]).await;
    assert_eq!(refused.expect("an answer").status, 415);
    let headers = [("content-type", "application/x-protobuf")];
    let taken = send(&client, Method::POST, server.address, TRACES, &headers, "").await.expect("an answer");
    assert_eq!(taken.status, 200);
}
