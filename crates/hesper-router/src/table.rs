//! The forwarding table: which packets may pass and where they go. Pure: no socket, no clock, no lock.
//!
//! Three facts live here. A *session* is an attached node: its tag and the address that its attach connection has now. A *pair*
//! is two tags with at least one live pass. The *own tag* is the router's. A packet passes if it comes from a session's address,
//! names another session's tag, and the pair of the two is open: never to an address that a packet named, always to one from
//! which an enrolled node attached.

use crate::{drops::DropReason, outage::Outage};
use hesper_model::id::Tag;
use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Live passes that one dialer session may hold here: more than it has services to dial.
pub(crate) const MAX_PASSES_PER_SESSION: usize = 4_096;
/// Live passes in all, about 64 MB: a thousand nodes with 250 peers each.
pub(crate) const MAX_PASSES: usize = 262_144;

/// Where an attached node is: its address, and the local address that it reached us at (answers come from there).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Send it there, as it is.
    To(Place),
    /// It is for the router itself. `known`: it came from an attached session's address.
    Mine { known: bool },
    /// Drop and count.
    Drop(DropReason),
}

/// One pass, reduced to what forwarding needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) id: Arc<str>,
    /// The dialer, who presented it.
    pub(crate) a: Tag,
    /// The binder.
    pub(crate) b: Tag,
    /// Seconds since the epoch.
    pub(crate) exp: u64,
}

/// Why a valid pass could not be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// This session's share is used up.
    #[error("this session holds {MAX_PASSES_PER_SESSION} passes here already")]
    Session,
    /// The router's room is used up.
    #[error("this router holds {MAX_PASSES} passes already")]
    Router,
}

/// Two tags without order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair(Tag, Tag);

impl Pair {
    fn new(x: Tag, y: Tag) -> Self {
        if x <= y { Self(x, y) } else { Self(y, x) }
    }
}

#[derive(Debug)]
struct Session {
    epoch: u64,
    /// `None` once another session attached from the same address.
    place: Option<Place>,
}

#[derive(Debug)]
struct OpenPair {
    /// The latest expiry of its passes.
    exp: u64,
    passes: Vec<Arc<str>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    own: Option<Tag>,
    outage: Outage,
    sessions: HashMap<Tag, Session>,
    by_address: HashMap<SocketAddr, Tag>,
    pairs: HashMap<Pair, OpenPair>,
    passes: HashMap<Arc<str>, Pass>,
    /// The same by their end, the next one first.
    by_expiry: BTreeSet<(u64, Arc<str>)>,
    /// The other sides of a tag's open pairs.
    peers: HashMap<Tag, BTreeSet<Tag>>,
    /// Number of live passes per dialer.
    held: HashMap<Tag, usize>,
}

impl Table {
    /// An empty table; `outage_grace_secs` as in [`Outage`].
    pub(crate) fn new(outage_grace_secs: u64) -> Self {
        Self {
            own: None,
            outage: Outage::new(outage_grace_secs),
            sessions: HashMap::new(),
            by_address: HashMap::new(),
            pairs: HashMap::new(),
            passes: HashMap::new(),
            by_expiry: BTreeSet::new(),
            peers: HashMap::new(),
            held: HashMap::new(),
        }
    }

    /// The router's own tag, as the controller gave it.
    pub(crate) fn set_own(&mut self, tag: Tag) {
        self.own = Some(tag);
    }

    /// The controller's absence, on which the life of lapsed passes depends.
    pub(crate) fn outage(&self) -> Outage {
        self.outage
    }

    /// The same, to be told of its begin and end.
    pub(crate) fn outage_mut(&mut self) -> &mut Outage {
        &mut self.outage
    }

    /// Where does a packet from `source` for `to` go at `now` (seconds since the epoch)?
    pub(crate) fn route(&self, source: SocketAddr, to: Tag, now: u64) -> Route {
        let from = self.by_address.get(&source);
        if self.own == Some(to) {
            return Route::Mine { known: from.is_some() };
        }
        let Some(from) = from else { return Route::Drop(DropReason::UnknownSource) };
        let open = self.pairs.get(&Pair::new(*from, to)).is_some_and(|p| self.outage.honours(p.exp, now));
        match (self.sessions.get(&to), open) {
            (Some(Session { place: Some(place), .. }), true) => Route::To(*place),
            (_, true) => Route::Drop(DropReason::DestinationNotAttached),
            (Some(_), false) => Route::Drop(DropReason::PairClosed),
            (None, false) => Route::Drop(DropReason::UnknownTag),
        }
    }

    /// A node proved that it owns `tag` and is at `place`. A later `epoch` replaces an earlier one of the same tag, and takes
    /// the address from whoever had it before: the newcomer has just answered there.
    pub(crate) fn attach(&mut self, tag: Tag, epoch: u64, place: Place) {
        if self.sessions.get(&tag).is_some_and(|s| s.epoch > epoch) {
            return;
        }
        self.release_address(tag);
        self.sessions.insert(tag, Session { epoch, place: None });
        self.take_address(tag, place);
    }

    /// The session's attach connection is now seen at `place`. False: nothing changed, or it is no longer that session.
    pub(crate) fn moved(&mut self, tag: Tag, epoch: u64, place: Place) -> bool {
        match self.sessions.get(&tag) {
            Some(s) if s.epoch == epoch && s.place != Some(place) => {
                self.release_address(tag);
                self.take_address(tag, place);
                true
            }
            _ => false,
        }
    }

    /// The session's attach connection ended. Returns the tags that had an open pair with it, to be told; `None` if another
    /// connection has replaced it meanwhile. Its pairs stay until their passes end: it may come back.
    pub(crate) fn detach(&mut self, tag: Tag, epoch: u64) -> Option<Vec<Tag>> {
        if self.sessions.get(&tag)?.epoch != epoch {
            return None;
        }
        self.release_address(tag);
        self.sessions.remove(&tag);
        Some(self.peers_of(tag))
    }

    /// Opens the pair of a verified pass, or holds it open longer. The same id again replaces what it said before.
    pub(crate) fn open(&mut self, pass: Pass) -> Result<(), Full> {
        self.revoke_pass(&pass.id);
        if self.held.get(&pass.a).is_some_and(|n| *n >= MAX_PASSES_PER_SESSION) {
            return Err(Full::Session);
        }
        if self.passes.len() >= MAX_PASSES {
            return Err(Full::Router);
        }
        let pair =
            self.pairs.entry(Pair::new(pass.a, pass.b)).or_insert(OpenPair { exp: 0, passes: Vec::new() });
        pair.exp = pair.exp.max(pass.exp);
        pair.passes.push(pass.id.clone());
        self.peers.entry(pass.a).or_default().insert(pass.b);
        self.peers.entry(pass.b).or_default().insert(pass.a);
        *self.held.entry(pass.a).or_default() += 1;
        self.by_expiry.insert((pass.exp, pass.id.clone()));
        self.passes.insert(pass.id.clone(), pass);
        Ok(())
    }

    /// A pass ended before its time. True if it was live here.
    pub(crate) fn revoke_pass(&mut self, id: &str) -> bool {
        let Some(pass) = self.passes.remove(id) else { return false };
        self.by_expiry.remove(&(pass.exp, pass.id.clone()));
        if let Some(held) = self.held.get_mut(&pass.a) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&pass.a);
            }
        }
        let key = Pair::new(pass.a, pass.b);
        let Some(pair) = self.pairs.get_mut(&key) else { return true };
        pair.passes.retain(|p| **p != *id);
        pair.exp = pair.passes.iter().filter_map(|p| Some(self.passes.get(p)?.exp)).max().unwrap_or(0);
        if pair.passes.is_empty() {
            self.pairs.remove(&key);
            self.forget_peer(pass.a, pass.b);
            self.forget_peer(pass.b, pass.a);
        }
        true
    }

    /// A session must go, attached or not, with every pair it is part of. Returns the tags that had a pair with it.
    pub(crate) fn revoke_session(&mut self, tag: Tag) -> Vec<Tag> {
        let peers = self.peers_of(tag);
        for peer in &peers {
            let passes = self.pairs.get(&Pair::new(tag, *peer)).map(|p| p.passes.clone()).unwrap_or_default();
            for pass in passes {
                self.revoke_pass(&pass);
            }
        }
        self.release_address(tag);
        self.sessions.remove(&tag);
        peers
    }

    /// Forgets passes that are no longer honoured at `now`. [`Table::route`] does not depend on it.
    pub(crate) fn expire(&mut self, now: u64) {
        // What ends later is honoured longer, outage or not.
        while let Some((exp, id)) = self.by_expiry.first().cloned()
            && !self.outage.honours(exp, now)
        {
            self.revoke_pass(&id);
        }
    }

    /// Is this session attached here now?
    pub(crate) fn is_attached(&self, tag: Tag) -> bool {
        self.sessions.contains_key(&tag)
    }

    /// Tags of the attached sessions, in order.
    pub(crate) fn attached(&self) -> Vec<Tag> {
        let mut tags: Vec<_> = self.sessions.keys().copied().collect();
        tags.sort_unstable();
        tags
    }

    /// Number of open pairs.
    pub(crate) fn open_pairs(&self) -> usize {
        self.pairs.len()
    }

    fn peers_of(&self, tag: Tag) -> Vec<Tag> {
        self.peers.get(&tag).map(|p| p.iter().copied().collect()).unwrap_or_default()
    }

    fn forget_peer(&mut self, of: Tag, peer: Tag) {
        if let Some(peers) = self.peers.get_mut(&of) {
            peers.remove(&peer);
            if peers.is_empty() {
                self.peers.remove(&of);
            }
        }
    }

    fn release_address(&mut self, tag: Tag) {
        if let Some(place) = self.sessions.get_mut(&tag).and_then(|s| s.place.take()) {
            self.by_address.remove(&place.address);
        }
    }

    fn take_address(&mut self, tag: Tag, place: Place) {
        if let Some(before) = self.by_address.insert(place.address, tag)
            && let Some(session) = self.sessions.get_mut(&before)
        {
            session.place = None;
        }
        if let Some(session) = self.sessions.get_mut(&tag) {
            session.place = Some(place);
        }
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
