//! What the mesh costs, measured: `cargo run --release -p hesper-bench -- [--quick] [--json FILE]`.
//!
//! - Everything is real: processes of the built `hesper`, other tunnels as their packages install them. What is not installed is skipped.
//! - Tunnels are measured in turn within each round (`measures::compare`), and told as median, spread, and share of direct TCP of the
//!   same round: what disturbs the machine disturbs all. The load (`load`) and the far end (`target`) are our own.
//! - Nothing leaves loopback, or a network namespace with loopback of a chosen MTU (`network`); no process outlives the bench (`process`).
//! - `report` has the schema of the JSON document, `aims` what is wanted of the figures. Both, and `stats`, are pure.
//!
//! Exit codes: 0 measured, 1 something failed, 2 usage.

mod aims;
mod attached;
mod bulk;
mod cli;
mod load;
mod machine;
mod measures;
mod network;
mod otlp;
mod process;
mod report;
mod stack;
mod stats;
mod subjects;
mod target;
mod watch;

use anyhow::{Context, Result, bail};
use clap::Parser;
use cli::Options;
use machine::Machine;
use network::Network;
use process::{Program, output, role};
use report::{Recorder, Report, Row, SCHEMA, Skipped};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};
use subjects::Surroundings;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match start(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The hidden roles first: they are not for people and not in the help.
fn start(arguments: &[OsString]) -> Result<ExitCode> {
    let Some((first, rest)) = arguments.split_first() else { return bench(&Options::parse(), arguments) };
    let text = |n: usize| rest.get(n).and_then(|a| a.to_str()).context("an argument is missing");
    match first.to_str() {
        Some("__exec") => process::exec(rest)?,
        Some("__target") => {
            process::raise_file_limit();
            runtime()?.block_on(target::run(text(0)?.parse()?))?;
        }
        Some("__quinn-host") => {
            process::raise_file_limit();
            runtime()?.block_on(subjects::quinn_host(Path::new(text(0)?), text(1)?.parse()?))?;
        }
        Some("__quinn-proxy") => {
            process::raise_file_limit();
            runtime()?.block_on(subjects::quinn_proxy(Path::new(text(0)?), text(1)?.parse()?))?;
        }
        Some("__inside") => {
            let program = OsString::from("hesper-bench");
            let options = Options::parse_from([program].into_iter().chain(rest[1..].iter().cloned()));
            let part = measure(&options, Network::Mtu(text_mtu()?), true)?;
            std::fs::write(text(0)?, serde_json::to_string(&part)?)?;
        }
        _ => return bench(&Options::parse(), arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn text_mtu() -> Result<u32> {
    let mtu = std::env::var(network::INSIDE).context("not started by the bench")?;
    Ok(mtu.parse()?)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn bench(options: &Options, arguments: &[OsString]) -> Result<ExitCode> {
    if options.list {
        print!("{}", cli::list());
        return Ok(ExitCode::SUCCESS);
    }
    // Before an hour of measuring, not after it.
    if let Some(path) = &options.json {
        std::fs::write(path, "").with_context(|| format!("cannot write {}", path.display()))?;
    }
    build_hesper()?;
    let (begun, clock) = (OffsetDateTime::now_utc().format(&Rfc3339)?, Instant::now());
    let machine = Machine::look();
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for (n, network) in options.networks().into_iter().enumerate() {
        eprintln!("network: {network}");
        let (more, less) = match network {
            Network::Mtu(mtu) => inside(mtu, options, arguments, n == 0)?,
            Network::AsIs => measure(options, network, n == 0)?,
        };
        rows.extend(more);
        skipped.extend(less);
    }
    let report = Report {
        schema: SCHEMA.to_owned(),
        begun,
        seconds: clock.elapsed().as_secs_f64(),
        command: arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect(),
        machine,
        aims: aims::judge(&rows),
        rows,
        skipped,
    };
    print!("{}", report.text());
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures in a namespace, by this program below `unshare`.
fn inside(
    mtu: u32,
    options: &Options,
    arguments: &[OsString],
    first: bool,
) -> Result<(Vec<Row>, Vec<Skipped>)> {
    let directory = tempfile::tempdir()?;
    let result = directory.path().join("part.json");
    let mut arguments = arguments.to_vec();
    if !first {
        // What concerns Hesper alone is measured once.
        let benchmarks = compared(options);
        if benchmarks.is_empty() {
            return Ok(Default::default());
        }
        let mut only: Vec<&str> = benchmarks;
        only.extend(options.subjects());
        arguments.extend(["--only".into(), only.join(",").into()]);
    }
    network::run_inside(mtu, &arguments, &result)?;
    Ok(serde_json::from_slice(&std::fs::read(result)?)?)
}

fn compared(options: &Options) -> Vec<&'static str> {
    let compares = |name: &&str| measures::BENCHMARKS.iter().any(|b| b.name == *name && b.compares);
    options.benchmarks().into_iter().filter(compares).collect()
}

/// Everything in this network. `alone`: also what concerns Hesper alone.
fn measure(options: &Options, network: Network, alone: bool) -> Result<(Vec<Row>, Vec<Skipped>)> {
    process::raise_file_limit();
    network::set_up()?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut recorder = Recorder::new(&network.to_string(), machine::loopback_mtu());
        let mut target_role = role("__target")?;
        target_role.arg("127.0.0.1:0");
        let mut target = Program::start("target", target_role)?;
        let address = target.line(|line| line.strip_prefix("ready ")?.parse().ok()).await?;
        let around = Surroundings { hesper: hesper_binary()?, target: address };
        let (effort, comparing) = (options.effort(), compared(options));
        if !comparing.is_empty() {
            measures::compare(&options.subjects(), &comparing, &around, &effort, &mut recorder).await?;
        }
        for name in options.benchmarks().into_iter().filter(|name| alone && !comparing.contains(name)) {
            eprintln!("benchmark: {name}");
            if let Err(error) = measures::alone_run(name, &around, &effort, &mut recorder).await {
                recorder.skip(name, &format!("failed: {error:#}"));
            }
        }
        Ok(recorder.finish())
    })
}

/// The `hesper` of the same build; `$HESPER_BIN` names another.
fn hesper_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HESPER_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let path = own.parent().unwrap_or(Path::new(".")).join("hesper");
    if !path.is_file() {
        let release = if cfg!(debug_assertions) { "" } else { " --release" };
        bail!(
            "{} is missing: build it with `cargo build{release} -p hesper`, or name one by HESPER_BIN",
            path.display()
        );
    }
    Ok(path)
}

/// `cargo run` builds this program only; what it measures must be as new.
fn build_hesper() -> Result<()> {
    let (Some(cargo), None) = (std::env::var_os("CARGO"), std::env::var_os("HESPER_BIN")) else {
        return Ok(());
    };
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "hesper"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    output(build).map(drop).context("hesper could not be built")
}
