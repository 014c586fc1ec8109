//! The ledger of grants that are out: issued, decided again on every change of the model, forgotten when they expire. Pure.
//!
//! A grant that is revoked stays in the ledger for a day after it would have expired, so that a binder or a router that was away when it
//! was revoked, and honours what lapses meanwhile, is told when it is back.

use super::paths::{Path, ends_of};
use hesper_model::id::{EdgeRouterId, IdentityId, ServiceId, Tag, TerminatorId};
use hesper_policy::{
    Decision, Model, Request, Rule, decide,
    routers::{self, Ends},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// Live grants of one dialer. A dialer of 2,000 targets holds twice as many, because it renews before they expire.
pub(crate) const GRANTS_PER_DIALER_MAX: usize = 8_192;
/// Live grants in total; each costs about half a kilobyte.
pub(crate) const GRANTS_MAX: usize = 262_144;

/// How long a revoked grant is remembered after its end, seconds: as long as an outage is honoured unless somebody said otherwise.
const REVOKED_KEPT: u64 = 24 * 3600;
/// Revoked grants remembered so; all of them fit into one message. What is revoked beyond that is remembered until its end.
const REVOKED_MAX: usize = 16_384;

/// What was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Id of the grant and of its pass.
    pub(crate) id: String,
    /// Who dials, what, and who hosts it.
    pub(crate) pair: Pair,
    /// The terminator dialed.
    pub(crate) terminator: TerminatorId,
    /// Session of the dialer.
    pub(crate) dialer_tag: Tag,
    /// Session of the binder.
    pub(crate) binder_tag: Tag,
    /// What its pass is good for.
    pub(crate) reach: Reach,
    /// When it ends, seconds since the epoch.
    pub(crate) expires_at: u64,
}

/// What a pass is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// These ways; the first `told` were named to the dialer as those that work.
    Paths {
        /// Best first.
        paths: Vec<Path>,
        /// How many the dialer was told.
        told: usize,
    },
    /// Unknown, because the controller that issued it is gone: any of these routers may carry it.
    Anywhere(Arc<BTreeSet<EdgeRouterId>>),
}

impl Reach {
    /// Every router that the pass may be known to.
    fn routers(&self) -> BTreeSet<EdgeRouterId> {
        match self {
            Self::Paths { paths, .. } => paths.iter().flatten().cloned().collect(),
            Self::Anywhere(routers) => routers.as_ref().clone(),
        }
    }

    /// Routers that the pass uses for an end that policy does not give them to any more.
    fn lost(&self, allowed: &Ends) -> BTreeSet<EdgeRouterId> {
        let of_dialer = |id: &EdgeRouterId| allowed.dialer.contains(id);
        let of_host = |id: &EdgeRouterId| allowed.host.contains(id);
        match self {
            Self::Paths { paths, .. } => {
                let ends = || paths.iter().filter_map(ends_of);
                let firsts = ends().map(|(first, _)| first).filter(|id| !of_dialer(id));
                let lasts = ends().map(|(_, last)| last).filter(|id| !of_host(id));
                firsts.chain(lasts).cloned().collect()
            }
            Self::Anywhere(routers) => {
                routers.iter().filter(|id| !of_dialer(id) && !of_host(id)).cloned().collect()
            }
        }
    }
}

/// What the decision about a grant depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    /// Who dials.
    pub(crate) dialer: IdentityId,
    /// What.
    pub(crate) service: ServiceId,
    /// Who hosts it.
    pub(crate) binder: IdentityId,
}

/// May this dialer dial this service at this host now? The Dial decision, and the routers that policy gives to each end.
///
/// # Errors
/// The decision that denies: Dial, Bind, or the routers.
pub(crate) fn judge(model: &Model, pair: &Pair) -> Result<(Decision, Ends), Rule> {
    let dial = decide(model, &Request::Dial { identity: &pair.dialer, service: &pair.service });
    if !dial.is_allowed() {
        return Err(dial.rule);
    }
    let bind = decide(model, &Request::Bind { identity: &pair.binder, service: &pair.service });
    if !bind.is_allowed() {
        return Err(bind.rule);
    }
    let ends = routers::ends(model, &pair.dialer, &pair.binder, &pair.service)?;
    Ok((dial, ends))
}

/// A grant that ended before its time, wholly or at some routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// The grant.
    pub(crate) id: String,
    /// The rule that is missing now.
    pub(crate) reason: String,
    /// Sessions to tell: binder and dialer; none when only routers are concerned.
    pub(crate) sessions: Vec<Tag>,
    /// Routers to tell.
    pub(crate) routers: BTreeSet<EdgeRouterId>,
}

/// No further grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// Of this dialer.
    #[error("this identity has {GRANTS_PER_DIALER_MAX} live grants already")]
    OfDialer,
    /// In total.
    #[error("the controller has {GRANTS_MAX} live grants already")]
    InTotal,
}

#[derive(Debug)]
struct Entry {
    grant: Grant,
    /// How many were recorded before it, and itself.
    number: u64,
    /// Why it is revoked.
    revoked: Option<String>,
    /// Routers of its pass that must not carry it any more.
    closed: BTreeSet<EdgeRouterId>,
    /// Kept until then although it has expired.
    kept_until: Option<u64>,
}

/// Grants and passes that are out.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: HashMap<String, Entry>,
    by_expiry: BTreeSet<(u64, String)>,
    by_pair: HashMap<Arc<Pair>, BTreeSet<String>>,
    /// Pairs with a grant that was recorded since the last round.
    fresh: HashSet<Arc<Pair>>,
    /// How many were ever recorded.
    recorded: u64,
    per_dialer: HashMap<IdentityId, usize>,
    /// The grant issued last for each lease.
    newest: HashMap<Lease, String>,
    /// How many leases each terminator has.
    users: HashMap<TerminatorId, usize>,
    /// Entries that are kept beyond their end.
    kept: usize,
    refused: u64,
}

/// What a dialer renews: its grant for one terminator.
type Lease = (Tag, TerminatorId);

impl Grant {
    fn lease(&self) -> Lease {
        (self.dialer_tag, self.terminator.clone())
    }
}

impl Ledger {
    /// Records a grant before it is given out.
    ///
    /// # Errors
    /// [`Full`], counted; nothing is recorded.
    pub(crate) fn issue(&mut self, grant: Grant) -> Result<(), Full> {
        let full = if self.entries.len() - self.kept >= GRANTS_MAX {
            Some(Full::InTotal)
        } else if self.per_dialer.get(&grant.pair.dialer).is_some_and(|n| *n >= GRANTS_PER_DIALER_MAX) {
            Some(Full::OfDialer)
        } else {
            None
        };
        if let Some(full) = full {
            self.refused += 1;
            return Err(full);
        }
        *self.per_dialer.entry(grant.pair.dialer.clone()).or_default() += 1;
        self.by_expiry.insert((grant.expires_at, grant.id.clone()));
        if matches!(grant.reach, Reach::Paths { .. }) {
            let before = self.newest.insert(grant.lease(), grant.id.clone());
            if before.is_none() {
                *self.users.entry(grant.terminator.clone()).or_default() += 1;
            }
        }
        let known = self.by_pair.get_key_value(&grant.pair).map(|(pair, _)| Arc::clone(pair));
        let pair = known.unwrap_or_else(|| Arc::new(grant.pair.clone()));
        self.by_pair.entry(Arc::clone(&pair)).or_default().insert(grant.id.clone());
        self.fresh.insert(pair);
        self.recorded += 1;
        self.entries.insert(grant.id.clone(), Entry::new(self.recorded, grant));
        Ok(())
    }

    /// Forgets a grant that was never given out.
    pub(crate) fn withdraw(&mut self, id: &str) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.end_lease(entry.grant.lease(), id);
        self.by_expiry.remove(&(entry.ends(), id.to_owned()));
        match entry.kept_until {
            Some(_) => self.kept -= 1,
            None => self.leave(&entry.grant.pair, id),
        }
    }

    /// One grant less that counts for this pair and its dialer.
    fn leave(&mut self, pair: &Pair, id: &str) {
        if let Some(of_pair) = self.by_pair.get_mut(pair) {
            of_pair.remove(id);
            if of_pair.is_empty() {
                self.by_pair.remove(pair);
            }
        }
        if let Some(n) = self.per_dialer.get_mut(&pair.dialer) {
            *n -= 1;
            if *n == 0 {
                self.per_dialer.remove(&pair.dialer);
            }
        }
    }

    /// A revoked grant counts for nobody any more, and stays for those who are away.
    fn keep(&mut self, id: &str) {
        if self.kept >= REVOKED_MAX {
            return;
        }
        let Some(entry) = self.entries.get_mut(id).filter(|e| e.kept_until.is_none()) else { return };
        self.by_expiry.remove(&(entry.ends(), id.to_owned()));
        entry.kept_until = Some(entry.grant.expires_at.saturating_add(REVOKED_KEPT));
        self.by_expiry.insert((entry.ends(), id.to_owned()));
        let pair = entry.grant.pair.clone();
        self.kept += 1;
        self.leave(&pair, id);
    }

    /// The lease ends if this grant is its newest.
    fn end_lease(&mut self, lease: Lease, id: &str) {
        if self.newest.get(&lease).is_some_and(|newest| newest == id) {
            self.newest.remove(&lease);
            if let Some(n) = self.users.get_mut(&lease.1) {
                *n -= 1;
                if *n == 0 {
                    self.users.remove(&lease.1);
                }
            }
        }
    }

    /// Dialers that hold a grant for the terminator.
    pub(crate) fn users(&self, terminator: &TerminatorId) -> usize {
        self.users.get(terminator).copied().unwrap_or_default()
    }

    /// The leases of what was revoked end; it is remembered.
    fn end_leases(&mut self, revocations: &[Revocation]) {
        for revoked in revocations.iter().filter(|r| !r.sessions.is_empty()) {
            if let Some(lease) = self.entries.get(&revoked.id).map(|e| e.grant.lease()) {
                self.end_lease(lease, &revoked.id);
            }
            self.keep(&revoked.id);
        }
    }

    /// Forgets what has expired by `now_unix`.
    pub(crate) fn expire(&mut self, now_unix: u64) {
        while let Some((expires_at, id)) = self.by_expiry.first()
            && *expires_at <= now_unix
        {
            let id = id.clone();
            self.withdraw(&id);
        }
    }

    /// Begins to decide again: every pair, or only what is new since the last time.
    pub(crate) fn round(&mut self, all: bool) -> Round {
        let fresh = std::mem::take(&mut self.fresh);
        let pairs =
            if all { self.by_pair.keys().cloned().collect() } else { fresh.iter().cloned().collect() };
        Round { pairs, fresh, until: self.recorded }
    }

    /// Ends what the verdict ends of the pair's grants that are of the round. Each revocation is returned once.
    pub(crate) fn settle(&mut self, pair: &Pair, judged: &Judged, until: u64) -> Vec<Revocation> {
        let Some(ids) = self.by_pair.get(pair) else { return Vec::new() };
        let mut revocations = Vec::new();
        for id in ids {
            let live = self.entries.get_mut(id).filter(|e| e.revoked.is_none() && e.number <= until);
            revocations.extend(live.and_then(|entry| entry.settle(judged)));
        }
        self.end_leases(&revocations);
        revocations
    }

    /// Decides every live grant again.
    #[cfg(test)]
    pub(crate) fn recheck(&mut self, model: &Model) -> Vec<Revocation> {
        let Round { pairs, until, .. } = self.round(true);
        let settled = pairs.iter().flat_map(|pair| self.settle(pair, &verdict(model, pair), until));
        let mut revocations: Vec<_> = settled.collect();
        revocations.sort_by(|a, b| a.id.cmp(&b.id));
        revocations
    }

    /// Records grants of before a restart, which a binder has reported, and decides them. Those known already are left alone,
    /// and those for which there is no room.
    pub(crate) fn adopt(&mut self, grants: Vec<Grant>, model: &Model) -> Vec<Revocation> {
        let mut revocations = Vec::new();
        for grant in grants {
            let (id, judged) = (grant.id.clone(), verdict(model, &grant.pair));
            if self.entries.contains_key(&id) || self.issue(grant).is_err() {
                continue;
            }
            revocations.extend(self.entries.get_mut(&id).and_then(|entry| entry.settle(&judged)));
        }
        self.end_leases(&revocations);
        revocations
    }

    /// Decides grants that lapsed while no controller could be reached, and that their binder honours for a moment. They are not
    /// recorded: what is allowed is renewed in that moment.
    pub(crate) fn judge_lapsed(grants: Vec<Grant>, model: &Model) -> Vec<Revocation> {
        let settle = |grant: Grant| {
            let judged = verdict(model, &grant.pair);
            Entry::new(0, grant).settle(&judged)
        };
        grants.into_iter().filter_map(settle).collect()
    }

    /// The live grant issued last for each lease.
    pub(crate) fn lease_ids(&self) -> Vec<String> {
        self.newest.values().cloned().collect()
    }

    /// Such a grant, if it still is one, and the ways that its dialer was told.
    pub(crate) fn lease(&self, id: &str) -> Option<(&Grant, &[Path])> {
        let grant = &self.entries.get(id)?.grant;
        match &grant.reach {
            Reach::Paths { paths, told } if *self.newest.get(&grant.lease())? == id => {
                Some((grant, paths.get(..*told)?))
            }
            Reach::Paths { .. } | Reach::Anywhere(_) => None,
        }
    }

    /// Revokes every live grant of a session, as dialer or as binder.
    pub(crate) fn revoke_session(&mut self, tag: Tag, reason: &str) -> Vec<Revocation> {
        let of_session = |e: &&mut Entry| e.grant.dialer_tag == tag || e.grant.binder_tag == tag;
        let live = self.entries.values_mut().filter(|e| e.revoked.is_none()).filter(of_session);
        let revocations: Vec<_> = live.filter_map(|entry| entry.revoke(reason)).collect();
        self.end_leases(&revocations);
        revocations
    }

    /// Revoked grants that would still be valid and concern this session: to be told again when it is back.
    pub(crate) fn revoked_for_session(&self, tag: Tag) -> Vec<(String, String)> {
        let concerned =
            self.entries.values().filter(|e| e.grant.dialer_tag == tag || e.grant.binder_tag == tag);
        concerned.filter_map(|e| Some((e.grant.id.clone(), e.revoked.clone()?))).collect()
    }

    /// Revoked passes that would still be valid at this router: to be told again when it is back.
    pub(crate) fn revoked_for_router(&self, id: &EdgeRouterId) -> Vec<String> {
        self.entries.values().filter(|e| e.closed.contains(id)).map(|e| e.grant.id.clone()).collect()
    }

    /// Is the grant out and not revoked?
    pub(crate) fn is_live(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|e| e.revoked.is_none())
    }

    /// Grants that are out, revoked ones included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Grants refused because the ledger was full.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}

/// What grants of a pair may still use, or why they end.
pub(crate) type Judged = Result<Ends, String>;

/// Decides a pair once for all of its grants.
pub(crate) fn verdict(model: &Model, pair: &Pair) -> Judged {
    judge(model, pair).map(|(_, ends)| ends).map_err(|rule| rule.to_string())
}

/// What may have to be decided again at one time.
#[derive(Debug)]
pub(crate) struct Round {
    /// Every pair with grants, or only the fresh ones.
    pub(crate) pairs: Vec<Arc<Pair>>,
    /// Those with a grant that no round has seen yet. Whatever the rounds before saw, it may have been decided by a model between
    /// two of them.
    pub(crate) fresh: HashSet<Arc<Pair>>,
    /// Grants recorded later are none of it: they are decided when they are issued.
    pub(crate) until: u64,
}

impl Entry {
    fn new(number: u64, grant: Grant) -> Self {
        Self { number, grant, revoked: None, closed: BTreeSet::new(), kept_until: None }
    }

    /// When it is forgotten.
    fn ends(&self) -> u64 {
        self.kept_until.unwrap_or(self.grant.expires_at)
    }

    fn settle(&mut self, judged: &Judged) -> Option<Revocation> {
        match judged {
            Err(reason) => self.revoke(reason),
            Ok(allowed) => self.keep_routers(allowed),
        }
    }

    fn revoke(&mut self, reason: &str) -> Option<Revocation> {
        self.revoked = Some(reason.to_owned());
        let open: BTreeSet<_> = self.grant.reach.routers().difference(&self.closed).cloned().collect();
        self.closed.extend(open.iter().cloned());
        let mut sessions = vec![self.grant.binder_tag, self.grant.dialer_tag];
        sessions.dedup();
        Some(Revocation { id: self.grant.id.clone(), reason: reason.to_owned(), sessions, routers: open })
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
        Some(Revocation { id: self.grant.id.clone(), reason, sessions: Vec::new(), routers: lost })
    }
}

#[cfg(test)]
mod tests;
