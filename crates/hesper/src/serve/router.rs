//! `router enroll`, `router run`.

use super::Stop;
use crate::{observed::RoleMetricsArgs, output};
use anyhow::{Context, Result};
use hesper_pki::files;
use hesper_router::{Router, RunOptions, Running};
use std::path::Path;
use time::OffsetDateTime;

/// Largest token file read.
const MAX_TOKEN: u64 = 64 * 1024;

/// Redeems a router's token and keeps the identity in `home`.
///
/// # Errors
/// The token is not a router's or was refused, or the directory holds a router already.
pub(crate) async fn enroll(jwt: &Path, home: &Path) -> Result<()> {
    let token = files::read(jwt, MAX_TOKEN)?;
    let enrolled = hesper_router::enroll(token.trim(), home, OffsetDateTime::now_utc())
        .await
        .with_context(|| format!("cannot enroll with {}", jwt.display()))?;
    if let Err(e) = std::fs::remove_file(jwt) {
        eprintln!("WARN    the used token {} could not be removed: {e}", jwt.display());
    }
    eprintln!(
        "INFO    enrolled successfully. identity file written to: {}",
        enrolled.identity_file.display()
    );
    Ok(())
}

/// Runs the router until it is asked to stop; then its nodes may leave first.
///
/// # Errors
/// It cannot start.
pub(crate) async fn run(home: &Path, options: RunOptions, metrics: &RoleMetricsArgs) -> Result<()> {
    let mut stop = Stop::catch()?;
    let advertised = options.advertise.first().cloned();
    let running = Router::start(home, options).await?;
    let metrics = metrics.serve(running.registry(), running.health()).await?;
    tokio::select! {
        () = stop.asked() => {}
        () = serving(&running, advertised) => {
            stop.asked().await;
        }
    }
    metrics.end().await;
    running.shutdown().await;
    Ok(())
}

async fn serving(running: &Running, advertised: Option<String>) {
    running.serving().await;
    let address = advertised.unwrap_or_else(|| running.local_addr().to_string());
    if let Err(e) = output::line(format_args!("ready router={address}")) {
        tracing::warn!("standard output is closed: {e}");
    }
}
