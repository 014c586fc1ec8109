//! How large requests and answers may be. Checks 47 to 53.

use crate::{
    client::{
        Method, PROTOBUF, TRACES, TRACES_RPC, Version, block_on, call, call_with, frame, json, proto, send,
        spawn,
    },
    codings::compress,
    data::{filler, names, span, spans},
    ground::{AT_ONCE, BOTH, QUICK, collector, gateway, metric, settled, settled_of, to_grpc, to_http},
    peer::{Answer, Peer, grpc, grpc_failure, grpc_framed, http, ok, with},
};
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use hesper_integration::{Collector, otlp::RpcStatus};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use prost::Message;
use std::{
    collections::BTreeSet,
    convert::Infallible,
    io::{self, Read},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::Code;

const MIB: usize = 1 << 20;
const SMALL: &str = "grpc: {endpoint: '127.0.0.1:0', max_recv_msg_size_mib: 1}, http: {endpoint: '127.0.0.1:0', max_request_body_size: 1048576}";
/// The largest request and answer of OTLP.
const REQUEST: usize = 64 * MIB;
const RESPONSE: usize = 4 * MIB;

/// A collector with a limit of 1 MiB before this peer.
#[track_caller]
fn small(peer: &Peer) -> (Collector, SocketAddr) {
    let collector = collector(SMALL, &[to_http(peer.at, AT_ONCE)]);
    let at = collector.told("otlp");
    (collector, at)
}

/// What a request compressed so is answered over HTTP and gRPC.
#[track_caller]
fn both(at: SocketAddr, coding: &str, body: &[u8]) -> ((u16, RpcStatus), RpcStatus) {
    let packed = compress(coding, body);
    let reply = proto(at, TRACES, &[("content-encoding", coding)], packed.clone());
    let failure = if reply.status == 200 { RpcStatus::default() } else { reply.failure() };
    let flag = u8::from(coding != "identity");
    let call = block_on(call_with(at, TRACES_RPC, &[("grpc-encoding", coding)], frame(flag, &packed)));
    ((reply.status, failure), call.grpc())
}

/// Configured, and by default the 64 MiB that the specification recommends.
#[test]
fn check_47_the_limit_holds_before_and_after_decompression() {
    let peer = Peer::taking();
    let (_small, at) = small(&peer);
    let (fits, large) = (filler(MIB), filler(MIB + 1));
    for coding in ["identity", "gzip", "zstd"] {
        let ((status, _), called) = both(at, coding, &fits);
        assert_eq!((status, called.code()), (200, Code::Ok), "{coding}");
        assert!(peer.take() == [fits.clone(), fits.clone()]);
        let ((status, _), called) = both(at, coding, &large);
        assert_eq!((status, called.code()), (413, Code::ResourceExhausted), "{coding}");
        assert_eq!(peer.take().len(), 0);
    }
    let (_default, at) = gateway(peer.at);
    assert_eq!(proto(at, TRACES, &[], filler(REQUEST)).status, 200);
    assert_eq!(call(at, TRACES_RPC, &filler(REQUEST)).code(), Code::Ok);
    assert_eq!(peer.take().iter().map(Vec::len).collect::<Vec<_>>(), [REQUEST; 2]);
    assert_eq!(proto(at, TRACES, &[], filler(REQUEST + 1)).status, 413);
    assert_eq!(call(at, TRACES_RPC, &filler(REQUEST + 1)).code(), Code::ResourceExhausted);
}

#[test]
fn check_48_too_large_is_413_and_exhausted_without_a_retry() {
    let peer = Peer::taking();
    let (_collector, at) = small(&peer);
    for coding in ["identity", "gzip"] {
        let ((status, failure), called) = both(at, coding, &filler(2 * MIB));
        assert_eq!(
            (status, failure.code(), called.code()),
            (413, Code::ResourceExhausted, Code::ResourceExhausted)
        );
        assert_eq!((failure.retry_delay(), called.retry_delay()), (None, None), "{coding}");
        assert!(
            failure.message.contains("1048576") && called.message.contains("1048576"),
            "the limit is named"
        );
    }
    // What JSON becomes counts, and who only writes, without end, is answered too.
    let text = format!(r#"{{"resourceSpans":[{{"schemaUrl":"{}"}}]}}"#, "x".repeat(2 * MIB));
    assert_eq!(json(at, TRACES, text).status, 413);
    let answer = block_on(async {
        let mut io = TcpStream::connect(at).await.expect("a connection");
        let head = format!(
            "POST {TRACES} HTTP/1.1\r\nhost: a\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            PROTOBUF.1
        );
        io.write_all(head.as_bytes()).await.expect("written");
        let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        let (mut read, mut write) = io.into_split();
        let endless = spawn(async move { while write.write_all(&chunk).await.is_ok() {} });
        let mut answer = vec![0; 12];
        read.read_exact(&mut answer).await.expect("an answer");
        endless.abort();
        String::from_utf8(answer).expect("text")
    });
    assert_eq!(answer, "HTTP/1.1 413");
    assert_eq!(peer.take().len(), 0);
}

/// What is more than 64 MiB is divided; what cannot be divided is not sent, and counted.
#[test]
fn check_49_the_exporter_sends_no_more_than_64_mib() {
    let peer = Peer::taking();
    let most = "max_recv_msg_size_mib: 100";
    let collector =
        collector(&format!("grpc: {{endpoint: '127.0.0.1:0', {most}}}"), &[to_grpc(peer.at, "timeout: 60s")]);
    let at = collector.told("otlp/grpc");
    assert_eq!(call(at, TRACES_RPC, &span(&"x".repeat(REQUEST))).code(), Code::Ok);
    assert_eq!(settled(&collector, 1).dropped, 1);
    assert_eq!(metric(&collector, "hesper_ledger_dropped_items_total", "reason=\"too_large\""), Ok(1));
    assert_eq!(peer.seen().len(), 0);
    let large = spans((0..5).map(|number| format!("{number}{}", "x".repeat(14 * MIB))));
    assert_eq!(call(at, TRACES_RPC, &large.encode_to_vec()).code(), Code::Ok);
    assert_eq!(settled(&collector, 6).delivered, 5);
    let pieces = peer.take();
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() <= REQUEST));
    let arrived = pieces.iter().flat_map(|piece| names(piece)).map(|name| name.as_bytes()[0]);
    assert_eq!(arrived.collect::<Vec<_>>(), b"01234");
}

/// All answers of ours are short, however long what they speak of.
#[test]
fn check_50_answers_are_bounded() {
    /// What peers take in headers, where the text of a failure travels over gRPC.
    const SHORT: usize = 8 << 10;
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    let long = "é".repeat(MIB);
    let texts = [
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{long}"}}]}}]}}]}}"#),
        format!(r#"{{"resourceSpans":"{long}"}}"#),
        format!("{{\"{long}"),
    ];
    for text in texts {
        let reply = json(at, TRACES, text);
        assert_eq!((reply.status, reply.failure().code()), (400, Code::InvalidArgument));
        assert!(reply.body.len() <= SHORT, "{} bytes", reply.body.len());
    }
    let path = format!("/v1/{}", "%20".repeat(2000));
    let reply = proto(at, &path, &[], "");
    assert!(reply.status == 404 && reply.body.len() <= SHORT, "{} bytes", reply.body.len());
    let reply = block_on(call_with(at, &path, &[], frame(0, b"")));
    assert_eq!(reply.grpc().code(), Code::Unimplemented);
    let headers: usize = reply.headers.values().map(|value| value.len()).sum();
    assert!(headers <= SHORT, "{headers} bytes");
}

/// Bytes without end.
fn endless() -> Body {
    Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[0; 1 << 14]))))
}

#[test]
fn check_51_an_answer_beyond_4_mib_is_not_read_and_not_asked_for_again() {
    let packed = compress("gzip", &vec![0; RESPONSE + 1]);
    let peer = Peer::start(move |seen| {
        let unending = |content_type: &str| with(Answer::new(endless()), "content-type", content_type);
        match (&*names(&seen.message()).remove(0), seen.is_grpc()) {
            ("long", false) => http(200, PROTOBUF.1, vec![0; RESPONSE + 1]),
            ("long", true) => grpc(&vec![0; RESPONSE + 1]),
            ("packed", false) => with(http(200, PROTOBUF.1, packed.clone()), "content-encoding", "gzip"),
            ("packed", true) => with(grpc_framed(frame(1, &packed)), "grpc-encoding", "gzip"),
            ("failed", false) => http(503, PROTOBUF.1, vec![0; RESPONSE + 1]),
            ("failed", true) => grpc_failure(RpcStatus::new(Code::Internal, "as asked")),
            (_, false) => unending(PROTOBUF.1),
            (_, true) => unending("application/grpc"),
        }
    });
    let keys = format!("timeout: 60s, {QUICK}");
    let mut collector = collector(BOTH, &[to_http(peer.at, &keys), to_grpc(peer.at, &keys)]);
    for name in ["long", "packed", "failed", "endless"] {
        assert_eq!(proto(collector.told("otlp"), TRACES, &[], span(name)).status, 200);
    }
    let ledger = settled(&collector, 8);
    assert_eq!((ledger.delivered, ledger.dropped), (0, 8));
    peer.wait(8);
    let told = |line: &&String| line.contains("dropped:") && line.contains("4194304");
    assert_eq!(collector.process().lines().iter().filter(told).count(), 7, "all but one");
}

/// 10 GiB of zeros in 10 MiB: a block of deflate that stands for itself, again and again.
fn bomb() -> Vec<u8> {
    let mut block = Vec::with_capacity(MIB);
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    deflate.compress_vec(&vec![0; MIB], &mut block, flate2::FlushCompress::Full).expect("deflate");
    assert_eq!(deflate.total_in(), 1 << 20);
    // RFC 1952: the head; at the end an empty block, and what nobody will get to.
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    [&head[..], &block.repeat(10 << 10), &[3, 0], &[0; 8]].concat()
}

#[test]
fn check_52_a_bomb_is_refused_within_bounded_memory() {
    /// What is in use in overload.
    const BOUND: u64 = 200 << 20;
    let peer = Peer::taking();
    let (mut collector, at) = gateway(peer.at);
    let gzip = bomb();
    assert!((9 * MIB..11 * MIB).contains(&gzip.len()), "{} bytes", gzip.len());
    let mut zstd = Vec::new();
    zstd::stream::copy_encode(io::repeat(0).take(128 << 20), &mut zstd, 1).expect("zstd");
    let (gzip, zstd): (Bytes, Bytes) = (gzip.into(), zstd.into());
    let over_http = |coding: &'static str, bomb: &Bytes| {
        let (headers, bomb) = ([PROTOBUF, ("content-encoding", coding)], bomb.clone());
        spawn(async move {
            let reply = send(Version::HTTP_11, Method::POST, at, TRACES, &headers, bomb).await;
            (reply.status == 413, reply.status == 503, reply.failure().retry_delay())
        })
    };
    let over_grpc = |coding: &'static str, bomb: &Bytes| {
        let framed = frame(1, bomb);
        spawn(async move {
            let status = call_with(at, TRACES_RPC, &[("grpc-encoding", coding)], framed).await.grpc();
            let code = status.code();
            (code == Code::ResourceExhausted, code == Code::Unavailable, status.retry_delay())
        })
    };
    let mut bombs = vec![over_http("gzip", &gzip), over_grpc("gzip", &gzip)];
    bombs.extend((0..4).flat_map(|_| [over_http("zstd", &zstd), over_grpc("zstd", &zstd)]));
    // Each is too large for ever, or finds no room beside the others; but one of them always has room.
    let ends: Vec<_> = bombs.into_iter().map(|bomb| block_on(bomb).expect("no panic")).collect();
    for (too_large, no_room, hint) in &ends {
        assert!(*too_large && hint.is_none() || *no_room && hint.is_some(), "{ends:?}");
    }
    assert!(ends.iter().any(|(too_large, ..)| *too_large), "{ends:?}");
    // Depth is a bomb of another kind.
    let deep =
        format!(r#"{{"resourceSpans":{}{}}}"#, r#"[{"scopeSpans":"#.repeat(100_000), "}]".repeat(100_000));
    assert_eq!(json(at, TRACES, deep).status, 400);
    let used = collector.process().memory_peak();
    assert!(used < BOUND, "{} MiB were in use at most", used >> 20);
    assert_eq!(proto(at, TRACES, &[], span("a")).status, 200, "others are served");
    assert_eq!(peer.take(), [span("a")]);
}

/// A server of gRPC as others write them: with the default of 4 MiB.
#[derive(Clone, Default)]
struct Default4Mib(Arc<Mutex<Vec<Vec<String>>>>);

#[tonic::async_trait]
impl TraceService for Default4Mib {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let names = names(&request.into_inner().encode_to_vec());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(names);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Go's words, those of Rust from a real server, and HTTP's status.
#[test]
fn check_53_what_is_too_large_for_a_peer_is_divided() {
    const LIMIT: usize = 4 * MIB;
    let refusing = |refuse: fn(usize) -> Answer| {
        Peer::start(move |seen| match seen.message().len() {
            len if len > LIMIT => refuse(len),
            _ => ok(seen),
        })
    };
    let go = refusing(|len| {
        let text = format!("grpc: received message larger than max ({len} vs. {LIMIT})");
        grpc_failure(RpcStatus::new(Code::ResourceExhausted, text))
    });
    let web = refusing(|_| http(413, "text/plain", "too much"));
    let rust = Default4Mib::default();
    let listener = block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let at = listener.local_addr().expect("an address");
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(rust.clone()));
    let serving = spawn(server.serve_with_incoming(incoming));

    let exporters = [
        to_grpc(go.at, QUICK),
        to_http(web.at, QUICK),
        to_grpc(at, QUICK).replace("otlp_grpc", "otlp_grpc/rust"),
    ];
    let collector = collector(BOTH, &exporters);
    let sent: Vec<_> = (0..9).map(|number| format!("{number}{}", "x".repeat(MIB))).collect();
    let refused = |peer: &Peer| peer.seen().iter().filter(|seen| seen.message().len() > LIMIT).count();
    let mut before = Vec::new();
    for round in 1..3 {
        assert_eq!(
            proto(collector.told("otlp"), TRACES, &[], spans(sent.clone()).encode_to_vec()).status,
            200
        );
        let ledger = settled(&collector, 27 * round);
        assert_eq!(ledger.dropped, 0);
        before.push([refused(&go), refused(&web)]);
    }
    assert!(
        before[0] == before[1] && before[0][0] == 1,
        "the limit is remembered, and found at once where it is named: {before:?}"
    );
    for peer in [&go, &web] {
        let taken =
            peer.seen().into_iter().map(|seen| seen.message()).filter(|message| message.len() <= LIMIT);
        arrived_twice(taken.map(|message| names(&message)), &sent);
    }
    arrived_twice(rust.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned(), &sent);
    assert_eq!(settled_of(&collector, "exporter=\"otlp_grpc/rust\"", 18).delivered, 18);
    serving.abort();
}

#[track_caller]
fn arrived_twice(pieces: impl Iterator<Item = Vec<String>>, sent: &[String]) {
    let all: Vec<_> = pieces.flatten().collect();
    assert_eq!(all.len(), 2 * sent.len());
    assert!(all.iter().collect::<BTreeSet<_>>() == sent.iter().collect::<BTreeSet<_>>(), "each of them");
}
