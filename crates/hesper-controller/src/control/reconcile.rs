//! What follows from a change of the model, or from time, beside what must end at once: terminators that nobody hosts any more go, and
//! ways that became better are told.

use super::{
    Gone, events,
    grants::{Pair, judge},
    paths::Between,
    reroute::{Found, Reroutes, cause},
};
use crate::state::{Changes, State, WriteError};
use hesper_model::{entity::Terminator, id::Tag};
use hesper_observe::events::Kind;
use hesper_policy::{Request, decide, routers::Ends};
use hesper_proto::control::{NodeUpdate, Reroute, node_update};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::yield_now, time::sleep};
use tokio_util::sync::CancellationToken;

/// Terminators removed in one transaction: a large node's at once, and still far below the store's limit.
const BATCH: usize = 256;
/// Least time between two looks at all terminators: a thousand nodes coming back together are one look.
const SWEEP_PACE: Duration = Duration::from_millis(20);
/// Least time between two looks at all leases.
const REROUTE_PACE: Duration = Duration::from_millis(100);
/// Leases that are looked at at a time.
const LEASES_AT_ONCE: usize = 64;
/// Wait after a write that met another one, or failed.
const RETRY: Duration = Duration::from_millis(200);

/// Sessions from before a restart, known by their stored terminators; they have their time to come back.
pub(super) fn restore(state: &State) {
    let (model, until) = (state.model(), Instant::now() + state.control.settings.linger);
    let now = Instant::now();
    state.control.change(|shared| {
        let ended: Vec<_> = shared.tokens.ended().collect();
        for tag in ended {
            shared.sessions.end(tag, now);
        }
        for terminator in model.terminators() {
            if let Some(tag) = terminator.session {
                shared.sessions.restore(tag, terminator.host_id.clone(), until);
            }
        }
    });
}

/// Tells dialers when other ways than those that they use became better, until `stop`.
pub(super) async fn reroute(state: Arc<State>, stop: CancellationToken) {
    let (mut model, mut paths) = (state.subscribe(), state.control.paths.subscribe());
    let mut reroutes = Reroutes::default();
    loop {
        model.mark_unchanged();
        paths.mark_unchanged();
        let started = Instant::now();
        let (tell, next) = reroutes.step(started, rerouted(&state).await);
        send_rerouted(&state, tell);
        sleep((started.elapsed() * 4).max(REROUTE_PACE)).await;
        let wait = next.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = stop.cancelled() => return,
            _ = model.changed() => {}
            _ = paths.changed() => {}
            () = sleep(wait) => {}
        }
    }
}

fn send_rerouted(state: &State, tell: BTreeMap<Tag, Vec<String>>) {
    let shared = state.control.lock();
    for (dialer, grant_ids) in tell {
        tracing::debug!(session = %dialer, grants = grant_ids.len(), "sent for other ways");
        state.control.metrics.reroutes.inc_by(u64::try_from(grant_ids.len()).unwrap_or_default());
        if let Some((_, outbox)) = shared.nodes.get(&dialer) {
            outbox.push(NodeUpdate { update: Some(node_update::Update::Reroute(Reroute { grant_ids })) });
        }
    }
}

/// Every lease that other ways would serve better now.
async fn rerouted(state: &State) -> Vec<Found> {
    let model = state.model();
    let leases = state.control.lock().ledger.lease_ids();
    let mut allowed: HashMap<Pair, Option<Ends>> = HashMap::new();
    let mut found = Vec::new();
    for some in leases.chunks(LEASES_AT_ONCE) {
        {
            let shared = state.control.lock();
            let session = |tag| shared.sessions.get(tag).filter(|s| s.is_connected());
            for (grant, told) in some.iter().filter_map(|id| shared.ledger.lease(id)) {
                let Some((dialer, binder)) = session(grant.dialer_tag).zip(session(grant.binder_tag)) else {
                    continue;
                };
                let judged = |pair: &Pair| Some(judge(&model, pair).ok()?.ends);
                let allowed = allowed.entry(grant.pair.clone()).or_insert_with_key(judged);
                let Some(allowed) = allowed else { continue };
                let between = Between {
                    allowed,
                    dialer: &dialer.attached,
                    binder: &binder.attached,
                    routers: shared.sessions.routers(),
                    model: &model,
                };
                if let Some(cause) = cause(told, between.paths().working()) {
                    found.push(Found { id: grant.id.clone(), dialer: grant.dialer_tag, cause });
                }
            }
        }
        yield_now().await;
    }
    found
}

/// Removes terminators whose session is gone or whose host may not bind any more, until `stop`.
pub(super) async fn sweep(state: Arc<State>, stop: CancellationToken) {
    let (mut model, mut presence) = (state.subscribe(), state.control.presence.subscribe());
    loop {
        model.mark_unchanged();
        presence.mark_unchanged();
        let (gone, next) = state.control.change(|shared| {
            let gone = shared.sessions.expire(Instant::now());
            gone.iter().for_each(|(tag, _)| tracing::info!(session = %tag, "a session did not come back"));
            (gone, shared.sessions.next_expiry())
        });
        let reason = || "its node did not come back".to_owned();
        let gone = gone.into_iter().map(|(tag, identity)| Gone { tag, identity, reason: reason() });
        events::sessions_ended(&state, &state.model(), gone.collect());
        let started = Instant::now();
        let again = remove(&state).await;
        sleep(started.elapsed().max(SWEEP_PACE)).await;
        let wait = match next {
            _ if again => RETRY,
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = model.changed(), if !again => {}
            _ = presence.changed(), if !again => {}
            () = sleep(wait) => {}
        }
    }
}

/// One round; true when there is more to do.
async fn remove(state: &State) -> bool {
    let model = state.model();
    let bound: Vec<_> = model.terminators().filter_map(|t| Some((t, t.session?))).collect();
    let gone: Vec<_> = {
        let shared = state.control.lock();
        bound.iter().map(|(_, tag)| shared.sessions.get(*tag).is_none()).collect()
    };
    let mut doomed = Vec::new();
    for ((terminator, _), gone) in bound.into_iter().zip(gone) {
        let bind = Request::Bind { identity: &terminator.host_id, service: &terminator.service_id };
        let decision = decide(&model, &bind);
        if !decision.is_allowed() {
            doomed.push((terminator, decision.rule.to_string()));
        } else if gone {
            doomed.push((terminator, "its node is gone".to_owned()));
        }
    }
    let more = doomed.len() > BATCH;
    doomed.truncate(BATCH);
    let mut changes = Changes::default();
    let mut removed = Vec::new();
    for (terminator, reason) in doomed {
        if let Some(stored) = state.get::<Terminator>(terminator.id.as_str()) {
            tracing::info!(terminator = %terminator.id, host = %terminator.host_id, reason, "terminator removed");
            changes.remove(&stored);
            removed.push((stored.entity, reason));
        }
    }
    if removed.is_empty() {
        return more;
    }
    match state.commit(changes).await {
        Ok(_) => {
            for (terminator, reason) in &removed {
                events::terminator(state, Kind::TerminatorRemoved, terminator, reason);
            }
            more
        }
        // Somebody else removed or changed one of them: look again.
        Err(WriteError::Conflict(_)) => true,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "terminators could not be removed; trying again"
            );
            true
        }
    }
}
