//! `health_check`: one URL that says whether everything has started and nothing is ending.

use crate::listen::{Served, listen};
use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hesper_collector_config::extensions::HealthCheck;
use hesper_observe::metrics;
use hesper_sdk::Context;
use serde_json::{Value, json};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::task::AbortOnDropHandle;

/// Since when everything runs; none before, and when it ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Mutex<Option<Instant>>>);

impl Health {
    pub(crate) fn set_ready(&self, ready: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ready.then(Instant::now);
    }

    /// The same for whoever serves `/healthz`.
    pub(crate) fn told(&self) -> metrics::Health {
        let health = self.clone();
        Arc::new(move || {
            health.up().map(drop).ok_or_else(|| "not everything has started, or it is ending".to_owned())
        })
    }

    fn up(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }
}

/// The answer; without texts of its own it is the Collector's JSON.
fn answer(up: Option<Duration>, settings: &HealthCheck) -> Response {
    let code = if up.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match (&settings.response_body, up) {
        (Some(bodies), Some(_)) => (code, bodies.healthy.clone()).into_response(),
        (Some(bodies), None) => (code, bodies.unhealthy.clone()).into_response(),
        (None, up) => {
            (code, [(header::CONTENT_TYPE, "application/json")], report(up).to_string()).into_response()
        }
    }
}

fn report(up: Option<Duration>) -> Value {
    match up {
        Some(up) => json!({ "status": "Server available", "uptime": format!("{:.3}s", up.as_secs_f64()) }),
        None => json!({ "status": "Server not available" }),
    }
}

/// Serves it until the handle is dropped.
///
/// # Errors
/// It cannot be listened there.
pub(crate) async fn serve(
    settings: &HealthCheck,
    health: Health,
    ctx: Option<&Context>,
) -> io::Result<(AbortOnDropHandle<()>, String)> {
    let listening = listen(&settings.server.endpoint, settings.server.tls.as_ref(), ctx).await?;
    let address = listening.address.clone();
    let (path, settings) = (settings.path.clone(), settings.clone());
    let app = Router::new().route(&path, get(move || async move { answer(health.up(), &settings) }));
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(Served(listening), app).await {
            tracing::error!(%error, "the health check is not served any more");
        }
    });
    Ok((AbortOnDropHandle::new(task), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_from_the_start_to_the_end() {
        let health = Health::default();
        assert_eq!(report(health.up())["status"], "Server not available");
        health.set_ready(true);
        assert_eq!(report(health.up())["status"], "Server available");
        health.set_ready(false);
        assert!(health.up().is_none());
    }
}
