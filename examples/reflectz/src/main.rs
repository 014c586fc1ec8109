//! The article's workload as a program.
//!
//! ```text
//! reflectz --identity kubeA.reflect.id.json --service kubeA.reflect.svc --prometheus-service kubeA.reflect.scrape.svc
//! ```

use anyhow::Context as _;
use clap::Parser;
use hesper_sdk::Context;
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
    let reflectz = reflectz::bind(&overlay, &args.service, &args.prometheus_service).await?;
    println!("reflectz serves {} and {}", args.service, args.prometheus_service);
    tokio::select! {
        result = reflectz.serve() => result,
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
