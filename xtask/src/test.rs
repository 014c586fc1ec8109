//! `cargo xtask test`: the steps that CI runs, in the order in which they are cheapest to fail.

use crate::{
    peers,
    shell::{self, cargo},
};
use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only this step; may be given more than once
    #[arg(long, value_name = "STEP", value_enum)]
    only: Vec<Step>,
    /// Check the dependencies for known vulnerabilities too; needs the RustSec database from GitHub
    #[arg(long)]
    advisories: bool,
}

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Install the programs that the tests run against
    Peers,
    /// cargo fmt --check
    Fmt,
    /// cargo clippy, every warning an error
    Clippy,
    /// cargo doc, every warning an error
    Doc,
    /// cargo deny: banned crates, licences, sources
    Deny,
    /// Build the binary and the examples
    Build,
    /// cargo test, the whole-system tests too
    Test,
}

/// Runs all steps, or those asked for; the first failure ends it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |step: &Step| options.only.is_empty() || options.only.contains(step);
    let steps: Vec<Step> = Step::value_variants().iter().copied().filter(wanted).collect();
    let mut times: Vec<(String, Duration)> = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        let name = name(*step);
        heading(&format!("{name} ({} of {})", place + 1, steps.len()))?;
        let started = Instant::now();
        step.run(options).map_err(|e| {
            e.context(format!("step {name} failed (alone: `cargo xtask test --only {name}`)"))
        })?;
        times.push((name, started.elapsed()));
    }
    heading("all steps passed")?;
    times.iter().for_each(|(name, time)| println!("{name:10} {:7.1} s", time.as_secs_f64()));
    Ok(())
}

fn name(step: Step) -> String {
    step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// At once, so that it stands above what the step's programs print.
fn heading(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\n== {text}")?;
    out.flush()
}

impl Step {
    fn run(self, options: &Options) -> Result<()> {
        match self {
            Self::Peers => peers::install(),
            Self::Fmt => shell::run(cargo().args(["fmt", "--all", "--check"])),
            Self::Clippy => shell::run(cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ])),
            Self::Doc => shell::run(
                cargo()
                    .args(["doc", "--workspace", "--no-deps", "--locked"])
                    .env("RUSTDOCFLAGS", "-D warnings"),
            ),
            Self::Deny => deny(options.advisories),
            // Whole-system tests run the built programs, which `cargo test` alone would not build.
            Self::Build => shell::run(cargo().args(["build", "--workspace", "--bins", "--locked"])),
            Self::Test => shell::run(cargo().args(["test", "--workspace", "--locked", "--no-fail-fast"])),
        }
    }
}

/// Without advisories: their database is fetched from GitHub, which CI cannot reach.
fn deny(advisories: bool) -> Result<()> {
    let mut command = peers::cargo_deny()?;
    command.args(["--locked", "--log-level", "error", "check", "bans", "licenses", "sources"]);
    if advisories {
        command.arg("advisories");
    }
    shell::run(&mut command).map_err(|e| anyhow!("{e:#} (the rules are in deny.toml)"))
}
