//! A real OpenTelemetry Collector: its own Go modules, built by `cargo xtask test` into `target/otelcol` where Go is installed.

use crate::{Process, binaries};
use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

/// Generous, because many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Collector with a directory of its own.
pub struct Otelcol {
    /// Ask it by [`Process::said`].
    pub process: Process,
    directory: tempfile::TempDir,
}

impl Otelcol {
    /// The program; where it is not built because there is no Go, says so on standard output.
    ///
    /// # Panics
    /// When it is not built although there is Go.
    pub fn program() -> Option<PathBuf> {
        let program = binaries::target_directory().join("otelcol/otelcol");
        if program.is_file() {
            return Some(program);
        }
        let places = std::env::var_os("PATH").unwrap_or_default();
        let go = std::env::split_paths(&places)
            .chain(["/usr/local/go/bin".into()])
            .any(|place| place.join("go").is_file());
        assert!(!go, "{} is missing: run `cargo xtask test --only peers`", program.display());
        println!("NOT TESTED against a real OpenTelemetry Collector: Go, which builds it, is not installed");
        None
    }

    /// Starts it with this configuration, in which `DIRECTORY` stands for a directory of its own; `None` where there is no Go.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(config: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("config.yaml");
        let config = config.replace("DIRECTORY", &directory.path().display().to_string());
        fs::write(&file, config).expect("write the configuration");
        let mut command = Command::new(Self::program()?);
        command.arg("--config").arg(&file);
        let mut process = Process::foreign("otelcol", command);
        process.wait_for_line("it is ready", PATIENCE, |line| {
            line.contains("Everything is ready").then_some(())
        });
        Some(Self { process, directory })
    }

    /// The address that the system gave to its receiver of OTLP over `GRPC` or `HTTP`.
    ///
    /// # Panics
    /// When it told none.
    #[track_caller]
    pub fn told(&self, protocol: &str) -> SocketAddr {
        let starting = format!("Starting {protocol} server");
        let lines = self.process.lines();
        let address = lines.iter().filter(|line| line.contains(&starting)).find_map(|line| {
            let (_, rest) = line.split_once(r#""endpoint": ""#)?;
            rest.split('"').next()?.parse().ok()
        });
        address.unwrap_or_else(|| panic!("otelcol told no address of {protocol}: {lines:?}"))
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Ends it as an operator would.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        self.process.terminate(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{OtlpSink, Sdk};

    /// Without Hesper between them, so that a failure with Hesper is Hesper's.
    #[test]
    fn it_forwards_what_an_sdk_sends() {
        let sink = OtlpSink::start();
        let config = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters: {{otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: &p {{receivers: [otlp], exporters: [otlp_grpc]}}, metrics: *p, logs: *p}}
",
            sink.grpc()
        );
        let Some(mut collector) = Otelcol::start(&config) else { return };
        let (grpc, http) = (collector.told("GRPC"), collector.told("HTTP"));
        let mut sent =
            Sdk::Python.send("grpc", &format!("http://{grpc}"), 100, "grpc", &["gzip"]).acknowledged(300);
        sent.extend(
            Sdk::JavaScript.send("json", &format!("http://{http}"), 100, "json", &[]).acknowledged(300),
        );
        sink.wait_exactly(&sent, &[], PATIENCE);
        collector.stop();
    }
}
