//! `collect`: the pipelines of a configuration.

use crate::{
    observed::{self, MetricsArgs},
    one_line,
    output::{self, Grid},
    plain_http,
    serve::Stop,
    tunnel::{Node, Who},
};
use anyhow::{Context as _, Result, anyhow, bail};
use hesper_collect::{
    Collector, Setup, accounts,
    files::{self, ConfigError},
};
use hesper_collector_config::{Config, LogLevel};
use hesper_observe::{
    events::{Event, Events, Kind, Retention},
    logs::{self, LevelFilter},
    metrics::Registry,
};
use hesper_sdk::Context;
use hesper_tunnel::show_refused;
use serde_json::Value;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

/// Says what a configuration does, and what its author may not have seen.
///
/// # Errors
/// The configuration cannot be used; each fault is a line on standard error.
pub(crate) fn check(paths: &[PathBuf]) -> Result<()> {
    let (config, remarks) = files::read(paths).map_err(told)?;
    Ok(output::raw(files::explain(&config, &remarks).as_bytes())?)
}

/// Runs the pipelines until it is asked to stop; SIGHUP reads the configuration again.
///
/// # Errors
/// The configuration cannot be used, the identity neither, or something cannot start.
pub(crate) async fn run(
    paths: &[PathBuf],
    who: Option<&Who>,
    audit: Option<(&Path, Retention)>,
    metrics: &MetricsArgs,
) -> Result<()> {
    let mut stop = Stop::catch()?;
    let mut again = signal(SignalKind::hangup()).context("cannot catch signals")?;
    let config = read(paths)?;
    let events = match audit {
        Some((path, retention)) => Events::open(path, retention)
            .with_context(|| format!("cannot write the audit events to {}", path.display()))?,
        None => Events::unkept(),
    };
    let (ctx, registry) = match who {
        Some(who) => {
            let Node { ctx, registry } = who.node("collector").await?;
            (Some(ctx), registry)
        }
        None => (None, Registry::of_role("collector")),
    };
    events.register(&registry);
    let setup = Setup { ctx: ctx.clone(), events: events.clone(), registry: registry.clone() };
    let mut collector = tokio::select! {
        started = Collector::start(&config, setup) => started?,
        () = stop.asked() => return Ok(()),
    };
    // Beside what the configuration says of its own metrics.
    let _serving =
        observed::serve(metrics.metrics.as_ref(), ctx.as_ref(), &registry, collector.health()).await?;
    let _refused = ctx.clone().map(|ctx| {
        let registry = registry.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { show_refused(ctx, &registry).await }))
    });
    let announcing = AbortOnDropHandle::new(tokio::spawn(announce(&collector, ctx.as_ref())));
    loop {
        tokio::select! {
            () = stop.asked() => break,
            Some(()) = again.recv() => reload(paths, &mut collector, &events).await,
        }
    }
    drop(announcing);
    collector.stop().await;
    if let Some(ctx) = ctx {
        ctx.shutdown().await;
    }
    Ok(())
}

fn read(paths: &[PathBuf]) -> Result<Config> {
    let (config, remarks) = files::read(paths).map_err(told)?;
    for remark in remarks {
        tracing::warn!("{}", one_line(&remark.to_string()));
    }
    logs::set_level(match config.service.telemetry.logs.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    });
    Ok(config)
}

/// Never cut short: a collector must not be left between two configurations.
async fn reload(paths: &[PathBuf], collector: &mut Collector, events: &Events) {
    const KEPT: &str = "the configuration stays as it was";
    let config = match read(paths) {
        Ok(config) => config,
        Err(error) => {
            let reason = one_line(&format!("{error:#}"));
            events.record(Event::failure(Kind::ConfigApplied).field("reason", reason));
            return tracing::warn!("{KEPT}: {error:#}");
        }
    };
    match collector.reload(&config).await {
        Ok(()) => tracing::info!("the configuration was read again"),
        Err(error) if error.is_listening() => {
            tracing::warn!("the new configuration runs, but for this: {error}; SIGHUP tries it again");
        }
        Err(error) => tracing::warn!("{KEPT}: {error}"),
    }
}

/// How long a running collector may take to tell its ledger.
const ASKING: Duration = Duration::from_secs(5);

/// Tells the ledger: of the running collector if it answers, else what is written down beside its queues.
///
/// # Errors
/// The configuration cannot be used, or there is neither.
pub(crate) async fn ledger(paths: &[PathBuf], json: bool) -> Result<()> {
    let (config, _) = files::read(paths).map_err(told)?;
    let accounts = match running(&config).await {
        Some(accounts) => accounts,
        None => serde_json::to_value(accounts::on_disk(&config)?)?,
    };
    if accounts.as_array().is_none_or(Vec::is_empty) {
        bail!(
            "there is no ledger: no collector of this configuration answers at its metrics endpoint, and no file_storage has one"
        );
    }
    if json { Ok(output::json(&accounts)?) } else { Ok(output::line(table(&accounts).boxed())?) }
}

/// Drops what a queue keeps for an exporter that is no more.
///
/// # Errors
/// The configuration cannot be used, or there is nothing to forget.
pub(crate) async fn forget(paths: &[PathBuf], pipeline: &str, exporter: &str) -> Result<()> {
    let (config, _) = files::read(paths).map_err(told)?;
    hesper_collect::forget::forget(&config, pipeline, exporter).await?;
    Ok(output::line(format_args!("forgot what the queue of pipeline '{pipeline}' kept for '{exporter}'"))?)
}

/// What the running collector says; none when there is none, or when it is another one: many have the same metrics endpoint.
async fn running(config: &Config) -> Option<Value> {
    let url = accounts::running_at(config)?;
    let client = plain_http::client(ASKING).ok()?.build().ok()?;
    let mut told: Value = client.get(url).send().await.ok()?.error_for_status().ok()?.json().await.ok()?;
    let own = serde_json::to_value(accounts::storages(config)).ok()?;
    (told["storages"] == own).then(|| told["accounts"].take())
}

fn table(accounts: &Value) -> Grid {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rows = Vec::new();
    for account in accounts.as_array().into_iter().flatten() {
        for row in account["rows"].as_array().into_iter().flatten() {
            let sender = row["sender"]["name"].as_str().or_else(|| row["sender"]["kind"].as_str());
            let dropped = row["dropped"].as_object().into_iter().flatten();
            let dropped: Vec<String> = dropped.map(|(reason, items)| format!("{reason} {items}")).collect();
            rows.push(vec![
                text(&account["pipeline"]),
                text(&row["destination"]),
                sender.unwrap_or_default().to_owned(),
                text(&row["signal"]),
                text(&row["accepted"]),
                text(&row["delivered"]),
                text(&row["queued"]),
                dropped.join(", "),
            ]);
        }
    }
    let headers =
        vec!["pipeline", "exporter", "sender", "signal", "accepted", "delivered", "queued", "dropped"];
    Grid { headers, rows }
}

/// Tells that it works, once the identity is on the mesh, and where it listens.
fn announce(collector: &Collector, ctx: Option<&Context>) -> impl Future<Output = ()> + use<> {
    let mut told = String::new();
    for (name, address) in collector.addresses() {
        let _ = write!(told, " {name}={address}");
    }
    let ctx = ctx.cloned();
    async move {
        match ctx {
            Some(ctx) => crate::tunnel::announce(&ctx, &told).await,
            None => {
                if let Err(error) = output::line(format_args!("ready{told}")) {
                    tracing::warn!("standard output is closed: {error}");
                }
            }
        }
    }
}

/// Tells the faults, each on a line; a single one is the message itself.
fn told(error: ConfigError) -> anyhow::Error {
    match error {
        ConfigError::Faults(faults) if faults.len() > 1 => {
            faults.iter().for_each(|fault| eprintln!("{}", one_line(&fault.to_string())));
            anyhow!("{} faults in the configuration", faults.len())
        }
        error => error.into(),
    }
}
