//! `policy check|diff|apply|export`: policy as code.

use super::flags::{ApiArgs, UsageError};
use crate::{
    api_client::Session,
    edge::manifest::{apply, files, present, report},
    output,
};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hesper_manifest::{Manifest, Plan, Report, Snapshot, World, render, run};
use std::path::PathBuf;

const CHECK_EXAMPLES: &str = "Examples:
  hesper policy check policies/
  hesper policy check site.yaml -j | jq '.failures'

Exit code: 0 all is well, 1 a file is wrong or a test fails, 2 usage.";

const DIFF_EXAMPLES: &str = "Examples:
  hesper policy diff site.yaml
  hesper policy diff policies/ --prune --exit-code    # in CI: has somebody changed it by hand?

Exit code: 0 compared; 1 a file is wrong or a test fails, and with --exit-code also when anything would change; 2 usage.";

const APPLY_EXAMPLES: &str = "Examples:
  hesper policy apply site.yaml --jwt-dir tokens/
  hesper policy apply policies/ --prune --yes
  generate | hesper policy apply - --yes

Nothing is changed unless every test passes. What was done before a failure stays done: apply the same files again.

Exit code: 0 the controller has what the files declare, 1 it has not, 2 usage.";

const EXPORT_EXAMPLES: &str = "Examples:
  hesper policy export > site.yaml
  hesper policy export -i production | hesper policy diff - -i staging";

/// What can be done with policy files.
#[derive(Subcommand, Debug)]
pub(crate) enum PolicyCommand {
    /// Check policy files and run their tests, without a controller
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Show what applying policy files would change
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(DiffArgs),
    /// Give the controller what policy files declare, once their tests pass
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(Box<ApplyArgs>),
    /// Print what the controller has as a policy file
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
}

/// The files.
#[derive(Args, Debug)]
struct Files {
    /// YAML files, directories of them, or - for standard input
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
}

/// Arguments of `policy check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    files: Files,
    /// Print the findings as JSON
    #[arg(short = 'j', long)]
    output_json: bool,
}

/// Arguments of `policy diff`.
#[derive(Args, Debug)]
#[command(mut_arg("output_json", |a| a.help("Print the changes as JSON")))]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    files: Files,
    /// Also delete what the files' sets made earlier and no longer declare
    #[arg(long)]
    prune: bool,
    /// Exit with 1 when anything would change
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Arguments of `policy apply`.
#[derive(Args, Debug)]
#[command(mut_arg("output_json", |a| a.help("Print what was done as JSON")))]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    files: Files,
    /// Also delete what the files' sets made earlier and no longer declare
    #[arg(long)]
    prune: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only show what would change
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Write the enrollment tokens of new identities and edge routers here, as NAME.jwt
    #[arg(long, value_name = "DIR")]
    jwt_dir: Option<PathBuf>,
    #[command(flatten)]
    api: ApiArgs,
}

/// Arguments of `policy export`.
#[derive(Args, Debug)]
#[command(mut_arg("output_json", |a| a.help("Print it as JSON instead of YAML")))]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    api: ApiArgs,
}

impl PolicyCommand {
    /// Does it.
    ///
    /// # Errors
    /// A file is wrong, a test fails, or the controller refused.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Check(args) => args.run(),
            Self::Diff(args) => args.run().await,
            Self::Apply(args) => args.run().await,
            Self::Export(args) => args.run().await,
        }
    }
}

impl CheckArgs {
    fn run(self) -> Result<()> {
        let sources = files::read(&self.files.files)?;
        let manifest =
            Manifest::read(&sources, None).map_err(|faults| report::faults(&faults, self.output_json))?;
        let tests = run(&manifest, &World::declared(&manifest)).map_err(anyhow::Error::msg)?;
        report::tests(&tests, self.output_json)?;
        report::checked(&manifest, sources.len(), &tests, self.output_json)
    }
}

/// What there is to do, and that its tests pass.
struct Prepared {
    manifest: Manifest,
    snapshot: Snapshot,
    plan: Plan,
    tests: Report,
}

async fn prepare(files: &Files, session: &Session, prune: bool, json: bool) -> Result<Prepared> {
    let sources = files::read(&files.files)?;
    let snapshot = present::snapshot(session).await?;
    let told = |faults: Vec<_>| report::faults(&faults, json);
    let manifest = Manifest::read(&sources, Some(&snapshot)).map_err(told)?;
    if prune && manifest.sets.is_empty() {
        let why = "nothing can be pruned: no file names its set; add `set: NAME` at the top";
        bail!(UsageError(why.into()));
    }
    let plan = Plan::new(&manifest, &snapshot, prune).map_err(told)?;
    let tests = run(&manifest, &World::after(&snapshot, &plan)).map_err(anyhow::Error::msg)?;
    report::tests(&tests, json)?;
    Ok(Prepared { manifest, snapshot, plan, tests })
}

impl DiffArgs {
    async fn run(self) -> Result<()> {
        let session = Session::open(&self.api)?;
        let json = self.api.output_json;
        let prepared = prepare(&self.files, &session, self.prune, json).await?;
        report::plan(&prepared.plan, &prepared.manifest, &prepared.tests, json)?;
        let changes = prepared.plan.changes.len();
        if self.exit_code && changes > 0 {
            bail!("the controller is not as the files declare: {}", report::count(changes, "change"));
        }
        Ok(())
    }
}

impl ApplyArgs {
    async fn run(self) -> Result<()> {
        let json = self.api.output_json;
        if !self.yes && !self.dry_run {
            let why = if self.files.files.iter().any(|f| f.as_os_str() == "-") {
                "standard input holds the file and cannot confirm it too: give --yes or --dry-run"
            } else if json {
                "with -j nobody is asked: give --yes or --dry-run"
            } else {
                ""
            };
            if !why.is_empty() {
                bail!(UsageError(why.into()));
            }
        }
        let session = Session::open(&self.api)?.pinned();
        let Prepared { manifest, snapshot, plan, tests } =
            prepare(&self.files, &session, self.prune, json).await?;
        if self.dry_run || plan.changes.is_empty() {
            return report::plan(&plan, &manifest, &tests, json);
        }
        if !self.yes {
            report::proposed(&plan, &tests)?;
            confirm(plan.changes.len())?;
        }
        // Tests hold for the network as it was read: what others change may be what they are about.
        let session = if manifest.tests.is_empty() { session.unpinned() } else { session };
        apply::run(&session, &plan, snapshot.ids(), self.jwt_dir.as_deref(), json).await
    }
}

/// Asks on standard error; only a yes is one.
fn confirm(changes: usize) -> Result<()> {
    eprint!("Apply {}? [y/N]: ", report::count(changes, "change"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => {
            eprintln!();
            bail!("nothing was applied: it was not confirmed; --yes applies without asking")
        }
    }
}

impl ExportArgs {
    async fn run(self) -> Result<()> {
        let session = Session::open(&self.api)?;
        let snapshot = present::snapshot(&session).await?;
        if self.api.output_json {
            return Ok(output::json(&report::exported(&snapshot))?);
        }
        Ok(output::raw(render(&snapshot).as_bytes())?)
    }
}
