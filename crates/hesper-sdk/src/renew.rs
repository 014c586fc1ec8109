//! Keeping grants alive for as long as streams live by them.

use crate::{
    grants::Lease,
    idle,
    inner::{Inner, Session, call, unix_now},
};
use hesper_client::rpc::Rpc;
use hesper_overlay::{node::Node, passes::Pass};
use hesper_proto::{control::DialRequest, overlay::RenewGrant};
use rand::Rng;
use std::{
    sync::{
        Arc, Weak,
        atomic::Ordering::{AcqRel, Release},
    },
    time::Duration,
};
use tokio::time::sleep;

/// A grant is renewed as it is asked for.
const RENEW: Rpc = Rpc::node("Dial").begins();
/// How often leases are looked at for renewal.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// Renewals that the controller has asked for are spread over this time.
const REROUTE_SPREAD: Duration = Duration::from_millis(500);

/// The lease's pass, for routers.
pub(crate) fn pass(lease: &Lease) -> Pass {
    let tokens = lease.tokens();
    Pass {
        peer: lease.binder_tag,
        purpose: lease.purpose.clone(),
        token: tokens.response.pass.clone(),
        paths: tokens.response.paths.iter().map(|p| p.router_ids.clone()).collect(),
        exp: tokens.life.end,
    }
}

/// The lease's grant, for the hosting node.
pub(crate) fn renewal(lease: &Lease) -> RenewGrant {
    RenewGrant {
        service_id: lease.service_id.clone(),
        terminator_id: lease.terminator_id.clone(),
        grant: lease.tokens().response.grant.clone(),
    }
}

/// Tells routers and the hosting node of renewed tokens.
pub(crate) fn publish(lease: &Lease) {
    lease.node.renew_pass(pass(lease));
    if !lease.is_live() {
        return;
    }
    if let Some(peer) = lease.node.connected_peer(&lease.binder_id, lease.binder_tag) {
        peer.renew(renewal(lease));
    }
}

/// Renews the leases that have streams: when they are due, and all of them soon after each new watch, because a controller that was
/// started again can revoke only what it has issued since. Forgets those that nobody needs.
pub(crate) async fn keep(inner: Arc<Inner>) {
    let mut tick = tokio::time::interval(KEEP_EVERY);
    let mut sessions = inner.session.subscribe();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            // Its sender is in `inner`.
            _ = sessions.changed() => {}
        }
        let now = unix_now();
        let session = inner.session.borrow().clone();
        inner.leases.sweep(now, inner.connected());
        idle::sweep(&inner);
        let Some(session) = session.filter(|s| s.connected) else { continue };
        for lease in inner.leases.all() {
            if !Arc::ptr_eq(&lease.node, &session.node) {
                outlive(&lease, now);
                continue;
            }
            if let Some(wait) = lease.take_due(now, session.watch) {
                let (session, inner) = (session.clone(), inner.clone());
                tokio::spawn(async move {
                    sleep(wait).await;
                    renew(&inner, &session, &lease).await;
                });
            }
        }
    }
}

/// A lease of a session that was replaced: its grant is for the old session's tag, so that no renewal can be had. Its streams go on
/// until it ends; new dials ask anew.
fn outlive(lease: &Lease, now: u64) {
    lease.spend();
    if lease.is_live() && now >= lease.tokens().life.end {
        tracing::warn!(
            service = lease.key.service,
            "streams ended: their session was replaced, and their grant has run out"
        );
        lease.expire();
    }
}

/// Other paths are known for these grants, or those that were known are gone: renews them soon.
pub(crate) fn reroute(inner: &Arc<Inner>, grant_ids: &[String]) {
    let Some(session) = inner.session.borrow().clone() else { return };
    let leases = inner.leases.with_grants(grant_ids);
    tracing::debug!(grants = grant_ids.len(), leases = leases.len(), "other paths are known");
    // Another terminator may be nearer now.
    leases.iter().for_each(|lease| lease.choose_again());
    renew_soon(inner, &session, leases);
}

/// Asks for other ways to the peers that cannot be reached by those known, for as long as the node lives.
pub(crate) async fn find_ways(inner: Weak<Inner>, node: Arc<Node>) {
    let mut lost = node.without_path();
    drop(node);
    loop {
        let Ok(tags) = lost.wait_for(|tags| !tags.is_empty()).await.map(|tags| tags.clone()) else { return };
        let Some(inner) = inner.upgrade() else { return };
        let session = inner.session.borrow().clone();
        if let Some(session) = session.filter(|s| s.connected) {
            let mut leases = inner.leases.all();
            leases.retain(|l| tags.contains(&l.binder_tag) && !l.is_spent());
            renew_soon(&inner, &session, leases);
        }
        drop(inner);
        sleep(KEEP_EVERY).await;
    }
}

fn renew_soon(inner: &Arc<Inner>, session: &Session, leases: Vec<Arc<Lease>>) {
    for lease in leases.into_iter().filter(|l| Arc::ptr_eq(&l.node, &session.node)) {
        // One question at a time about each.
        if lease.renewing.swap(true, AcqRel) {
            continue;
        }
        let (inner, session) = (inner.clone(), session.clone());
        let wait = REROUTE_SPREAD.mul_f64(rand::rng().random());
        tokio::spawn(async move {
            sleep(wait).await;
            renew(&inner, &session, &lease).await;
            lease.renewing.store(false, Release);
        });
    }
}

async fn renew(inner: &Inner, session: &Session, lease: &Arc<Lease>) {
    let request = DialRequest {
        service: lease.service_id.clone(),
        instance: lease.key.instance.clone(),
        terminator_id: lease.terminator_id.clone(),
        ..DialRequest::default()
    };
    let mut client = inner.client();
    match call(RENEW, session, request, |r| async move { client.dial(r).await }).await {
        Ok(response) => {
            lease.renew(response, unix_now(), session.watch);
            publish(lease);
        }
        Err(failure) if failure.unreachable => {
            tracing::debug!(
                service = lease.key.service,
                reason = failure.message(),
                "a grant is not yet renewed"
            );
        }
        // Revoked while nobody could tell: by a controller that has forgotten the grant.
        Err(failure) if failure.is_denied() => {
            lease.revoke();
            tracing::warn!(
                service = lease.key.service,
                reason = failure.message(),
                "streams ended: a grant is not renewed"
            );
        }
        Err(failure) => {
            lease.spend();
            tracing::warn!(service = lease.key.service, reason = failure.message(), "a grant is not renewed");
        }
    }
}
