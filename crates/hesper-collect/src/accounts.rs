//! What became of every item: the ledger of a collector, running or not.

use hesper_collector_config::{Config, Extension, MetricsLevel};
use hesper_telemetry::delivery::{Row, read_ledger};
use serde::Serialize;
use std::{collections::BTreeSet, io, path::Path};

/// The ledger of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The pipeline.
    pub pipeline: String,
    /// A row for each destination, sender and signal.
    pub rows: Vec<Row>,
}

/// What a running collector tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Where its queues are: which collector it is, where several run on one machine.
    pub storages: BTreeSet<String>,
    /// Its pipelines.
    pub accounts: Vec<Account>,
}

/// The directories of the queues on disk.
pub fn storages(config: &Config) -> BTreeSet<String> {
    let directory = |extension: &Extension| match extension {
        Extension::FileStorage(storage) => Some(storage.directory.clone()),
        _ => None,
    };
    config.extensions.values().filter_map(|component| directory(&component.settings)).collect()
}

/// Where a running collector tells its ledger, beside its metrics.
pub const LEDGER_PATH: &str = "/ledger";

/// Reads the ledgers beside the queues on disk of a configuration. What was only in memory has none.
///
/// # Errors
/// A ledger cannot be read; the text names it.
pub fn on_disk(config: &Config) -> io::Result<Vec<Account>> {
    let mut accounts = Vec::new();
    for directory in storages(config) {
        for pipeline in config.service.pipelines.keys().map(ToString::to_string) {
            let rows = read_ledger(Path::new(&directory), &pipeline).map_err(|error| {
                let reason = format!("cannot read the ledger of pipeline {pipeline} in {directory}: {error}");
                io::Error::new(error.kind(), reason)
            })?;
            accounts.extend(rows.map(|rows| Account { pipeline, rows }));
        }
    }
    Ok(accounts)
}

/// Where a collector of this configuration tells its ledger while it runs; none when it tells nobody, or only the mesh.
pub fn running_at(config: &Config) -> Option<String> {
    let metrics = &config.service.telemetry.metrics;
    let address = metrics.endpoint.as_ref()?.underlay().filter(|address| !address.is_unix())?;
    let port = address.port.filter(|port| *port != 0 && metrics.level != MetricsLevel::None)?;
    let host = match address.host.as_str() {
        "" | "0.0.0.0" | "::" => "localhost".to_owned(),
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    Some(format!("http://{host}:{port}{LEDGER_PATH}"))
}
