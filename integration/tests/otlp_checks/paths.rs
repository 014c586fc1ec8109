//! Where what is received and sent: ports, methods, paths, versions of HTTP. Checks 1 to 6.

use crate::{
    client::{self, JSON, Method, PROTOBUF, TRACES, Version, block_on, call, json, proto, send},
    data::{ITEMS, names, signals, span, spans},
    ground::{AT_ONCE, BOTH, collector, config, gateway, to_grpc, to_http},
    peer::Peer,
};
use hesper_integration::{
    Collector, Netns, Place, free_port,
    http::curl,
    otlp::{OtlpSink, Requests},
    pki::Ingress,
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
    profiles::v1development::{ExportProfilesServiceRequest, profiles_service_client::ProfilesServiceClient},
    trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
};
use prost::Message;
use tonic::Code;

/// On a machine of its own, since everybody's ports are these.
#[test]
fn check_01_the_default_ports_are_4317_and_4318() {
    let machine = Netns::new("ports");
    let config = config("grpc: , http: ", &["debug: "]);
    let _collector = Collector::new("collector", &config).inside(&machine).start();
    let within = |arguments: &[&str]| curl(Some(&machine), arguments).expect("an answer");
    let grpc = ["--http2-prior-knowledge", "-H", "content-type: application/grpc", "-d", ""];
    let call = within(&[&grpc[..], &[&format!("http://127.0.0.1:4317{}", client::TRACES_RPC)]].concat());
    assert_eq!((call.status, call.header("grpc-status")), (200, Some("3")), "gRPC, and no message: {call:?}");
    let post =
        within(&["-H", "content-type: application/json", "-d", "{}", "http://127.0.0.1:4318/v1/traces"]);
    assert_eq!((post.status, post.body.as_str()), (200, "{}"));
}

/// Called by the clients that the official definition gives, and sent on to servers of the same kind.
#[test]
fn check_02_each_signal_has_its_grpc_method() {
    let sink = OtlpSink::start();
    let collector = collector(BOTH, &[to_grpc(sink.grpc(), AT_ONCE)]);
    let url = format!("http://{}", collector.told("otlp"));
    let requests = signals().map(|signal| signal.request);
    let of = |place: usize| &requests[place][..];
    let url = || url.clone();
    // One macro for four clients that have nothing in common but the shape.
    macro_rules! call {
        ($client:ident, $request:ident, $place:expr) => {{
            let mut client = block_on($client::connect(url())).expect("a connection");
            let request = $request::decode(of($place)).expect("a request");
            let answer = block_on(client.export(request)).expect("taken").into_inner();
            assert_eq!(answer.partial_success, None);
        }};
    }
    call!(TraceServiceClient, ExportTraceServiceRequest, 0);
    call!(MetricsServiceClient, ExportMetricsServiceRequest, 1);
    call!(LogsServiceClient, ExportLogsServiceRequest, 2);
    call!(ProfilesServiceClient, ExportProfilesServiceRequest, 3);
    let arrived = sink.received().into_iter().map(|received| match received.request {
        Requests::Traces(request) => (0, request.encode_to_vec()),
        Requests::Metrics(request) => (1, request.encode_to_vec()),
        Requests::Logs(request) => (2, request.encode_to_vec()),
        Requests::Profiles(request) => (3, request.encode_to_vec()),
    });
    assert_eq!(arrived.collect::<Vec<_>>(), (0..).zip(requests.clone()).collect::<Vec<_>>());
}

#[test]
fn check_03_each_signal_has_its_http_path_and_it_can_be_chosen() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    for signal in signals() {
        assert_eq!(proto(at, signal.path, &[], signal.request.clone()).status, 200, "{}", signal.path);
        let seen = peer.seen().pop().expect("a request");
        assert_eq!((seen.path.as_str(), seen.message()), (signal.path, signal.request));
    }
    let protocols =
        "http: {endpoint: '127.0.0.1:0', traces_url_path: /in/spans, profiles_url_path: /v1/profiles}";
    let exporter = format!(
        "otlp_http: {{endpoint: 'http://{0}/base/', logs_endpoint: 'http://{0}/other?key=a', {AT_ONCE}}}",
        peer.at
    );
    let chosen = collector(protocols, &[exporter]);
    let at = chosen.told("otlp/http");
    for (signal, (here, there)) in signals().into_iter().zip([
        ("/in/spans", "/base/v1/traces"),
        ("/v1/metrics", "/base/v1/metrics"),
        ("/v1/logs", "/other?key=a"),
        ("/v1/profiles?x=y", "/base/v1development/profiles"),
    ]) {
        assert_eq!(proto(at, here, &[], signal.request.clone()).status, 200, "{here}");
        let seen = peer.seen().pop().expect("a request");
        assert_eq!((seen.path.as_str(), seen.message()), (there, signal.request));
    }
    for gone in [TRACES, "/v1development/profiles"] {
        assert_eq!(proto(at, gone, &[], "").status, 404, "{gone}");
    }
}

/// The receiver serves both; the exporter speaks HTTP/2 where the server chooses it in TLS, and 1.1 elsewhere.
#[test]
fn check_04_http_1_and_http_2_are_served_and_spoken() {
    let peer = Peer::taking();
    let directory = tempfile::tempdir().expect("a directory");
    for (offered, spoken) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let port = free_port();
        let names = ["localhost"];
        let outside = ([127, 0, 0, 1], port).into();
        let tls = Ingress::offering(offered, &Place::host(), outside, &names, peer.at, directory.path());
        let authority = tls.files.authority.display();
        let exporter = format!(
            "otlp_http: {{endpoint: 'https://localhost:{port}', tls: {{ca_file: {authority}}}, {AT_ONCE}}}"
        );
        let collector = collector("http: {endpoint: '127.0.0.1:0'}", &[exporter]);
        let at = collector.told("otlp/http");
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let reply = block_on(send(version, Method::POST, at, TRACES, &[PROTOBUF], span("a")));
            assert_eq!((reply.status, reply.version), (200, version));
            assert_eq!(peer.seen().pop().expect("a request").version, spoken, "{offered:?}");
        }
    }
}

#[test]
fn check_05_one_port_serves_protobuf_json_and_grpc() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    assert_eq!(proto(at, TRACES, &[], span("protobuf")).status, 200);
    let text = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"json"}]}]}]}"#;
    let reply = json(at, TRACES, text);
    assert_eq!((reply.status, reply.header("content-type")), (200, JSON.1));
    assert_eq!(call(at, client::TRACES_RPC, &span("grpc")).code(), Code::Ok);
    let arrived: Vec<_> = peer.take().iter().flat_map(|request| names(request)).collect();
    assert_eq!(arrived, ["protobuf", "json", "grpc"]);
}

#[test]
fn check_06_a_signal_in_no_pipeline_is_not_served() {
    let peer = Peer::taking();
    let config = config(BOTH, &[to_http(peer.at, AT_ONCE)]);
    let config = config.replace(", metrics: *p, logs: *p, profiles: *p", "");
    let collector = Collector::new("collector", &config).start();
    let at = collector.told("otlp");
    for signal in signals() {
        let (served, taken) = (signal.path == TRACES, proto(at, signal.path, &[], signal.request.clone()));
        let called = call(at, signal.rpc, &signal.request);
        if served {
            assert_eq!((taken.status, called.code()), (200, Code::Ok));
        } else {
            assert_eq!((taken.status, taken.failure().code()), (404, Code::Unimplemented), "{}", signal.path);
            assert_eq!(called.code(), Code::Unimplemented, "{}", signal.rpc);
        }
    }
    let request = spans((0..ITEMS).map(|number| format!("item-{number}"))).encode_to_vec();
    assert_eq!(peer.take(), [request.clone(), request], "traces, by both protocols");
}
