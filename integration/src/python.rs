//! Python peers, in the virtual environment that `cargo xtask test` makes: `target/python`.

use crate::{
    Process, binaries,
    output::{Output, run},
};
use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

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

/// An OTLP receiver of spans on loopback; each span is a line `TRACE_ID SPAN_ID SERVICE_NAME` of its output.
pub struct TraceReceiver {
    /// Ask it by [`Process::said`].
    pub process: Process,
    /// Where it listens, on loopback.
    pub address: SocketAddr,
}

impl TraceReceiver {
    /// Starts it for `grpc` or `http`.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(protocol: &str) -> Self {
        let mut process = Process::foreign("receive_trace.py", peer("receive_trace.py", &[protocol]));
        let address = process.wait_for_line("it listens", Duration::from_secs(60), |line| {
            line.strip_prefix("listening on ")?.parse().ok()
        });
        Self { process, address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_until;

    /// Without Hesper between them, so that a failure with Hesper is Hesper's.
    #[test]
    fn sender_and_receiver_understand_each_other() {
        for (protocol, path) in [("grpc", ""), ("http", "/v1/traces")] {
            let receiver = TraceReceiver::start(protocol);
            let endpoint = format!("http://{}{path}", receiver.address);
            let sent = run_peer("send_trace.py", &[protocol, &endpoint, "3"]).ok().stdout;
            assert_eq!(sent.lines().count(), 3, "{sent}");
            wait_until("all spans have arrived", Duration::from_secs(60), || {
                sent.lines().all(|span| receiver.process.said(&format!("{span} python-{protocol}")))
            });
        }
    }
}
