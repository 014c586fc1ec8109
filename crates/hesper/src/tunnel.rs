//! `tunnel host|proxy|run`: one identity on the mesh for unmodified programs.
//!
//! Each prints `ready identity=NAME …` on standard output once the controller has answered and a router is attached, with
//! the addresses it listens on behind it, and runs until it is asked to stop.

use crate::{enrollment_file, output, serve::Stop};
use anyhow::{Context as _, Result, bail};
use hesper_observe::metrics::{Registry, serve_loopback};
use hesper_sdk::{Context, ContextOptions};
use hesper_tunnel::{Metrics, follow, host, proxy, run, show_refused};
use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// After so long without controller or router it is said what is missing; it goes on trying.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whose identity.
#[derive(Debug)]
pub(crate) struct Who {
    /// The identity file.
    pub(crate) identity: PathBuf,
    /// A token to enroll with when the identity file does not exist yet.
    pub(crate) jwt: Option<PathBuf>,
    /// How long grants that lapse while no controller can be reached are honoured.
    pub(crate) outage_grace: Duration,
}

/// Binds what the identity may bind and has a `host.v1` or `host.v2` config for.
///
/// # Errors
/// The identity cannot be used, or the metrics address not be listened on.
pub(crate) async fn host(who: &Who, metrics: Option<SocketAddr>) -> Result<()> {
    let stop = Stop::catch()?;
    let ctx = who.context().await?;
    let registry = Registry::new();
    let counters = Metrics::new(&registry);
    let _serving = serve_metrics(metrics, registry.clone()).await?;
    let work = async {
        tokio::select! {
            () = host::run(ctx.clone(), counters) => {}
            () = show_refused(ctx.clone(), &registry) => {}
        }
    };
    until_asked(stop, &ctx, String::new(), work).await
}

/// Local listeners for services, those given and those of `proxy.v1` configs.
///
/// # Errors
/// An address cannot be listened on, or the identity not be used.
pub(crate) async fn proxy(
    who: &Who,
    specs: &[proxy::Spec],
    bind: IpAddr,
    metrics: Option<SocketAddr>,
) -> Result<()> {
    let stop = Stop::catch()?;
    let listeners = proxy::open(specs, bind).await?;
    let ctx = who.context().await?;
    let registry = Registry::new();
    let counters = Metrics::new(&registry);
    let _serving = serve_metrics(metrics, registry).await?;
    let mut told = String::new();
    for (service, address) in listeners.addresses() {
        let _ = write!(told, " {service}={address}");
    }
    let configured = proxy::follow_configs(ctx.clone(), follow(&ctx), counters.clone());
    let given = listeners.serve(ctx.clone(), counters);
    let work = async {
        tokio::join!(configured, given);
    };
    until_asked(stop, &ctx, told, work).await
}

/// Host, HTTP proxy with service discovery, and `proxy.v1` listeners.
///
/// # Errors
/// The proxy's address cannot be listened on, or the identity not be used.
pub(crate) async fn run(who: &Who, proxy: SocketAddr) -> Result<()> {
    let stop = Stop::catch()?;
    let ctx = who.context().await?;
    let options = run::RunOptions { proxy, ..run::RunOptions::default() };
    let running = run::start(ctx.clone(), options).await?;
    let told = format!(" proxy={}", running.proxy_addr);
    until_asked(stop, &ctx, told, running.wait()).await
}

async fn serve_metrics(
    address: Option<SocketAddr>,
    registry: Registry,
) -> Result<Option<hesper_observe::metrics::Serving>> {
    match address {
        Some(address) => Ok(Some(serve_loopback(address, registry).await?)),
        None => Ok(None),
    }
}

/// Works until a signal comes; then takes leave of controller and peers.
async fn until_asked(
    mut stop: Stop,
    ctx: &Context,
    told: String,
    work: impl Future<Output = ()>,
) -> Result<()> {
    let ready = async {
        announce(ctx, &told).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stop.asked() => {}
        () = ready => {}
        () = work => {}
    }
    ctx.shutdown().await;
    Ok(())
}

/// Tells that it works, once controller and router are reached.
pub(crate) async fn announce(ctx: &Context, told: &str) {
    while let Err(missing) = ctx.ready(PATIENCE).await {
        tracing::warn!("{:#}", anyhow::Error::new(missing));
    }
    let name = ctx.state().borrow().identity_name.clone();
    if let Err(e) = output::line(format_args!("ready identity={name}{told}")) {
        tracing::warn!("standard output is closed: {e}");
    }
}

impl Who {
    /// The identity on the mesh, enrolled now if it is the first time.
    pub(crate) async fn context(&self) -> Result<Context> {
        if !exists(&self.identity)? {
            self.enroll().await?;
        }
        let options = ContextOptions { outage_grace: self.outage_grace };
        Ok(Context::from_identity_file_with(&self.identity, options)?)
    }

    async fn enroll(&self) -> Result<()> {
        let Some(jwt) = &self.jwt else {
            bail!(
                "there is no identity file {}: make it with 'hesper edge enroll JWT -o {0}', or give the token with --jwt",
                self.identity.display()
            );
        };
        enrollment_file::enroll(jwt, &self.identity, &|line| tracing::info!("{line}")).await?;
        tracing::info!(identity = %self.identity.display(), "enrolled");
        // Used up; but a mounted secret cannot be removed, and need not be.
        if let Err(error) = std::fs::remove_file(jwt) {
            tracing::debug!(%error, "the used token stays");
        }
        Ok(())
    }
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().with_context(|| format!("cannot look for {}", path.display()))
}
