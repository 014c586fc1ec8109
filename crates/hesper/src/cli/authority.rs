//! `controller ca`: the certificate authority of the network and its rotation.

use super::flags::ApiArgs;
use crate::{
    api_client::{Action, Session},
    edge::{kinds, requests},
    output,
};
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Names shown of those who are in the way.
const SHOWN: usize = 10;

/// `controller ca …`
#[derive(Subcommand, Debug)]
pub(crate) enum CaCommand {
    /// Let a new certificate authority take over, step by step, without a break
    Rotate {
        /// Which step
        #[command(subcommand)]
        step: RotateCommand,
    },
}

/// `controller ca rotate …`
#[derive(Subcommand, Debug)]
#[command(
    after_help = "start: a new CA is made; everybody trusts both, the old one issues. issue: the new one issues, everybody renews. \
    finish: the old one is no longer trusted. rollback: back to the old one, before finish. The login of 'hesper login' is used."
)]
pub(crate) enum RotateCommand {
    /// Make the new CA and have everybody trust it too
    Start(StatusArgs),
    /// Let the new CA issue; everybody renews
    Issue(StepArgs),
    /// Give up the CA that does not issue any more
    Finish(StepArgs),
    /// Go back to the old CA
    Rollback(StatusArgs),
    /// Show where the rotation stands and what is in the way of its next step
    Status(StatusArgs),
}

/// A step that somebody may be in the way of.
#[derive(Args, Debug)]
pub(crate) struct StepArgs {
    /// Do it even though somebody is in the way
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// A step that is always possible in its phase.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    api: ApiArgs,
}

impl CaCommand {
    /// Does it, and shows where the rotation stands.
    ///
    /// # Errors
    /// Nobody is logged in, or the controller refused.
    pub(crate) async fn run(self) -> Result<()> {
        let Self::Rotate { step } = self;
        let (step, force, api) = match step {
            RotateCommand::Start(args) => ("start", false, args.api),
            RotateCommand::Issue(args) => ("issue", args.force, args.api),
            RotateCommand::Finish(args) => ("finish", args.force, args.api),
            RotateCommand::Rollback(args) => ("rollback", false, args.api),
            RotateCommand::Status(args) => ("status", false, args.api),
        };
        let session = Session::open(&api)?;
        let answer = match step {
            "status" => requests::get(&session, "ca").await?,
            step => {
                let body = json!({ "step": step, "force": force });
                session.post(Action::Rotating, "ca/rotate", &body).await?
            }
        };
        if api.output_json {
            Ok(output::json(&answer)?)
        } else {
            show(answer.get("data").unwrap_or(&Value::Null))
        }
    }
}

fn show(status: &Value) -> Result<()> {
    let phase = status.get("phase").and_then(Value::as_str).unwrap_or_default();
    output::line(format_args!("phase: {phase}"))?;
    let cas = status.get("cas").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    output::line(kinds::authorities(cas).boxed())?;
    for (field, text) in [
        ("untold", "do not trust the new CA yet"),
        ("holders", "hold a certificate of the CA that is about to be given up"),
    ] {
        let names = status.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if !names.is_empty() {
            let shown =
                names.iter().take(SHOWN).map(|n| output::cell(Some(n))).collect::<Vec<_>>().join(", ");
            let more = if names.len() > SHOWN { ", …" } else { "" };
            output::line(format_args!("{} {text}: {shown}{more}", names.len()))?;
        }
    }
    let next = match phase {
        "standby" => "hesper controller ca rotate start",
        "started" => "hesper controller ca rotate issue (or rollback)",
        "issuing" => "hesper controller ca rotate finish (or rollback)",
        "rolling-back" => "hesper controller ca rotate finish (or issue)",
        _ => return Ok(()),
    };
    Ok(output::line(format_args!("next: {next}"))?)
}
