//! The unmodified OpenTelemetry SDKs as senders.

use crate::{Output, binaries, run};
use std::{path::PathBuf, process::Command, time::Duration};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// Of PyPI; over `grpc` and `http`.
    Python,
    /// Of npm, on Node.js; over `grpc`, `http` and `json` (OTLP/JSON over HTTP).
    JavaScript,
}

impl Sdk {
    /// Sends `count` spans, data points and log records each, and waits until they have been answered. `further`: `gzip`, and headers
    /// as `NAME=VALUE`.
    ///
    /// # Panics
    /// When the SDK is not installed or not done in two minutes.
    #[track_caller]
    pub fn send(
        self,
        protocol: &str,
        endpoint: &str,
        count: usize,
        service: &str,
        further: &[&str],
    ) -> Sending {
        Sending::by(self.command(protocol, endpoint, count, service, further))
    }

    /// The command that does so.
    ///
    /// # Panics
    /// When the SDK is not installed.
    #[track_caller]
    pub fn command(
        self,
        protocol: &str,
        endpoint: &str,
        count: usize,
        service: &str,
        further: &[&str],
    ) -> Command {
        let count = count.to_string();
        let arguments = [&[protocol, endpoint, &count, service], further].concat();
        match self {
            Self::Python => python(&arguments),
            Self::JavaScript => javascript(&arguments),
        }
    }
}

/// `integration/peers/send_otlp.py` in the virtual environment that `cargo xtask test` makes: `target/python`.
fn python(arguments: &[&str]) -> Command {
    let interpreter = binaries::target_directory().join("python/bin/python");
    assert!(
        interpreter.is_file(),
        "{} is missing: run `cargo xtask test --only peers`",
        interpreter.display()
    );
    let mut command = Command::new(interpreter);
    command.arg(binaries::repository().join("integration/peers/send_otlp.py")).args(arguments);
    command
}

/// `integration/peers/js/send.js` with the packages that `cargo xtask test` has installed: `target/javascript`.
fn javascript(arguments: &[&str]) -> Command {
    let packages: PathBuf = binaries::target_directory().join("javascript/node_modules");
    assert!(packages.is_dir(), "{} is missing: run `cargo xtask test --only peers`", packages.display());
    let mut command = Command::new(binaries::installed("node", "nodejs"));
    command.arg(binaries::repository().join("integration/peers/js/send.js")).args(arguments);
    command.env("NODE_PATH", packages);
    command
}

/// What came of it.
pub struct Sending {
    /// Of the script: lines of what was acknowledged and what was refused; the SDK's own log on standard error.
    pub output: Output,
}

impl Sending {
    /// Runs the command of an SDK to its end.
    ///
    /// # Panics
    /// When it is not done in two minutes.
    #[track_caller]
    pub fn by(command: Command) -> Self {
        Self { output: run(command, "", Duration::from_secs(120)) }
    }

    /// Expects that all of it was acknowledged, `count` items: their lines.
    ///
    /// # Panics
    /// When it was not.
    #[track_caller]
    pub fn acknowledged(self, count: usize) -> Vec<String> {
        let output = self.output.ok();
        let lines: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), count, "{}", output.stderr);
        lines
    }

    /// Expects that nothing was acknowledged: what the SDK said about it.
    ///
    /// # Panics
    /// When something was.
    #[track_caller]
    pub fn refused(self) -> String {
        let output = self.output.fails_with(1);
        assert!(output.stdout.lines().all(|line| line.starts_with("refused ")), "{}", output.stdout);
        output.stdout + &output.stderr
    }
}
