//! The conversation with the controller: one watch, opened again after every end, and what follows from each update.

use crate::{
    inner::{Inner, Session},
    renew, status,
    view::Settling,
};
use hesper_client::{backoff::Backoff, channel::rest, clock};
use hesper_model::id::Tag;
use hesper_overlay::{
    attach::AttachTarget,
    node::{AttachState, Node, NodeOptions},
};
use hesper_pki::token::Verifier;
use hesper_proto::control::{
    AttachPoint, Attached, AttachedRouter, Hosted, NodeHello, NodeReport, NodeSession, NodeState, NodeUpdate,
    Revoked, TokenKey, node_report, node_update,
};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// How long the controller may take to send its first update.
const FIRST_UPDATE: Duration = Duration::from_secs(10);
/// A watch that lived this long was no failure: the next wait is short again.
const LASTING: Duration = Duration::from_secs(10);
/// How long hosts may take to come back to a controller that was started again: their longest wait between two tries, and a try. Until then
/// its silence about a host says nothing.
const HOSTS_RETURN: Duration = Duration::from_secs(6);
/// Grants in one report (see the protocol).
const HOSTED_IN_ONE: usize = 64;
/// How long a replaced node may go on for its streams: no grant lives longer.
const RETIREMENT: Duration = Duration::from_secs(600);

/// Follows the controller for ever.
pub(crate) async fn follow(inner: Arc<Inner>) {
    let mut backoff = Backoff::default();
    let mut token = String::new();
    let (mut reported, mut reason) = (String::new(), String::new());
    loop {
        let begun = Instant::now();
        let status = watch(&inner, &mut token).await;
        let text = status::text(&status);
        let heard = inner.connected();
        disconnected(&inner, if text == reported { &reason } else { &text });
        inner.set_refusal(Some(status.clone()).filter(is_refusal));
        // Once per reason, not once per attempt.
        if text != reported {
            // A watch that was open ends by a certificate only with the controller's word; otherwise asking costs a second.
            let perhaps = !heard || status.code() == Code::Unauthenticated;
            let certificates = if perhaps { inner.control.diagnose(&status).await } else { None };
            reason = certificates.map_or_else(|| text.clone(), |diagnosis| diagnosis.to_string());
            inner.set_problem(&reason);
            tracing::warn!(reason, "no watch at the controller; trying on");
            reported = text;
        }
        if begun.elapsed() >= LASTING {
            backoff.reset();
            reported.clear();
        }
        sleep(rest(&status, backoff.next_wait(), begun.elapsed())).await;
    }
}

/// Did the controller itself say no, whatever the state of the network?
fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
}

fn disconnected(inner: &Inner, reason: &str) {
    inner.set_problem(reason);
    let lost = inner.session.send_if_modified(|session| match session {
        Some(s) if s.connected => {
            s.connected = false;
            true
        }
        _ => false,
    });
    for node in inner.nodes() {
        node.set_controller(false);
        // What has befallen the controller may have befallen routers, too.
        if lost {
            node.doubt_routers();
        }
    }
    inner.change_view(|v| v.connected = false);
}

/// One watch, until it ends.
async fn watch(inner: &Arc<Inner>, token: &mut String) -> Status {
    match open(inner, token).await {
        Ok((updates, reports)) => run(inner, updates, reports, token).await,
        Err(status) => status,
    }
}

async fn open(
    inner: &Inner,
    token: &str,
) -> Result<(Streaming<NodeUpdate>, mpsc::Sender<NodeReport>), Status> {
    let (reports, stream) = mpsc::channel(16);
    let hello = NodeHello {
        session_token: token.to_owned(),
        client: concat!("hesper-sdk ", env!("CARGO_PKG_VERSION")).into(),
    };
    // The queue is empty: there is room.
    let _ = reports.try_send(NodeReport { report: Some(node_report::Report::Hello(hello)) });
    let mut client = inner.client();
    let opened = timeout(FIRST_UPDATE, client.watch(ReceiverStream::new(stream))).await;
    let answer = opened.map_err(|_| Status::deadline_exceeded("no answer from the controller"))??;
    clock::warn_of_difference(answer.metadata());
    Ok((answer.into_inner(), reports))
}

async fn run(
    inner: &Arc<Inner>,
    mut updates: Streaming<NodeUpdate>,
    reports: mpsc::Sender<NodeReport>,
    token: &mut String,
) -> Status {
    let watch = inner.session.borrow().as_ref().map_or(0, |s| s.watch) + 1;
    report_hosted(inner, reports.clone());
    let mut attached = inner.attached.subscribe();
    attached.mark_changed();
    let mut trusting = inner.keeper.trusting();
    trusting.mark_changed();
    let mut first = true;
    let (settles, mut unsettled) =
        (sleep(HOSTS_RETURN), Some(Settling::new(inner.view.borrow().services.clone())));
    tokio::pin!(settles);
    loop {
        tokio::select! {
            () = &mut settles, if unsettled.is_some() && !first => {
                if let Some(settling) = unsettled.take() {
                    inner.change_view(|view| view.services = settling.end());
                    forget_hosts_that_left(inner);
                }
            }
            update = updates.message() => match update {
                Ok(Some(NodeUpdate { update: Some(node_update::Update::State(mut state)) })) => {
                    if let Some(settling) = &mut unsettled {
                        state.services = settling.take(state.services);
                    }
                    match apply(inner, watch, state) {
                        Ok(fresh) => *token = fresh,
                        Err(reason) => return Status::internal(reason),
                    }
                    if std::mem::take(&mut first) {
                        settles.as_mut().reset(Instant::now() + HOSTS_RETURN);
                        tracing::info!("connected to the controller");
                        inner.nodes().iter().for_each(|n| n.doubt_routers());
                    }
                }
                Ok(Some(NodeUpdate { update: Some(node_update::Update::Revoked(revoked)) })) => revoke(inner, &revoked),
                Ok(Some(NodeUpdate { update: Some(node_update::Update::Reroute(reroute)) })) => {
                    renew::reroute(inner, &reroute.grant_ids);
                }
                // A word of a newer controller.
                Ok(Some(NodeUpdate { update: None })) => {}
                Ok(None) => return Status::unavailable("the controller ended the watch"),
                Err(status) => return status,
            },
            () = sleep(FIRST_UPDATE), if first => return Status::deadline_exceeded("the controller sends no state"),
            _ = trusting.changed() => {
                let trusting = trusting.borrow_and_update().clone();
                if let Err(status) = tell(&reports, node_report::Report::Trusting(trusting)).await {
                    return status;
                }
            }
            _ = attached.changed() => {
                let routers = attached_routers(&attached.borrow_and_update());
                if let Err(status) = tell(&reports, node_report::Report::Attached(Attached { routers })).await {
                    return status;
                }
            }
        }
    }
}

async fn tell(reports: &mpsc::Sender<NodeReport>, report: node_report::Report) -> Result<(), Status> {
    let report = NodeReport { report: Some(report) };
    reports.send(report).await.map_err(|_| Status::unavailable("the controller takes no reports"))
}

/// Tells the controller by which grants others have streams here: if it was started again, it has forgotten them and could not revoke them.
fn report_hosted(inner: &Inner, reports: mpsc::Sender<NodeReport>) {
    let grants: Vec<String> = inner.nodes().iter().flat_map(|n| n.hosted_grants()).collect();
    inner.spawn(async move {
        for grants in grants.chunks(HOSTED_IN_ONE) {
            let hosted = Hosted { grants: grants.to_vec() };
            if reports.send(NodeReport { report: Some(node_report::Report::Hosted(hosted)) }).await.is_err() {
                return;
            }
        }
    });
}

fn attached_routers(states: &[AttachState]) -> Vec<AttachedRouter> {
    let attached = states.iter().filter(|s| s.attached);
    let report = |s: &AttachState| AttachedRouter {
        router_id: s.router_id.clone(),
        rtt_micros: s.rtt.as_micros().try_into().unwrap_or(u32::MAX),
    };
    attached.map(report).collect()
}

fn revoke(inner: &Inner, revoked: &Revoked) {
    tracing::info!(grants = revoked.grant_ids.len(), reason = revoked.reason, "grants revoked");
    inner.nodes().iter().for_each(|n| n.revoke(&revoked.grant_ids));
    inner.leases.revoke(&revoked.grant_ids);
}

/// Takes over a whole state; returns the session token, for resuming.
fn apply(inner: &Arc<Inner>, watch: u64, state: NodeState) -> Result<String, String> {
    let session = state.session.ok_or("the controller's state names no session")?;
    // Before anybody is met: peers may have leaves of a CA that is new.
    if let Some(trust) = &state.trust {
        inner.keeper.take(trust).map_err(|e| e.to_string())?;
    }
    let verifier = verifier(&state.token_keys)?;
    let routers = state.routers.iter().map(target).collect::<Result<Vec<_>, _>>()?;
    let node = node(inner, &session)?;
    node.set_session_token(&session.token);
    node.set_routers(routers);
    for n in inner.nodes() {
        n.set_verifier(verifier.clone());
    }
    node.set_verifier(verifier);
    node.set_controller(true);
    inner.change_view(|view| {
        view.revision = state.revision;
        view.identity_id = session.identity_id;
        view.identity_name = session.identity_name;
        view.connected = true;
        view.services = state.services;
    });
    forget_hosts_that_left(inner);
    inner.set_refusal(None);
    inner.session.send_if_modified(|old| {
        let changed =
            !old.as_ref().is_some_and(|s| s.connected && s.watch == watch && Arc::ptr_eq(&s.node, &node));
        if changed {
            *old = Some(Session { node, watch, connected: true });
        }
        changed
    });
    Ok(session.token)
}

/// The node of this session: the one at hand if its tag is the same, or a new one.
fn node(inner: &Arc<Inner>, session: &NodeSession) -> Result<Arc<Node>, String> {
    let tag = Tag::from_slice(&session.tag).ok_or("the controller's session has no tag")?;
    let current = inner.session.borrow().as_ref().map(|s| s.node.clone());
    if let Some(node) = current.as_ref().filter(|n| n.tag() == tag) {
        return Ok(node.clone());
    }
    let options = NodeOptions {
        credentials: inner.credentials.clone(),
        tag,
        session_token: session.token.clone(),
        outage_grace: inner.options.outage_grace,
    };
    let node = Arc::new(Node::new(options).map_err(|e| format!("cannot open UDP sockets: {e}"))?);
    if let Some(old) = current {
        tracing::info!(session = %tag, "a new session replaces the old one");
        retire(inner, old);
    }
    inner.spawn(renew::find_ways(Arc::downgrade(inner), node.clone()));
    let (weak, mut states) = (Arc::downgrade(inner), node.attached());
    inner.spawn(async move {
        while states.changed().await.is_ok() {
            let Some(inner) = weak.upgrade() else { return };
            let states = states.borrow_and_update().clone();
            if inner.session.borrow().as_ref().is_none_or(|s| s.node.tag() == tag) {
                inner.change_view(|v| {
                    v.attached = states.iter().filter(|s| s.attached).map(|s| s.name.clone()).collect();
                });
                inner.attached.send_replace(states);
            }
        }
    });
    Ok(node)
}

/// The old node goes on until its streams are over; nothing new is begun there.
fn retire(inner: &Arc<Inner>, old: Arc<Node>) {
    let retired = |inner: &Inner| inner.retired.lock().unwrap_or_else(PoisonError::into_inner).len();
    inner.retired.lock().unwrap_or_else(PoisonError::into_inner).push(old.clone());
    tracing::debug!(retired = retired(inner), "a node is retired");
    let weak = Arc::downgrade(inner);
    inner.spawn(async move {
        let until = Instant::now() + RETIREMENT;
        while old.streams() != (0, 0) && Instant::now() < until {
            sleep(Duration::from_secs(1)).await;
        }
        old.close().await;
        if let Some(inner) = weak.upgrade() {
            inner.retired.lock().unwrap_or_else(PoisonError::into_inner).retain(|n| !Arc::ptr_eq(n, &old));
        }
    });
}

/// A lease whose host no longer hosts the service is not used again: its node may have gone without a word.
fn forget_hosts_that_left(inner: &Inner) {
    let view = inner.view.borrow().clone();
    for lease in inner.leases.all() {
        let service = view.services.iter().find(|s| s.id == lease.service_id && s.may_dial);
        if !service.is_some_and(|s| s.hosts.iter().any(|h| h.identity_id == lease.binder_id.as_str())) {
            lease.spend();
        }
    }
}

fn verifier(keys: &[TokenKey]) -> Result<Verifier, String> {
    let keys = keys.iter().map(|k| {
        let key = <[u8; 32]>::try_from(&*k.ed25519)
            .map_err(|_| format!("token key {} is not of 32 bytes", k.kid))?;
        Ok((k.kid.clone(), key))
    });
    Ok(Verifier::new(keys.collect::<Result<Vec<_>, String>>()?))
}

fn target(point: &AttachPoint) -> Result<AttachTarget, String> {
    let bad = |what: &str| format!("router {} has a bad {what}", point.name);
    Ok(AttachTarget {
        router_id: point.router_id.clone(),
        name: point.name.clone(),
        addresses: point.addresses.clone(),
        tag: Tag::from_slice(&point.tag).ok_or_else(|| bad("tag"))?,
        knock_key_id: (&*point.knock_key_id).try_into().map_err(|_| bad("knock key id"))?,
        knock_key: (&*point.knock_key).try_into().map_err(|_| bad("knock key"))?,
    })
}
