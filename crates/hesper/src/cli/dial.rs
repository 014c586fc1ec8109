//! `dial`, `trace dial`.

use crate::{dial, tunnel::Who};
use anyhow::Result;
use clap::{Args, Subcommand};
use std::{path::PathBuf, time::Duration};

/// Who dials what.
#[derive(Args, Debug)]
struct Dialing {
    /// What to dial: SERVICE or INSTANCE@SERVICE
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The identity file
    #[arg(short = 'i', long, value_name = "FILE")]
    identity: PathBuf,
    /// Enroll with this one-time token at the first use, and keep the identity in the identity file
    #[arg(long, value_name = "FILE")]
    jwt: Option<PathBuf>,
    /// Give up after so many seconds without a stream
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Dialing {
    fn who(&self) -> Who {
        // It hosts nothing.
        let outage_grace = Duration::ZERO;
        Who { identity: self.identity.clone(), jwt: self.jwt.clone(), outage_grace }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// Opens a stream to a service.
#[derive(Args, Debug)]
pub(crate) struct DialArgs {
    #[command(flatten)]
    dialing: Dialing,
}

impl DialArgs {
    /// Copies standard input and output over it until both have ended.
    ///
    /// # Errors
    /// There is no stream, or it broke.
    pub(crate) async fn run(self) -> Result<()> {
        let Self { dialing } = self;
        dial::pipe(&dialing.who(), &dialing.service, dialing.timeout()).await
    }
}

/// `trace …`
#[derive(Subcommand, Debug)]
pub(crate) enum TraceCommand {
    /// Dial a service, and show which way it went and how long each step took
    Dial(TraceDialArgs),
}

/// Dials and tells.
#[derive(Args, Debug)]
pub(crate) struct TraceDialArgs {
    #[command(flatten)]
    dialing: Dialing,
    /// Dial so many times, one after the other: the first asks everybody, the next ones need not
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Print JSON
    #[arg(short = 'j', long)]
    output_json: bool,
}

impl TraceCommand {
    /// Does it.
    ///
    /// # Errors
    /// A dial failed.
    pub(crate) async fn run(self) -> Result<()> {
        let Self::Dial(TraceDialArgs { dialing, count, output_json }) = self;
        let wanted = dial::Wanted { service: dialing.service.clone(), timeout: dialing.timeout(), count };
        dial::traced(&dialing.who(), &wanted, output_json).await
    }
}
