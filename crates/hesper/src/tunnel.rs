//! `tunnel host|proxy|run`: one identity on the mesh for unmodified programs.
//!
//! Each prints `ready identity=NAME …` on standard output once the controller has answered and a router is attached, with
//! the addresses it listens on behind it, and runs until it is asked to stop.

use crate::{
    enrollment_file,
    observed::{self, MetricsArgs},
    output,
    serve::Stop,
    traces::way,
};
use anyhow::{Context as _, Result, bail};
use hesper_observe::metrics::{Health, Registry};
use hesper_sdk::{Context, ContextOptions, Observer, metrics::NodeMetrics};
use hesper_tunnel::{Metrics, follow, host, proxy, run, show_refused};
use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
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
pub(crate) async fn host(who: &Who, metrics: &MetricsArgs) -> Result<()> {
    let stop = Stop::catch()?;
    let Node { ctx, registry } = who.node("node").await?;
    let counters = Metrics::new(&registry);
    let _serving = observed::serve(metrics.metrics.as_ref(), Some(&ctx), &registry, health(&ctx)).await?;
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
    metrics: &MetricsArgs,
) -> Result<()> {
    let stop = Stop::catch()?;
    let listeners = proxy::open(specs, bind).await?;
    let Node { ctx, registry } = who.node("node").await?;
    let counters = Metrics::new(&registry);
    let _serving = observed::serve(metrics.metrics.as_ref(), Some(&ctx), &registry, health(&ctx)).await?;
    let mut told = String::new();
    for (service, address) in listeners.addresses() {
        let _ = write!(told, " {service}={address}");
    }
    let configured = proxy::follow_configs(ctx.clone(), follow(&ctx), counters.clone());
    let given = listeners.serve(ctx.clone(), counters);
    let work = async {
        tokio::join!(configured, given, show_refused(ctx.clone(), &registry));
    };
    until_asked(stop, &ctx, told, work).await
}

/// Host, HTTP proxy with service discovery, and `proxy.v1` listeners.
///
/// # Errors
/// The proxy's address cannot be listened on, or the identity not be used.
pub(crate) async fn run(who: &Who, proxy: SocketAddr, metrics: &MetricsArgs) -> Result<()> {
    let stop = Stop::catch()?;
    let Node { ctx, registry } = who.node("node").await?;
    let running = run::start(ctx.clone(), run::RunOptions { proxy, registry: registry.clone() }).await?;
    let _serving = observed::serve(metrics.metrics.as_ref(), Some(&ctx), &registry, health(&ctx)).await?;
    let told = format!(" proxy={}", running.proxy_addr);
    until_asked(stop, &ctx, told, running.wait()).await
}

/// Whether the node can do its work.
pub(crate) fn health(ctx: &Context) -> Health {
    let state = ctx.state();
    Arc::new(move || state.borrow().health())
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

/// An identity on the mesh, and what it shows of itself.
pub(crate) struct Node {
    pub(crate) ctx: Context,
    pub(crate) registry: Registry,
}

impl Who {
    /// The identity on the mesh, enrolled now if it is the first time; `role` is what its metrics call it.
    pub(crate) async fn node(&self, role: &'static str) -> Result<Node> {
        if !exists(&self.identity)? {
            self.enroll().await?;
        }
        let registry = Registry::of_role(role);
        let observer = Some(NodeMetrics::new(&registry) as Arc<dyn Observer>);
        let options = ContextOptions { outage_grace: self.outage_grace, observer };
        let ctx = Context::from_identity_file_with(&self.identity, options)?;
        way::on_mesh(&ctx, &self.identity);
        NodeMetrics::show(&ctx, &registry, role);
        Ok(Node { ctx, registry })
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
