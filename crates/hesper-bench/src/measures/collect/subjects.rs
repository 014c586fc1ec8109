//! The collectors, each with the configuration that does the same.

use super::{Case, hop};
use crate::{
    process::{Program, command, cpu_seconds, installed, resident_bytes},
    stack::{Stack, free_port},
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
    /// Through two of them, with a secured hop between.
    Hop,
}

/// What is measured.
pub(super) struct Running {
    pub(super) collectors: Vec<Program>,
    /// Processes whose CPU time counts too.
    pub(super) others: Vec<u32>,
    pub(super) listen: SocketAddr,
    /// Ends with it.
    pub(super) _stack: Option<Stack>,
}

impl Running {
    /// CPU seconds so far.
    pub(super) fn cpu(&self) -> f64 {
        let collectors = self.collectors.iter().map(Program::pid);
        collectors.chain(self.others.iter().copied()).map(cpu_seconds).sum()
    }

    /// Resident memory of the collectors, bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        self.collectors.iter().map(|one| resident_bytes(one.pid())).sum()
    }
}

/// The program on the first processor.
pub(super) fn pinned(program: &Path) -> Result<Command> {
    let mut pinned = command("taskset")?;
    pinned.args(["-c", "0"]).arg(program);
    Ok(pinned)
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
        // Rotel keeps batches in memory only, and its receiver has no TLS.
        self != Self::Rotel || !matches!(way, Way::Durable | Way::Hop)
    }

    /// Starts it on the first processor; where it listens.
    pub(super) async fn start(
        self,
        program: &Path,
        case: &Case,
        sink: SocketAddr,
        directory: &Path,
    ) -> Result<Running> {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        if case.way == Way::Hop {
            return match self {
                Self::Hesper => hop::mesh(program, case, listen, sink, directory).await,
                _ => hop::mutual_tls(program, case, listen, sink, directory).await,
            };
        }
        let mut pinned = pinned(program)?;
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
        Ok(Running { collectors: vec![running], others: Vec::new(), listen, _stack: None })
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
