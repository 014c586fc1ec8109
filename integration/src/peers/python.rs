//! The unmodified OpenTelemetry SDK for Python, from the virtual environment that `cargo xtask test` makes.

use super::SpanId;
use crate::{binary::repository, process::run};
use std::process::Command;

/// Sends `count` spans by `grpc` or `http` to an endpoint; their ids.
///
/// # Panics
/// When the SDK is not installed or does not deliver.
pub fn send_trace(protocol: &str, endpoint: &str, count: usize) -> Vec<SpanId> {
    let python = repository().join("target/python/bin/python");
    assert!(python.exists(), "{} is missing: `cargo xtask test` makes it", python.display());
    let script = repository().join("integration/peers/send_trace.py");
    let output = run(Command::new(python).arg(script).args([protocol, endpoint, &count.to_string()]));
    let ids: Vec<_> = output.ok().lines().map(SpanId::parse).collect();
    assert_eq!(ids.len(), count);
    ids
}
