//! Writes the first corpus, of real packets, tokens and requests, into the directory given: `cargo run -p hesper-fuzz-targets --example seed DIR`.

use hesper_fuzz_targets::{NOW, grant, packet::SECRET, token};
use hesper_model::id::Tag;
use hesper_otlp::Signal;
use hesper_overlay::{cid, frame::encode, knock, transport};
use hesper_proto::overlay::{
    AttachHello, ControlFrame, ControlHeader, DialHeader, DialResult, FromNode, FromRouter, LinkHello,
    LinkMessage, PassResult, PeerGone, Ping, PresentPass, Probe, Refused, RenewGrant, StreamHeader, UsePath,
    control_frame, from_node, from_router, link_message, stream_header,
};
use quinn_proto::{ConnectionId, Endpoint};
use rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13};
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Instant};

fn main() {
    let directory = std::env::args().nth(1).expect("a directory");
    let sets = [
        ("packet", packets()),
        ("token", tokens()),
        ("grant", grants()),
        ("frame", frames()),
        ("proxy", requests()),
        ("config", configs()),
        ("filter", queries()),
        ("otlp", telemetry().map(|(signal, text)| encoded(signal, text)).into()),
        ("otlp_json", telemetry().map(|(_, text)| text.as_bytes().to_vec()).into()),
    ];
    for (target, seeds) in sets {
        let place = Path::new(&directory).join(target);
        fs::create_dir_all(&place).expect("a directory");
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(place.join(format!("seed-{number:02}")), seed).expect("written");
        }
    }
}

fn initial(dcid: &[u8]) -> Vec<u8> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let tls = tls.with_protocol_versions(&[&TLS13]).expect("TLS 1.3");
    let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let dcid = ConnectionId::new(dcid);
    let config = transport::client_config(tls, transport::attach_transport(), move || dcid).expect("a suite");
    let own = transport::endpoint_config(Tag(*b"somenode"));
    let mut endpoint = Endpoint::new(Arc::new(own), None, true, None);
    let (now, there) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], 1)));
    let (_, mut connection) = endpoint.connect(now, config, there, "hesper").expect("a connection");
    let mut bytes = Vec::new();
    let _ = connection.poll_transmit(now, 1, &mut bytes).expect("a packet");
    bytes
}

fn packets() -> Vec<Vec<u8>> {
    let key = knock::derive(&SECRET, *b"a-key-id");
    let tag = cid::fresh_dcid(Tag(*b"sometag1"));
    let short = [&[0x41][..], &tag, &[0x5a; 40]].concat();
    let version = [&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8][..], &[1; 8], &[8], &[2; 8]].concat();
    let mut knocked = initial(&knock::make(*b"a-key-id", &key, NOW, 7));
    knocked.truncate(120);
    let mut wrong = initial(&[9; cid::KNOCK_LEN]);
    wrong.truncate(60);
    vec![
        knocked,
        wrong,
        initial(&tag)[..80].to_vec(),
        short,
        version,
        vec![0x40; 30],
        vec![0xc0, 0, 0, 0, 0, 0, 0],
    ]
}

fn signed(typ: &str, claims: &Value) -> Vec<u8> {
    let header = json!({"alg": "EdDSA", "typ": typ, "kid": token::KID});
    format!("\n{header}\n{claims}").into_bytes()
}

fn grant_claims() -> Value {
    json!({"jti": "1", "sub": grant::DIALER, "aud": grant::BINDER, "service": grant::SERVICE, "terminator": grant::TERMINATOR,
        "tag": "0102030405060708", "cnf": grant::KEY, "iat": NOW, "exp": NOW + 300})
}

fn tokens() -> Vec<Vec<u8>> {
    let enrollment = json!({"iss": "https://127.0.0.1:1280", "sub": "a", "jti": "b", "exp": NOW + 300, "em": "ott",
        "ctrls": ["https://127.0.0.1:1280"], "ca_sha256": grant::KEY});
    let session =
        json!({"sub": "a", "tag": "0102030405060708", "cnf": grant::KEY, "iat": NOW, "exp": NOW + 300});
    let pass = json!({"jti": "1", "a": "0102030405060708", "b": "0807060504030201", "paths": [["r1"], ["r1", "r2"]],
        "cnf": grant::KEY, "iat": NOW, "exp": NOW + 300});
    let (header, claims) =
        (format!(r#"{{"alg":"EdDSA","typ":"hesper-grant+jwt","kid":"{}"}}"#, token::KID), grant_claims());
    vec![
        signed("hesper-enrollment+jwt", &enrollment),
        signed("hesper-session+jwt", &session),
        signed("hesper-grant+jwt", &grant_claims()),
        signed("hesper-pass+jwt", &pass),
        signed("JWT", &session),
        token::sign(header.as_bytes(), claims.to_string().as_bytes()).into_bytes(),
        b"eyJhbGciOiJub25lIn0.e30.".to_vec(),
        b"\n{\"alg\":\"none\"}\n{}".to_vec(),
    ]
}

fn grants() -> Vec<Vec<u8>> {
    let mut revoked = grant_claims();
    revoked["jti"] = json!(grant::REVOKED);
    let mut over = grant_claims();
    over["exp"] = json!(NOW);
    [grant_claims(), revoked, over].iter().map(|claims| claims.to_string().into_bytes()).collect()
}

fn frames() -> Vec<Vec<u8>> {
    let node = |message| encode(&FromNode { message: Some(message) }).expect("short");
    let router = |message| encode(&FromRouter { message: Some(message) }).expect("short");
    let link = |message| encode(&LinkMessage { message: Some(message) }).expect("short");
    let control = |frame| encode(&ControlFrame { frame: Some(frame) }).expect("short");
    let dial = DialHeader {
        service_id: "s".into(),
        terminator_id: "t".into(),
        grant: "g".into(),
        ..DialHeader::default()
    };
    let stream = |header| encode(&StreamHeader { header: Some(header) }).expect("short");
    let text = || "x".to_owned();
    vec![
        [
            node(from_node::Message::Hello(AttachHello { session_token: text() })),
            node(from_node::Message::Pass(PresentPass {
                request_id: 1,
                pass: text(),
                traceparent: text(),
                tracestate: text(),
            })),
            node(from_node::Message::Ping(Ping { nonce: 2 })),
        ]
        .concat(),
        router(from_router::Message::PassResult(PassResult {
            request_id: 1,
            error: text(),
            peer_attached: true,
        })),
        router(from_router::Message::Refused(Refused { reason: text() })),
        router(from_router::Message::PeerGone(PeerGone { tag: vec![1; 8] })),
        link(link_message::Message::Hello(LinkHello { router_id: text() })),
        link(link_message::Message::Pass(PresentPass {
            request_id: 1,
            pass: text(),
            traceparent: text(),
            tracestate: text(),
        })),
        stream(stream_header::Header::Dial(dial)),
        stream(stream_header::Header::Control(ControlHeader {})),
        control(control_frame::Frame::Renew(RenewGrant {
            service_id: text(),
            terminator_id: text(),
            grant: text(),
        })),
        control(control_frame::Frame::Probe(Probe {})),
        control(control_frame::Frame::UsePath(UsePath {
            router_ids: vec![text(), text()],
            ..UsePath::default()
        })),
        encode(&DialResult { code: text(), message: text() }).expect("short"),
        vec![0, 1, 0, 1, 0],
        vec![0xff; 5],
    ]
}

fn requests() -> Vec<Vec<u8>> {
    [
        "GET http://metrics/metrics HTTP/1.1\r\nhost: metrics\r\nx-prometheus-scrape-timeout-seconds: 10\r\nconnection: te, close\r\nte: x\r\n\r\n",
        "GET http://web.example:8080/a?b#c HTTP/1.0\r\nproxy-authorization: basic x\r\nupgrade: h2c\r\n\r\n",
        "POST http://metrics/ HTTP/1.1\r\nhost: other\r\ncontent-length: 3\r\n\r\nabc",
        "POST http://metrics/ HTTP/1.1\r\nhost: metrics\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST http://metrics/ HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "CONNECT metrics:443 HTTP/1.1\r\nhost: metrics:443\r\n\r\n",
        "GET /sd HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: null\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nhost: [::1]\r\n\r\n",
        "GET https://metrics/ HTTP/1.1\r\nhost: metrics\r\n\r\n",
        "GET http://user:password@metrics/ HTTP/1.1\r\nhost: metrics\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: metrics\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

fn configs() -> Vec<Vec<u8>> {
    let of = |choice: u8, data: Value| [vec![choice], data.to_string().into_bytes()].concat();
    let checks = json!([{"address": "localhost:80", "interval": "5s", "timeout": "10s",
        "actions": [{"trigger": "fail", "consecutiveEvents": 3, "action": "mark unhealthy"}]}]);
    vec![
        of(0, json!({"protocol": "tcp", "address": "127.0.0.1", "port": 80})),
        of(0, json!({"forwardProtocol": true, "allowedProtocols": ["tcp"], "forwardAddress": true, "allowedAddresses": ["*.a", "10.0.0.0/8"],
            "forwardPort": true, "allowedPortRanges": [{"low": 1, "high": 9}], "allowedSourceAddresses": ["::1"]})),
        of(0, json!({"protocol": "tcp", "address": "a.b", "port": 1, "portChecks": checks,
            "listenOptions": {"cost": 3, "precedence": "required", "connectTimeout": "1m"}})),
        of(1, json!({"terminators": [{"protocol": "udp", "address": "a", "port": 1.0}]})),
        of(2, json!({"protocols": ["tcp"], "addresses": ["a.b"], "portRanges": [{"low": 80, "high": 80}], "dialOptions": {"identity": "$dst_hostname"}})),
        of(3, json!({"port": 80, "protocols": ["tcp"], "binding": "127.0.0.1"})),
        of(4, json!({"path": "/metrics", "scheme": "https", "labels": {"k": "v"}})),
        b"\x05{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"^a+$\"}}}\n{\"a\":\"aa\"}".to_vec(),
        b"\x05{\"$ref\":\"https://example.org\"}\n1".to_vec(),
    ]
}

fn queries() -> Vec<Vec<u8>> {
    [
        "",
        "name = \"one\" and n > 0 sort by name desc, n skip 1 limit 5",
        "not (on = true or tags.a contains \"x\") limit none",
        "anyOf(roles) in [\"r\", 'q'] and isEmpty(list)",
        "count(from list where a >= 2) > 0 or allOf(roles) icontains \"S\"",
        "at between datetime(2020-01-01T00:00:00Z) and datetime(2030-01-01T00:00:00Z)",
        "n not between -3 and 1e3 or name != null",
        "true sort by a.b.c limit 0",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// One request per signal, with what an attacker would write too.
fn telemetry() -> [(Signal, &'static str); 5] {
    [
        (
            Signal::Traces,
            r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"hesper.identity.id","value":{"stringValue":"x"}}]},"scopeSpans":[{"scope":{"name":"s"},"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","kind":"SPAN_KIND_CLIENT","startTimeUnixNano":"17","events":[{"name":"e"}],"links":[{}],"status":{"code":2}}]}]}]}"#,
        ),
        (
            Signal::Metrics,
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"g","gauge":{"dataPoints":[{"asDouble":"NaN","exemplars":[{"asInt":"-1","filteredAttributes":[{"key":"hesper.x"}]}]}]}},{"histogram":{"dataPoints":[{"count":3,"bucketCounts":["1","2"],"explicitBounds":[0.5]}],"aggregationTemporality":2}}]}]}]}"#,
        ),
        (
            Signal::Metrics,
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"exponentialHistogram":{"dataPoints":[{"scale":-2,"positive":{"offset":-1,"bucketCounts":[7]}}]}},{"summary":{"dataPoints":[{"quantileValues":[{"quantile":0.5,"value":1}]}]}}]}]}]}"#,
        ),
        (
            Signal::Logs,
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":9,"body":{"kvlistValue":{"values":[{"key":"hesper.x","value":{"arrayValue":{"values":[{"boolValue":true},{},{"bytesValue":"AAE_"}]}}}]}},"flags":1}]}]}]}"#,
        ),
        (
            Signal::Profiles,
            r#"{"resourceProfiles":[{"scopeProfiles":[{"profiles":[{"profileId":"AAECAw==","samples":[{"values":["7"],"attributeIndices":[1]}]}]}]}],"dictionary":{"stringTable":["","hesper.identity.id"],"attributeTable":[{},{"keyStrindex":1,"value":{"intValue":1}}]}}"#,
        ),
    ]
}

fn encoded(signal: Signal, text: &str) -> Vec<u8> {
    let choice = Signal::ALL.iter().position(|other| *other == signal).expect("a signal");
    let payload = hesper_otlp::json::decode(signal, text.as_bytes()).expect("a request");
    [&[choice as u8][..], &payload].concat()
}
