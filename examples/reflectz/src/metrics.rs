//! What Prometheus sees of the workload.

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use prometheus_client::{encoding::text::encode, metrics::counter::Counter, registry::Registry};
use std::sync::Arc;

/// Counters of the workload; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    connections: Counter,
    bytes: Counter,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let (connections, bytes) = (Counter::default(), Counter::default());
        let mut registry = Registry::default();
        registry.register("reflectz_connections", "Connections accepted", connections.clone());
        registry.register("reflectz_received_bytes", "Bytes echoed back", bytes.clone());
        Self { connections, bytes, registry: Arc::new(registry) }
    }
}

impl Metrics {
    pub(crate) fn connection(&self) {
        self.connections.inc();
    }

    pub(crate) fn bytes(&self, n: u64) {
        self.bytes.inc_by(n);
    }

    /// `GET /metrics` in OpenMetrics text.
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/metrics", get(show)).with_state(self.clone())
    }
}

async fn show(State(metrics): State<Metrics>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &metrics.registry) {
        Ok(()) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Err(error) => (axum::http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
