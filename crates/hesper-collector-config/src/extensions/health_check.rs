//! `health_check`: one URL that says whether all is well.

use crate::{Address, HttpServer, common::http_server, section::Section};

/// Where it is and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// The listener (localhost:13133).
    pub server: HttpServer,
    /// The path (`/`).
    pub path: String,
    /// Bodies of the answers; None: the Collector's JSON.
    pub response_body: Option<HealthResponses>,
}

/// `response_body`
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HealthResponses {
    /// When all is well.
    pub healthy: String,
    /// When it is not.
    pub unhealthy: String,
}

pub(crate) fn read(s: &Section<'_>) -> HealthCheck {
    s.section("check_collector_pipeline", |s| {
        for key in ["interval", "exporter_failure_threshold"] {
            s.open(key);
        }
        if s.flag("enabled", false) {
            s.idle("enabled", "what it counts is told per component anyway");
        }
    });
    let path = s.text_or("path", "/");
    if !path.starts_with('/') {
        s.refuse("path", "does not begin with /", "write /, or /health");
    }
    s.unsupported("auth", "leave it out: it tells nothing but whether all is well");
    for key in
        ["cors", "response_headers", "compression_algorithms", "include_metadata", "max_request_body_size"]
    {
        s.idle(key, "it answers GET with a line");
    }
    HealthCheck {
        server: http_server(s, Address::new("localhost", 13133)),
        path,
        response_body: s.section("response_body", |s| HealthResponses {
            healthy: s.text_or("healthy", ""),
            unhealthy: s.text_or("unhealthy", ""),
        }),
    }
}
