//! Debian's Prometheus and node_exporter, each on a port of its own on loopback.

use crate::{Process, binaries, http, netns::Netns, wait_for, wait_until};
use serde_json::Value;
use std::{collections::BTreeMap, fs, net::SocketAddr, process::Command, time::Duration};

/// Start, and each wait for a scrape: generous, because many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running Prometheus with a data directory of its own.
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    /// Where it runs; queries are asked from there.
    netns: Option<String>,
    _data: tempfile::TempDir,
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// All labels, `__name__` too.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Prometheus {
    /// Starts it with this configuration in the host's network.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Self::start_in(None, config)
    }

    /// Starts it, scraping nothing, as one that others write to: remote write at `/api/v1/write`.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn receiver() -> Self {
        Self::run(None, "global: {}\n", &["--web.enable-remote-write-receiver"])
    }

    /// Starts it inside a namespace (which must outlive it).
    ///
    /// # Panics
    /// When it does not start, for example because it does not accept the configuration.
    #[track_caller]
    pub fn start_in(netns: Option<&Netns>, config: &str) -> Self {
        Self::run(netns, config, &[])
    }

    #[track_caller]
    fn run(netns: Option<&Netns>, config: &str, further: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("temporary directory");
        let file = data.path().join("prometheus.yml");
        fs::write(&file, config).expect("write the configuration");
        let program = binaries::installed("prometheus", "prometheus");
        let mut command = netns.map_or_else(|| Command::new(&program), |netns| netns.command(&program));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
            .args([
                "--web.listen-address=127.0.0.1:0",
                "--storage.tsdb.retention.time=1h",
                "--web.enable-lifecycle",
            ])
            .args(further);
        let mut process = Process::foreign("prometheus", command);
        let address = process.wait_for_line("it listens", PATIENCE, listening_address);
        let prometheus =
            Self { process, address, netns: netns.map(|netns| netns.name().to_owned()), _data: data };
        wait_until("Prometheus is ready", PATIENCE, || {
            prometheus.get("/-/ready").is_ok_and(|a| a.status == 200)
        });
        prometheus
    }

    /// Where its API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An instant query.
    ///
    /// # Errors
    /// It does not answer, or the query is wrong.
    pub fn query(&self, promql: &str) -> Result<Vec<Sample>, String> {
        let answer =
            self.api(&["--data-urlencode", &format!("query={promql}"), &self.url("/api/v1/query")])?;
        let found =
            answer.pointer("/data/result").and_then(Value::as_array).ok_or_else(|| answer.to_string())?;
        Ok(found.iter().filter_map(sample).collect())
    }

    /// Its active targets, as its API describes them: `health`, `lastError`, `labels`, `discoveredLabels`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn targets(&self) -> Result<Vec<Value>, String> {
        let answer = self.api(&[&self.url("/api/v1/targets?state=active")])?;
        let found = answer.pointer("/data/activeTargets").and_then(Value::as_array);
        found.cloned().ok_or_else(|| answer.to_string())
    }

    /// Waits until exactly `count` series match and each has `up`'s value 1: `wait_all_up(r#"up{job="mesh"}"#, 2)`.
    ///
    /// # Panics
    /// When it takes too long; the message has the targets' last errors.
    #[track_caller]
    pub fn wait_all_up(&self, promql: &str, count: usize) -> Vec<Sample> {
        wait_for(&format!("{count} × {promql} are 1"), PATIENCE, || {
            let found = self.query(promql)?;
            if found.len() == count && found.iter().all(|sample| sample.value == 1.0) {
                return Ok(found);
            }
            let errors: Vec<_> =
                self.targets()?.iter().map(|t| format!("{} {}", t["scrapeUrl"], t["lastError"])).collect();
            Err(format!("{found:?}, targets {errors:?}"))
        })
    }

    /// Waits until a query gives a sample that satisfies `good`.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_sample(&self, promql: &str, good: impl Fn(&Sample) -> bool) -> Sample {
        wait_for(promql, PATIENCE, || {
            let found = self.query(promql)?;
            found.iter().find(|sample| good(sample)).cloned().ok_or_else(|| format!("{found:?}"))
        })
    }

    /// Ends it as an operator would.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(mut self) {
        self.process.terminate(PATIENCE);
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str) -> Result<http::Response, String> {
        http::curl_in(self.netns.as_deref(), &[&self.url(path)])
    }

    fn api(&self, arguments: &[&str]) -> Result<Value, String> {
        let answer = http::curl_in(self.netns.as_deref(), arguments)?;
        match answer.status {
            200 => serde_json::from_str(&answer.body).map_err(|e| e.to_string()),
            _ => Err(answer.body),
        }
    }
}

fn sample(found: &Value) -> Option<Sample> {
    let labels = found.get("metric")?.as_object()?;
    let labels = labels.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let value = found.pointer("/value/1")?.as_str()?;
    // As Prometheus writes them; Rust reads only "inf" and "nan" in any case, so all of these parse.
    Some(Sample { labels: labels.collect(), value: value.parse().ok()? })
}

/// The line in which Prometheus' programs tell the address that the system gave them.
fn listening_address(line: &str) -> Option<SocketAddr> {
    if !line.contains("Listening on") {
        return None;
    }
    line.split_whitespace().find_map(|word| word.strip_prefix("address=")?.parse().ok())
}

/// A running node_exporter.
pub struct NodeExporter {
    _process: Process,
    /// Where it listens, on loopback.
    pub address: SocketAddr,
}

impl NodeExporter {
    /// Starts it in the host's network.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_in(None)
    }

    /// Starts it inside a namespace (which must outlive it).
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_in(netns: Option<&Netns>) -> Self {
        Self::listen(netns, 0)
    }

    /// As [`start_in`](Self::start_in), on this port of loopback; 0 = a free one.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn listen(netns: Option<&Netns>, port: u16) -> Self {
        let program = binaries::installed("prometheus-node-exporter", "prometheus-node-exporter");
        let mut command = netns.map_or_else(|| Command::new(&program), |netns| netns.command(&program));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = Process::foreign("node_exporter", command);
        let address = process.wait_for_line("it listens", PATIENCE, listening_address);
        Self { _process: process, address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_scrapes_a_node_exporter() {
        let exporter = NodeExporter::start();
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: node, static_configs: [{{targets: [\"{}\"]}}]}}]\n",
            exporter.address
        );
        let prometheus = Prometheus::start(&config);
        let up = prometheus.wait_all_up(r#"up{job="node"}"#, 1);
        assert_eq!(up[0].labels["instance"], exporter.address.to_string());
        prometheus.wait_sample("node_time_seconds", |sample| sample.value > 1e9);
        assert!(prometheus.query("up{").is_err(), "a wrong query is an error");
        prometheus.stop();
    }
}
