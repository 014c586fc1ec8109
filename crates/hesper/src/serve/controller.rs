//! `controller init`, `controller run`.

use super::{Stop, listen_address};
use crate::{
    cli::serve::Administrator,
    observed::RoleMetricsArgs,
    output,
    traces::{also, way::forwarding},
};
use anyhow::{Context, Result, bail};
use hesper_controller::{
    Controller, Running, StartOptions,
    home::{self, InitOptions, Kept, Settings},
    validity::Validities,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// What `controller init` needs.
#[derive(Debug)]
pub(crate) struct Init {
    /// The home directory to make.
    pub(crate) home: PathBuf,
    /// Where it will be reached.
    pub(crate) address: String,
    /// TCP port at which it will be reached.
    pub(crate) port: u16,
    /// The first administrator.
    pub(crate) administrator: Administrator,
    /// The trust domain; none = a random one.
    pub(crate) trust_domain: Option<String>,
}

/// Makes the home directory of a new controller.
///
/// # Errors
/// There is one already, or something given is not usable; then nothing is left behind.
pub(crate) async fn init(init: &Init) -> Result<()> {
    let given = init.administrator.password()?;
    let (password, generated) = match given {
        Some(password) => (password, false),
        None => (Administrator::random_password(), true),
    };
    let username = init.administrator.username.clone();
    let options = InitOptions {
        ctrl_address: init.address.clone(),
        ctrl_port: init.port,
        username: username.clone(),
        password: password.clone(),
        trust_domain: init.trust_domain.clone(),
    };
    home::init(&init.home, &options).await?;
    output::line(format_args!("controller initialised in {}", init.home.display()))?;
    if generated {
        output::line(format_args!("administrator: {username}, password (shown only now): {password}"))?;
    }
    Ok(())
}

/// Runs the controller until it is asked to stop.
///
/// # Errors
/// It cannot start, or failed while it ran.
pub(crate) async fn run(
    home: &Path,
    listen: Option<SocketAddr>,
    validities: Validities,
    retention: Kept,
    metrics: &RoleMetricsArgs,
) -> Result<()> {
    let mut stop = Stop::catch()?;
    let forwarding = forwarding().await;
    let options = |listen| StartOptions { validities, retention, forwarding, ..StartOptions::new(listen) };
    let running = start(home, listen, options).await?;
    also::offer_events(running.events());
    let serving = metrics.serve(running.registry(), running.health()).await?;
    output::line(format_args!("ready controller={}", authority(&running)))?;
    let failed = tokio::select! {
        () = stop.asked() => None,
        reason = running.failed() => Some(reason),
    };
    serving.end().await;
    running.shutdown().await;
    match failed {
        None => Ok(()),
        Some(reason) => bail!("the controller failed: {reason}"),
    }
}

/// Starts the controller of a home directory, by default where its address says.
///
/// # Errors
/// It cannot start.
pub(crate) async fn start(
    home: &Path,
    listen: Option<SocketAddr>,
    options: impl FnOnce(SocketAddr) -> StartOptions,
) -> Result<Running> {
    let listen = match listen {
        Some(listen) => listen,
        None => {
            let settings = settings(home)?;
            listen_address(&settings.ctrl_address, settings.ctrl_port)
        }
    };
    Ok(Controller::start(home, options(listen)).await?)
}

/// Reads `controller.json`.
///
/// # Errors
/// It cannot be read.
pub(crate) fn settings(home: &Path) -> Result<Settings> {
    let path = home.join("controller.json");
    let text = std::fs::read(&path).with_context(|| {
        format!(
            "{0} is no controller's home: make one with 'hesper controller init --home {0}'",
            home.display()
        )
    })?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not valid", path.display()))
}

/// `host:port` at which it is reached.
pub(crate) fn authority(running: &Running) -> &str {
    running.url().trim_start_matches("https://")
}
