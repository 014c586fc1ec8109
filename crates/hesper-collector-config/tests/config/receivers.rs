//! `otlp`: every key, every default.

use crate::receiver;
use hesper_collector_config::{
    Address, Compression, Cors, Endpoint, GrpcServer, HttpServer, KeepaliveServer, Secret,
    receivers::{OtlpHttp, OtlpReceiver, Receiver},
};
use std::time::Duration;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn otlp(body: &str) -> OtlpReceiver {
    match receiver("otlp", body) {
        Receiver::Otlp(otlp) => *otlp,
        other => panic!("{other:?}"),
    }
}

fn local(port: u16) -> Endpoint {
    Endpoint::Underlay(Address::new("localhost", port))
}

fn default_grpc() -> GrpcServer {
    GrpcServer {
        endpoint: local(4317),
        tls: None,
        auth: None,
        max_message_size: 64 << 20,
        max_concurrent_streams: None,
        keepalive: KeepaliveServer::default(),
        include_metadata: false,
    }
}

fn default_http() -> OtlpHttp {
    let server = HttpServer {
        endpoint: local(4318),
        tls: None,
        auth: None,
        max_request_body_size: 64 << 20,
        cors: None,
        compression_algorithms: None,
        include_metadata: false,
        response_headers: Vec::new(),
        read_timeout: Duration::ZERO,
        read_header_timeout: seconds(60),
        write_timeout: seconds(30),
        idle_timeout: seconds(60),
        keep_alives_enabled: true,
    };
    OtlpHttp {
        server,
        traces_url_path: "/v1/traces".into(),
        metrics_url_path: "/v1/metrics".into(),
        logs_url_path: "/v1/logs".into(),
        profiles_url_path: "/v1development/profiles".into(),
    }
}

#[test]
fn only_the_protocols_that_are_named_run() {
    for (body, grpc, http) in [
        ("{protocols: {grpc: }}", true, false),
        ("{protocols: {http: }}", false, true),
        ("{protocols: {grpc: {}, http: {}}}", true, true),
    ] {
        let expected = OtlpReceiver { grpc: grpc.then(default_grpc), http: http.then(default_http) };
        assert_eq!(otlp(body), expected, "{body}");
    }
}

#[test]
fn check_01_the_ports_are_4317_and_4318() {
    let otlp = otlp("{protocols: {grpc: , http: }}");
    assert_eq!(otlp.grpc.expect("gRPC").endpoint, local(4317));
    assert_eq!(otlp.http.expect("HTTP").server.endpoint, local(4318));
}

#[test]
fn every_key_of_grpc() {
    let body = "{protocols: {grpc: {endpoint: 'localhost:1', transport: tcp, max_recv_msg_size_mib: 16, \
                max_concurrent_streams: 7, read_buffer_size: 524288, write_buffer_size: 1, include_metadata: true}}}";
    let expected = GrpcServer {
        endpoint: local(1),
        max_message_size: 16 << 20,
        max_concurrent_streams: Some(7),
        include_metadata: true,
        ..default_grpc()
    };
    assert_eq!(otlp(body), OtlpReceiver { grpc: Some(expected), http: None });
}

#[test]
fn every_key_of_http() {
    let body = "{protocols: {http: {endpoint: 'localhost:2', traces_url_path: /t, metrics_url_path: /m, \
                logs_url_path: /l, profiles_url_path: /p, max_request_body_size: 20971520, cors: {allowed_origins: \
                ['https://*.x'], allowed_headers: [a], exposed_headers: [b], max_age: 7200}, include_metadata: true, \
                compression_algorithms: ['', gzip, zstd, zlib, snappy, deflate, lz4], response_headers: {x: y}, \
                read_timeout: 1s, read_header_timeout: 2s, write_timeout: 3s, idle_timeout: 4s, \
                keep_alives_enabled: false}}}";
    let server = HttpServer {
        endpoint: local(2),
        tls: None,
        auth: None,
        max_request_body_size: 20 << 20,
        cors: Some(Cors {
            allowed_origins: vec!["https://*.x".into()],
            allowed_headers: vec!["a".into()],
            exposed_headers: vec!["b".into()],
            max_age: 7200,
        }),
        compression_algorithms: Some(vec![
            Compression::None,
            Compression::Gzip,
            Compression::Zstd,
            Compression::Zlib,
            Compression::Snappy,
            Compression::Deflate,
            Compression::Lz4,
        ]),
        include_metadata: true,
        response_headers: vec![("x".into(), Secret::new("y"))],
        read_timeout: seconds(1),
        read_header_timeout: seconds(2),
        write_timeout: seconds(3),
        idle_timeout: seconds(4),
        keep_alives_enabled: false,
    };
    let expected = OtlpHttp {
        server,
        traces_url_path: "/t".into(),
        metrics_url_path: "/m".into(),
        logs_url_path: "/l".into(),
        profiles_url_path: "/p".into(),
    };
    assert_eq!(otlp(body), OtlpReceiver { grpc: None, http: Some(expected) });
}
