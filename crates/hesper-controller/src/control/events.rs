//! What is told of sessions, grants, terminators and links as events. Never while anybody waits for the lock.

use super::Gone;
use crate::{events, state::State};
use hesper_model::{
    entity::Terminator,
    id::{EdgeRouterId, IdentityId, Tag},
};
use hesper_observe::events::{Event, Kind, Named};
use hesper_policy::Model;
use std::collections::BTreeSet;

/// Grants that ended before their time: one event for each dialer, service, host and reason. `before` knows what was deleted just now.
pub(super) fn grants_revoked(state: &State, before: &Model) {
    let revoked = std::mem::take(&mut *state.control.revoked());
    if revoked.is_empty() {
        return;
    }
    let now = state.model();
    for ((pair, reason), count) in revoked {
        let service =
            known(events::service_of(&now, &pair.service), || events::service_of(before, &pair.service));
        let event = Event::success(Kind::GrantRevoked)
            .identity(identity(&now, before, &pair.dialer))
            .service(service)
            .rule(reason)
            .field("binder", pair.binder.as_str())
            .field("grants", count);
        state.record(event);
    }
}

/// Sessions that are over for good.
pub(super) fn sessions_ended(state: &State, before: &Model, gone: Vec<Gone>) {
    let now = state.model();
    for Gone { tag, identity: id, reason } in gone {
        let event =
            Event::success(Kind::SessionEnded).actor(id.as_str()).identity(identity(&now, before, &id));
        state.record(event.rule(reason).field("session", tag.to_string()));
    }
}

/// A node closed its watch.
pub(super) fn detached(state: &State, identity: Named, tag: Tag, reason: &str) {
    let event = Event::success(Kind::Detach).identity(identity).field("session", tag.to_string());
    state.record(event.field("reason", reason));
}

/// A terminator of a bind came or went.
pub(super) fn terminator(state: &State, kind: Kind, terminator: &Terminator, reason: &str) {
    let model = state.model();
    let event = Event::success(kind)
        .actor(terminator.host_id.as_str())
        .identity(events::identity_of(&model, &terminator.host_id))
        .service(events::service_of(&model, &terminator.service_id))
        .field("terminator", terminator.id.as_str())
        .field("instance", terminator.instance.as_str());
    state.record(if reason.is_empty() { event } else { event.rule(reason) });
}

/// The links of a router that came up and went down.
pub(super) fn links(
    state: &State,
    router: &EdgeRouterId,
    before: &BTreeSet<EdgeRouterId>,
    now: &BTreeSet<EdgeRouterId>,
) {
    let up = now.difference(before).map(|other| (Kind::LinkUp, other));
    let down = before.difference(now).map(|other| (Kind::LinkDown, other));
    for (kind, other) in up.chain(down) {
        let model = state.model();
        let (this, other) = (events::router_of(&model, router), events::router_of(&model, other));
        let event = Event::success(kind).actor(router.as_str()).identity(this);
        state.record(event.field("peer", other.name).field("peerId", other.id));
    }
}

fn identity(now: &Model, before: &Model, id: &IdentityId) -> Named {
    known(events::identity_of(now, id), || events::identity_of(before, id))
}

/// What has no name any more had one before.
fn known(now: Named, before: impl FnOnce() -> Named) -> Named {
    if now.name.is_some() { now } else { before() }
}
