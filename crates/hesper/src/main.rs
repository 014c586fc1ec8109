//! `hesper`: controller, router, tunneler, collector and command line in one binary.
//!
//! - [`cli`]: what was typed. One file per group of commands; clap refuses the rest with exit code 2.
//! - [`edge`]: what the management commands ask of the controller, and how its answers are shown.
//! - [`api_client`], [`first_contact`], [`config_store`]: HTTPS, whom to trust, who is logged in.
//! - [`enrollment_file`]: from a token file to an identity file.
//! - [`demo`]: all of it in one process, each claim tried out.
//! - [`serve`], [`tunnel`], [`collect`]: the long-lived roles: controller, router, quickstart; the tunneler; the collector.
//! - [`dial`]: a service on standard input and output; the way of a dial, step by step.
//! - [`doctor`]: what is wrong, and what to do about it.
//! - [`observed`]: where each of them serves its metrics: on loopback or dark.
//! - [`traces`]: the process's own spans, and how they go out.
//! - [`output`], [`new_file`]: standard output, and files that hold secrets.
//!
//! Exit codes: 0 it was done, 1 it failed, 2 it was typed wrongly. A failure is told once, on standard error, as
//! `error: what: why: why`. A reader that closed the pipe is no failure.

mod api_client;
mod cli;
mod collect;
mod config_store;
mod demo;
mod dial;
mod doctor;
mod edge;
mod enrollment_file;
mod first_contact;
mod new_file;
mod observed;
mod output;
mod plain_http;
mod serve;
mod traces;
mod tunnel;

use cli::{Cli, flags::UsageError};
use std::{io, process::ExitCode};

fn main() -> ExitCode {
    let cli = Cli::read();
    allow_many_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start: {e}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{}", told(&e));
            if e.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Each stream of a tunneler is a file; the customary soft limit of 1,024 is there for programs that use select(2).
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is not allowed stays as it was.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The chain on one line, once. The controller's refusals come in OpenZiti's words, which begin with "error" already.
fn told(error: &anyhow::Error) -> String {
    let text = one_line(&format!("{error:#}"));
    if text.starts_with("error ") { text } else { format!("error: {text}") }
}

/// What was typed and what others sent is repeated in messages; it must neither break the line nor command the terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_it_repeats() {
        let error = anyhow::anyhow!("the name 'a\n\u{1b}[2Jb'\n").context("refused");
        assert_eq!(told(&error), r"error: refused: the name 'a\n\u{1b}[2Jb'");
    }
}
