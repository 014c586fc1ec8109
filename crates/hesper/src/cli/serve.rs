//! `controller`, `router`, `quickstart`: the long-lived roles of the network itself.

use super::{authority::CaCommand, flags::KeptArgs, login::first_line};
use crate::{
    observed::RoleMetricsArgs,
    serve::{
        controller::{self, Init},
        quickstart, router,
    },
    traces::{Who, flags::RoleFlags},
};
use anyhow::Result;
use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use hesper_controller::{
    home::{self, DEFAULT_PORT},
    validity::{Span, Validities},
};
use hesper_router::{RunOptions, SessionRate};
use rand::Rng as _;
use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// Letters and digits that cannot be taken for one another.
const LEGIBLE: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Length of a password that is made up: about 116 bits.
const PASSWORD_LEN: usize = 20;

/// The first administrator of a new controller.
#[derive(Args, Clone)]
pub(crate) struct Administrator {
    /// Name of the first administrator
    #[arg(short = 'u', long, default_value = "admin")]
    pub(crate) username: String,
    /// Its password, for all on this machine to see; better use HESPER_PASSWORD or --password-file. Without any of them one is
    /// made up and shown once
    #[arg(short = 'p', long, conflicts_with = "password_file")]
    password: Option<String>,
    /// Read the password from the first line of this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl fmt::Debug for Administrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Administrator").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Administrator {
    /// One whose name and password are known.
    pub(crate) fn new(username: &str, password: &str) -> Self {
        Self { username: username.to_owned(), password: Some(password.to_owned()), password_file: None }
    }

    /// The password given; none when there is none.
    ///
    /// # Errors
    /// The password file cannot be read.
    pub(crate) fn password(&self) -> Result<Option<String>> {
        if let Some(password) = &self.password {
            return Ok(Some(password.clone()));
        }
        if let Some(path) = &self.password_file {
            return first_line(path).map(Some);
        }
        Ok(std::env::var("HESPER_PASSWORD").ok().filter(|p| !p.is_empty()))
    }

    /// A password nobody can guess.
    pub(crate) fn random_password() -> String {
        let mut rng = rand::rng();
        (0..PASSWORD_LEN).map(|_| LEGIBLE[rng.random_range(0..LEGIBLE.len())] as char).collect()
    }
}

/// `controller …`
#[derive(Subcommand, Debug)]
pub(crate) enum ControllerCommand {
    /// Make the home directory of a new controller
    Init(InitArgs),
    /// Run the controller
    Run(Box<RunControllerArgs>),
    /// Look after the certificate authority of a running controller
    Ca {
        /// What to do
        #[command(subcommand)]
        command: CaCommand,
    },
}

/// Makes a controller.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    home: PathBuf,
    /// DNS name or IP address at which nodes, routers and administrators reach it
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    ctrl_address: String,
    /// TCP port at which they reach it
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    ctrl_port: u16,
    #[command(flatten)]
    administrator: Administrator,
    /// Trust domain of every certificate [default: a random one]
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
}

/// Runs a controller.
#[derive(Args, Debug)]
pub(crate) struct RunControllerArgs {
    /// Its home directory
    #[arg(long, value_name = "DIR")]
    home: PathBuf,
    /// TCP address to listen on [default: loopback for a loopback address, else every interface]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    validities: ValidityArgs,
    #[command(flatten)]
    kept: KeptArgs,
    #[command(flatten)]
    metrics: RoleMetricsArgs,
    #[command(flatten)]
    tracing: RoleFlags,
}

/// How long things are valid; what is not given is as in controller.json.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct ValidityArgs {
    /// How long certificates are valid, 5s to 365d; they are renewed at half of it [default: 7d]
    #[arg(long, value_name = "DURATION")]
    leaf_validity: Option<Span>,
    /// How long grants and passes are valid, 5s to 10m [default: 5m]
    #[arg(long, value_name = "DURATION")]
    grant_validity: Option<Span>,
    /// How long session tokens are valid, 30m to 30d [default: 1d]
    #[arg(long, value_name = "DURATION")]
    session_validity: Option<Span>,
}

impl From<ValidityArgs> for Validities {
    fn from(args: ValidityArgs) -> Self {
        let ValidityArgs { leaf_validity, grant_validity, session_validity } = args;
        Self { leaf_validity, grant_validity, session_validity }
    }
}

impl ControllerCommand {
    /// Who traces.
    pub(crate) fn traces_as(&self) -> Who<'_> {
        match self {
            // A home that cannot be read is told of when it is opened.
            Self::Run(args) => {
                let block = home::tracing(&args.home).ok().flatten().map(Box::new);
                Who::Role("hesper-controller", &args.tracing, block)
            }
            _ => Who::Command,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// Whatever kept it from being done.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Init(args) => {
                let init = Init {
                    home: args.home,
                    address: args.ctrl_address,
                    port: args.ctrl_port,
                    administrator: args.administrator,
                    trust_domain: args.trust_domain,
                };
                controller::init(&init).await
            }
            Self::Run(args) => {
                args.metrics.check()?;
                let (validities, kept) = (args.validities.into(), args.kept.into());
                controller::run(&args.home, args.listen, validities, kept, &args.metrics).await
            }
            Self::Ca { command } => command.run().await,
        }
    }
}

/// `router …`
#[derive(Subcommand, Debug)]
pub(crate) enum RouterCommand {
    /// Redeem a router's one-time token
    Enroll(EnrollRouterArgs),
    /// Run the router
    Run(Box<RunRouterArgs>),
}

/// Enrolls a router.
#[derive(Args, Debug)]
pub(crate) struct EnrollRouterArgs {
    /// The file with the token, from 'create edge-router -o'
    jwt: PathBuf,
    /// The directory to keep the identity in
    #[arg(long, value_name = "DIR")]
    home: PathBuf,
}

/// Runs a router.
#[derive(Args, Debug)]
pub(crate) struct RunRouterArgs {
    /// Its home directory
    #[arg(long, value_name = "DIR")]
    home: PathBuf,
    /// UDP address to listen on
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:3022")]
    listen: SocketAddr,
    /// HOST:PORT at which nodes reach it, comma separated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true, value_parser = advertised)]
    advertise: Vec<String>,
    #[command(flatten)]
    metrics: RoleMetricsArgs,
    /// Honour lapsed passes for so many seconds while no controller can be reached; 0 = not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    outage_grace: u64,
    /// Most that each attached node may send through it, like 100Mbit, 20000pps or 100Mbit,20000pps; what is more is dropped
    /// [default: no limit]
    #[arg(long, value_name = "RATE")]
    max_session_rate: Option<SessionRate>,
    #[command(flatten)]
    tracing: RoleFlags,
}

/// What may stand before the port of an address that nodes are given.
fn host(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(format!("'{text}' is neither a DNS name nor an IP address"))
}

fn advertised(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((name, port)) if host(name).is_ok() && port.parse::<u16>().is_ok_and(|p| p != 0) => {
            Ok(text.to_owned())
        }
        _ => Err(format!("'{text}' is not of the form HOST:PORT")),
    }
}

impl RouterCommand {
    /// Who traces.
    pub(crate) fn traces_as(&self) -> Who<'_> {
        match self {
            Self::Run(args) => Who::Role("hesper-router", &args.tracing, None),
            Self::Enroll(_) => Who::Command,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// Whatever kept it from being done.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Enroll(args) => router::enroll(&args.jwt, &args.home).await,
            Self::Run(args) => {
                args.metrics.check()?;
                let options = RunOptions {
                    advertise: args.advertise,
                    outage_grace: Duration::from_secs(args.outage_grace),
                    max_session_rate: args.max_session_rate.unwrap_or_default(),
                    ..RunOptions::new(args.listen)
                };
                router::run(&args.home, options, &args.metrics).await
            }
        }
    }
}

/// Runs controller and router together.
#[derive(Args, Debug)]
pub(crate) struct QuickstartArgs {
    /// Keep everything here [default: a temporary directory, removed at exit]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// DNS name or IP address of the controller [default: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    ctrl_address: Option<String>,
    /// TCP port of the controller; 0 = a free one [default: 1280]
    #[arg(long, value_name = "PORT")]
    ctrl_port: Option<u16>,
    /// DNS name or IP address of the router [default: the controller's]
    #[arg(long, value_name = "HOST", value_parser = host)]
    router_address: Option<String>,
    /// UDP port of the router; 0 = a free one [default: 3022]
    #[arg(long, value_name = "PORT")]
    router_port: Option<u16>,
    #[command(flatten)]
    administrator: Administrator,
    /// Trust domain of every certificate [default: a random one]
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    #[command(flatten)]
    validities: ValidityArgs,
    /// The router is called router-INSTANCE
    #[arg(long, value_name = "INSTANCE", default_value = "quickstart", value_parser = NonEmptyStringValueParser::new())]
    instance_id: String,
    /// Start no router
    #[arg(long)]
    no_router: bool,
    /// Most that each attached node may send through the router, like 100Mbit or 20000pps [default: no limit]
    #[arg(long, value_name = "RATE")]
    max_session_rate: Option<SessionRate>,
    /// Make everything and leave
    #[arg(long, requires = "home")]
    configure_and_exit: bool,
    #[command(flatten)]
    metrics: RoleMetricsArgs,
    #[command(flatten)]
    tracing: RoleFlags,
}

impl QuickstartArgs {
    /// Who traces.
    pub(crate) fn traces_as(&self) -> Who<'_> {
        Who::Role("hesper-quickstart", &self.tracing, None)
    }

    /// Runs until it is asked to stop.
    ///
    /// # Errors
    /// Something cannot start.
    pub(crate) async fn run(self) -> Result<()> {
        self.metrics.check()?;
        let options = quickstart::Options {
            home: self.home,
            ctrl_address: self.ctrl_address,
            ctrl_port: self.ctrl_port,
            router_address: self.router_address,
            router_port: self.router_port,
            administrator: self.administrator,
            trust_domain: self.trust_domain,
            validities: self.validities.into(),
            instance_id: self.instance_id,
            no_router: self.no_router,
            max_session_rate: self.max_session_rate.unwrap_or_default(),
            configure_and_exit: self.configure_and_exit,
            metrics: self.metrics,
        };
        quickstart::run(&options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_up_long_and_different_each_time() {
        let (a, b) = (Administrator::random_password(), Administrator::random_password());
        assert!(a != b && a.len() == PASSWORD_LEN && a.bytes().all(|c| LEGIBLE.contains(&c)));
    }

    #[test]
    fn an_advertised_address_has_host_and_port() {
        for bad in ["", "host", ":1", "a b:1", "host:", "host:0", "host:70000"] {
            assert!(advertised(bad).is_err(), "{bad}");
        }
        assert!(advertised("[::1]:3022").is_ok() && advertised("r.example:1").is_ok());
    }
}
