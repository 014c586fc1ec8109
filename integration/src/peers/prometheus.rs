//! Debian's Prometheus.

use super::{curl, free_port};
use crate::{netns::Netns, process::Process};
use serde_json::Value;
use std::{fs, path::Path, process::Command};

/// A running Prometheus on loopback.
pub struct Prometheus<'a> {
    host: Option<&'a Netns>,
    /// Port of its API on 127.0.0.1.
    pub port: u16,
    process: Process,
}

impl<'a> Prometheus<'a> {
    /// Starts it with a configuration, its data in `directory`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(host: Option<&'a Netns>, directory: &Path, config: &str) -> Self {
        let port = free_port();
        fs::create_dir_all(directory).expect("directory of Prometheus");
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).expect("configuration of Prometheus");
        let mut command = host.map_or_else(|| Command::new("prometheus"), |host| host.command("prometheus"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg("--log.level=warn");
        Self { host, port, process: Process::spawn("prometheus", &mut command) }
    }

    /// An instant query: the samples of its vector as (labels, value).
    pub fn query(&mut self, query: &str) -> Vec<(Value, f64)> {
        if let Some(status) = self.process.exited() {
            panic!("prometheus ended: {status}");
        }
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let answer = curl(self.host, &["-G", "--data-urlencode", &format!("query={query}"), &url]);
        let Ok(json) = serde_json::from_str::<Value>(&answer.stdout) else { return Vec::new() };
        let samples = json["data"]["result"].as_array().cloned().unwrap_or_default();
        samples
            .into_iter()
            .filter_map(|mut s| Some((s["metric"].take(), s["value"][1].as_str()?.parse().ok()?)))
            .collect()
    }

    /// The value of a query that has exactly one sample.
    pub fn value(&mut self, query: &str) -> Option<f64> {
        match self.query(query).as_slice() {
            [(_, value)] => Some(*value),
            _ => None,
        }
    }

    /// What it says of its targets, for failure messages.
    pub fn targets(&self) -> String {
        curl(self.host, &[&format!("http://127.0.0.1:{}/api/v1/targets", self.port)]).stdout
    }
}
