//! What becomes of one grant: it lives, loses routers, or is revoked.

use super::{
    grant::{Grant, Reach},
    judge::{Given, Judged, Pair},
};
use hesper_model::id::{EdgeRouterId, IdentityId, ServiceId, Tag, TerminatorId};
use hesper_policy::routers::Ends;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};

/// Why grants end whose dialer may go on otherwise.
const OTHER_TERMS: &str = "what the dialer may send by the service's otlp.v1 config has changed";

/// A grant that ended before its time, wholly or at some routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// The grant.
    pub(crate) id: String,
    /// Who dialed what at whom.
    pub(crate) pair: Arc<Pair>,
    /// The rule that is missing now.
    pub(crate) reason: String,
    /// Sessions to tell: binder and dialer; none when only routers are concerned.
    pub(crate) sessions: Vec<Tag>,
    /// Routers to tell.
    pub(crate) routers: BTreeSet<EdgeRouterId>,
}

/// A revoked grant as it is written down: `revoked/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remembered {
    dialer: IdentityId,
    dialer_tag: Tag,
    service: ServiceId,
    terminator: TerminatorId,
    binder: IdentityId,
    binder_tag: Tag,
    /// Those that must not carry its pass.
    routers: BTreeSet<EdgeRouterId>,
    /// Until when it was granted, seconds since the epoch.
    expires_at: u64,
    reason: String,
}

impl Remembered {
    /// The revoked grant again, as far as anybody asks for it.
    pub(super) fn into_entry(self, id: String) -> Entry {
        let pair = Pair { dialer: self.dialer, service: self.service, binder: self.binder };
        let reach = Reach::Anywhere(Arc::new(self.routers.clone()));
        let (dialer_tag, binder_tag) = (self.dialer_tag, self.binder_tag);
        let (terminator, expires_at) = (self.terminator, self.expires_at);
        let grant = Grant { id, pair, terminator, dialer_tag, binder_tag, reach, terms: None, expires_at };
        Entry { revoked: Some(self.reason), closed: self.routers, ..Entry::new(0, grant) }
    }
}

/// A grant in the ledger, and what has become of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) grant: Grant,
    /// How many were recorded before it, and itself.
    pub(super) number: u64,
    /// Why it is revoked.
    pub(super) revoked: Option<String>,
    /// Routers of its pass that must not carry it any more.
    pub(super) closed: BTreeSet<EdgeRouterId>,
    /// Kept until then although it has expired.
    pub(super) kept_until: Option<u64>,
}

impl Entry {
    pub(super) fn new(number: u64, grant: Grant) -> Self {
        Self { number, grant, revoked: None, closed: BTreeSet::new(), kept_until: None }
    }

    /// What to write down, if it is revoked.
    pub(super) fn remembered(&self) -> Option<Remembered> {
        let Grant { pair, terminator, dialer_tag, binder_tag, expires_at, .. } = self.grant.clone();
        let Pair { dialer, service, binder } = pair;
        let (routers, reason) = (self.closed.clone(), self.revoked.clone()?);
        Some(Remembered {
            dialer,
            dialer_tag,
            service,
            terminator,
            binder,
            binder_tag,
            routers,
            expires_at,
            reason,
        })
    }

    /// When it is forgotten.
    pub(super) fn ends(&self) -> u64 {
        self.kept_until.unwrap_or(self.grant.expires_at)
    }

    pub(super) fn settle(&mut self, judged: &Judged) -> Option<Revocation> {
        match judged {
            Err(reason) => self.revoke(reason),
            // Its binder holds the dialer to what the grant says: with another grant it comes back at once.
            Ok(Given { terms, .. }) if *terms != self.grant.terms => self.revoke(OTHER_TERMS),
            Ok(Given { ends, .. }) => self.keep_routers(ends),
        }
    }

    pub(super) fn revoke(&mut self, reason: &str) -> Option<Revocation> {
        self.revoked = Some(reason.to_owned());
        let open: BTreeSet<_> = self.grant.reach.routers().difference(&self.closed).cloned().collect();
        self.closed.extend(open.iter().cloned());
        let mut sessions = vec![self.grant.binder_tag, self.grant.dialer_tag];
        sessions.dedup();
        let (id, pair) = (self.grant.id.clone(), Arc::new(self.grant.pair.clone()));
        Some(Revocation { id, pair, reason: reason.to_owned(), sessions, routers: open })
    }

    /// The pass ends at routers that policy does not give to its end any more. The grant lives on: policy still allows the dial,
    /// and the dialer is sent to fetch a pass for other routers.
    fn keep_routers(&mut self, allowed: &Ends) -> Option<Revocation> {
        let lost: BTreeSet<_> =
            self.grant.reach.lost(allowed).into_iter().filter(|r| !self.closed.contains(r)).collect();
        if lost.is_empty() {
            return None;
        }
        self.closed.extend(lost.iter().cloned());
        let reason = "policy does not give its routers to it any more".to_owned();
        let (id, pair) = (self.grant.id.clone(), Arc::new(self.grant.pair.clone()));
        Some(Revocation { id, pair, reason, sessions: Vec::new(), routers: lost })
    }
}
