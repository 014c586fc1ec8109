//! The article's workload, dark: it listens on no port at all.
//!
//! On one service it answers each line it is sent with `you sent me: <line>`; on another it serves Prometheus metrics,
//! above all the total number of connections. Both are bound through [`hesper_sdk`]. The program `reflectz` runs it by
//! itself, `hesper demo` inside its own process.

mod echo;
mod metrics;

use anyhow::Context as _;
use hesper_sdk::{Context, Listener};
use metrics::Metrics;
use std::time::Duration;

/// How long the mesh may take to be reached.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// The workload, bound and not yet serving.
pub struct Reflectz {
    reflect: Listener,
    scrape: Listener,
    metrics: Metrics,
}

/// Binds both services, each under the identity's name as instance, so that a dialer may ask for exactly this one:
/// `<identity name>@<service>`.
///
/// # Errors
/// The mesh is not reachable, or a service may not be bound.
pub async fn bind(overlay: &Context, service: &str, prometheus_service: &str) -> anyhow::Result<Reflectz> {
    overlay.ready(READY_DEADLINE).await.context("the mesh is not reachable")?;
    let bind =
        async |service: &str| overlay.bind(service).await.with_context(|| format!("cannot bind {service}"));
    Ok(Reflectz {
        reflect: bind(service).await?,
        scrape: bind(prometheus_service).await?,
        metrics: Metrics::default(),
    })
}

impl Reflectz {
    /// Serves until a listener ends.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn serve(self) -> anyhow::Result<()> {
        tokio::select! {
            result = echo::serve(self.reflect, self.metrics.clone()) => result.context("echo service ended"),
            result = axum::serve(self.scrape, self.metrics.router()) => result.context("metrics service ended"),
        }
    }
}
