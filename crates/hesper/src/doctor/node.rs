//! An identity on the mesh: its session, its routers, and what policy lets it do.

use super::report::Report;
use anyhow::Result;
use hesper_sdk::{Context, NodeView, NotReady, RouterState, Service};
use std::{path::Path, time::Duration};
use tokio::time::{Instant, timeout_at};

/// Services told one by one; the rest is counted.
const MAX_SERVICES: usize = 50;

/// Opens a session beside whatever else runs with this identity, and ends it.
///
/// # Errors
/// Nothing can be told.
pub(super) async fn check(identity: &Path, patience: Duration, report: &mut Report) -> Result<()> {
    let ctx = match Context::from_identity_file(identity) {
        Ok(ctx) => ctx,
        Err(error) => return report.fail("session", super::report::chain(&error), "enroll again"),
    };
    let until = Instant::now() + patience;
    let ready = ctx.ready(patience).await;
    let told = match ready {
        Err(NotReady::Controller { reason, .. }) => report.fail("session", reason, next_for_session()),
        ready => on_the_mesh(&ctx, ready.err(), until, report).await,
    };
    ctx.shutdown().await;
    told
}

fn next_for_session() -> &'static str {
    "if the identity was deleted, disabled or revoked, ask its administrator; else see the controller's log"
}

async fn on_the_mesh(
    ctx: &Context,
    missing: Option<NotReady>,
    until: Instant,
    report: &mut Report,
) -> Result<()> {
    let mut state = ctx.state();
    // The first word brings all of it.
    let _ = timeout_at(until, state.wait_for(|view| view.connected)).await;
    let view = state.borrow().clone();
    report.ok("session", format!("identity '{}' is known to the controller", view.identity_name))?;
    if let Some(NotReady::NoRouters(name)) = &missing {
        let next = format!(
            "hesper create edge-router-policy NAME --identity-roles @{name} --edge-router-roles '#all'"
        );
        report.fail("routers", format!("no policy lets identity '{name}' use any edge router"), next)?;
    }
    for router in ctx.routers() {
        one_router(&router, missing.is_some(), report)?;
    }
    services(&view, report)
}

fn one_router(router: &RouterState, is_cut_off: bool, report: &mut Report) -> Result<()> {
    let name = format!("router '{}' (UDP)", router.name);
    if router.attached {
        let rtt = router.rtt.as_secs_f64() * 1000.0;
        return report.ok(name, format!("attached, round trip {rtt:.1} ms"));
    }
    let next = "check that the router runs, and that UDP to its address passes every firewall";
    if is_cut_off {
        report.fail(name, router.reason.clone(), next)
    } else {
        report.warn(name, router.reason.clone(), next)
    }
}

fn services(view: &NodeView, report: &mut Report) -> Result<()> {
    if view.services.is_empty() {
        let found = format!("identity '{}' may neither dial nor bind any service", view.identity_name);
        let next = format!(
            "hesper create service-policy NAME Dial --identity-roles @{} --service-roles @SERVICE",
            view.identity_name
        );
        return report.warn("services", found, next);
    }
    for service in view.services.iter().take(MAX_SERVICES) {
        one_service(service, &view.identity_name, report)?;
    }
    match view.services.len().checked_sub(MAX_SERVICES + 1) {
        None => Ok(()),
        Some(more) => report.ok("services", format!("and {} more", more + 1)),
    }
}

fn one_service(service: &Service, identity: &str, report: &mut Report) -> Result<()> {
    let may = match (service.may_dial, service.may_bind) {
        (true, true) => "may dial and bind",
        (true, false) => "may dial",
        _ => "may bind",
    };
    let mut hosts: Vec<_> = service.hosts.iter().map(|host| host.identity_name.as_str()).collect();
    hosts.dedup();
    let name = format!("service '{}'", service.name);
    if !service.may_dial {
        // Who hosts it is told to those who may dial it.
        return report.ok(name, may);
    }
    if hosts.is_empty() {
        let next = format!(
            "start the node that hosts it; who may: hesper policy-advisor services {} (from {identity}: identities {identity} {})",
            service.name, service.name
        );
        return report.warn(name, format!("{may}; nobody hosts it now"), next);
    }
    report.ok(name, format!("{may}; hosted by {}", hosts.join(", ")))
}
