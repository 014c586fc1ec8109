//! Compression of requests and answers. Checks 7 to 10.

use crate::{
    client::{PROTOBUF, TRACES, TRACES_RPC, block_on, call_with, frame, post, proto},
    codings::{compress, decompress},
    data::{span, spans},
    ground::{AT_ONCE, BOTH, collector, gateway, settled, to_grpc, to_http},
    peer::{Peer, grpc_framed, http, with},
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_client::TraceServiceClient,
};
use prost::Message;
use tonic::{Code, codec::CompressionEncoding};

/// Worth being compressed.
fn request() -> Vec<u8> {
    spans((0..100).map(|number| format!("a span with a long name, number {number}"))).encode_to_vec()
}

#[test]
fn check_07_none_and_gzip_are_taken_over_both_protocols() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    let request = request();
    for coding in ["gzip", "identity", ""] {
        let body = compress(coding, &request);
        assert_eq!(proto(at, TRACES, &[("content-encoding", coding)], body).status, 200, "{coding}");
        assert_eq!(peer.take(), std::slice::from_ref(&request), "{coding}");
    }
    assert_eq!(proto(at, TRACES, &[], request.clone()).status, 200);
    block_on(async {
        let plain = TraceServiceClient::connect(format!("http://{at}")).await.expect("a connection");
        let gzip = CompressionEncoding::Gzip;
        for mut client in [plain.clone(), plain.send_compressed(gzip).accept_compressed(gzip)] {
            client.export(ExportTraceServiceRequest::decode(&*request).expect("spans")).await.expect("taken");
        }
    });
    assert_eq!(peer.take(), [request.clone(), request.clone(), request]);
}

/// What the Collector takes and sends besides; who writes nothing sends gzip.
#[test]
fn check_08_the_collectors_other_compressions_are_taken_and_sent() {
    let peer = Peer::taking();
    let http = |name: &str| {
        format!(
            "otlp_http/{name}: {{endpoint: 'http://{}', headers: {{x-is: {name}}}, compression: {name}, {AT_ONCE}}}",
            peer.at
        )
    };
    let grpc = |name: &str| {
        format!(
            "otlp_grpc/{name}: {{endpoint: '{}', tls: {{insecure: true}}, headers: {{x-is: {name}}}, compression: {name}, {AT_ONCE}}}",
            peer.at
        )
    };
    let unsaid =
        |exporter: String| exporter.replace("gzip: {end", "unsaid: {end").replace("compression: gzip, ", "");
    let exporters = [
        &["gzip", "zstd", "snappy", "zlib", "deflate", "lz4", "none"].map(http)[..],
        &["gzip", "zstd", "snappy", "none"].map(grpc),
        &[unsaid(http("gzip")), unsaid(grpc("gzip"))],
    ]
    .concat();
    let collector = collector(BOTH, &exporters);
    let (at, request) = (collector.told("otlp"), request());
    for coding in ["zstd", "snappy", "snappy-frames", "zlib", "deflate", "lz4", "GZIP"] {
        let named = if coding == "snappy-frames" { "snappy" } else { coding };
        let body = compress(&coding.to_lowercase(), &request);
        assert_eq!(proto(at, TRACES, &[("content-encoding", named)], body).status, 200, "{coding}");
        assert_eq!(peer.take(), vec![request.clone(); exporters.len()], "{coding}");
    }
    for (named, coding) in [("zstd", "zstd"), ("snappy", "snappy-frames"), ("gzip", "gzip")] {
        for (flag, message) in [(1, compress(coding, &request)), (0, request.clone())] {
            let headers = [("grpc-encoding", named)];
            let reply = block_on(call_with(at, TRACES_RPC, &headers, frame(flag, &message)));
            assert_eq!(reply.grpc().code(), Code::Ok, "{coding}, flag {flag}");
            let seen = peer.seen();
            for request in &seen {
                let said =
                    request.header(if request.is_grpc() { "grpc-encoding" } else { "content-encoding" });
                // The one of whom nothing is said has the header of gzip.
                let expected = request.header("x-is").replace("none", "");
                assert_eq!(said.replace("identity", ""), expected, "{request:?}");
                assert!(expected.is_empty() || request.body.len() < message.len().max(3000), "{expected}");
            }
            assert_eq!(peer.take(), vec![request.clone(); exporters.len()], "{coding}");
        }
    }
}

#[test]
fn check_09_an_unknown_compression_is_415_and_unimplemented() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    let reply = proto(at, TRACES, &[("content-encoding", "br")], "x");
    assert_eq!((reply.status, reply.failure().code()), (415, Code::Unimplemented));
    assert!(reply.failure().message.contains("br") && reply.failure().retry_delay().is_none(), "{reply:?}");
    let reply = block_on(call_with(at, TRACES_RPC, &[("grpc-encoding", "br")], frame(1, b"x")));
    assert_eq!((reply.grpc().code(), reply.grpc().retry_delay()), (Code::Unimplemented, None));
    assert_eq!(reply.header("grpc-accept-encoding"), "gzip,zstd,snappy");
    let protocols = "http: {endpoint: '127.0.0.1:0', compression_algorithms: [zstd]}";
    let only = collector(protocols, &[to_http(peer.at, AT_ONCE)]);
    let at = only.told("otlp/http");
    let gzip = compress("gzip", &span("a"));
    assert_eq!(proto(at, TRACES, &[("content-encoding", "gzip")], gzip).status, 415, "not configured");
    assert_eq!(peer.take().len(), 0);
    assert_eq!(proto(at, TRACES, &[], span("a")).status, 200);
}

/// Both sides: the receiver compresses for those who take it, and the exporter says that it does, and does.
#[test]
fn check_10_answers_are_gzip_only_for_those_who_take_it() {
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".into() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let packed = compress("gzip", &answer);
    let peer = Peer::start(move |seen| match seen.is_grpc() {
        true => with(grpc_framed(frame(1, &packed)), "grpc-encoding", "gzip"),
        false => with(http(200, PROTOBUF.1, packed.clone()), "content-encoding", "gzip"),
    });
    let exporters = [to_http(peer.at, AT_ONCE), to_grpc(peer.at, AT_ONCE)];
    let collector = collector(BOTH, &exporters);
    let at = collector.told("otlp");

    // Only a long answer is worth it: a refusal that repeats what it does not know.
    let unknown = format!("x/{}", "y".repeat(2000));
    let ask =
        |accept: &str| post(at, TRACES, &[("content-type", &unknown), ("accept-encoding", accept)], "{}");
    let plain = post(at, TRACES, &[("content-type", &unknown)], "{}");
    assert_eq!((plain.status, plain.header("content-encoding")), (415, ""));
    for takes in ["gzip", "br, GZIP;q=0.5"] {
        let reply = ask(takes);
        assert_eq!((reply.status, reply.header("content-encoding")), (415, "gzip"), "{takes}");
        assert_eq!(decompress("gzip", &reply.body), plain.body);
    }
    for refuses in ["br", "gzip;q=0", "*"] {
        assert_eq!(ask(refuses).header("content-encoding"), "", "{refuses}");
    }

    assert_eq!(proto(at, TRACES, &[], spans(["a", "b", "c"]).encode_to_vec()).status, 200);
    let ledger = settled(&collector, 6);
    assert_eq!((ledger.delivered, ledger.dropped), (2, 4), "each exporter has read that two were rejected");
    for request in peer.wait(2) {
        let header = if request.is_grpc() { "grpc-accept-encoding" } else { "accept-encoding" };
        assert!(request.header(header).split(',').any(|coding| coding == "gzip"), "{request:?}");
    }
}
