//! Blocks that many components share: every key, every default.

use crate::{config, exporter, faults, receiver, remarks};
use hesper_collector_config::{
    Auth, ClientTls, Compression, Endpoint, GrpcClient, KeepaliveClient, KeepaliveServer, Partition,
    QueueBatch, Retry, Secret, SendingQueue, ServerTls, Sizer, TlsIdentity, TlsVersion,
    exporters::{Exporter, OtlpExporter},
    receivers::{OtlpReceiver, Receiver},
};
use std::time::Duration;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn otlp(body: &str) -> OtlpExporter {
    match exporter("otlp", body) {
        Exporter::Otlp(otlp) => *otlp,
        other => panic!("{other:?}"),
    }
}

fn otlp_receiver(body: &str) -> OtlpReceiver {
    match receiver("otlp", body) {
        Receiver::Otlp(otlp) => *otlp,
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn tls_of_a_client() {
    assert_eq!(otlp("{endpoint: 'a:1'}").client.tls, ClientTls::default());
    assert_eq!(otlp("{endpoint: 'a:1', tls: }").client.tls, ClientTls::default());
    let all = "{insecure: false, insecure_skip_verify: true, server_name_override: n, ca_file: a, \
               include_system_ca_certs_pool: true, cert_file: c, key_pem: k, reload_interval: 1h, min_version: '1.3', \
               max_version: '1.3', cipher_suites: [x], curve_preferences: [y]}";
    let expected = ClientTls {
        insecure: false,
        insecure_skip_verify: true,
        server_name_override: text("n"),
        ca_file: text("a"),
        ca_pem: None,
        include_system_ca_certs_pool: true,
        identity: Some(TlsIdentity {
            cert_file: text("c"),
            key_pem: Some(Secret::new("k")),
            ..TlsIdentity::default()
        }),
        reload_interval: seconds(3600),
        min_version: TlsVersion::Tls13,
        max_version: TlsVersion::Tls13,
    };
    assert_eq!(otlp(&format!("{{endpoint: 'a:1', tls: {all}}}")).client.tls, expected);
    let pem = otlp("{endpoint: 'a:1', tls: {ca_pem: a, cert_pem: c, key_file: k}}").client.tls;
    assert_eq!((pem.ca_pem, pem.identity.and_then(|i| i.cert_pem)), (text("a"), text("c")));
}

#[test]
fn insecure_means_no_tls_unless_there_is_a_ca() {
    for (tls, plain) in [
        ("{}", false),
        ("{insecure: true}", true),
        ("{insecure: true, insecure_skip_verify: true}", true),
        ("{insecure: true, ca_file: a}", false),
    ] {
        assert_eq!(
            otlp(&format!("{{endpoint: 'a:1', tls: {tls}}}")).client.tls.is_plaintext(),
            plain,
            "{tls}"
        );
    }
    assert!(otlp("{endpoint: 'https://a', tls: {insecure: true}}").client.speaks_tls(), "https forces it");
}

#[test]
fn tls_of_a_listener() {
    let all = "{cert_file: c, key_file: k, client_ca_file: a, client_ca_file_reload: true, reload_interval: 5m, \
               min_version: '1.2', max_version: '1.2'}";
    let receiver = otlp_receiver(&format!("{{protocols: {{grpc: {{tls: {all}}}, http: {{tls: {all}}}}}}}"));
    let expected = ServerTls {
        identity: TlsIdentity { cert_file: text("c"), key_file: text("k"), ..TlsIdentity::default() },
        client_ca_file: text("a"),
        client_ca_file_reload: true,
        reload_interval: seconds(300),
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls12,
    };
    assert_eq!(receiver.grpc.and_then(|grpc| grpc.tls).as_ref(), Some(&expected));
    assert_eq!(receiver.http.and_then(|http| http.server.tls), Some(expected));
}

#[test]
fn an_authenticator_with_its_parameters() {
    let text = "extensions: {bearertokenauth: {token: t}}\n\
                receivers: {otlp: {protocols: {http: {auth: {authenticator: bearertokenauth, request_params: [a, b]}}}}}\n\
                service: {extensions: [bearertokenauth]}\n";
    let config = config(text);
    let Receiver::Otlp(otlp) = &config.receivers[&"otlp".parse().expect("an id")].settings else { panic!() };
    let auth = otlp.http.as_ref().and_then(|http| http.server.auth.clone());
    let expected = Auth {
        authenticator: "bearertokenauth".parse().expect("an id"),
        request_params: vec!["a".into(), "b".into()],
    };
    assert_eq!(auth, Some(expected));
}

#[test]
fn a_grpc_client() {
    let default = GrpcClient {
        endpoint: Endpoint::parse("a:1").expect("an endpoint"),
        tls: ClientTls::default(),
        auth: None,
        headers: Vec::new(),
        compression: Compression::Gzip,
        keepalive: KeepaliveClient { time: seconds(10), timeout: seconds(10), permit_without_stream: false },
        wait_for_ready: false,
        balancer_name: "round_robin".into(),
        authority: None,
    };
    assert_eq!(otlp("{endpoint: 'a:1'}").client, default);
    let all = "{endpoint: 'dns:///a:1', compression: zstd, headers: {X-A: 1, x-b: 0123}, wait_for_ready: true, \
               balancer_name: pick_first, authority: b, read_buffer_size: 1, write_buffer_size: 2, \
               auth: {authenticator: nobody}, \
               keepalive: {time: 1s, timeout: 2s, permit_without_stream: true}}";
    let expected = GrpcClient {
        endpoint: Endpoint::parse("dns:///a:1").expect("an endpoint"),
        auth: Some(Auth { authenticator: "nobody".parse().expect("an id"), request_params: Vec::new() }),
        headers: vec![("X-A".into(), Secret::new("1")), ("x-b".into(), Secret::new("0123"))],
        compression: Compression::Zstd,
        keepalive: KeepaliveClient { time: seconds(1), timeout: seconds(2), permit_without_stream: true },
        wait_for_ready: true,
        balancer_name: "pick_first".into(),
        authority: text("b"),
        ..default
    };
    assert_eq!(otlp(all).client, expected);
    for (word, compression) in [
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("none", Compression::None),
        ("''", Compression::None),
    ] {
        assert_eq!(
            otlp(&format!("{{endpoint: 'a:1', compression: {word}}}")).client.compression,
            compression
        );
    }
    let listed = otlp("{endpoint: 'a:1', headers: [{name: a, value: b}]}").client.headers;
    assert_eq!(listed, [("a".into(), Secret::new("b"))]);
}

#[test]
fn keepalive_of_a_listener() {
    let all = "{server_parameters: {max_connection_idle: 1s, max_connection_age: 2s, max_connection_age_grace: 3s, \
               time: 4s, timeout: 5s}, enforcement_policy: {min_time: 6s, permit_without_stream: true}}";
    let keepalive =
        |body: &str| otlp_receiver(&format!("{{protocols: {{grpc: {body}}}}}")).grpc.map(|g| g.keepalive);
    let default = KeepaliveServer {
        max_connection_idle: None,
        max_connection_age: None,
        max_connection_age_grace: None,
        time: seconds(7200),
        timeout: seconds(20),
    };
    assert_eq!(keepalive(""), Some(default));
    let expected = KeepaliveServer {
        max_connection_idle: Some(seconds(1)),
        max_connection_age: Some(seconds(2)),
        max_connection_age_grace: Some(seconds(3)),
        time: seconds(4),
        timeout: seconds(5),
    };
    assert_eq!(keepalive(&format!("{{keepalive: {all}}}")), Some(expected));
    let told = remarks(&format!("receivers: {{otlp: {{protocols: {{grpc: {{keepalive: {all}}}}}}}}}"));
    for key in ["min_time", "permit_without_stream"] {
        assert!(told.iter().any(|told| told.contains(&format!("{key} of"))), "{key}: {told:?}");
    }
}

#[test]
fn retry_never_gives_up_unless_it_is_written() {
    let retry = |body: &str| otlp(&format!("{{endpoint: 'a:1'{body}}}")).retry_on_failure;
    let default = Retry {
        enabled: true,
        initial_interval: seconds(5),
        multiplier: 1.5,
        randomization_factor: 0.5,
        max_interval: seconds(30),
        max_elapsed_time: None,
    };
    assert_eq!(retry(""), default);
    assert_eq!(retry(", retry_on_failure: "), default);
    assert_eq!(retry(", retry_on_failure: {max_elapsed_time: 0s}"), default);
    let all = ", retry_on_failure: {enabled: false, initial_interval: 1s, multiplier: 2, randomization_factor: 0, \
               max_interval: 1m, max_elapsed_time: 5m}";
    let expected = Retry {
        enabled: false,
        initial_interval: seconds(1),
        multiplier: 2.0,
        randomization_factor: 0.0,
        max_interval: seconds(60),
        max_elapsed_time: Some(seconds(300)),
    };
    assert_eq!(retry(all), expected);
    let told = remarks("exporters: {otlp: {endpoint: 'a:1', retry_on_failure: {max_elapsed_time: 5m}}}");
    assert!(told[0].contains("what was not delivered after 300s is dropped"), "{told:#?}");
}

#[test]
fn a_sending_queue() {
    let queue = |body: &str| otlp(&format!("{{endpoint: 'a:1'{body}}}")).sending_queue;
    let default = SendingQueue {
        enabled: true,
        num_consumers: 10,
        queue_size: 1000,
        sizer: Sizer::Requests,
        block_on_overflow: false,
        wait_for_result: false,
        storage: None,
        batch: None,
    };
    assert_eq!(queue(""), default);
    assert_eq!(queue(", sending_queue: "), default);
    let batch = QueueBatch {
        flush_timeout: Duration::from_millis(200),
        min_size: 8192,
        max_size: 0,
        sizer: Sizer::Items,
        partition: Partition::default(),
    };
    assert_eq!(queue(", sending_queue: {batch: }").batch, Some(batch));
    let all = ", sending_queue: {enabled: false, num_consumers: 1, queue_size: 5_000, sizer: bytes, \
               block_on_overflow: true, storage: file_storage/q, batch: {flush_timeout: 1s, \
               min_size: 1, max_size: 2, sizer: bytes, partition: {metadata_keys: [tenant]}}}";
    let expected = SendingQueue {
        enabled: false,
        num_consumers: 1,
        queue_size: 5000,
        sizer: Sizer::Bytes,
        block_on_overflow: true,
        wait_for_result: false,
        storage: Some("file_storage/q".parse().expect("an id")),
        batch: Some(QueueBatch {
            flush_timeout: seconds(1),
            min_size: 1,
            max_size: 2,
            sizer: Sizer::Bytes,
            partition: Partition { metadata_keys: vec!["tenant".into()] },
        }),
    };
    assert_eq!(queue(all), expected);
    assert!(queue(", sending_queue: {blocking: true}").block_on_overflow, "the older name");
    assert!(queue(", sending_queue: {wait_for_result: true}").wait_for_result);
}

#[test]
fn a_queue_on_disk_answers_when_the_data_is_there() {
    let both =
        "exporters: {otlp: {endpoint: 'a:1', sending_queue: {wait_for_result: true, storage: file_storage}}}";
    let faults = faults(both);
    assert!(
        faults.iter().any(|fault| fault.contains("wait_for_result") && fault.contains("not with storage"))
    );
}

#[test]
fn endpoints_that_are_none() {
    for (endpoint, reason) in [
        ("", "has no endpoint"),
        ("a", "the port is missing"),
        ("':1'", "the host is missing"),
        ("'a:x'", "the port of the endpoint is no number"),
        ("'ftp://a:1'", "this scheme is not known here"),
        ("'http://a:1/v1/traces'", "gRPC has no path"),
        ("'hesper://a/v1/traces'", "gRPC has no path"),
        ("'hesper://a?b'", "gRPC has no path"),
        ("'hesper://'", "the endpoint names no service"),
        ("[a]", "must be a single value, not a list"),
        ("'::1:4317'", "without brackets"),
    ] {
        let faults = faults(&format!("exporters: {{otlp: {{endpoint: {endpoint}}}}}"));
        assert_eq!(faults.len(), 1, "{endpoint}: {faults:#?}");
        assert!(faults[0].contains(reason), "{endpoint}: {faults:#?}");
    }
    for (endpoint, reason) in [
        ("localhost", "the port is missing"),
        ("'http://localhost:1'", "no URL"),
        ("'hesper://a/b'", "a service that is bound has no path"),
        ("'a:1?b'", "no URL"),
        ("'a b:1'", "has spaces in it"),
    ] {
        let faults =
            faults(&format!("receivers: {{otlp: {{protocols: {{grpc: {{endpoint: {endpoint}}}}}}}}}"));
        assert_eq!(faults.len(), 1, "{endpoint}: {faults:#?}");
        assert!(faults[0].contains(reason), "{endpoint}: {faults:#?}");
    }
    let faults = faults("receivers: {otlp: {protocols: {grpc: {transport: unix}}}}");
    assert!(faults[0].contains("a Unix socket needs a path"), "{faults:#?}");
}

#[test]
fn receivers_bind_services_and_sockets() {
    let grpc =
        |body: &str| otlp_receiver(&format!("{{protocols: {{grpc: {body}}}}}")).grpc.map(|g| g.endpoint);
    let mesh = Endpoint::Mesh {
        service: "traces".into(),
        instance: Some("eu".into()),
        path: String::new(),
        query: None,
    };
    assert_eq!(grpc("{endpoint: 'hesper://eu@traces'}"), Some(mesh));
    for body in ["{transport: unix, endpoint: /run/x}", "{transport: unix, endpoint: 'unix:///run/x'}"] {
        assert_eq!(grpc(body), Endpoint::parse("unix:///run/x").ok(), "{body}");
    }
}
