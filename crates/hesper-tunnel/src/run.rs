//! Everything in one process: host, HTTP proxy with service discovery, `proxy.v1` listeners.

use crate::{Metrics, follow, host, http::HttpProxy, proxy, show_refused};
use hesper_observe::metrics::Registry;
use hesper_sdk::Context;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};
use tokio::{net::TcpListener, task::JoinSet};

/// Where the HTTP proxy listens unless told otherwise.
pub const DEFAULT_PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the HTTP proxy listens.
    pub proxy: SocketAddr,
    /// What `/metrics` shows; the tunneler adds its own.
    pub registry: Registry,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { proxy: DEFAULT_PROXY, registry: Registry::new() }
    }
}

/// Why it could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The proxy's address cannot be listened on.
    #[error(
        "cannot listen on {address} for the HTTP proxy; choose another with --proxy, or stop what has it"
    )]
    Proxy {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A tunneler at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where the HTTP proxy listens.
    pub proxy_addr: SocketAddr,
    tasks: JoinSet<()>,
}

impl Running {
    /// Waits until the context is shut down.
    pub async fn wait(mut self) {
        if let Some(Err(ended)) = self.tasks.join_next().await
            && ended.is_panic()
        {
            std::panic::resume_unwind(ended.into_panic());
        }
    }
}

/// Starts the tunneler in the background.
///
/// # Errors
/// [`RunError`]: the HTTP proxy's address cannot be listened on.
pub async fn start(ctx: Context, options: RunOptions) -> Result<Running, RunError> {
    let address = options.proxy;
    let listener = TcpListener::bind(address).await.map_err(|source| RunError::Proxy { address, source })?;
    let proxy_addr = listener.local_addr().unwrap_or(address);
    if !address.ip().is_loopback() {
        tracing::warn!(%proxy_addr, "the HTTP proxy can be reached from other machines: whoever reaches it dials as this identity");
    }
    tracing::info!(%proxy_addr, "HTTP proxy listening; service discovery at /sd");
    let metrics = Metrics::new(&options.registry);
    let known = follow(&ctx);
    let mut tasks = JoinSet::new();
    let (of, registry) = (ctx.clone(), options.registry.clone());
    tasks.spawn(async move { show_refused(of, &registry).await });
    let http = HttpProxy::new(ctx.clone(), known.clone(), options.registry, metrics.clone());
    tasks.spawn(http.serve(listener));
    tasks.spawn(proxy::follow_configs(ctx.clone(), known, metrics.clone()));
    tasks.spawn(host::run(ctx, metrics));
    Ok(Running { proxy_addr, tasks })
}

/// Starts the tunneler and waits until the context is shut down.
///
/// # Errors
/// [`RunError`].
pub async fn run(ctx: Context, options: RunOptions) -> Result<(), RunError> {
    start(ctx, options).await?.wait().await;
    Ok(())
}
