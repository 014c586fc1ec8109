//! `quickstart`: controller and router in one process, with the policies that let everybody use the router.
//!
//! ```text
//! HOME/controller   the controller's home    HOME/router   the router's
//! ```
//! Without a home a temporary one, removed at the end.

use super::{Stop, controller, host_port, listen_address};
use crate::{
    cli::serve::Administrator,
    observed::RoleMetricsArgs,
    output,
    traces::{also, way::forwarding},
};
use anyhow::{Context, Result, bail};
use hesper_controller::{StartOptions, bootstrap, home, validity::Validities};
use hesper_observe::metrics::Registry;
use hesper_pki::files;
use hesper_router::{Router, RouterHome, RunOptions, SessionRate};
use std::{
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::time::timeout;

/// How long the router may take to reach the controller of the same process.
const ATTACH_DEADLINE: Duration = Duration::from_secs(30);
/// How often it is looked for.
const ATTACH_POLL: Duration = Duration::from_millis(20);
const DEFAULT_ADDRESS: &str = "127.0.0.1";
const DEFAULT_ROUTER_PORT: u16 = 3022;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    /// Where to keep everything; none = a temporary directory.
    pub(crate) home: Option<PathBuf>,
    /// Where the controller is reached.
    pub(crate) ctrl_address: Option<String>,
    /// At which TCP port.
    pub(crate) ctrl_port: Option<u16>,
    /// Where the router is reached.
    pub(crate) router_address: Option<String>,
    /// At which UDP port.
    pub(crate) router_port: Option<u16>,
    /// The first administrator.
    pub(crate) administrator: Administrator,
    /// The trust domain; none = a random one.
    pub(crate) trust_domain: Option<String>,
    /// How long things are valid.
    pub(crate) validities: Validities,
    /// The router is called `router-<instance>`.
    pub(crate) instance_id: String,
    /// No router.
    pub(crate) no_router: bool,
    /// The rate at which each attached node may send through the router.
    pub(crate) max_session_rate: SessionRate,
    /// Make everything and leave.
    pub(crate) configure_and_exit: bool,
    /// Where the metrics of both are served.
    pub(crate) metrics: RoleMetricsArgs,
}

/// A controller and a router that serve.
pub(crate) struct Quickstart {
    /// The controller.
    pub(crate) controller: hesper_controller::Running,
    /// The router and the address that nodes are given, unless none was wanted.
    pub(crate) router: Option<(hesper_router::Running, String)>,
    /// The password, when one was made up.
    pub(crate) generated_password: Option<String>,
}

/// Runs both until asked to stop.
///
/// # Errors
/// One of them cannot start, or the controller failed while it ran.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut stop = Stop::catch()?;
    let temporary = match &options.home {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("hesper-quickstart-")
                .tempdir()
                .context("no temporary directory")?,
        ),
    };
    let home =
        options.home.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path)).context("no home")?;
    let started = tokio::select! {
        started = start(home, options) => started?,
        () = stop.asked() => return Ok(()),
    };
    let failed = if options.configure_and_exit {
        None
    } else {
        // Both have one registry.
        also::offer_events(started.controller.events());
        let metrics =
            options.metrics.serve(started.controller.registry(), started.controller.health()).await?;
        announce(&started, options, home)?;
        let failed = tokio::select! {
            () = stop.asked() => None,
            reason = started.controller.failed() => Some(reason),
        };
        metrics.end().await;
        failed
    };
    started.shutdown().await;
    drop(temporary);
    match failed {
        None => Ok(()),
        Some(reason) => bail!("the controller failed: {reason}"),
    }
}

/// Makes what is missing in `home` and starts both; returns when the router has reached the controller.
///
/// # Errors
/// One of them cannot start.
pub(crate) async fn start(home: &Path, options: &Options) -> Result<Quickstart> {
    let new = !home.exists();
    let controller_home = home.join("controller");
    if !home::is_initialised(&controller_home) {
        ports_are_free(options)?;
    }
    files::private_dir(home)?;
    let generated_password = match prepare(&controller_home, options).await {
        Ok(generated) => generated,
        Err(e) => {
            if new {
                // Empty, or it stays.
                let _ = std::fs::remove_dir(home);
            }
            return Err(e);
        }
    };
    let settings = controller::settings(&controller_home)?;
    let port = options.ctrl_port.unwrap_or(settings.ctrl_port);
    let listen = listen_address(&settings.ctrl_address, port);
    let registry = Registry::new();
    let forwarding = forwarding().await;
    let controller_options = |listen| StartOptions {
        forwarding,
        validities: options.validities,
        registry: registry.clone(),
        ..StartOptions::new(listen)
    };
    let controller = controller::start(&controller_home, Some(listen), controller_options).await?;
    let mut started = Quickstart { controller, router: None, generated_password };
    let name = format!("router-{}", options.instance_id);
    let token = bootstrap::quickstart_defaults(&started.controller, &name).await?;
    if options.no_router {
        return Ok(started);
    }
    let router_home = home.join("router");
    if !RouterHome::new(&router_home).identity_file().exists() {
        let token = token.with_context(|| {
            format!(
                "the edge router {name} has enrolled already, but its identity is not in {}",
                router_home.display()
            )
        })?;
        hesper_router::enroll(&token, &router_home, OffsetDateTime::now_utc()).await?;
    }
    let (router_options, address) = router_options(&settings.ctrl_address, options, registry)?;
    let router = Router::start(&router_home, router_options).await?;
    let address = address.unwrap_or_else(|| router.local_addr().to_string());
    timeout(ATTACH_DEADLINE, attached(&started.controller, &name)).await.with_context(|| {
        format!("the router did not reach the controller within {} s", ATTACH_DEADLINE.as_secs())
    })?;
    started.router = Some((router, address));
    Ok(started)
}

impl Quickstart {
    /// Stops the router first, then the controller.
    pub(crate) async fn shutdown(self) {
        if let Some((router, _)) = self.router {
            router.shutdown().await;
        }
        self.controller.shutdown().await;
    }
}

/// A home remembers its address: one made for a port that somebody else has could only be thrown away.
fn ports_are_free(options: &Options) -> Result<()> {
    let address = options.ctrl_address.as_deref().unwrap_or(DEFAULT_ADDRESS);
    let tcp = listen_address(address, options.ctrl_port.unwrap_or(home::DEFAULT_PORT));
    TcpListener::bind(tcp).with_context(|| {
        format!("cannot listen on TCP {tcp}: choose another --ctrl-port, or stop what listens there")
    })?;
    if options.no_router {
        return Ok(());
    }
    let address = options.router_address.as_deref().unwrap_or(address);
    let udp = listen_address(address, options.router_port.unwrap_or(DEFAULT_ROUTER_PORT));
    UdpSocket::bind(udp).with_context(|| {
        format!("cannot listen on UDP {udp}: choose another --router-port, or stop what listens there")
    })?;
    Ok(())
}

/// Makes the controller's home if there is none; returns the password if it had to be made up.
async fn prepare(home: &Path, options: &Options) -> Result<Option<String>> {
    if home::is_initialised(home) {
        let kept = controller::settings(home)?;
        let other_address = options.ctrl_address.as_ref().is_some_and(|a| *a != kept.ctrl_address);
        let other_port = options.ctrl_port.is_some_and(|p| kept.ctrl_port != 0 && p != kept.ctrl_port);
        if other_address || other_port {
            bail!(
                "the controller in {} is reached at {}, which cannot be changed: leave --ctrl-address and --ctrl-port out, or choose another --home",
                home.display(),
                host_port(&kept.ctrl_address, kept.ctrl_port)
            );
        }
        return Ok(None);
    }
    let given = options.administrator.password()?;
    let generated = given.is_none().then(Administrator::random_password);
    let init = home::InitOptions {
        ctrl_address: options.ctrl_address.clone().unwrap_or_else(|| DEFAULT_ADDRESS.to_owned()),
        ctrl_port: options.ctrl_port.unwrap_or(home::DEFAULT_PORT),
        username: options.administrator.username.clone(),
        password: given.or_else(|| generated.clone()).unwrap_or_default(),
        trust_domain: options.trust_domain.clone(),
    };
    home::init(home, &init).await?;
    Ok(generated)
}

/// How the router runs, and the address to tell people when it is known before it listens.
fn router_options(
    ctrl_address: &str,
    options: &Options,
    registry: Registry,
) -> Result<(RunOptions, Option<String>)> {
    let address = options.router_address.as_deref().unwrap_or(ctrl_address);
    let mut listen = listen_address(address, options.router_port.unwrap_or(DEFAULT_ROUTER_PORT));
    let max_session_rate = options.max_session_rate;
    let run = |listen| RunOptions { max_session_rate, registry, ..RunOptions::new(listen) };
    if listen.port() == 0 && listen.ip().is_loopback() {
        return Ok((run(listen), None));
    }
    if listen.port() == 0 {
        // The address to advertise must name the port before the router listens on it.
        let free =
            UdpSocket::bind(listen).and_then(|s| s.local_addr()).context("there is no free UDP port")?;
        listen.set_port(free.port());
    }
    let advertised = host_port(address, listen.port());
    Ok((RunOptions { advertise: vec![advertised.clone()], ..run(listen) }, Some(advertised)))
}

async fn attached(controller: &hesper_controller::Running, router: &str) {
    while !bootstrap::router_is_online(controller, router) {
        tokio::time::sleep(ATTACH_POLL).await;
    }
}

/// The banner on standard error and the one line on standard output.
fn announce(started: &Quickstart, options: &Options, home: &Path) -> Result<()> {
    let controller = controller::authority(&started.controller);
    let username = &options.administrator.username;
    let what =
        if started.router.is_some() { "controller and router started." } else { "controller started." };
    eprintln!("{what}");
    eprintln!("    controller located at  : {controller}");
    if let Some((_, address)) = &started.router {
        eprintln!("    edge router located at : {address}");
    }
    eprintln!("    config dir located at  : {}", home.display());
    if options.home.is_none() {
        eprintln!("    (a temporary directory, removed at exit; keep it with --home)");
    }
    if let Some(password) = &started.generated_password {
        eprintln!("    administrator          : {username}, password (shown only now): {password}");
    }
    eprintln!("    log in with            : hesper edge login {controller} -u {username}");
    let router = started.router.as_ref().map(|(_, address)| format!(" router={address}")).unwrap_or_default();
    Ok(output::line(format_args!("ready controller={controller}{router}"))?)
}
