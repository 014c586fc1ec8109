//! The article's workload, dark: it listens on no port at all.
//!
//! On one service it answers each line it is sent with `you sent me: <line>`; on another it serves Prometheus metrics,
//! above all the total number of connections. Both are bound through [`hesper_sdk`].
//!
//! ```text
//! reflectz --identity kubeA.reflect.id.json --service kubeA.reflect.svc --prometheus-service kubeA.reflect.scrape.svc
//! ```

mod echo;
mod metrics;

use anyhow::Context as _;
use clap::Parser;
use hesper_sdk::{BindOptions, Context};
use std::path::PathBuf;

/// Echo what is sent on one dark service; serve metrics on another.
#[derive(Parser)]
struct Args {
    /// Identity file, as `hesper edge enroll` wrote it.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Service to echo on.
    #[arg(long, value_name = "SERVICE")]
    service: String,
    /// Service to serve Prometheus metrics on, addressed by this identity's name as instance.
    #[arg(long, value_name = "SERVICE")]
    prometheus_service: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let overlay = Context::from_identity_file(&args.identity)
        .with_context(|| format!("cannot use identity {}", args.identity.display()))?;
    let metrics = metrics::Metrics::default();
    // The name under which a dialer may ask for exactly this instance: `<identity name>@<service>`.
    overlay.ready(std::time::Duration::from_secs(30)).await.context("the mesh is not reachable")?;
    let instance = overlay.state().borrow().identity_name.clone();
    let options = BindOptions { instance: Some(instance), ..BindOptions::default() };
    let reflect =
        overlay.bind(&args.service).await.with_context(|| format!("cannot bind {}", args.service))?;
    let scrape = overlay
        .bind_with(&args.prometheus_service, options)
        .await
        .with_context(|| format!("cannot bind {}", args.prometheus_service))?;
    println!("reflectz serves {} and {}", args.service, args.prometheus_service);
    tokio::select! {
        result = echo::serve(reflect, metrics.clone()) => result.context("echo service ended"),
        result = axum::serve(scrape, metrics.router()) => result.context("metrics service ended"),
        _ = tokio::signal::ctrl_c() => Ok(()),
        () = terminated() => Ok(()),
    }?;
    overlay.shutdown().await;
    Ok(())
}

/// Resolves on SIGTERM.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut stream) => drop(stream.recv().await),
        Err(_) => std::future::pending().await,
    }
}
