//! Connections: checks 54 and 55, and when they end.

use crate::support::{BOTH, GRPC, HTTP, Plan, TRACES, frame, http1, http2, payload, send, soon, spans};
use hesper_otlp::{Signal, status::Code};
use hesper_telemetry::receive::{Outcome, TurnedAway};
use http::Method;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How HTTP/2 begins, with settings that say nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const REQUEST: &str =
    "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// Reads one answer, up to the end of its body `{}`.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n{}") {
        let read = soon("the answer", stream.read_buf(&mut bytes)).await.expect("a connection");
        assert!(read > 0, "{}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).expect("text")
}

/// Lives on a connection of HTTP/2 without calls until it ends. Was it told to go away?
async fn goes_away(stream: &mut TcpStream) -> bool {
    let mut told = false;
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.expect("a frame");
        told |= head[3] == 7;
        if head[3] == 6 && head[4] == 0 {
            head[4] = 1;
            stream.write_all(&[&head[..], &payload].concat()).await.expect("written");
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_54_calls_run_side_by_side_on_one_connection() {
    let server = Plan::of(GRPC).run().await;
    server.sink.open(false);
    let client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.export(spans(1)).await.map(drop) })
        })
        .collect();
    server.sink.began(100).await;
    server.sink.open(true);
    for call in calls {
        soon("an answer", call).await.expect("no panic").expect("taken");
    }
    assert_eq!(server.sink.take().len(), 100);
}

#[tokio::test]
async fn check_54_how_many_is_configurable() {
    for (protocols, expected) in [("{grpc: {max_concurrent_streams: 2}}", 2), (GRPC, 256)] {
        let server = Plan::of(protocols).run().await;
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.write_all(PREFACE).await.expect("written");
        let mut head = [0; 9];
        soon("the settings", stream.read_exact(&mut head)).await.expect("a frame");
        assert_eq!(head[3], 4, "settings come first");
        let mut settings = vec![0; usize::from(head[2])];
        stream.read_exact(&mut settings).await.expect("a frame");
        let of = |wanted: u16| {
            let mut all = settings.chunks(6).filter(|pair| pair[..2] == wanted.to_be_bytes());
            all.next().map(|pair| u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
        };
        assert_eq!((of(3), of(6)), (Some(expected), Some(32 << 10)), "streams, and bytes of headers");
    }
}

#[tokio::test]
async fn check_55_connections_are_kept() {
    let server = Plan::of(HTTP).run().await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    for _ in 0..3 {
        stream.write_all(REQUEST.as_bytes()).await.expect("written");
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
    }
    let once = Plan::of("{http: {keep_alives_enabled: false}}").run().await;
    let mut stream = TcpStream::connect(once.address).await.expect("a connection");
    stream.write_all(REQUEST.as_bytes()).await.expect("written");
    let mut all = String::new();
    soon("the end", stream.read_to_string(&mut all)).await.expect("a connection");
    assert!(all.starts_with("HTTP/1.1 200 ") && all.contains("connection: close"), "{all}");
}

#[tokio::test]
async fn idle_and_old_connections_end() {
    let idle = Plan::of("{http: {idle_timeout: 100ms}}").run().await;
    let mut stream = TcpStream::connect(idle.address).await.expect("a connection");
    stream.write_all(REQUEST.as_bytes()).await.expect("written");
    answer(&mut stream).await;
    assert_eq!(soon("the end", stream.read(&mut [0; 9])).await.expect("no reset"), 0);
    for parameters in
        ["max_connection_idle: 100ms", "max_connection_age: 100ms, max_connection_age_grace: 10s"]
    {
        let protocols: &'static str =
            format!("{{grpc: {{keepalive: {{server_parameters: {{{parameters}}}}}}}}}").leak();
        let old = Plan::of(protocols).run().await;
        let mut stream = TcpStream::connect(old.address).await.expect("a connection");
        // A connection without calls.
        stream.write_all(PREFACE).await.expect("written");
        assert!(soon("the end", goes_away(&mut stream)).await, "{parameters}");
    }
}

#[tokio::test]
async fn calls_outlive_the_age_of_their_connection() {
    let server =
        Plan::of("{grpc: {keepalive: {server_parameters: {max_connection_age: 100ms}}}}").run().await;
    server.sink.open(false);
    let client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    let mut first = client.clone();
    let call = tokio::spawn(async move { first.export(spans(1)).await.map(drop) });
    server.sink.began(1).await;
    // A second connection lives as long: when it is told to go, the first one has been, too.
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(PREFACE).await.expect("written");
    assert!(soon("its end", goes_away(&mut stream)).await);
    server.sink.open(true);
    soon("the answer", call).await.expect("no panic").expect("taken");
}

#[tokio::test]
async fn more_connections_than_may_be_are_turned_away() {
    let server = Plan { more: |builder| builder.max_connections(1), ..Plan::of(HTTP) }.run().await;
    let mut first = TcpStream::connect(server.address).await.expect("a connection");
    first.write_all(REQUEST.as_bytes()).await.expect("written");
    answer(&mut first).await;
    let mut second = TcpStream::connect(server.address).await.expect("a connection");
    let read = soon("the end", second.read(&mut [0; 9])).await;
    assert!(read.map_or(true, |len| len == 0));
    server.counter.turned_away(TurnedAway::Full).await;
    first.write_all(REQUEST.as_bytes()).await.expect("written");
    answer(&mut first).await;
}

#[tokio::test]
async fn what_is_no_http_ends_quietly() {
    let server = Plan::of(BOTH).run().await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream
        .write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n")
        .await
        .expect("written");
    let mut all = Vec::new();
    soon("the end", stream.read_to_end(&mut all)).await.expect("no reset");
    assert!(all.is_empty() || all.starts_with(b"HTTP/1.1 400 "), "{all:?}");
    let stream = TcpStream::connect(server.address).await.expect("a connection");
    drop(stream);
    server.counter.turned_away(TurnedAway::NotReady).await;
    assert_eq!(server.proto(TRACES, &[], payload(Signal::Traces, 1)).await.status, 200);
}

#[tokio::test]
async fn senders_that_go_away_are_counted_and_hold_nothing() {
    let server = Plan::of(BOTH).run().await;
    server.sink.open(false);
    let call = tokio::spawn({
        let address = server.address;
        async move {
            let headers = [("content-type", "application/grpc")];
            let body = frame(0, &payload(Signal::Traces, 1));
            send(&http2(), Method::POST, address, Signal::Traces.grpc_path(), &headers, body).await.map(drop)
        }
    });
    server.sink.began(1).await;
    call.abort();
    let gone = async {
        while server.counter.seen.lock().expect("no panic").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the call", gone).await;
    let seen = server.counter.last();
    assert_eq!((seen.outcome, seen.refused), (Outcome::Gone, 1));
    assert_eq!(server.admission.in_flight(), 0);
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    use tokio::io::BufWriter;
    let server = Plan::of(GRPC).run().await;
    let (mut read, write) = TcpStream::connect(server.address).await.expect("a connection").into_split();
    let mut write = BufWriter::new(write);
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        let _ = read.read_to_end(&mut all).await;
    });
    write.write_all(PREFACE).await.expect("written");
    // POST / over http, and at once a reset.
    for stream in (1..2_000_001u32).step_by(2) {
        let id = stream.to_be_bytes();
        let head = [&[0, 0, 3, 1, 4][..], &id, &[0x83, 0x86, 0x84]].concat();
        let reset = [&[0, 0, 4, 3, 0][..], &id, &[0, 0, 0, 8]].concat();
        if write.write_all(&[head, reset].concat()).await.is_err() {
            break;
        }
    }
    let _ = write.flush().await;
    soon("the end of the connection", reading).await.expect("no panic");
    let mut client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    client.export(spans(1)).await.expect("others are served");
}

#[tokio::test]
async fn versions_of_http_share_nothing_by_accident() {
    let server = Plan::of(BOTH).run().await;
    // gRPC over HTTP/1 is no gRPC.
    let headers = [("content-type", "application/grpc")];
    let reply =
        send(&http1(), Method::POST, server.address, Signal::Traces.grpc_path(), &headers, frame(0, b""))
            .await;
    assert_eq!(reply.expect("an answer").status, 404);
    let reply = server.call(Signal::Traces.grpc_path(), &[], frame(0, b"")).await;
    assert_eq!(reply.grpc().code(), Code::Ok);
}
