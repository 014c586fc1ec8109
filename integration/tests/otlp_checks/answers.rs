//! What is answered, and what an exporter makes of it. Checks 29 to 35, 45 and 46.

use crate::{
    client::{
        JSON, Method, PROTOBUF, Reply, TRACES, TRACES_RPC, Version, block_on, call, call_with, frame, json,
        post, proto, send,
    },
    codings::compress,
    data::{ITEMS, names, signals, span, spans},
    ground::{
        AT_ONCE, BOTH, QUICK, collector, config, gateway, metric, settled, settled_of, to_grpc, to_http,
    },
    peer::{Answer, Peer, Seen, grpc, grpc_failure, http, ok},
};
use hesper_integration::{Collector, Stack, otlp::RpcStatus};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use tonic::Code;

/// What no request is: a resource of five bytes that has one.
const BROKEN: &[u8] = b"\x0a\x05a";

#[test]
fn check_29_full_success_says_nothing() {
    // What others say when they have nothing to say, by the path of the exporter.
    let peer = Peer::start(|seen| match seen.path.as_bytes()[1] {
        b'1' => http(200, JSON.1, r#"{"partialSuccess":{}}"#),
        b'2' => http(200, PROTOBUF.1, &b"\x0a\x00"[..]),
        b'3' => http(204, PROTOBUF.1, ""),
        _ => ok(seen),
    });
    let to = |path: u8| {
        format!("otlp_http/{path}: {{endpoint: 'http://{}/{path}', compression: none, {AT_ONCE}}}", peer.at)
    };
    let exporters = [to(0), to(1), to(2), to(3), to_grpc(peer.at, AT_ONCE)];
    let mut collector = collector(BOTH, &exporters);
    let at = collector.told("otlp");
    for signal in signals() {
        let reply = proto(at, signal.path, &[], signal.request.clone());
        assert_eq!((reply.status, &reply.body[..]), (200, &b""[..]), "{}", signal.path);
        let reply = json(at, signal.path, "{}");
        assert_eq!((reply.status, &reply.body[..]), (200, &b"{}"[..]), "{}", signal.path);
        let reply = block_on(call_with(at, signal.rpc, &[], frame(0, &signal.request)));
        assert_eq!((reply.status, &reply.body[..]), (200, &[0; 5][..]), "an empty message in a frame");
        assert_eq!(reply.grpc(), RpcStatus::default());
    }
    let items = (2 * 4 * ITEMS * exporters.len()) as u64;
    assert_eq!(settled(&collector, items).delivered, items);
    assert!(!collector.process().said("the destination says"));
}

#[test]
fn check_30_the_answers_type_is_the_requests() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    for (encoding, good, bad) in [(PROTOBUF, span("a"), BROKEN), (JSON, b"{}".to_vec(), b"{")] {
        for (path, body, status) in [(TRACES, &good[..], 200), (TRACES, bad, 400), ("/nowhere", bad, 404)] {
            let reply = post(at, path, &[encoding], body.to_vec());
            assert_eq!((reply.status, reply.header("content-type")), (status, encoding.1), "{path}");
        }
    }
    let reply = block_on(call_with(at, TRACES_RPC, &[], frame(0, b"")));
    assert_eq!(reply.header("content-type"), "application/grpc");
}

/// A partial success, in the protocol and encoding of the request.
fn partial(seen: &Seen, rejected: i64, message: &str) -> Answer {
    if seen.header("content-type") == JSON.1 {
        let signal = signals().into_iter().find(|signal| seen.path.ends_with(signal.path)).expect("a signal");
        let text =
            json!({"partialSuccess": {signal.rejected: rejected.to_string(), "errorMessage": message}});
        return http(200, JSON.1, text.to_string());
    }
    // The four answers are the same on the wire.
    let said = ExportTracePartialSuccess { rejected_spans: rejected, error_message: message.into() };
    let bytes = ExportTraceServiceResponse { partial_success: Some(said) }.encode_to_vec();
    if seen.is_grpc() { grpc(&bytes) } else { http(200, PROTOBUF.1, bytes) }
}

/// The three ways in which an exporter can be answered.
fn three_ways(peer: SocketAddr, more: &str) -> [String; 3] {
    let json = to_http(peer, &format!("encoding: json, {more}")).replace("otlp_http", "otlp_http/json");
    [to_grpc(peer, more), to_http(peer, more), json]
}

#[test]
fn check_31_the_exact_number_of_rejected_items_is_understood() {
    let peer = Peer::start(|seen| partial(seen, 2, "two are too old"));
    let mut collector = collector(BOTH, &three_ways(peer.at, QUICK));
    let at = collector.told("otlp");
    for signal in signals() {
        assert_eq!(proto(at, signal.path, &[], signal.request).status, 200);
    }
    for signal in ["traces", "metrics", "logs", "profiles"] {
        let labels = format!("data_type=\"{signal}\"");
        let ledger = settled_of(&collector, &labels, 3 * ITEMS as u64);
        assert_eq!((ledger.delivered, ledger.dropped), (9, 6), "{signal}");
    }
    let rejected = metric(&collector, "hesper_ledger_dropped_items_total", "reason=\"rejected\"");
    assert_eq!(rejected, Ok(3 * 4 * 2));
    assert!(collector.process().said("two are too old"));
}

#[test]
fn check_32_a_warning_rejects_nothing() {
    let peer = Peer::start(|seen| {
        match names(&seen.message()) == ["odd"] || seen.header("content-type") == JSON.1 {
            true => partial(seen, 0, "your client is old"),
            // Both empty is as good as not there.
            false => partial(seen, 0, ""),
        }
    });
    let exporters = [to_grpc(peer.at, AT_ONCE), to_http(peer.at, AT_ONCE)];
    let mut collector = collector(BOTH, &exporters);
    let at = collector.told("otlp");
    assert_eq!(proto(at, TRACES, &[], span("plain")).status, 200);
    assert!(!collector.process().said("the destination says"));
    assert_eq!(proto(at, TRACES, &[], span("odd")).status, 200);
    let ledger = settled(&collector, 4);
    assert_eq!((ledger.delivered, ledger.dropped), (4, 0));
    let told = |line: &String| line.contains("the destination says: your client is old");
    assert_eq!(collector.process().lines().iter().filter(|line| told(line)).count(), 2, "by each exporter");
}

#[test]
fn check_33_what_is_taken_in_part_is_not_sent_again() {
    let peer = Peer::start(|seen| partial(seen, 1, "one is too old"));
    let mut collector = collector(BOTH, &three_ways(peer.at, QUICK));
    assert_eq!(proto(collector.told("otlp"), TRACES, &[], spans(["a", "b"]).encode_to_vec()).status, 200);
    let ledger = settled(&collector, 6);
    assert_eq!((ledger.delivered, ledger.dropped), (3, 3), "the rejected ones count as dropped");
    peer.wait(3);
    assert_eq!(metric(&collector, "hesper_exporter_retries_total", ""), Ok(0));
    assert!(collector.process().said("the destination says: one is too old"));
}

/// The body is a status in the encoding of the request, whatever went wrong; and an exporter goes by the HTTP status, not by the code.
#[test]
fn check_34_every_failure_is_a_status_in_the_requests_encoding() {
    let peer = Peer::start(|seen| match names(&seen.message()).first().map(String::as_str) {
        Some("never") => http(400, PROTOBUF.1, RpcStatus::new(Code::Unavailable, "because").encode_to_vec()),
        Some("later") if seen.before == 0 => {
            http(503, PROTOBUF.1, RpcStatus::new(Code::InvalidArgument, "because").encode_to_vec())
        }
        _ => ok(seen),
    });
    let protocols =
        "grpc: {endpoint: '127.0.0.1:0'}, http: {endpoint: '127.0.0.1:0', max_request_body_size: 10000}";
    let direct = collector(protocols, &[to_http(peer.at, AT_ONCE)]);
    let at = direct.told("otlp");
    let text = |name: &str| {
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": name}]}]}]}).to_string().into_bytes()
    };
    for (encoding, broken, never) in
        [(PROTOBUF, BROKEN.to_vec(), span("never")), (JSON, b"{".to_vec(), text("never"))]
    {
        let ask = |method: Method, path: &str, more: &[(&str, &str)], body: Vec<u8>| {
            block_on(send(Version::HTTP_11, method, at, path, &[&[encoding], more].concat(), body))
        };
        let failures: [(Reply, u16, Code); 6] = [
            (ask(Method::POST, TRACES, &[], broken), 400, Code::InvalidArgument),
            (ask(Method::POST, "/v1/nothing", &[], vec![]), 404, Code::Unimplemented),
            (ask(Method::GET, TRACES, &[], vec![]), 405, Code::Unimplemented),
            (ask(Method::POST, TRACES, &[], vec![b' '; 10_001]), 413, Code::ResourceExhausted),
            (ask(Method::POST, TRACES, &[("content-encoding", "br")], vec![]), 415, Code::Unimplemented),
            (ask(Method::POST, TRACES, &[], never), 500, Code::Internal),
        ];
        for (reply, status, code) in failures {
            assert_eq!((reply.status, reply.header("content-type")), (status, encoding.1), "{reply:?}");
            let failure = reply.failure();
            assert_eq!(failure.code(), code, "{failure:?}");
            assert!(!failure.message.is_empty());
        }
    }
    let queued = collector(BOTH, &[to_http(peer.at, QUICK)]);
    for name in ["never", "later"] {
        assert_eq!(proto(queued.told("otlp"), TRACES, &[], span(name)).status, 200);
    }
    let ledger = settled(&queued, 2);
    assert_eq!((ledger.delivered, ledger.dropped), (1, 1));
}

#[test]
fn check_35_what_cannot_be_read_is_bad_request() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    let bad_id = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}"#;
    for reply in [
        proto(at, TRACES, &[], BROKEN),
        proto(at, TRACES, &[("content-encoding", "gzip")], "no gzip"),
        proto(at, TRACES, &[("content-encoding", "gzip")], compress("gzip", BROKEN)),
        json(at, TRACES, "{"),
        json(at, TRACES, "[]"),
        json(at, TRACES, bad_id),
        json(at, TRACES, span("protobuf")),
    ] {
        let failure = reply.failure();
        assert_eq!((reply.status, failure.code()), (400, Code::InvalidArgument), "{reply:?}");
        assert!(!failure.violations().is_empty() && failure.retry_delay().is_none(), "{failure:?}");
    }
    for body in [frame(0, BROKEN), frame(1, b"no gzip"), frame(0, &span("a")).slice(..9)] {
        let status = block_on(call_with(at, TRACES_RPC, &[("grpc-encoding", "gzip")], body)).grpc();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(!status.violations().is_empty(), "{status:?}");
    }
    assert_eq!(peer.take().len(), 0);
}

/// A gateway without a queue answers what its destination answers, as far as that concerns the sender: come again, or never.
#[test]
fn check_45_codes_of_a_destination_become_those_of_the_gateway() {
    let peer = Peer::start(|seen| {
        let name = names(&seen.message()).remove(0);
        let (code, hint) = name.split_once(' ').expect("a code and a hint");
        let status = RpcStatus::new(code.parse::<i32>().expect("a number").into(), "as asked");
        grpc_failure(if hint == "hint" { status.with_retry(Duration::from_secs(2)) } else { status })
    });
    let once = format!("{AT_ONCE}, retry_on_failure: {{enabled: false}}");
    let collector = collector(BOTH, &[to_grpc(peer.at, &once)]);
    let at = collector.told("otlp");
    let again = [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::DataLoss,
    ];
    for (number, hint) in (1..17).flat_map(|number| [(number, "none"), (number, "hint")]) {
        let code = Code::from_i32(number);
        let comes_again = again.contains(&code) || (code == Code::ResourceExhausted && hint == "hint");
        let (status, answered) = if comes_again { (503, Code::Unavailable) } else { (500, Code::Internal) };
        let request = span(&format!("{number} {hint}"));
        let reply = proto(at, TRACES, &[], request.clone());
        assert_eq!((reply.status, reply.failure().code()), (status, answered), "{code:?}, {hint}");
        let delay = reply.failure().retry_delay().map(|delay| delay.as_secs().to_string());
        assert_eq!(reply.header("retry-after"), delay.clone().unwrap_or_default(), "they say the same");
        assert_eq!(delay.is_some(), comes_again, "{code:?}, {hint}");
        let called = call(at, TRACES_RPC, &request);
        assert_eq!(
            (called.code(), called.retry_delay().is_some()),
            (answered, comes_again),
            "{code:?}, {hint}"
        );
    }
}

#[test]
fn check_46_strangers_are_unauthenticated_and_the_unwelcome_denied() {
    let peer = Peer::taking();
    let auth = "auth: {authenticator: basicauth/server}";
    let protocols =
        format!("grpc: {{endpoint: '127.0.0.1:0', {auth}}}, http: {{endpoint: '127.0.0.1:0', {auth}}}");
    let guarded = config(&protocols, &[to_http(peer.at, AT_ONCE)])
        .replace("service:\n", "service:\n  extensions: [basicauth/server]\n");
    let guarded =
        format!("extensions: {{basicauth/server: {{htpasswd: {{inline: \"user-1:1234\\n\"}}}}}}\n{guarded}");
    let collector = Collector::new("guarded", &guarded).start();
    let at = collector.told("otlp");
    // Nothing; another password; the right one with a line feed, as in the article; another user; another scheme; no base64.
    let wrong = [
        "",
        "Basic dXNlci0xOjEyMzU=",
        "Basic dXNlci0xOjEyMzQK",
        "Basic dXNlci0yOjEyMzQ=",
        "Bearer 1234",
        "Basic !",
    ];
    for credentials in wrong {
        let headers = [("authorization", credentials)];
        let headers = if credentials.is_empty() { &[][..] } else { &headers };
        let reply = proto(at, TRACES, headers, span("a"));
        assert_eq!((reply.status, reply.failure().code()), (401, Code::Unauthenticated), "{credentials}");
        let status = block_on(call_with(at, TRACES_RPC, headers, frame(0, &span("a")))).grpc();
        assert_eq!((status.code(), status.retry_delay()), (Code::Unauthenticated, None), "{credentials}");
    }
    assert_eq!(peer.take().len(), 0);
    let right = [("authorization", "Basic dXNlci0xOjEyMzQ=")];
    assert_eq!(proto(at, TRACES, &right, span("a")).status, 200);
    assert_eq!(block_on(call_with(at, TRACES_RPC, &right, frame(0, &span("a")))).grpc().code(), Code::Ok);
    assert_eq!(peer.take().len(), 2);
    policy_denies(&peer);
}

/// Policy is the mesh's: what the service's `otlp.v1` config lets its dialer send, and how fast.
const RULES: &str = r##"{"rules":[
    {"identities":["#all"],"signals":["logs"]},
    {"identities":["#all"],"signals":["metrics"],"itemsPerSecond":1,"burst":5}
]}"##;

/// Over the mesh, where the certificate says who it is.
#[track_caller]
fn policy_denies(peer: &Peer) {
    let stack = Stack::start();
    let (centre, shop) = (stack.enroll("centre", &[]), stack.enroll("shop", &[]));
    stack.cli(["create", "config", "otlp.rules", "otlp.v1", RULES]).ok();
    stack.cli(["create", "service", "otlp", "--configs", "otlp.rules"]).ok();
    stack.allow("Bind", "otlp", "@centre");
    stack.allow("Dial", "otlp", "@shop");
    let dark = "grpc: {endpoint: hesper://otlp}, http: {endpoint: hesper://otlp}";
    let _centre =
        Collector::new("centre", &config(dark, &[to_http(peer.at, AT_ONCE)])).identity(&centre).start();
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &shop, "otlp:0"]);
    let at = proxy.told("otlp");
    let [traces, metrics, logs, profiles] = signals();
    for denied in [traces, profiles] {
        let reply = proto(at, denied.path, &[], denied.request.clone());
        assert_eq!((reply.status, reply.failure().code()), (403, Code::PermissionDenied), "{}", denied.path);
        let status = call(at, denied.rpc, &denied.request);
        assert_eq!((status.code(), status.retry_delay()), (Code::PermissionDenied, None), "{}", denied.rpc);
    }
    assert_eq!(proto(at, logs.path, &[], logs.request.clone()).status, 200);
    assert_eq!(call(at, logs.rpc, &logs.request).code(), Code::Ok);
    // The burst is one request; who sends more is asked to come again.
    assert_eq!(call(at, metrics.rpc, &metrics.request).code(), Code::Ok);
    let status = call(at, metrics.rpc, &metrics.request);
    assert_eq!(
        (status.code(), status.retry_delay().is_some()),
        (Code::ResourceExhausted, true),
        "{status:?}"
    );
    let reply = proto(at, metrics.path, &[], metrics.request);
    assert_eq!((reply.status, reply.failure().code()), (429, Code::ResourceExhausted));
    assert!(reply.failure().retry_delay().is_some() && !reply.header("retry-after").is_empty(), "{reply:?}");
    assert_eq!(peer.take().len(), 3);
}
