//! The collectors, each with the configuration that does the same.

use super::Case;
use crate::{
    process::{Program, command, installed},
    stack::free_port,
};
use anyhow::{Context, Result};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// The measured programs, in the order of each round.
pub(super) const SUBJECTS: [Subject; 3] = [Subject::Hesper, Subject::Otelcol, Subject::Rotel];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Hesper,
    Otelcol,
    Rotel,
}

/// What a case does to the batches on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing.
    Pass,
    /// One attribute is inserted into each resource.
    Insert,
    /// They are on disk before they are acknowledged: fsync.
    Durable,
}

impl Subject {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hesper => "hesper",
            Self::Otelcol => "otelcol",
            Self::Rotel => "rotel",
        }
    }

    /// The program, or what to do to have it.
    pub(super) fn program(self, hesper: &Path) -> Result<PathBuf> {
        let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
        match self {
            Self::Hesper => Ok(hesper.to_owned()),
            Self::Otelcol => named("OTELCOL_BIN").or_else(|| installed("otelcol")).context(
                "no otelcol on PATH: build integration/otelcol with Go and name the program by OTELCOL_BIN",
            ),
            Self::Rotel => named("ROTEL_BIN").or_else(|| installed("rotel-agent")).context(
                "no rotel-agent on PATH: pip install rotel, and name the rotel-agent in it by ROTEL_BIN",
            ),
        }
    }

    /// Can it do this at all?
    pub(super) fn can(self, way: Way) -> bool {
        // Rotel keeps batches in memory only.
        self != Self::Rotel || way != Way::Durable
    }

    /// Starts it on the first processor; where it listens.
    pub(super) async fn start(
        self,
        program: &Path,
        case: &Case,
        sink: SocketAddr,
        directory: &Path,
    ) -> Result<(Program, SocketAddr)> {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut pinned = command("taskset")?;
        pinned.args(["-c", "0"]).arg(program);
        match self {
            Self::Rotel => rotel(&mut pinned, case, listen, sink),
            Self::Hesper | Self::Otelcol => {
                let file = directory.join(format!("{}.yaml", self.name()));
                fs::write(&file, yaml(case, listen, sink, &directory.join(self.name())))?;
                if self == Self::Hesper {
                    pinned.arg("collect");
                }
                pinned.arg("--config").arg(file);
            }
        }
        let mut running = Program::start(self.name(), pinned)?;
        running.listens(listen).await?;
        Ok((running, listen))
    }
}

fn compression(case: &Case) -> &'static str {
    if case.gzip { "gzip" } else { "none" }
}

/// One configuration for both that read it.
fn yaml(case: &Case, listen: SocketAddr, sink: SocketAddr, storage: &Path) -> String {
    let (signal, durable) = (case.signal.name(), case.way == Way::Durable);
    let processors = if case.way == Way::Insert { "[resource]" } else { "[]" };
    let extensions = if durable { "[file_storage]" } else { "[]" };
    let queue = match durable {
        true => "storage: file_storage, queue_size: 1000, block_on_overflow: true".to_owned(),
        false => "queue_size: 100, wait_for_result: true, block_on_overflow: true".to_owned(),
    };
    format!(
        "extensions:
  file_storage: {{directory: {}, create_directory: true{}}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '{listen}', max_recv_msg_size_mib: 64}}}}}}
processors:
  resource: {{attributes: [{{key: cloud.region, value: eu-west-1, action: insert}}]}}
exporters:
  otlp_grpc:
    endpoint: '{sink}'
    tls: {{insecure: true}}
    compression: {}
    sending_queue: {{{queue}}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
  extensions: {extensions}
  pipelines:
    {signal}: {{receivers: [otlp], processors: {processors}, exporters: [otlp_grpc]}}
",
        storage.display(),
        if durable { ", fsync: true" } else { "" },
        compression(case),
    )
}

fn rotel(pinned: &mut Command, case: &Case, listen: SocketAddr, sink: SocketAddr) {
    pinned.args(["start", "--otlp-grpc-endpoint", &listen.to_string()]);
    pinned.args(["--otlp-http-endpoint", "127.0.0.1:0", "--otlp-grpc-max-recv-msg-size-mib", "64"]);
    pinned.args(["--exporter", "otlp", "--otlp-exporter-endpoint", &format!("http://{sink}")]);
    pinned.args(["--otlp-exporter-compression", compression(case)]);
    if case.way == Way::Insert {
        pinned.args(["--otel-resource-attributes", "cloud.region=eu-west-1"]);
    }
}
