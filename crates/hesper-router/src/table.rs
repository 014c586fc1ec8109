//! The forwarding table: which packets may pass and where they go. Pure: no socket, no clock, no lock.
//!
//! Five facts live here. A *session* is an attached node: its tag and the address that its attach connection has now. A *link*
//! is another router: its id and the address that the link's connection has now, if it is up. A *pair* is two tags with at least
//! one live pass (`pairs`): both here, or one here and the other behind links (`links`), best first. The *own tag* is the
//! router's. A packet passes if it comes from a session's address, names the other side of an open pair, and that side is here
//! or a link to it is up; or if it comes over a link and names a session here that has an open pair over this link. So it goes
//! never to an address that a packet named, always to one from which an enrolled node or router proved itself, and never from
//! one link to another.

mod links;
mod pairs;

use crate::{drops::DropReason, outage::Outage};
use hesper_model::id::{EdgeRouterId, Tag};
pub(crate) use links::{Link, RouterIx};
#[cfg(test)]
pub(crate) use pairs::MAX_PASSES_PER_SESSION;
pub(crate) use pairs::{Full, Pass, Ways};
use pairs::{Key, OpenPair, Pair};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

/// Where an attached node or another router is: its address, and the local address that it reached us at (answers come from
/// there).
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
    /// It is for the router itself. `known`: it came from the address of an attached session or a link.
    Mine { known: bool },
    /// Drop and count.
    Drop(DropReason),
}

/// Who is to be told of a session's end: the other sides of its open pairs here, and the routers that have more of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Others {
    pub(crate) sessions: Vec<Tag>,
    pub(crate) links: Vec<RouterIx>,
}

/// Whom an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Session(Tag),
    Link(RouterIx),
}

#[derive(Debug)]
struct Session {
    epoch: u64,
    /// `None` once another session or a link is at the same address.
    place: Option<Place>,
    /// Not heard of for so long that a way over a link is better.
    quiet: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    own: Option<Tag>,
    outage: Outage,
    sessions: HashMap<Tag, Session>,
    links: Vec<Link>,
    by_router: HashMap<EdgeRouterId, RouterIx>,
    by_address: HashMap<SocketAddr, Source>,
    pairs: HashMap<Pair, OpenPair>,
    passes: BTreeMap<Key, Pass>,
    /// The same by their end, the next one first.
    by_expiry: BTreeSet<(u64, Key)>,
    /// The other sides of a tag's open pairs.
    peers: HashMap<Tag, BTreeSet<Tag>>,
    /// Number of live passes per dialer, by who presented them.
    held: HashMap<(Tag, Option<RouterIx>), usize>,
    /// Number of live passes that are handed over links.
    handed: usize,
}

impl Table {
    /// An empty table; `outage_grace_secs` as in [`Outage`].
    pub(crate) fn new(outage_grace_secs: u64) -> Self {
        Self {
            own: None,
            outage: Outage::new(outage_grace_secs),
            sessions: HashMap::new(),
            links: Vec::new(),
            by_router: HashMap::new(),
            by_address: HashMap::new(),
            pairs: HashMap::new(),
            passes: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            peers: HashMap::new(),
            held: HashMap::new(),
            handed: 0,
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
        match from {
            Some(Source::Session(from)) => self.session_route(*from, to, now),
            Some(Source::Link(link)) => self.link_route(*link, to, now),
            None => Route::Drop(DropReason::UnknownSource),
        }
    }

    fn session_route(&self, from: Tag, to: Tag, now: u64) -> Route {
        let session = self.sessions.get(&to);
        let Some(pair) = self.pairs.get(&Pair::new(from, to)) else {
            return Route::Drop(closed(session));
        };
        let direct = self.outage.honours(pair.direct, now);
        let here = session.filter(|_| direct).and_then(|s| Some((s.place?, s.quiet)));
        if let Some((place, false)) = here {
            return Route::To(place);
        }
        let mut ways = pair.over.iter().filter(|w| w.to == to && self.outage.honours(w.exp, now)).peekable();
        let open = direct || ways.peek().is_some();
        match (self.best(ways.map(|w| w.link), to), here) {
            (Some(place), _) | (None, Some((place, _))) => Route::To(place),
            (None, None) if open => Route::Drop(DropReason::DestinationNotAttached),
            (None, None) => Route::Drop(closed(session)),
        }
    }

    /// The session whose address this is.
    pub(crate) fn session_at(&self, address: SocketAddr) -> Option<Tag> {
        match self.by_address.get(&address) {
            Some(Source::Session(tag)) => Some(*tag),
            _ => None,
        }
    }

    /// A node proved that it owns `tag` and is at `place`. A later `epoch` replaces an earlier one of the same tag, and takes
    /// the address from whoever had it before: the newcomer has just answered there.
    pub(crate) fn attach(&mut self, tag: Tag, epoch: u64, place: Place) {
        if self.sessions.get(&tag).is_some_and(|s| s.epoch > epoch) {
            return;
        }
        self.release_address(Source::Session(tag));
        self.sessions.insert(tag, Session { epoch, place: None, quiet: false });
        self.take_address(Source::Session(tag), place);
    }

    /// The session's attach connection is now seen at `place`, which it has not proven: it does not take the address of a link. False:
    /// nothing changed, or it is no longer that session.
    pub(crate) fn moved(&mut self, tag: Tag, epoch: u64, place: Place) -> bool {
        match self.sessions.get(&tag) {
            Some(s) if s.epoch == epoch && s.place != Some(place) => {
                self.release_address(Source::Session(tag));
                if !matches!(self.by_address.get(&place.address), Some(Source::Link(_))) {
                    self.take_address(Source::Session(tag), place);
                }
                true
            }
            _ => false,
        }
    }

    /// The session is still seen at `place`, which another one may have taken for a while: it takes it back when it is free.
    pub(crate) fn stayed(&mut self, tag: Tag, epoch: u64, place: Place) -> bool {
        let homeless = self.sessions.get(&tag).is_some_and(|s| s.epoch == epoch && s.place.is_none());
        let back = homeless && !self.by_address.contains_key(&place.address);
        if back {
            self.take_address(Source::Session(tag), place);
        }
        back
    }

    /// Has another one taken the address of this session?
    pub(crate) fn is_homeless(&self, tag: Tag) -> bool {
        self.sessions.get(&tag).is_some_and(|s| s.place.is_none())
    }

    /// The session has not been heard of lately, or is heard of again.
    pub(crate) fn set_quiet(&mut self, tag: Tag, epoch: u64, quiet: bool) {
        if let Some(session) = self.sessions.get_mut(&tag).filter(|s| s.epoch == epoch) {
            session.quiet = quiet;
        }
    }

    /// The session's attach connection ended. Returns who is to be told; `None` if another connection has replaced it
    /// meanwhile. Its pairs stay until their passes end: it may come back.
    pub(crate) fn detach(&mut self, tag: Tag, epoch: u64) -> Option<Others> {
        if self.sessions.get(&tag)?.epoch != epoch {
            return None;
        }
        self.release_address(Source::Session(tag));
        self.sessions.remove(&tag);
        Some(self.others(tag))
    }

    /// A session must go, attached or not, with every pair it is part of. Returns who is to be told.
    pub(crate) fn revoke_session(&mut self, tag: Tag) -> Others {
        let others = self.others(tag);
        self.close_pairs_of(tag);
        self.release_address(Source::Session(tag));
        self.sessions.remove(&tag);
        others
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

    fn place_mut(&mut self, source: Source) -> Option<&mut Option<Place>> {
        match source {
            Source::Session(tag) => self.sessions.get_mut(&tag).map(|s| &mut s.place),
            Source::Link(ix) => self.links.get_mut(ix.0 as usize).map(|l| &mut l.place),
        }
    }

    fn release_address(&mut self, source: Source) {
        if let Some(place) = self.place_mut(source).and_then(Option::take) {
            self.by_address.remove(&place.address);
        }
    }

    fn take_address(&mut self, source: Source, place: Place) {
        if let Some(before) = self.by_address.insert(place.address, source)
            && let Some(place) = self.place_mut(before)
        {
            *place = None;
        }
        if let Some(own) = self.place_mut(source) {
            *own = Some(place);
        }
    }
}

fn closed(session: Option<&Session>) -> DropReason {
    match session {
        Some(_) => DropReason::PairClosed,
        None => DropReason::UnknownTag,
    }
}

#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
