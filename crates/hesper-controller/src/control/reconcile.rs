//! What follows from a change of the model, or from time: revocations at once, then the terminators that nobody hosts any more, and
//! the ways that became better.

use super::{
    auth,
    grants::{Pair, judge},
    paths::Between,
    reroute::{Found, Reroutes, cause},
    sessions::Session,
    tokens::Holder,
};
use crate::state::{Changes, Records, State, WriteError};
use hesper_model::{
    entity::Terminator,
    id::{IdentityId, Tag},
};
use hesper_pki::spiffe::{SpiffeId, SpiffeRole};
use hesper_policy::{Model, Request, decide, routers::Ends};
use hesper_proto::control::{NodeUpdate, Reroute, node_update};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Terminators removed in one transaction: a large node's at once, and still far below the store's limit.
const BATCH: usize = 256;
/// Time that expired grants and certificates may stay unnoticed.
const TICK: Duration = Duration::from_secs(5);
/// Least time between two looks at all terminators: a thousand nodes coming back together are one look.
const SWEEP_PACE: Duration = Duration::from_millis(20);
/// Least time between two looks at all leases.
const REROUTE_PACE: Duration = Duration::from_millis(100);
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

/// Decides everything that is out again after each change, until `stop`.
pub(super) async fn revoke(state: Arc<State>, stop: CancellationToken) {
    let mut model = state.subscribe();
    loop {
        model.mark_unchanged();
        let started = Instant::now();
        revoke_now(&state);
        // With very many grants a look at all of them takes long: then leave as much time for everything else.
        let rest = started.elapsed();
        tokio::select! {
            () = stop.cancelled() => return,
            () = async { sleep(rest).await; tokio::select! { _ = model.changed() => {}, () = sleep(TICK) => {} } } => {}
        }
    }
}

fn revoke_now(state: &State) {
    let control = &state.control;
    control.change(|shared| {
        shared.ledger.expire(super::unix_now());
        shared.costs.forget(Instant::now());
        let gone = shared.tokens.expire(super::unix_now());
        gone.into_iter().for_each(|tag| control.journal.note(tag, None));
        // The model is read under the lock: a grant that was recorded before is decided by this model or a later one.
        let revoked = shared.ledger.recheck(&state.model());
        control.tell(shared, revoked);
    });
    let (model, records) = (state.model(), state.records());
    let now = OffsetDateTime::now_utc();
    let shared = control.lock();
    let checked = shared
        .sessions
        .iter()
        .filter_map(|(tag, s)| Some((tag, session(state, &model, &records, s, now).err()?)));
    let mut ended: Vec<(Tag, Status)> = checked.collect();
    // Nodes that do not talk to this controller any more, or not yet again, still have their tokens.
    let absent = shared.tokens.live().filter(|(tag, _)| shared.sessions.get(*tag).is_none());
    ended.extend(absent.filter_map(|(tag, h)| Some((tag, holder(state, &model, &records, h, now).err()?))));
    for (id, (_, outbox)) in &shared.routers {
        if let Err(status) = auth::known_router(&model, id) {
            outbox.end(status);
        }
    }
    drop(shared);
    control.end_sessions(ended);
}

/// May this session go on?
fn session(
    state: &State,
    model: &Model,
    records: &Records,
    session: &Session,
    now: OffsetDateTime,
) -> Result<(), Status> {
    auth::known_identity(model, &session.identity)?;
    // A session from before a restart has not shown its key yet.
    let Some(spki_sha256) = &session.spki_sha256 else { return Ok(()) };
    certificate(state, records, &session.identity, (spki_sha256, &session.serial), now)
}

/// May the tokens of this holder go on?
fn holder(
    state: &State,
    model: &Model,
    records: &Records,
    holder: &Holder,
    now: OffsetDateTime,
) -> Result<(), Status> {
    auth::known_identity(model, &holder.identity)?;
    certificate(state, records, &holder.identity, (&holder.spki_sha256, &holder.serial), now)
}

fn certificate(
    state: &State,
    records: &Records,
    identity: &IdentityId,
    (spki_sha256, serial): (&str, &str),
    now: OffsetDateTime,
) -> Result<(), Status> {
    let subject = SpiffeId {
        trust_domain: state.authority.trust_domain.clone(),
        role: SpiffeRole::Identity,
        id: identity.to_string(),
    };
    auth::certificate(records, &subject, spki_sha256, serial, now)
}

/// Tells dialers when other ways than those that they use became better, until `stop`.
pub(super) async fn reroute(state: Arc<State>, stop: CancellationToken) {
    let (mut model, mut paths) = (state.subscribe(), state.control.paths.subscribe());
    let mut reroutes = Reroutes::default();
    loop {
        model.mark_unchanged();
        paths.mark_unchanged();
        let started = Instant::now();
        let (tell, next) = reroutes.step(started, rerouted(&state));
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
fn rerouted(state: &State) -> Vec<Found> {
    let model = state.model();
    let shared = state.control.lock();
    let mut allowed: HashMap<&Pair, Option<Ends>> = HashMap::new();
    let mut found = Vec::new();
    for (grant, told) in shared.ledger.leases() {
        let session = |tag| shared.sessions.get(tag).filter(|s| s.is_connected());
        let Some((dialer, binder)) = session(grant.dialer_tag).zip(session(grant.binder_tag)) else {
            continue;
        };
        let allowed = allowed.entry(&grant.pair).or_insert_with_key(|pair| Some(judge(&model, pair).ok()?.1));
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
    found
}

/// Removes terminators whose session is gone or whose host may not bind any more, until `stop`.
pub(super) async fn sweep(state: Arc<State>, stop: CancellationToken) {
    let (mut model, mut presence) = (state.subscribe(), state.control.presence.subscribe());
    loop {
        model.mark_unchanged();
        presence.mark_unchanged();
        let next = state.control.change(|shared| {
            let gone = shared.sessions.expire(Instant::now());
            gone.iter().for_each(|tag| tracing::info!(session = %tag, "a session did not come back"));
            shared.sessions.next_expiry()
        });
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
    let mut doomed = Vec::new();
    {
        let shared = state.control.lock();
        for terminator in model.terminators() {
            let Some(tag) = terminator.session else { continue };
            let bind = Request::Bind { identity: &terminator.host_id, service: &terminator.service_id };
            let decision = decide(&model, &bind);
            if !decision.is_allowed() {
                doomed.push((terminator, decision.rule.to_string()));
            } else if shared.sessions.get(tag).is_none() {
                doomed.push((terminator, "its node is gone".to_owned()));
            }
        }
    }
    let more = doomed.len() > BATCH;
    doomed.truncate(BATCH);
    let mut changes = Changes::default();
    let mut count = 0;
    for (terminator, reason) in &doomed {
        if let Some(stored) = state.get::<Terminator>(terminator.id.as_str()) {
            tracing::info!(terminator = %terminator.id, host = %terminator.host_id, reason, "terminator removed");
            changes.remove(&stored);
            count += 1;
        }
    }
    if count == 0 {
        return more;
    }
    match state.commit(changes).await {
        Ok(_) => more,
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
