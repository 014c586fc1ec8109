//! What must end is ended, after each change of the model and as time goes by: grants first, then sessions and routers, and only then
//! are nodes told of what is new. Nothing here holds the lock for longer than a small part of what there is.

use super::{
    auth, events,
    grants::{Pair, Round, verdict},
    raise,
    sessions::Session,
    tokens::Holder,
};
use crate::state::{Records, State};
use hesper_model::{
    entity::Identity,
    id::{IdentityId, Tag},
};
use hesper_pki::spiffe::{SpiffeId, SpiffeRole};
use hesper_policy::{Changed, Model};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Time that expired grants and certificates may stay unnoticed.
const TICK: Duration = Duration::from_secs(5);
/// Pairs that are settled at a time. Everybody is told in as few messages as can be, so they are not very few.
const PAIRS_AT_ONCE: usize = 2_048;
/// Sessions that are looked at at a time.
const SESSIONS_AT_ONCE: usize = 512;

/// Ends what must end, until `stop`.
pub(super) async fn revoke(state: Arc<State>, stop: CancellationToken) {
    let mut changes = state.subscribe();
    let mut seen = Seen { model: state.model(), records: state.records(), sessions: None };
    loop {
        changes.mark_unchanged();
        let started = Instant::now();
        seen.look(&state);
        // When very many are concerned it takes long: then leave as much time for everything else.
        let rest = started.elapsed();
        let tick =
            seen.sessions.map_or(Duration::ZERO, |at| (at + TICK).saturating_duration_since(Instant::now()));
        tokio::select! {
            () = stop.cancelled() => return,
            () = async { sleep(rest).await; tokio::select! { _ = changes.changed() => {}, () = sleep(tick) => {} } } => {}
        }
    }
}

/// What was looked at last.
struct Seen {
    model: Arc<Model>,
    records: Records,
    /// When all sessions were.
    sessions: Option<Instant>,
}

impl Seen {
    fn look(&mut self, state: &State) {
        // Before the ledger is: a grant that is recorded after this is decided by this model or a later one when it is issued.
        let (model, records) = (state.model(), state.records());
        self.grants(state, &model);
        let mut gone = Vec::new();
        let due = self.sessions.is_none_or(|at| at.elapsed() >= TICK);
        if due || !model.shares::<Identity>(&self.model) || !records.same_certificates(&self.records) {
            self.sessions = Some(Instant::now());
            gone = state.control.end_sessions(ended(state, &model, &records));
        }
        for (id, (_, outbox)) in &state.control.lock().routers {
            if let Err(status) = auth::known_router(&model, id) {
                outbox.end(status);
            }
        }
        raise(&state.control.judged, model.revision());
        // Last: what must end does not wait for what is written about it.
        events::grants_revoked(state, &self.model);
        events::sessions_ended(state, &self.model, gone);
        (self.model, self.records) = (model, records);
    }

    /// Decides the grants again that the change may concern, and those that are new.
    fn grants(&self, state: &State, model: &Model) {
        let control = &state.control;
        let changed = Changed::between(&self.model, model);
        let round = control.change(|shared| {
            shared.ledger.expire(super::unix_now());
            shared.costs.forget(Instant::now(), |id| model.terminator(id).is_some());
            let gone = shared.tokens.expire(super::unix_now());
            gone.into_iter().for_each(|tag| control.journal.note(tag, None));
            shared.ledger.round(!changed.takes_nothing())
        });
        let until = round.until;
        for some in concerned(round, &changed, model).chunks(PAIRS_AT_ONCE) {
            let verdicts: Vec<_> = some.iter().map(|pair| (pair, verdict(model, pair))).collect();
            control.change(|shared| {
                let settled = verdicts.iter().flat_map(|(pair, of)| shared.ledger.settle(pair, of, until));
                let revoked = settled.collect();
                control.tell(shared, revoked);
            });
        }
    }
}

/// The pairs that must be decided again.
pub(super) fn concerned(round: Round, changed: &Changed, model: &Model) -> Vec<Arc<Pair>> {
    let Round { mut pairs, fresh, .. } = round;
    pairs.retain(|p| fresh.contains(p) || changed.may_end(model, &p.dialer, &p.service, &p.binder));
    pairs
}

/// Sessions that may not go on.
fn ended(state: &State, model: &Model, records: &Records) -> Vec<(Tag, Status)> {
    let tags: Vec<_> = {
        let shared = state.control.lock();
        let here = shared.sessions.iter().map(|(tag, _)| tag);
        // Nodes that do not talk to this controller any more, or not yet again, still have their tokens.
        let absent = shared.tokens.live().filter(|(tag, _)| shared.sessions.get(*tag).is_none());
        here.chain(absent.map(|(tag, _)| tag)).collect()
    };
    let now = OffsetDateTime::now_utc();
    let mut ended = Vec::new();
    for some in tags.chunks(SESSIONS_AT_ONCE) {
        let shared = state.control.lock();
        ended.extend(some.iter().filter_map(|tag| {
            let checked = match shared.sessions.get(*tag) {
                Some(here) => session(state, model, records, here, now),
                None => holder(state, model, records, shared.tokens.holder(*tag)?, now),
            };
            Some((*tag, checked.err()?))
        }));
    }
    ended
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
