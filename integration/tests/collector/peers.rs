//! Real peers on both sides: the SDKs, and a real OpenTelemetry Collector before and behind ours.

use crate::ground::Pair;
use hesper_integration::{
    Collector, Otelcol, Stack,
    otlp::{OtlpSink, Sdk},
    pki, wait_until,
};
use std::net::SocketAddr;

/// Of each signal.
const COUNT: usize = 700;

/// Every SDK and protocol, plain and compressed; `(sdk, protocol)`.
const SENDERS: [(Sdk, &str); 5] = [
    (Sdk::Python, "grpc"),
    (Sdk::Python, "http"),
    (Sdk::JavaScript, "grpc"),
    (Sdk::JavaScript, "http"),
    (Sdk::JavaScript, "json"),
];

#[test]
fn what_the_sdks_send_arrives_once() {
    let sink = OtlpSink::start();
    let config = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters:
  otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}}}
  otlp_http: {{endpoint: 'http://{}', tls: {{insecure: true}}}}
service:
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlp_grpc]}}
    metrics: {{receivers: [otlp], exporters: [otlp_http]}}
    logs: {{receivers: [otlp], exporters: [otlp_http]}}
",
        sink.grpc(),
        sink.http()
    );
    let mut collector = Collector::new("collector", &config).start();
    let mut sent = Vec::new();
    for (sdk, protocol) in SENDERS {
        for further in [&[][..], &["gzip"]] {
            // The same endpoint for both: one listener serves both.
            let endpoint = format!("http://{}", collector.told("otlp"));
            let service = format!("{sdk:?}-{protocol}-{}", further.len());
            sent.extend(sdk.send(protocol, &endpoint, COUNT, &service, further).acknowledged(3 * COUNT));
        }
    }
    sink.wait_exactly(&sent, &[], Stack::PATIENCE);
    assert!(collector.terminate().success());
}

#[test]
fn over_the_mesh_too_and_it_says_which_gateway_it_came_by() {
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let pair = Pair::start(&stack, sink.grpc());
    let mut sent = Vec::new();
    for (sdk, protocol) in SENDERS.into_iter().filter(|(_, protocol)| *protocol == "grpc") {
        let endpoint = format!("http://{}", pair.port);
        sent.extend(
            sdk.send(protocol, &endpoint, COUNT, &format!("{sdk:?}"), &["gzip"]).acknowledged(3 * COUNT),
        );
    }
    sink.wait_exactly(&sent, &[], Stack::PATIENCE);
    for item in sink.items() {
        assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some("edge"), "{item:?}");
    }
}

/// An SDK, a Collector, Hesper, another Collector, a sink; each hop with TLS and a password.
#[test]
fn a_real_collector_sends_to_us_and_takes_from_us() {
    let sink = OtlpSink::start();
    let directory = tempfile::tempdir().expect("a directory");
    let tls = pki::certificate(&["localhost", "127.0.0.1"], directory.path());
    let [authority, certificate, key] =
        [&tls.authority, &tls.certificate, &tls.key].map(|file| file.display());
    let server = |user: &str| {
        format!(
            "extensions:
  basicauth/server: {{htpasswd: {{inline: \"{user}:secret-{user}\\n\"}}}}
  basicauth/client: {{client_auth: {{username: second, password: secret-second}}}}
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:0
        tls: {{cert_file: {certificate}, key_file: {key}}}
        auth: {{authenticator: basicauth/server}}
"
        )
    };
    let quiet = "  telemetry: {metrics: {level: none}}\n";
    let pipelines =
        "  pipelines: {traces: &p {receivers: [otlp], exporters: [otlp_grpc]}, metrics: *p, logs: *p}\n";
    let last = format!(
        "{}exporters: {{otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}}}}}
service:
  extensions: [basicauth/server]
{quiet}{pipelines}",
        server("second")
            .replace("  basicauth/client: {client_auth: {username: second, password: secret-second}}\n", ""),
        sink.grpc()
    );
    let Some(mut last) = Otelcol::start(&last) else { return };
    let ours = format!(
        "{}exporters:
  otlp_grpc:
    endpoint: 'localhost:{}'
    tls: {{ca_file: {authority}}}
    auth: {{authenticator: basicauth/client}}
service:
  extensions: [basicauth/server, basicauth/client]
{pipelines}",
        server("first"),
        last.told("GRPC").port()
    );
    let mut ours = Collector::new("ours", &ours).start();
    let first = |password: &str| {
        let config = format!(
            "extensions: {{basicauth: {{client_auth: {{username: first, password: {password}}}}}}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters:
  otlp_grpc:
    endpoint: 'localhost:{}'
    tls: {{ca_file: {authority}}}
    auth: {{authenticator: basicauth}}
service:
  extensions: [basicauth]
{quiet}{pipelines}",
            ours.told("otlp/grpc").port()
        );
        Otelcol::start(&config).expect("the second one, too")
    };
    let mut wrong = first("mistaken");
    let endpoint = format!("http://{}", wrong.told("GRPC"));
    // The Collector acknowledges what it will not be able to send.
    Sdk::Python.send("grpc", &endpoint, 10, "wrong", &[]).acknowledged(30);
    wait_until("the Collector is refused", Stack::PATIENCE, || wrong.process.said("Unauthenticated"));
    wrong.stop();
    let mut right = first("secret-first");
    let endpoint = format!("http://{}", right.told("GRPC"));
    let mut sent = Sdk::Python.send("grpc", &endpoint, COUNT, "right", &["gzip"]).acknowledged(3 * COUNT);
    sent.extend(Sdk::JavaScript.send("grpc", &endpoint, COUNT, "right-2", &[]).acknowledged(3 * COUNT));
    sink.wait_exactly(&sent, &[], Stack::PATIENCE);
    right.stop();
    assert!(ours.terminate().success());
    last.stop();
    for item in sink.items() {
        assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some("first"), "{item:?}");
    }
}

/// Exporters to a real Collector, by what a Collector lets a user write.
const EXPORTERS: [&str; 10] = [
    "otlp_grpc/gzip: {endpoint: 'GRPC', tls: {insecure: true}}",
    "otlp_grpc/none: {endpoint: 'GRPC', tls: {insecure: true}, compression: none}",
    "otlp_grpc/zstd: {endpoint: 'GRPC', tls: {insecure: true}, compression: zstd}",
    "otlp_grpc/snappy: {endpoint: 'GRPC', tls: {insecure: true}, compression: snappy}",
    "otlp_http/gzip: {endpoint: 'http://HTTP'}",
    "otlp_http/none: {endpoint: 'http://HTTP', compression: none}",
    "otlp_http/zstd: {endpoint: 'http://HTTP', compression: zstd}",
    "otlp_http/json: {endpoint: 'http://HTTP', encoding: json}",
    "otlp_http/snappy: {endpoint: 'http://HTTP', encoding: json, compression: snappy}",
    "otlp_http/lz4: {endpoint: 'http://HTTP', compression: lz4}",
];

/// A configuration with one listener, for these exporters.
fn all_signals(exporters: &str, names: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters:
{exporters}service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: &p {{receivers: [otlp], exporters: [{names}]}}, metrics: *p, logs: *p}}
"
    )
}

/// Everything to the sink.
fn last(sink: &OtlpSink) -> String {
    all_signals(
        &format!("  otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}}}\n", sink.grpc()),
        "otlp_grpc",
    )
}

/// Everything by each of the exporters.
fn first(grpc: SocketAddr, http: SocketAddr) -> String {
    let [grpc, http] = [grpc, http].map(|address| address.to_string());
    let written = EXPORTERS.map(|e| format!("  {}\n", e.replace("GRPC", &grpc).replace("HTTP", &http)));
    all_signals(&written.concat(), &EXPORTERS.map(|e| e.split(':').next().unwrap_or_default()).join(", "))
}

/// Sends to the first, and expects that everything comes from the last once for each exporter.
fn each_once(sink: &OtlpSink, first: SocketAddr) {
    let sent =
        Sdk::Python.send("grpc", &format!("http://{first}"), COUNT, "encodings", &[]).acknowledged(3 * COUNT);
    wait_until("everything has come by each exporter", Stack::PATIENCE, || {
        let counts = sink.counts();
        sent.iter().all(|line| counts.get(line) == Some(&EXPORTERS.len()))
    });
    assert_eq!(sink.counts().len(), sent.len());
}

#[test]
fn a_real_collector_understands_every_encoding_of_ours() {
    let sink = OtlpSink::start();
    let Some(mut theirs) = Otelcol::start(&last(&sink)) else { return };
    let mut ours = Collector::new("ours", &first(theirs.told("GRPC"), theirs.told("HTTP"))).start();
    each_once(&sink, ours.told("otlp"));
    assert!(ours.terminate().success());
    theirs.stop();
}

#[test]
fn we_understand_every_encoding_of_a_real_collector() {
    let sink = OtlpSink::start();
    let mut ours = Collector::new("ours", &last(&sink)).start();
    let listener = ours.told("otlp");
    let Some(mut theirs) = Otelcol::start(&first(listener, listener)) else { return };
    each_once(&sink, theirs.told("GRPC"));
    theirs.stop();
    assert!(ours.terminate().success());
}
