//! The ledger of grants that are out: issued, decided again on every change of the model, forgotten when they expire. Pure.
//!
//! A grant that is revoked stays in the ledger for a day after it would have expired, so that a binder or a router that was away when it
//! was revoked, and honours what lapses meanwhile, is told when it is back. Such grants are kept in the store too: the controller may be
//! started again before.

mod entry;
mod grant;
mod judge;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    entry::{Remembered, Revocation},
    grant::{Grant, Reach},
    judge::{Given, Judged, Pair, judge, verdict},
};

use self::{entry::Entry, grant::Lease};
use super::paths::Path;
use hesper_model::id::{EdgeRouterId, IdentityId, Tag, TerminatorId};
use hesper_policy::Model;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// Live grants of one dialer. A dialer of 2,000 targets holds twice as many, because it renews before they expire.
pub(crate) const GRANTS_PER_DIALER_MAX: usize = 8_192;
/// Live grants in total; each costs about half a kilobyte, and its terms where it has some.
pub(crate) const GRANTS_MAX: usize = 262_144;

/// Prefix of the records of revoked grants: `revoked/<id>`.
pub(crate) const REVOKED: &str = "revoked/";
/// How long a revoked grant is remembered after its end, seconds: as long as an outage is honoured unless somebody said otherwise.
const REVOKED_KEPT: u64 = 24 * 3600;
/// Revoked grants remembered so; all of them fit into one message. What is revoked beyond that is remembered until its end.
const REVOKED_MAX: usize = 16_384;

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

/// Grants and passes that are out.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: HashMap<String, Entry>,
    by_expiry: BTreeSet<(u64, String)>,
    by_pair: HashMap<Arc<Pair>, BTreeSet<String>>,
    /// By its dialer's session and its binder's.
    by_session: HashMap<Tag, BTreeSet<String>>,
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
    /// Ids of those whose records are to be written, or deleted.
    unwritten: BTreeSet<String>,
    refused: u64,
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
        self.put(Entry::new(self.recorded, grant));
        Ok(())
    }

    fn put(&mut self, entry: Entry) {
        let id = &entry.grant.id;
        for tag in [entry.grant.dialer_tag, entry.grant.binder_tag] {
            self.by_session.entry(tag).or_default().insert(id.clone());
        }
        self.by_expiry.insert((entry.ends(), id.clone()));
        self.entries.insert(id.clone(), entry);
    }

    /// Forgets a grant that was never given out.
    pub(crate) fn withdraw(&mut self, id: &str) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.end_lease(entry.grant.lease(), id);
        self.by_expiry.remove(&(entry.ends(), id.to_owned()));
        for tag in [entry.grant.dialer_tag, entry.grant.binder_tag] {
            if let Some(of_session) = self.by_session.get_mut(&tag) {
                of_session.remove(id);
                if of_session.is_empty() {
                    self.by_session.remove(&tag);
                }
            }
        }
        match entry.kept_until {
            Some(_) => {
                self.kept -= 1;
                self.unwritten.insert(id.to_owned());
            }
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
        self.unwritten.insert(id.to_owned());
        self.leave(&pair, id);
    }

    /// Takes in a revoked grant that counts for nobody, for those who are away.
    fn keep_entry(&mut self, mut entry: Entry) -> bool {
        if self.kept >= REVOKED_MAX || self.entries.contains_key(&entry.grant.id) {
            return false;
        }
        entry.kept_until = Some(entry.grant.expires_at.saturating_add(REVOKED_KEPT));
        self.kept += 1;
        self.put(entry);
        true
    }

    /// What is on record already, when the controller starts.
    pub(crate) fn restore(&mut self, id: String, revoked: Remembered) {
        self.keep_entry(revoked.into_entry(id));
    }

    /// At most so many records to write, or, without one, to delete.
    pub(crate) fn take_unwritten(&mut self, most: usize) -> Vec<(String, Option<Remembered>)> {
        let ids = (0..most).map_while(|_| self.unwritten.pop_first());
        let of = |id: &str| self.entries.get(id).filter(|e| e.kept_until.is_some())?.remembered();
        ids.collect::<Vec<_>>().into_iter().map(|id| (of(&id), id)).map(|(record, id)| (id, record)).collect()
    }

    /// These could not be written.
    pub(crate) fn put_back(&mut self, ids: impl IntoIterator<Item = String>) {
        self.unwritten.extend(ids);
    }

    /// Is there anything to write?
    pub(crate) fn is_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
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

    /// Decides grants that lapsed while no controller could be reached, and that their binder honours for a moment. What is allowed is
    /// not recorded: it is renewed in that moment. What is not is remembered, for routers that come back later.
    pub(crate) fn judge_lapsed(&mut self, grants: Vec<Grant>, model: &Model) -> Vec<Revocation> {
        let mut revocations = Vec::new();
        for grant in grants {
            let (id, judged) = (grant.id.clone(), verdict(model, &grant.pair));
            let mut entry = Entry::new(0, grant);
            let revoked = entry.settle(&judged);
            if entry.revoked.is_some() && self.keep_entry(entry) {
                self.unwritten.insert(id);
            }
            revocations.extend(revoked);
        }
        revocations
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
        let mut revocations = Vec::new();
        for id in self.by_session.get(&tag).into_iter().flatten() {
            let live = self.entries.get_mut(id).filter(|e| e.revoked.is_none());
            revocations.extend(live.and_then(|entry| entry.revoke(reason)));
        }
        self.end_leases(&revocations);
        revocations
    }

    /// Revoked grants that would still be valid and concern this session: to be told again when it is back.
    pub(crate) fn revoked_for_session(&self, tag: Tag) -> Vec<(String, String)> {
        let ids = self.by_session.get(&tag).into_iter().flatten();
        ids.filter_map(|id| Some((id.clone(), self.entries.get(id)?.revoked.clone()?))).collect()
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
