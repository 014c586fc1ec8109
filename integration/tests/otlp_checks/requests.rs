//! What requests may look like. Checks 11 to 18.

use crate::{
    client::{JSON, Method, PROTOBUF, TRACES, TRACES_RPC, Version, block_on, call, json, post, proto, send},
    data::{names, profiles, signals, span, spans, types},
    ground::{BOTH, collector, gateway, settled, to_grpc, to_http},
    peer::{Peer, http, ok},
};
use hesper_integration::{Stack, wait_until};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use prost::Message;
use std::net::SocketAddr;
use tonic::Code;

#[test]
fn check_11_content_types_with_parameters_and_in_any_case() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    for name in ["application/json", "Application/JSON; charset=utf-8", "application/json;x=y"] {
        let reply = post(at, TRACES, &[("content-type", name)], "{}");
        assert_eq!((reply.status, reply.header("content-type")), (200, JSON.1), "{name}");
    }
    for name in ["application/x-protobuf", "APPLICATION/X-Protobuf; a=b"] {
        let reply = post(at, TRACES, &[("content-type", name)], span("a"));
        assert_eq!((reply.status, reply.header("content-type")), (200, PROTOBUF.1), "{name}");
    }
    let arrived: Vec<_> = peer.take().iter().flat_map(|request| names(request)).collect();
    assert_eq!(arrived, ["a", "a"]);
}

#[test]
fn check_12_other_content_types_are_415_and_other_methods_405() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    for headers in [&[("content-type", "text/plain")][..], &[("content-type", "application/protobuf")], &[]] {
        let reply = post(at, TRACES, headers, span("a"));
        assert_eq!((reply.status, reply.failure().code()), (415, Code::InvalidArgument), "{headers:?}");
    }
    for method in [Method::GET, Method::PUT, Method::OPTIONS, Method::DELETE] {
        let reply = block_on(send(Version::HTTP_11, method.clone(), at, TRACES, &[PROTOBUF], ""));
        assert_eq!((reply.status, reply.header("allow")), (405, "POST"), "{method}");
        assert_eq!(reply.failure().code(), Code::Unimplemented);
    }
    assert_eq!(peer.take().len(), 0);
}

#[test]
fn check_13_an_empty_request_succeeds() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    for signal in signals() {
        let reply = proto(at, signal.path, &[], "");
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{}", signal.path);
        for text in ["{}", ""] {
            let reply = json(at, signal.path, text);
            assert_eq!((reply.status, &reply.body[..]), (200, &b"{}"[..]), "{}", signal.path);
        }
        assert_eq!(call(at, signal.rpc, b"").code(), Code::Ok, "{}", signal.rpc);
    }
}

#[test]
fn check_14_empty_envelopes_are_taken_and_bring_nothing() {
    let peer = Peer::taking();
    let (collector, at) = gateway(peer.at);
    let text = r#"{"resourceSpans":[{},{"resource":{},"scopeSpans":[{"scope":{}}]}]}"#;
    assert_eq!(json(at, TRACES, text).status, 200);
    // The same in protobuf: two resources, one of them with an empty resource and an empty scope.
    let bytes = b"\x0a\x00\x0a\x06\x0a\x00\x12\x02\x0a\x00";
    assert_eq!(proto(at, TRACES, &[], &bytes[..]).status, 200);
    assert_eq!(call(at, TRACES_RPC, bytes).code(), Code::Ok);
    assert_eq!(call(at, TRACES_RPC, &span("a")).code(), Code::Ok);
    assert_eq!(settled(&collector, 1).delivered, 1);
    let arrived: Vec<_> = peer.take().iter().flat_map(|request| names(request)).collect();
    assert_eq!(arrived, ["a"]);
}

/// Takes it over both protocols, and what arrives is what was sent, byte for byte.
#[track_caller]
fn passes_unchanged(peer: &Peer, at: SocketAddr, request: &[u8]) {
    assert_eq!(proto(at, TRACES, &[], request.to_vec()).status, 200);
    assert_eq!(call(at, TRACES_RPC, request).code(), Code::Ok);
    assert_eq!(peer.take(), [request, request]);
}

#[test]
fn check_15_unknown_fields_never_fail_a_request_and_pass() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    // Field 1000 with a text, behind the request; in a request of one resource, with it inside; each type on the wire.
    passes_unchanged(&peer, at, &[&span("a")[..], b"\xc2\x3e\x03abc"].concat());
    passes_unchanged(&peer, at, b"\x0a\x06\xc2\x3e\x03abc");
    passes_unchanged(&peer, at, b"\xc0\x3e\x07\xc1\x3e12345678\xc5\x3e1234");
}

fn any(value: Option<Value>) -> AnyValue {
    AnyValue { value }
}

fn named(key: &str, value: Option<Value>) -> KeyValue {
    KeyValue { key: key.into(), value: Some(any(value)), ..KeyValue::default() }
}

/// A span with these attributes, which are its resource's too.
fn with_attributes(attributes: Vec<KeyValue>) -> Vec<u8> {
    let mut request = spans(["a"]);
    request.resource_spans[0].resource.get_or_insert_default().attributes.clone_from(&attributes);
    request.resource_spans[0].scope_spans[0].spans[0].attributes = attributes;
    request.encode_to_vec()
}

#[test]
fn check_16_every_form_of_attribute_value_passes_unchanged() {
    let peer = Peer::taking();
    let (_collector, at) = gateway(peer.at);
    let mixed = vec![any(Some(Value::IntValue(1))), any(Some(Value::StringValue("b".into()))), any(None)];
    let deep = KeyValueList { values: vec![named("d", Some(Value::BytesValue(vec![0, 255])))] };
    let inner = KeyValueList { values: vec![named("c", Some(Value::KvlistValue(deep))), named("", None)] };
    let request = with_attributes(vec![
        named("empty", None),
        KeyValue { key: "absent".into(), ..KeyValue::default() },
        named("bytes", Some(Value::BytesValue(vec![1, 2, 3]))),
        named("no bytes", Some(Value::BytesValue(vec![]))),
        named("array", Some(Value::ArrayValue(ArrayValue { values: mixed }))),
        named("list", Some(Value::KvlistValue(inner))),
        named("not a number", Some(Value::DoubleValue(f64::NAN))),
    ]);
    passes_unchanged(&peer, at, &request);
}

#[test]
fn check_17_places_in_a_string_table_are_no_fault_outside_profiles() {
    let peer = Peer::taking();
    let (collector, at) = gateway(peer.at);
    let value = Some(any(Some(Value::StringValueStrindex(7))));
    let request = with_attributes(vec![KeyValue { key_strindex: 3, value, ..KeyValue::default() }]);
    passes_unchanged(&peer, at, &request);
    assert_eq!(settled(&collector, 2).delivered, 2, "it is one span each time");
}

/// Requests with dictionaries of their own are put together by `batch`, divided for a small peer, and made of JSON.
#[test]
fn check_18_profiles_travel_with_their_dictionary() {
    const MOST: usize = 20_000;
    let batched = Peer::taking();
    let small = Peer::start(|seen| match seen.message().len() > MOST {
        true => http(413, PROTOBUF.1, ""),
        false => ok(seen),
    });
    let batch = "sending_queue: {batch: {flush_timeout: 300ms, min_size: 100000}}";
    let collector = collector(BOTH, &[to_grpc(batched.at, batch), to_http(small.at, "")]);
    let (at, path) = (collector.told("otlp"), "/v1development/profiles");
    let name = |request: usize, number: usize| format!("{request}-{number}");
    let mut sent = vec!["json".to_owned()];
    for request in 0..3 {
        let names: Vec<_> = (0..300).map(|number| name(request, number)).collect();
        let body = profiles(names.iter().cloned(), 200).encode_to_vec();
        assert!(body.len() > MOST);
        assert_eq!(proto(at, path, &[], body).status, 200);
        sent.extend(names);
    }
    let text = r#"{"resourceProfiles":[{"scopeProfiles":[{"profiles":[{"sampleType":{"typeStrindex":1}}]}]}],"dictionary":{"stringTable":["","json"]}}"#;
    assert_eq!(json(at, path, text).status, 200);
    sent.sort();
    let of = |peer: &Peer| -> Vec<String> {
        let taken = peer
            .seen()
            .into_iter()
            .map(|seen| seen.message())
            .filter(|message| message.len() <= MOST || peer.at == batched.at);
        let mut names: Vec<_> = taken.flat_map(|message| types(&message)).collect();
        names.sort();
        names
    };
    for peer in [&batched, &small] {
        wait_until("all profiles have come", Stack::PATIENCE, || of(peer).len() >= sent.len());
        assert_eq!(of(peer), sent);
    }
    assert_eq!(settled(&collector, 2 * sent.len() as u64).dropped, 0);
}
