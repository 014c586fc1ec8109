//! The programs of other people that Hesper must work with.

mod node_exporter;
mod otlp;
mod prometheus;
mod python;

pub use node_exporter::NodeExporter;
pub use otlp::{OtlpReceiver, SpanId};
pub use prometheus::Prometheus;
pub use python::send_trace;

use crate::{
    netns::Netns,
    process::{Output, run},
};
use std::{net::TcpListener, process::Command};

/// `curl` on a host, quiet, errors shown, a deadline of 20 s.
pub fn curl(host: Option<&Netns>, args: &[&str]) -> Output {
    let mut command = host.map_or_else(|| Command::new("curl"), |host| host.command("curl"));
    run(command.args(["-sS", "--noproxy", "", "--max-time", "20"]).args(args))
}

/// A loopback port that was free a moment ago, for programs that cannot choose one themselves and tell.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}
