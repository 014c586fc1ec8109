//! Dials with everything recorded, and tells a person how it went.

use super::{
    pipe,
    steps::{Dialed, dialed},
};
use crate::{
    output::{self, Grid},
    serve::Stop,
    tunnel::Who,
};
use anyhow::{Context as _, Result, anyhow, bail};
use hesper_pki::identity_file::IdentityFile;
use hesper_sdk::Context;
use hesper_trace::Tap;
use serde::Serialize;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// What is dialed.
pub(crate) struct Wanted {
    pub(crate) service: String,
    pub(crate) timeout: Duration,
    pub(crate) count: u32,
}

/// What stands still while dials go: who is who.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Surroundings {
    identity: String,
    controllers: Vec<String>,
    /// Routers that this node is attached to, best first.
    attached: Vec<String>,
    /// From the start to the controller's first word and a router.
    ready_ms: f64,
    #[serde(skip)]
    names: BTreeMap<String, String>,
}

/// Dials `count` times and prints each.
///
/// # Errors
/// A dial failed; it has been told how.
pub(crate) async fn traced(who: &Who, wanted: &Wanted, as_json: bool) -> Result<()> {
    let mut stop = Stop::catch()?;
    let tap = Tap::open().context("somebody else watches the spans of this process")?;
    let begun = Instant::now();
    let ctx = who.node("node").await?.ctx;
    tokio::select! {
        done = dials(&ctx, who, wanted, as_json, (&tap, begun)) => done,
        () = stop.asked() => Err(anyhow!("interrupted")),
    }
}

async fn dials(
    ctx: &Context,
    who: &Who,
    wanted: &Wanted,
    as_json: bool,
    (tap, begun): (&Tap, Instant),
) -> Result<()> {
    ctx.ready(wanted.timeout).await.context("before the dial")?;
    let surroundings = surroundings(ctx, who, &wanted.service, begun.elapsed())?;
    let (mut all, mut failed) = (Vec::new(), None);
    for _ in 0..wanted.count {
        let span = || tracing::info_span!("trace dial");
        let stream = tap.within(span, pipe::dial(ctx, &wanted.service, wanted.timeout)).await;
        // A dial without spans: one that could not even begin.
        match (dialed(&tap.take()), stream) {
            (Some(one), stream) => {
                failed = failed.or(stream.err());
                all.push(one);
            }
            (None, Ok(_)) => bail!("the dial left no spans"),
            (None, Err(error)) => return Err(error),
        }
    }
    if as_json {
        output::json(&json!({"service": wanted.service, "from": surroundings, "dials": all}))?;
    } else {
        tell(&surroundings, &wanted.service, &all)?;
    }
    failed.map_or(Ok(()), Err)
}

fn surroundings(ctx: &Context, who: &Who, service: &str, ready: Duration) -> Result<Surroundings> {
    let view = ctx.state().borrow().clone();
    let name = service.split_once('@').map_or(service, |(_, name)| name);
    let service = view.service(name).or_else(|| view.service(service));
    let hosts = service.into_iter().flat_map(|service| &service.hosts);
    Ok(Surroundings {
        identity: view.identity_name.clone(),
        controllers: IdentityFile::load(&who.identity)?.controllers(),
        attached: view.attached.clone(),
        ready_ms: ready.as_micros() as f64 / 1000.0,
        names: hosts.map(|host| (host.identity_id.clone(), host.identity_name.clone())).collect(),
    })
}

/// The way of the last dial, then all of them.
fn tell(surroundings: &Surroundings, service: &str, all: &[Dialed]) -> Result<()> {
    let shown = |id: &str| surroundings.names.get(id).cloned().unwrap_or_else(|| id.to_owned());
    output::line(format_args!(
        "identity {}, controller {}, attached to {}; ready after {:.1} ms",
        surroundings.identity,
        surroundings.controllers.join(", "),
        surroundings.attached.join(", "),
        surroundings.ready_ms
    ))?;
    // Dials by a cached grant do not show its pass again.
    let by = all.iter().rev().find(|dial| !dial.router.is_empty());
    if let Some(last) = all.iter().rev().find(|dial| dial.error.is_none()) {
        let path = by.map_or_else(String::new, |by| format!("{} -> ", way(by)));
        output::line(format_args!(
            "{} -> {path}{} (identity {}), service {service}, terminator {}",
            surroundings.identity,
            shown(&last.binder_id),
            last.binder_id,
            last.terminator_id
        ))?;
    }
    if let [one] = all {
        output::line(tree(one).boxed())?;
    } else {
        output::line(table(all).boxed())?;
    }
    for dial in all.iter().filter(|dial| dial.error.is_some()) {
        let at = dial.failed_at.as_deref().unwrap_or("the controller");
        output::line(format_args!("failed at {at}: {}", dial.error.as_deref().unwrap_or_default()))?;
    }
    let ids: Vec<_> = all.iter().map(|dial| dial.trace_id.as_str()).collect();
    Ok(output::line(format_args!("trace {}", ids.join(", ")))?)
}

/// `router near (direct)`, `router near, then over a link`.
fn way(dial: &Dialed) -> String {
    match dial.path.as_slice() {
        [_, there] => format!("router {} -> over a link -> router {there}", dial.router),
        _ => format!("router {} (direct)", dial.router),
    }
}

/// One dial, step by step.
fn tree(dial: &Dialed) -> Grid {
    let row = |name: String, at: f64, took: f64, note: &str| {
        vec![name, format!("{at:.2}"), format!("{took:.2}"), note.to_owned()]
    };
    let note = match (&dial.error, dial.cached) {
        (Some(_), _) => "failed",
        (None, true) => "ok, by a cached grant",
        (None, false) => "ok",
    };
    let mut rows = vec![row("dial".into(), 0.0, dial.took_ms, note)];
    rows.extend(dial.steps.iter().map(|step| {
        let name = format!("{}{}", "  ".repeat(step.depth + 1), step.name);
        // Why is told below.
        row(name, step.at_ms, step.took_ms, if step.error.is_some() { "failed" } else { "ok" })
    }));
    Grid { headers: vec!["Step", "At ms", "Took ms", "Result"], rows }
}

/// Many dials, one on each line.
fn table(all: &[Dialed]) -> Grid {
    let headers = vec!["Dial", "Took ms", "Grant", "Pass", "Connect", "Accept", "Result"];
    let sum = |dial: &Dialed, name: &str| {
        let steps = dial.steps.iter().filter(|step| step.depth == 0 && step.name == name);
        steps.map(|step| step.took_ms).reduce(|a, b| a + b).map_or("-".to_owned(), |ms| format!("{ms:.2}"))
    };
    let row = |(number, dial): (usize, &Dialed)| {
        let mut row = vec![(number + 1).to_string(), format!("{:.2}", dial.took_ms)];
        row.extend(["grant", "pass", "connect", "accept"].map(|name| sum(dial, name)));
        let failed = || dial.failed_at.as_ref().map(|at| format!("failed at {at}"));
        row.push(if dial.error.is_some() { failed().unwrap_or("failed".into()) } else { "ok".into() });
        row
    };
    Grid { headers, rows: all.iter().enumerate().map(row).collect() }
}
