//! `doctor`.

use crate::doctor::{self, Asked};
use anyhow::Result;
use clap::Args;
use std::{path::PathBuf, time::Duration};

/// Looks for what is wrong.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Look from this identity's side, too: the identity file of a node
    #[arg(short = 'i', long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The name of the login, when several are stored
    #[arg(long, value_name = "NAME")]
    cli_identity: Option<String>,
    /// Print JSON
    #[arg(short = 'j', long)]
    output_json: bool,
    /// Wait so many seconds for each answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

impl DoctorArgs {
    /// Checks and tells.
    ///
    /// # Errors
    /// Something is wrong.
    pub(crate) async fn run(self) -> Result<()> {
        let asked = Asked {
            identity: self.identity,
            login: self.cli_identity,
            patience: Duration::from_secs(self.timeout),
            as_json: self.output_json,
        };
        doctor::run(asked).await
    }
}
