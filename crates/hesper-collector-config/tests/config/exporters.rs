//! Exporters: every key, every default.

use crate::{exporter, faults};
use hesper_collector_config::{
    Address, ClientTls, Compression, Endpoint, HttpClient, Retry, Secret, SendingQueue, Signal,
    exporters::{
        Debug, Encoding, Exporter, File, FileFormat, GroupBy, OtlpHttpExporter, PrometheusRemoteWrite,
        RemoteWriteVersion, Rotation, Verbosity,
    },
};
use std::{collections::BTreeMap, time::Duration};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn url(text: &str) -> Endpoint {
    Endpoint::parse(text).expect("a URL")
}

fn default_client() -> HttpClient {
    HttpClient {
        tls: ClientTls::default(),
        auth: None,
        headers: Vec::new(),
        compression: Compression::Gzip,
        compression_level: None,
        timeout: seconds(30),
        proxy_url: None,
        cookies: false,
        max_idle_conns: 100,
        max_idle_conns_per_host: 0,
        max_conns_per_host: 0,
        idle_conn_timeout: seconds(90),
        disable_keep_alives: false,
    }
}

fn default_http() -> OtlpHttpExporter {
    OtlpHttpExporter {
        endpoint: Some(url("https://a:4318")),
        traces_endpoint: None,
        metrics_endpoint: None,
        logs_endpoint: None,
        profiles_endpoint: None,
        encoding: Encoding::Proto,
        client: default_client(),
        retry_on_failure: Retry::default(),
        sending_queue: SendingQueue::default(),
    }
}

fn http(body: &str) -> OtlpHttpExporter {
    match exporter("otlp_http", body) {
        Exporter::OtlpHttp(http) => *http,
        other => panic!("{other:?}"),
    }
}

#[test]
fn otlp_over_grpc() {
    for kind in ["otlp", "otlp_grpc"] {
        let Exporter::Otlp(otlp) = exporter(kind, "{endpoint: 'a:1'}") else { panic!() };
        assert_eq!(otlp.timeout, seconds(5));
        let Exporter::Otlp(otlp) = exporter(kind, "{endpoint: 'a:1', timeout: 1m30s}") else { panic!() };
        assert_eq!(otlp.timeout, seconds(90));
    }
}

#[test]
fn otlp_over_http() {
    assert_eq!(http("{endpoint: 'https://a:4318'}"), default_http());
    let body = "{endpoint: 'https://a:4318', traces_endpoint: 'http://b/t', metrics_endpoint: 'http://c/m', \
                logs_endpoint: 'hesper://logs/l', profiles_endpoint: 'http://d/p', encoding: json, timeout: 1s, \
                compression: zstd, compression_params: {level: 11}, proxy_url: 'http://p:3128', cookies: {enabled: true}, \
                headers: {a: b}, max_idle_conns: 1, max_idle_conns_per_host: 2, max_conns_per_host: 3, \
                idle_conn_timeout: 4s, disable_keep_alives: true, read_buffer_size: 1, write_buffer_size: 1, \
                http2_read_idle_timeout: 1s, http2_ping_timeout: 1s, force_attempt_http2: true, tls: {insecure: true}, \
                retry_on_failure: {enabled: false}, sending_queue: {enabled: false}}";
    let expected = OtlpHttpExporter {
        traces_endpoint: Some(url("http://b/t")),
        metrics_endpoint: Some(url("http://c/m")),
        logs_endpoint: Some(url("hesper://logs/l")),
        profiles_endpoint: Some(url("http://d/p")),
        encoding: Encoding::Json,
        client: HttpClient {
            tls: ClientTls { insecure: true, ..ClientTls::default() },
            headers: vec![("a".into(), Secret::new("b"))],
            compression: Compression::Zstd,
            compression_level: Some(11),
            timeout: seconds(1),
            proxy_url: Some(Address { scheme: Some("http".into()), ..Address::new("p", 3128) }),
            cookies: true,
            max_idle_conns: 1,
            max_idle_conns_per_host: 2,
            max_conns_per_host: 3,
            idle_conn_timeout: seconds(4),
            disable_keep_alives: true,
            ..default_client()
        },
        retry_on_failure: Retry { enabled: false, ..Retry::default() },
        sending_queue: SendingQueue { enabled: false, ..SendingQueue::default() },
        ..default_http()
    };
    assert_eq!(http(body), expected);
}

#[test]
fn each_signal_has_its_url() {
    let exporter = http("{endpoint: 'http://a:1/otlp/', traces_endpoint: 'http://b/t'}");
    for (signal, expected) in [
        (Signal::Traces, "http://b/t"),
        (Signal::Metrics, "http://a:1/otlp/v1/metrics"),
        (Signal::Logs, "http://a:1/otlp/v1/logs"),
        (Signal::Profiles, "http://a:1/otlp/v1development/profiles"),
    ] {
        assert_eq!(exporter.endpoint_of(signal), Some(url(expected)));
    }
    let exporter = http("{logs_endpoint: 'hesper://x@logs'}");
    assert_eq!(exporter.endpoint_of(Signal::Traces), None);
    assert_eq!(exporter.endpoint_of(Signal::Logs), Some(url("hesper://x@logs")));
    assert_eq!(
        http("{endpoint: 'hesper://logs'}").endpoint_of(Signal::Logs),
        Some(url("hesper://logs/v1/logs"))
    );
}

#[test]
fn bad_urls() {
    for (body, reason) in [
        ("", "has no endpoint"),
        ("{endpoint: 'a:4318'}", "no URL of HTTP"),
        ("{endpoint: 'https://'}", "the host is missing"),
        ("{endpoint: 'https://a', encoding: text}", "'text' is no choice"),
        ("{endpoint: 'https://a', proxy_url: 'p:1'}", "the proxy has no scheme"),
        ("{endpoint: 'https://a', headers: {'a b': c}}", "is no name of a header"),
        ("{endpoint: 'https://a', headers: {a: \"b\\n\"}}", "has a line break"),
        ("{endpoint: 'https://a', compression: brotli}", "'brotli' is no choice"),
    ] {
        let faults = faults(&format!("exporters: {{otlphttp: {body}}}"));
        assert_eq!(faults.len(), 1, "{body}: {faults:#?}");
        assert!(faults[0].contains(reason), "{body}: {faults:#?}");
    }
}

#[test]
fn debugging() {
    let default = Debug {
        verbosity: Verbosity::Basic,
        sampling_initial: 2,
        sampling_thereafter: 1,
        use_internal_logger: true,
        output_paths: vec!["stdout".into()],
    };
    assert_eq!(exporter("debug", ""), Exporter::Debug(default.clone()));
    let body = "{verbosity: detailed, sampling_initial: 5, sampling_thereafter: 200, use_internal_logger: false, \
                output_paths: [/tmp/x, stderr], sending_queue: {enabled: true, batch: {min_size: 1}}}";
    let expected = Debug {
        verbosity: Verbosity::Detailed,
        sampling_initial: 5,
        sampling_thereafter: 200,
        use_internal_logger: false,
        output_paths: vec!["/tmp/x".into(), "stderr".into()],
    };
    assert_eq!(exporter("debug", body), Exporter::Debug(expected));
    let logging = Debug { sampling_thereafter: 500, ..default };
    assert_eq!(exporter("logging", ""), Exporter::Debug(logging.clone()));
    for (body, verbosity) in [
        ("{loglevel: debug}", Verbosity::Detailed),
        ("{loglevel: info}", Verbosity::Basic),
        ("{loglevel: warn}", Verbosity::None),
        ("{loglevel: error}", Verbosity::None),
        ("{verbosity: normal}", Verbosity::Normal),
    ] {
        assert_eq!(
            exporter("logging", body),
            Exporter::Debug(Debug { verbosity, ..logging.clone() }),
            "{body}"
        );
    }
    assert!(faults("exporters: {debug: {loglevel: info}}")[0].contains("'loglevel' is no key"));
}

#[test]
fn files() {
    let default = File {
        path: "/tmp/x.json".into(),
        format: FileFormat::Json,
        zstd: false,
        rotation: None,
        append: false,
        flush_interval: seconds(1),
        group_by: None,
        create_directory: false,
    };
    assert_eq!(exporter("file", "{path: /tmp/x.json}"), Exporter::File(default.clone()));
    let rotation = Rotation {
        max_size: 100 << 20,
        max_age: None,
        max_backups: 100,
        localtime: false,
        max_total_size: None,
    };
    let rotated = File { rotation: Some(rotation), ..default.clone() };
    assert_eq!(exporter("file", "{path: /tmp/x.json, rotation: }"), Exporter::File(rotated));
    let body = "{path: /tmp/x.json, format: proto, compression: zstd, flush_interval: 2s, create_directory: true, \
                directory_permissions: '0755', rotation: {max_megabytes: 1, max_days: 2, max_backups: 3, localtime: true, \
                max_total_megabytes: 4}}";
    let expected = File {
        format: FileFormat::Proto,
        zstd: true,
        flush_interval: seconds(2),
        create_directory: true,
        rotation: Some(Rotation {
            max_size: 1 << 20,
            max_age: Some(seconds(2 * 86_400)),
            max_backups: 3,
            localtime: true,
            max_total_size: Some(4 << 20),
        }),
        ..default.clone()
    };
    assert_eq!(exporter("file", body), Exporter::File(expected));
    let group = GroupBy { resource_attribute: "fileexporter.path_segment".into(), max_open_files: 100 };
    let grouped = File { path: "/tmp/*.json".into(), append: true, group_by: Some(group), ..default };
    let body = "{path: '/tmp/*.json', append: true, group_by: {enabled: true}}";
    assert_eq!(exporter("file", body), Exporter::File(grouped));
    for (body, reason) in [
        ("", "has no path"),
        ("{path: x, format: xml}", "'xml' is no choice"),
        ("{path: x, append: true, compression: zstd}", "neither with rotation nor"),
        ("{path: x, group_by: {enabled: true}}", "exactly one *"),
        ("{path: x, rotation: {max_total_megabytes: 1}}", "smaller than one file"),
        ("{path: x, encoding: otlp_json}", "not supported here"),
    ] {
        let faults = faults(&format!("exporters: {{file: {body}}}"));
        assert_eq!(faults.len(), 1, "{body}: {faults:#?}");
        assert!(faults[0].contains(reason), "{body}: {faults:#?}");
    }
}

#[test]
fn remote_write() {
    let default = PrometheusRemoteWrite {
        endpoint: url("https://a/api/v1/write"),
        client: HttpClient { compression: Compression::Snappy, timeout: seconds(5), ..default_client() },
        namespace: String::new(),
        external_labels: BTreeMap::new(),
        version: RemoteWriteVersion::V1,
        target_info: true,
        resource_to_telemetry_conversion: false,
        add_metric_suffixes: true,
        send_metadata: false,
        max_batch_size_bytes: 3_000_000,
        retry_on_failure: Retry { initial_interval: Duration::from_millis(50), ..Retry::default() },
        sending_queue: SendingQueue { num_consumers: 5, queue_size: 10_000, ..SendingQueue::default() },
    };
    let write = |body: &str| {
        exporter("prometheusremotewrite", &format!("{{endpoint: 'https://a/api/v1/write'{body}}}"))
    };
    assert_eq!(write(""), Exporter::PrometheusRemoteWrite(Box::new(default.clone())));
    let body = ", namespace: n, external_labels: {a: b}, protobuf_message: io.prometheus.write.v2.Request, target_info: \
                {enabled: false}, resource_to_telemetry_conversion: {enabled: true}, add_metric_suffixes: false, \
                send_metadata: true, max_batch_size_bytes: 1, max_batch_request_parallelism: 2, timeout: 1s, \
                export_created_metric: {enabled: true}, wal: {directory: /x, buffer_size: 1}, remote_write_queue: \
                {enabled: false, queue_size: 1, num_consumers: 2, storage: file_storage}, retry_on_failure: \
                {max_interval: 1m}";
    let expected = PrometheusRemoteWrite {
        client: HttpClient { timeout: seconds(1), ..default.client.clone() },
        namespace: "n".into(),
        external_labels: BTreeMap::from([("a".into(), "b".into())]),
        version: RemoteWriteVersion::V2,
        target_info: false,
        resource_to_telemetry_conversion: true,
        add_metric_suffixes: false,
        send_metadata: true,
        max_batch_size_bytes: 1,
        retry_on_failure: Retry { max_interval: seconds(60), ..default.retry_on_failure.clone() },
        sending_queue: SendingQueue {
            enabled: false,
            queue_size: 1,
            num_consumers: 2,
            storage: Some("file_storage".parse().expect("an id")),
            ..SendingQueue::default()
        },
        ..default
    };
    assert_eq!(write(body), Exporter::PrometheusRemoteWrite(Box::new(expected)));
    assert!(faults("exporters: {prometheusremotewrite: }")[0].contains("has no endpoint"));
    let gzip = faults("exporters: {prometheusremotewrite: {endpoint: 'https://a', compression: gzip}}");
    assert!(gzip[0].contains("always snappy"));
}

#[test]
fn levels_are_those_of_the_algorithm() {
    let faults = |more: &str| faults(&format!("exporters: {{otlphttp: {{endpoint: 'https://a', {more}}}}}"));
    let told = |more: &str, text: &str| {
        let faults = faults(more);
        assert!(faults.iter().any(|fault| fault.contains(text)), "{more}: {faults:?}");
    };
    told("compression_params: {level: 10}", "no level 10");
    told("compression: zstd, compression_params: {level: 0}", "from 1 to 22");
    told("compression: snappy, compression_params: {level: 1}", "no levels");
    let Exporter::OtlpHttp(fine) =
        exporter("otlphttp", "{endpoint: 'https://a', compression: zstd, compression_params: {level: 22}}")
    else {
        panic!()
    };
    assert_eq!(fine.client.compression_level, Some(22));
}
