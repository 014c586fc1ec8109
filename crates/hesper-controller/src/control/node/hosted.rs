//! Grants of before a restart, which the binders that honour them report.

use super::super::{
    auth, events,
    grants::{Grant, Pair, Reach},
    unix_now,
};
use crate::state::State;
use hesper_model::id::Tag;
use hesper_pki::token::{GrantClaims, TokenError};
use hesper_proto::control::Hosted;
use std::sync::Arc;

/// Grants in one report; the protocol says so.
const GRANTS_MAX: usize = 64;

/// Takes the grants that are this controller's own and for this caller into the ledger, and revokes at once what policy denies now.
pub(super) fn adopt(state: &State, caller: &auth::Node, tag: Tag, hosted: &Hosted) {
    let (now, verifier) = (unix_now(), state.verifier());
    let claims = hosted.grants.iter().take(GRANTS_MAX).filter_map(|grant| {
        let claims = match verifier.verify::<GrantClaims>(grant, now) {
            // Its streams may go on for a moment: they end now if policy is against them.
            Err(TokenError::Expired { at, .. }) => {
                let before = u64::try_from(at.unix_timestamp()).ok()?.checked_sub(1)?;
                verifier.verify::<GrantClaims>(grant, before)
            }
            verified => verified,
        };
        claims.ok().filter(|claims| claims.aud == caller.identity.id)
    });
    let model = state.model();
    let routers = Arc::new(model.edge_routers().map(|r| r.id.clone()).collect());
    let grants: Vec<_> = claims
        .map(|claims| Grant {
            id: claims.jti,
            pair: Pair { dialer: claims.sub, service: claims.service, binder: claims.aud },
            terminator: claims.terminator,
            dialer_tag: claims.tag,
            binder_tag: tag,
            reach: Reach::Anywhere(Arc::clone(&routers)),
            terms: claims.otlp.map(Arc::new),
            expires_at: claims.exp,
        })
        .collect();
    if grants.len() < hosted.grants.len() {
        let ignored = hosted.grants.len() - grants.len();
        tracing::info!(host = %caller.identity.name, ignored, "reported grants that are not valid any more");
    }
    let (lapsed, grants): (Vec<_>, Vec<_>) = grants.into_iter().partition(|g| g.expires_at <= now);
    let control = &state.control;
    control.change(|shared| {
        let tags: Vec<_> = grants.iter().map(|g| g.dialer_tag).collect();
        let ended = shared.ledger.judge_lapsed(lapsed, &state.model());
        control.tell(shared, ended);
        // The model is read under the lock: a change after it finds the grants in the ledger.
        let mut revoked = shared.ledger.adopt(grants, &state.model());
        for dialer in tags.into_iter().filter(|tag| shared.sessions.has_ended(*tag)) {
            revoked.extend(shared.ledger.revoke_session(dialer, "the session of its dialer was ended"));
        }
        control.tell(shared, revoked);
    });
    events::grants_revoked(state, &model);
}
