//! `tunnel host|proxy|run`: the tunneler.

use crate::{
    observed::MetricsArgs,
    traces::{self, flags::RoleFlags},
    tunnel::{self, Who},
};
use anyhow::Result;
use clap::{Args, Subcommand};
use hesper_tunnel::{proxy::Spec, run::DEFAULT_PROXY};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// `tunnel …`
#[derive(Subcommand, Debug)]
pub(crate) enum TunnelCommand {
    /// Host the services that this identity may bind and that have a host.v1 or host.v2 config
    Host(HostArgs),
    /// Listen locally for services
    Proxy(ProxyArgs),
    /// Host, HTTP proxy with Prometheus service discovery, and proxy.v1 listeners in one process
    Run(RunArgs),
}

/// Whose identity.
#[derive(Args, Debug)]
struct Identity {
    /// The identity file
    #[arg(short = 'i', long, value_name = "FILE")]
    identity: PathBuf,
    /// Enroll with this one-time token at the first start, and keep the identity in the identity file
    #[arg(long, value_name = "FILE")]
    jwt: Option<PathBuf>,
    /// Let streams to what is hosted here go on for so many seconds after their grants lapsed while no controller can be reached; 0 =
    /// not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    outage_grace: u64,
    #[command(flatten)]
    tracing: RoleFlags,
}

/// Hosts.
#[derive(Args, Debug)]
pub(crate) struct HostArgs {
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// Listens.
#[derive(Args, Debug)]
pub(crate) struct ProxyArgs {
    /// What to listen for: SERVICE:PORT or INSTANCE@SERVICE:PORT, with :udp behind it for UDP; port 0 = a free one
    #[arg(required = true, value_name = "SERVICE:PORT")]
    specs: Vec<Spec>,
    #[command(flatten)]
    identity: Identity,
    /// The address to listen on; whoever reaches it dials as this identity
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// Does everything.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    identity: Identity,
    /// Where the HTTP proxy listens, with service discovery at /sd and metrics at /metrics
    #[arg(long, value_name = "ADDR", default_value_t = DEFAULT_PROXY)]
    proxy: SocketAddr,
    #[command(flatten)]
    metrics: MetricsArgs,
}

impl From<Identity> for Who {
    fn from(args: Identity) -> Self {
        let outage_grace = Duration::from_secs(args.outage_grace);
        Self { identity: args.identity, jwt: args.jwt, outage_grace }
    }
}

impl TunnelCommand {
    /// Who traces.
    pub(crate) fn traces_as(&self) -> traces::Who<'_> {
        let identity = match self {
            Self::Host(args) => &args.identity,
            Self::Proxy(args) => &args.identity,
            Self::Run(args) => &args.identity,
        };
        traces::Who::Role("hesper-tunnel", &identity.tracing, None)
    }

    /// Runs until it is asked to stop.
    ///
    /// # Errors
    /// It cannot start.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Host(args) => tunnel::host(&args.identity.into(), &args.metrics).await,
            Self::Proxy(args) => {
                tunnel::proxy(&args.identity.into(), &args.specs, args.bind, &args.metrics).await
            }
            Self::Run(args) => tunnel::run(&args.identity.into(), args.proxy, &args.metrics).await,
        }
    }
}
