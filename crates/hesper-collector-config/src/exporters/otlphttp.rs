//! `otlp_http` (`otlphttp` before v0.144): OTLP over HTTP.

use crate::{
    Compression, Endpoint, HttpClient, Retry, SendingQueue, Signal,
    common::{check_url, client_url, http_client, is_plaintext, queue, retry},
    section::Section,
};
use std::time::Duration;

/// Where to and how.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpHttpExporter {
    /// The URL before `/v1/<signal>`.
    pub endpoint: Option<Endpoint>,
    /// The exact URL of spans.
    pub traces_endpoint: Option<Endpoint>,
    /// The exact URL of metrics.
    pub metrics_endpoint: Option<Endpoint>,
    /// The exact URL of log records.
    pub logs_endpoint: Option<Endpoint>,
    /// The exact URL of profiles.
    pub profiles_endpoint: Option<Endpoint>,
    /// Protobuf or JSON.
    pub encoding: Encoding,
    /// The connection.
    pub client: HttpClient,
    /// `retry_on_failure`
    pub retry_on_failure: Retry,
    /// `sending_queue`
    pub sending_queue: SendingQueue,
}

/// How requests are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf.
    Proto,
    /// JSON.
    Json,
}

impl OtlpHttpExporter {
    /// Where a signal goes: its own URL, or the common one with the signal's path behind it. None when neither is there.
    pub fn endpoint_of(&self, signal: Signal) -> Option<Endpoint> {
        let (own, path) = match signal {
            Signal::Traces => (&self.traces_endpoint, "/v1/traces"),
            Signal::Metrics => (&self.metrics_endpoint, "/v1/metrics"),
            Signal::Logs => (&self.logs_endpoint, "/v1/logs"),
            Signal::Profiles => (&self.profiles_endpoint, "/v1development/profiles"),
        };
        own.clone().or_else(|| self.endpoint.as_ref().map(|endpoint| endpoint.join(path)))
    }
}

pub(crate) fn read(s: &Section<'_>) -> OtlpHttpExporter {
    let keys = ["endpoint", "traces_endpoint", "metrics_endpoint", "logs_endpoint", "profiles_endpoint"];
    let [endpoint, traces_endpoint, metrics_endpoint, logs_endpoint, profiles_endpoint] =
        keys.map(|key| client_url(s, key));
    if keys.iter().all(|key| !s.is_set(key)) {
        s.fault(
            &s.place,
            format!("{} has no endpoint", s.what),
            "add endpoint: https://HOST:4318 or hesper://SERVICE",
        );
    }
    let exporter = OtlpHttpExporter {
        endpoint,
        traces_endpoint,
        metrics_endpoint,
        logs_endpoint,
        profiles_endpoint,
        encoding: s.one_of(
            "encoding",
            &[("proto", Encoding::Proto), ("json", Encoding::Json)],
            Encoding::Proto,
        ),
        client: http_client(s, Duration::from_secs(30), Compression::Gzip),
        retry_on_failure: retry(s, Retry::default()),
        sending_queue: queue(s),
    };
    let urls =
        [&exporter.endpoint, &exporter.traces_endpoint, &exporter.metrics_endpoint, &exporter.logs_endpoint];
    for (key, url) in keys.into_iter().zip(urls) {
        if let Some(url) = url {
            let client = &exporter.client;
            check_url(s, key, url, is_plaintext(url), client.auth.as_ref(), &client.headers);
        }
    }
    exporter
}
