//! `collect`: telemetry in, over the mesh, out.

use super::flags::{KeptArgs, UsageError};
use crate::{
    collect,
    observed::MetricsArgs,
    traces::{self, flags::RoleFlags},
    tunnel::Who,
};
use anyhow::Result;
use clap::{Args, Subcommand};
use hesper_controller::home::Kept;
use hesper_observe::logs::Base;
use std::{path::PathBuf, time::Duration};

/// Runs pipelines, or tells what became of what they took.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct CollectArgs {
    #[command(subcommand)]
    command: Option<CollectCommand>,
    /// A file in the OpenTelemetry Collector's YAML; of several, later ones win
    #[arg(long, required = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Check and explain the configuration, and run nothing
    #[arg(long, conflicts_with_all = ["identity", "jwt"])]
    check: bool,
    /// The identity file; endpoints such as hesper://SERVICE need one
    #[arg(short = 'i', long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Enroll with this one-time token at the first start, and keep the identity in the identity file
    #[arg(long, value_name = "FILE", requires = "identity")]
    jwt: Option<PathBuf>,
    /// Let senders go on for so many seconds after their grants lapsed while no controller can be reached; 0 = not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    outage_grace: u64,
    /// Append to this file, as JSON lines, who was refused what, and what happens to queues and the configuration
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    #[command(flatten)]
    kept: KeptArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    tracing: RoleFlags,
}

/// `collect …`
#[derive(Subcommand, Debug)]
enum CollectCommand {
    /// Tell what became of every item: for each destination and sender, accepted = delivered + queued + dropped
    Ledger(LedgerArgs),
    /// Drop what a queue keeps for an exporter that its pipeline does not have any more; the collector must not run
    Forget(ForgetArgs),
}

/// Tells the ledger.
#[derive(Args, Debug)]
struct LedgerArgs {
    /// The files that the collector runs with
    #[arg(long, required = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Tell it as JSON
    #[arg(short = 'j', long)]
    output_json: bool,
}

/// Drops what is kept for nobody.
#[derive(Args, Debug)]
struct ForgetArgs {
    /// The files that the collector runs with
    #[arg(long, required = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// The pipeline, such as traces or logs/eu
    #[arg(long, value_name = "ID")]
    pipeline: String,
    /// The exporter that is no more
    #[arg(long, value_name = "ID")]
    exporter: String,
}

impl CollectArgs {
    /// Who traces.
    pub(crate) fn traces_as(&self) -> traces::Who<'_> {
        if self.check || self.command.is_some() {
            return traces::Who::Command;
        }
        traces::Who::Role("hesper-collect", &self.tracing, None)
    }

    /// Without `--check` and subcommand it is a role.
    pub(crate) fn log_base(&self) -> Base {
        if self.check || self.command.is_some() { Base::Command } else { Base::Role }
    }

    /// Checks, tells, or runs until it is asked to stop.
    ///
    /// # Errors
    /// The configuration cannot be used, the pipelines cannot start, or there is no ledger.
    pub(crate) async fn run(self) -> Result<()> {
        match self.command {
            Some(CollectCommand::Ledger(args)) => {
                return collect::ledger(&args.config, args.output_json).await;
            }
            Some(CollectCommand::Forget(args)) => {
                return collect::forget(&args.config, &args.pipeline, &args.exporter).await;
            }
            None => {}
        }
        if self.check {
            return collect::check(&self.config);
        }
        let outage_grace = Duration::from_secs(self.outage_grace);
        let who = self.identity.map(|identity| Who { identity, jwt: self.jwt, outage_grace });
        let retention = Kept::from(self.kept).over(Kept::default());
        let retention = retention.check().map_err(|error| UsageError(error.to_string()))?;
        let audit = self.audit.as_deref().map(|path| (path, retention));
        collect::run(&self.config, who.as_ref(), audit, &self.metrics).await
    }
}
