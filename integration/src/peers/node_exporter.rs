//! Debian's node_exporter.

use super::free_port;
use crate::{netns::Netns, process::Process};
use std::process::Command;

/// A running node_exporter on loopback.
pub struct NodeExporter {
    /// Its port on 127.0.0.1.
    pub port: u16,
    _process: Process,
}

impl NodeExporter {
    /// Starts it on a host.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(host: Option<&Netns>) -> Self {
        let port = free_port();
        let program = "prometheus-node-exporter";
        let mut command = host.map_or_else(|| Command::new(program), |host| host.command(program));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=warn");
        Self { port, _process: Process::spawn(program, &mut command) }
    }
}
