//! Python peers, in the virtual environment that `cargo xtask test` makes: `target/python`.

use crate::{
    binaries,
    output::{Output, run},
};
use std::{path::PathBuf, process::Command, time::Duration};

/// The environment's interpreter.
///
/// # Panics
/// When it is missing.
pub fn interpreter() -> PathBuf {
    let python = binaries::target_directory().join("python/bin/python");
    assert!(python.is_file(), "{} is missing: run `cargo xtask test --only peers`", python.display());
    python
}

/// A script of `integration/peers/` as a command, for [`crate::Process::foreign`] or [`run`].
///
/// # Panics
/// When the environment is missing.
pub fn peer(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(interpreter());
    command.arg("-u").arg(binaries::repository().join("integration/peers").join(script)).args(arguments);
    command
}

/// Runs a script of `integration/peers/` to its end.
///
/// # Panics
/// When it does not end in two minutes.
#[track_caller]
pub fn run_peer(script: &str, arguments: &[&str]) -> Output {
    run(peer(script, arguments), "", Duration::from_secs(120))
}
