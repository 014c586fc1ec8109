//! `otlp`: OTLP over gRPC and HTTP.

use crate::{
    Address, GrpcServer, HttpServer,
    common::{grpc_server, http_server},
    section::Section,
};

/// The protocols that run: those that are named.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct OtlpReceiver {
    /// `protocols.grpc`
    pub grpc: Option<OtlpGrpc>,
    /// `protocols.http`
    pub http: Option<OtlpHttp>,
}

/// OTLP over gRPC (localhost:4317).
pub type OtlpGrpc = GrpcServer;

/// OTLP over HTTP (localhost:4318).
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpHttp {
    /// The listener.
    pub server: HttpServer,
    /// Path of spans (`/v1/traces`).
    pub traces_url_path: String,
    /// Path of metrics (`/v1/metrics`).
    pub metrics_url_path: String,
    /// Path of log records (`/v1/logs`).
    pub logs_url_path: String,
    /// Path of profiles (`/v1development/profiles`).
    pub profiles_url_path: String,
}

pub(crate) fn read(s: &Section<'_>) -> OtlpReceiver {
    let receiver = s
        .group("protocols", |s| OtlpReceiver {
            grpc: s.section("grpc", |s| grpc_server(s, Address::new("localhost", 4317))),
            http: s.section("http", http),
        })
        .unwrap_or_default();
    if receiver == OtlpReceiver::default() && s.get("protocols").is_none_or(|tree| tree.what() == "a mapping")
    {
        s.fault(
            s.place_of("protocols"),
            format!("{} speaks no protocol", s.what),
            "add protocols: {grpc: , http: }",
        );
    }
    receiver
}

fn http(s: &Section<'_>) -> OtlpHttp {
    let path = |key, default: &str| {
        let path = s.text_or(key, default);
        if !path.starts_with('/') {
            s.refuse(key, "a path begins with /", format!("write {default}"));
        }
        path
    };
    OtlpHttp {
        server: http_server(s, Address::new("localhost", 4318)),
        traces_url_path: path("traces_url_path", "/v1/traces"),
        metrics_url_path: path("metrics_url_path", "/v1/metrics"),
        logs_url_path: path("logs_url_path", "/v1/logs"),
        profiles_url_path: path("profiles_url_path", "/v1development/profiles"),
    }
}
