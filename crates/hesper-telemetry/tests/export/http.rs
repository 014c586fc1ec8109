//! OTLP over HTTP.

mod rules;
mod sends;

use crate::support::{Answer, body, settings};
use hesper_collector_config::{Exporter as Settings, exporters::OtlpHttpExporter};
use hesper_telemetry::{export::otlp, net::underlay::UnderlayConnector};
use http::Response;
use std::sync::Arc;

fn http_settings(keys: &str) -> OtlpHttpExporter {
    match settings("otlphttp", &format!("{{{keys}}}")) {
        Settings::OtlpHttp(settings) => *settings,
        other => panic!("{other:?}"),
    }
}

/// An exporter without credentials.
fn http(keys: &str) -> Arc<otlp::Http> {
    let connector = Arc::new(UnderlayConnector::default());
    otlp::Http::new("otlphttp/test", &http_settings(keys), connector, None, otlp::Hop::Receiver)
        .expect("an exporter")
}

fn answer(status: u16, content_type: &str, bytes: impl Into<bytes::Bytes>) -> Answer {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(body(bytes, None))
        .expect("an answer")
}

fn ok() -> Answer {
    answer(200, "application/x-protobuf", "")
}
