//! The flags about tracing.

use crate::cli::flags::UsageError;
use anyhow::{Context as _, Result};
use clap::Args;
use hesper_trace::settings::{Block, ExporterUrl, Rate};
use std::path::{Path, PathBuf};

/// Behind the options of a command itself.
const LAST: usize = 910;
/// Largest file with a block, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Flags of every command.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct TraceFlags {
    /// Record everything that this command does as a trace; it goes by way of the controller unless an exporter is given
    #[arg(long, global = true, display_order = LAST)]
    pub(crate) trace: bool,
    /// Where the trace goes: grpc://HOST:PORT, http://HOST:PORT, https://HOST, file:///DIR or hesper://SERVICE
    #[arg(long, value_name = "URL", global = true, requires = "trace", display_order = LAST)]
    pub(crate) trace_exporter: Option<ExporterUrl>,
}

/// Flags of roles: what the block `tracing` may say.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Tracing")]
pub(crate) struct RoleFlags {
    /// A YAML file with the block 'tracing'; flags and OTEL_ variables count more
    #[arg(long, value_name = "FILE")]
    tracing_config: Option<PathBuf>,
    /// Where spans go: grpc://HOST:PORT, http://HOST:PORT, https://HOST, file:///DIR or hesper://SERVICE
    #[arg(long, value_name = "URL")]
    tracing_exporter_url: Option<ExporterUrl>,
    /// How many of a million traces that begin here are recorded; what a sampled caller asks for always is [default: 0]
    #[arg(long, value_name = "RATE")]
    tracing_sampling_rate_per_million: Option<Rate>,
    /// Send this process's metrics there too, every OTEL_METRIC_EXPORT_INTERVAL ms [default: 60000]
    #[arg(long)]
    tracing_metrics: bool,
    /// Send this process's events there too, as log records
    #[arg(long)]
    tracing_events: bool,
    /// Certificates of the authorities that the exporter's may come from, PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    tracing_ca_cert: Vec<PathBuf>,
    /// Our certificate towards the exporter, PEM
    #[arg(long, value_name = "FILE", requires = "tracing_key_file")]
    tracing_cert_file: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "tracing_cert_file")]
    tracing_key_file: Option<PathBuf>,
    /// The identity file to dial hesper:// with, where the role has none of its own
    #[arg(long, value_name = "FILE")]
    tracing_identity: Option<PathBuf>,
}

impl RoleFlags {
    /// What the flags say.
    pub(super) fn block(&self) -> Block {
        let flags = self.clone();
        Block {
            enabled: None,
            exporter_url: flags.tracing_exporter_url,
            sampling_rate_per_million: flags.tracing_sampling_rate_per_million,
            metrics: flags.tracing_metrics.then_some(true),
            events: flags.tracing_events.then_some(true),
            ca_certs: flags.tracing_ca_cert,
            cert_file: flags.tracing_cert_file,
            key_file: flags.tracing_key_file,
            identity: flags.tracing_identity,
        }
    }

    /// What the file says; none without one.
    ///
    /// # Errors
    /// It cannot be read, or there is no block `tracing` in it.
    pub(super) fn file(&self) -> Result<Option<Block>> {
        self.tracing_config.as_deref().map(read).transpose()
    }
}

fn read(path: &Path) -> Result<Block> {
    let text = hesper_pki::files::read(path, MAX_FILE)?;
    parse(&text).with_context(|| format!("cannot use {}", path.display()))
}

fn parse(text: &str) -> Result<Block> {
    let (documents, flaws) = hesper_yaml::parse(text);
    if let Some(flaw) = flaws.first() {
        return Err(UsageError(format!("line {}: {}", flaw.at.0, flaw.reason)).into());
    }
    let wrong = |reason: String| anyhow::Error::from(UsageError(reason));
    let [document] = &documents[..] else {
        return Err(wrong("it must hold one block, 'tracing:'".to_owned()));
    };
    let serde_json::Value::Object(mut keys) = document.json() else {
        return Err(wrong("it must hold the block 'tracing:'".to_owned()));
    };
    let block = keys.remove("tracing").ok_or_else(|| wrong("it has no block 'tracing:'".to_owned()))?;
    if let Some(other) = keys.keys().next() {
        return Err(wrong(format!("'{other}' is not known: it may hold the block 'tracing:' only")));
    }
    serde_json::from_value(block).map_err(|error| wrong(format!("tracing: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_read() {
        let text = "tracing:\n  enabled: true\n  exporter_url: grpc://c:4317\n  sampling_rate_per_million: 10000\n  ca_certs: [/ca.pem]\n";
        let block = parse(text).expect("block");
        assert_eq!(block.enabled, Some(true));
        assert_eq!(block.exporter_url.map(|url| url.to_string()).as_deref(), Some("grpc://c:4317"));
        assert_eq!(block.sampling_rate_per_million, Rate::new(10_000));
        assert_eq!(block.ca_certs, [PathBuf::from("/ca.pem")]);
    }

    #[test]
    fn what_is_none_is_a_usage_error_that_names_the_reason() {
        for (text, word) in [
            ("", "tracing"),
            ("trace: {}", "no block"),
            ("tracing: {}\nother: 1", "'other'"),
            ("tracing: {exporter: x}", "exporter"),
            ("tracing: {exporter_url: 'ftp://x'}", "ftp"),
            ("tracing: {sampling_rate_per_million: 2000000}", "2000000"),
            ("tracing: [", "line"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(format!("{error:#}").contains(word), "{error:#}");
            assert!(error.is::<UsageError>());
        }
    }
}
