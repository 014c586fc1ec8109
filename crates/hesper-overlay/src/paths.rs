//! Which router carries a packet: a plain table of routers and peers, no sockets.
//!
//! A packet says where it goes by its destination connection id alone: a router's own tag or a knock → that router; a peer's tag → the
//! router chosen for that peer. Who holds a connection to a peer leads it: it sets the order of routers (see `path_watch`), and the table
//! falls to the next of them at once when one goes down. Without a leader a hosting node answers where the peer's handshake came from.

use crate::header::Dcid;
use hesper_model::id::Tag;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
};

/// A router that this node knows, by the node's own numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// What a router can do for us now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Carries traffic.
    Up,
    /// Still carries traffic, but is about to stop.
    Draining,
    /// Not attached, or silent.
    Down,
}

/// Most peers without a leader. Beyond it the oldest is forgotten and goes by the default router, which with one router is always right.
pub const MAX_PEERS: usize = 65_536;

#[derive(Clone, Debug)]
struct Router {
    tag: Tag,
    key_id: [u8; 8],
    standing: Standing,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    /// Where its last handshake packet came from.
    learned: Option<Slot>,
    /// Routers to use, best first.
    preferred: Vec<Slot>,
    /// Routers that say that it is not attached to them.
    absent: Vec<Slot>,
    /// Connections to it that set `preferred`. Peers with any are not forgotten to make room.
    leaders: u32,
}

/// Routers, their state, and the choice for each peer.
#[derive(Clone, Default)]
pub struct PathTable {
    routers: BTreeMap<Slot, Router>,
    by_tag: HashMap<Tag, Slot>,
    by_key_id: HashMap<[u8; 8], Slot>,
    peers: HashMap<Tag, Peer>,
    /// Peers without a leader, oldest first.
    order: VecDeque<Tag>,
}

impl fmt::Debug for PathTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathTable")
            .field("routers", &self.routers.keys().collect::<Vec<_>>())
            .field("peers", &self.peers.len())
            .finish()
    }
}

impl PathTable {
    /// Adds a router, or renews its tag and knock key; it starts as down.
    pub fn set_router(&mut self, slot: Slot, tag: Tag, key_id: [u8; 8]) {
        let standing = self.standing(slot);
        self.remove_router(slot);
        self.routers.insert(slot, Router { tag, key_id, standing });
        self.by_tag.insert(tag, slot);
        self.by_key_id.insert(key_id, slot);
    }

    /// Forgets a router.
    pub fn remove_router(&mut self, slot: Slot) {
        if let Some(old) = self.routers.remove(&slot) {
            self.by_tag.remove(&old.tag);
            self.by_key_id.remove(&old.key_id);
        }
    }

    /// What a router can do from now on. Returns whether that is news.
    pub fn set_standing(&mut self, slot: Slot, standing: Standing) -> bool {
        let Some(router) = self.routers.get_mut(&slot) else { return false };
        std::mem::replace(&mut router.standing, standing) != standing
    }

    /// What a router can do; unknown ones nothing.
    pub fn standing(&self, slot: Slot) -> Standing {
        self.routers.get(&slot).map_or(Standing::Down, |r| r.standing)
    }

    /// Can any router carry traffic?
    pub fn any_up(&self) -> bool {
        self.routers.values().any(|r| r.standing != Standing::Down)
    }

    /// Is another router than this one up?
    pub fn is_any_up_but(&self, slot: Slot) -> bool {
        self.routers.iter().any(|(s, r)| *s != slot && r.standing == Standing::Up)
    }

    /// The routers that may carry traffic to a peer, best first.
    pub fn prefer(&mut self, peer: Tag, routers: Vec<Slot>) {
        self.peer(peer).preferred = routers;
    }

    /// As [`Self::prefer`], unless a connection to the peer leads.
    pub fn suggest(&mut self, peer: Tag, routers: Vec<Slot>) {
        let peer = self.peer(peer);
        if peer.leaders == 0 {
            peer.preferred = routers;
        }
    }

    /// A connection to this peer leads from now on.
    pub fn lead(&mut self, peer: Tag) {
        let entry = self.peer(peer);
        entry.leaders += 1;
        if entry.leaders == 1 {
            self.order.retain(|t| *t != peer);
        }
    }

    /// The connection is over; with the last one the peer is forgotten.
    pub fn unlead(&mut self, peer: Tag) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.leaders = entry.leaders.saturating_sub(1);
            if entry.leaders == 0 {
                self.peers.remove(&peer);
            }
        }
    }

    /// A router says whether the peer is attached to it. Returns whether that is news.
    pub fn set_attached(&mut self, peer: Tag, slot: Slot, attached: bool) -> bool {
        if self.is_absent(peer, slot) != attached {
            return false;
        }
        let absent = &mut self.peer(peer).absent;
        absent.retain(|s| *s != slot);
        if !attached {
            absent.push(slot);
        }
        true
    }

    /// Nothing comes back from the peer by the router that packets to it take: the next one that works is tried from now on. Returns the first
    /// one, unless a connection to the peer leads or there is no other.
    pub fn turn(&mut self, peer: Tag) -> Option<Slot> {
        let (old, routers) = (self.to_peer(peer)?, &self.routers);
        let entry = self.peers.get_mut(&peer).filter(|p| p.leaders == 0)?;
        let works = |s: &Slot| *s != old && routers.get(s).is_some_and(|r| r.standing == Standing::Up);
        let next = entry.preferred.iter().position(works)?;
        let next = entry.preferred.remove(next);
        entry.preferred.retain(|s| *s != old);
        entry.preferred.insert(0, next);
        entry.preferred.push(old);
        Some(old)
    }

    /// Did the router say that the peer is not attached to it?
    pub fn is_absent(&self, peer: Tag, slot: Slot) -> bool {
        self.peers.get(&peer).is_some_and(|p| p.absent.contains(&slot))
    }

    /// A handshake packet of this peer came through this router. Returns whether that is news.
    pub fn learn(&mut self, peer: Tag, slot: Slot) -> bool {
        if self.knows(peer, slot) || !self.routers.contains_key(&slot) || self.by_tag.contains_key(&peer) {
            return false;
        }
        self.peer(peer).learned = Some(slot);
        true
    }

    /// Would [`Self::learn`] change nothing?
    pub fn knows(&self, peer: Tag, slot: Slot) -> bool {
        self.by_tag.get(&peer) == Some(&slot) || self.peers.get(&peer).and_then(|p| p.learned) == Some(slot)
    }

    /// No connection to the peer was made after all.
    pub fn forget(&mut self, peer: Tag) {
        if self.peers.get(&peer).is_some_and(|p| p.leaders == 0) {
            self.peers.remove(&peer);
            self.order.retain(|t| *t != peer);
        }
    }

    /// The router that a packet goes to; `None` when there is no router at all, or none with that knock key.
    pub fn route(&self, dcid: &Dcid) -> Option<Slot> {
        match dcid {
            Dcid::Knock(knock) => self.by_key_id.get(&knock[..8]).copied(),
            Dcid::Tag(tag) => self.by_tag.get(tag).copied().or_else(|| self.to_peer(*tag)),
        }
    }

    /// Is it a router's own tag, or a knock?
    pub fn is_router(&self, dcid: &Dcid) -> bool {
        match dcid {
            Dcid::Knock(_) => true,
            Dcid::Tag(tag) => self.by_tag.contains_key(tag),
        }
    }

    /// Does any peer with a connection now go by this router?
    pub fn is_used(&self, slot: Slot) -> bool {
        self.peers.iter().any(|(tag, p)| p.leaders > 0 && self.to_peer(*tag) == Some(slot))
    }

    /// A preferred router that is up, or else draining; the learned one, any that is up; if none is up, the same order without asking (the
    /// attachment may be a moment away).
    fn to_peer(&self, tag: Tag) -> Option<Slot> {
        let is = |slot: &Slot, standing| self.standing(*slot) == standing;
        let peer = self.peers.get(&tag);
        let preferred = || peer.into_iter().flat_map(|p| &p.preferred);
        let choices = || preferred().chain(peer.and_then(|p| p.learned.as_ref()));
        preferred()
            .find(|s| is(s, Standing::Up))
            .or_else(|| preferred().find(|s| is(s, Standing::Draining)))
            .or_else(|| choices().find(|s| is(s, Standing::Up)))
            .or_else(|| self.routers.keys().find(|s| is(s, Standing::Up)))
            .or_else(|| self.routers.keys().find(|s| is(s, Standing::Draining)))
            .or_else(|| choices().find(|s| self.routers.contains_key(s)))
            .or_else(|| self.routers.keys().next())
            .copied()
    }

    fn peer(&mut self, tag: Tag) -> &mut Peer {
        if !self.peers.contains_key(&tag) {
            if self.order.len() >= MAX_PEERS
                && let Some(oldest) = self.order.pop_front()
            {
                self.peers.remove(&oldest);
            }
            self.order.push_back(tag);
        }
        self.peers.entry(tag).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Standing::*, *};
    use proptest::prelude::*;

    const R1: Slot = Slot(1);
    const R2: Slot = Slot(2);

    fn tag(n: u8) -> Tag {
        Tag([n; 8])
    }

    fn two_routers() -> PathTable {
        let mut t = PathTable::default();
        t.set_router(R1, tag(101), [1; 8]);
        t.set_router(R2, tag(102), [2; 8]);
        t
    }

    fn to(t: &PathTable, n: u8) -> Option<Slot> {
        t.route(&Dcid::Tag(tag(n)))
    }

    #[test]
    fn routers_are_reached_by_tag_and_by_knock_whatever_their_state() {
        let t = two_routers();
        assert_eq!((to(&t, 101), to(&t, 102)), (Some(R1), Some(R2)));
        let mut knock = [9; 20];
        knock[..8].copy_from_slice(&[2; 8]);
        assert_eq!(t.route(&Dcid::Knock(knock)), Some(R2));
        assert_eq!(t.route(&Dcid::Knock([9; 20])), None);
    }

    #[test]
    fn a_peer_goes_by_preference_then_by_what_was_learned_then_by_any_router_up() {
        let mut t = two_routers();
        assert_eq!(to(&t, 7), Some(R1), "nothing up: the first");
        t.set_standing(R2, Up);
        assert_eq!(to(&t, 7), Some(R2), "the one up");
        t.set_standing(R1, Up);
        assert!(t.learn(tag(7), R2));
        assert!(!t.learn(tag(7), R2), "no news");
        assert_eq!(to(&t, 7), Some(R2), "learned");
        t.prefer(tag(7), vec![R1, R2]);
        assert_eq!(to(&t, 7), Some(R1), "preferred");
        t.set_standing(R1, Draining);
        assert_eq!(to(&t, 7), Some(R2), "preferred router drains");
        t.set_standing(R2, Down);
        assert_eq!(to(&t, 7), Some(R1), "better a draining router than none");
        t.set_standing(R1, Down);
        assert_eq!(to(&t, 7), Some(R1), "both down");
        t.forget(tag(7));
        assert!(t.order.is_empty());
    }

    #[test]
    fn renewing_a_router_moves_its_tag_and_keeps_its_state() {
        let mut t = two_routers();
        t.set_standing(R1, Up);
        t.set_router(R1, tag(111), [11; 8]);
        assert_eq!(to(&t, 111), Some(R1));
        assert_eq!(to(&t, 7), Some(R1), "still up");
        t.remove_router(R1);
        t.remove_router(R2);
        assert_eq!((to(&t, 111), to(&t, 7)), (None, None));
    }

    #[test]
    fn a_router_cannot_pass_for_a_peer_nor_an_unknown_one_be_learned() {
        let mut t = two_routers();
        assert!(!t.learn(tag(101), R2));
        assert!(!t.learn(tag(7), Slot(9)));
        assert_eq!(to(&t, 101), Some(R1));
    }

    #[test]
    fn a_draining_router_that_was_named_is_better_than_one_that_was_not() {
        let mut t = two_routers();
        t.set_standing(R1, Draining);
        t.set_standing(R2, Up);
        t.prefer(tag(7), vec![R1]);
        assert_eq!((to(&t, 7), to(&t, 8)), (Some(R1), Some(R2)));
        t.lead(tag(7));
        assert!(t.is_used(R1));
        t.set_standing(R1, Down);
        assert!(!t.is_used(R1));
    }

    #[test]
    fn only_the_leader_changes_the_order_and_a_flood_does_not_push_it_out() {
        let mut t = two_routers();
        t.set_standing(R1, Up);
        t.set_standing(R2, Up);
        t.suggest(tag(7), vec![R1]);
        t.lead(tag(7));
        t.suggest(tag(7), vec![R2]);
        assert_eq!(to(&t, 7), Some(R1));
        for n in 0..=MAX_PEERS as u64 {
            t.learn(Tag((n + 1_000_000).to_be_bytes()), R2);
        }
        t.learn(tag(7), R2);
        t.forget(tag(7));
        assert_eq!(to(&t, 7), Some(R1));
        t.unlead(tag(7));
        assert!(!t.peers.contains_key(&tag(7)));
    }

    #[test]
    fn a_handshake_without_answer_goes_by_the_next_router() {
        let mut t = two_routers();
        t.set_standing(R1, Up);
        t.suggest(tag(7), vec![R1, R2]);
        assert_eq!(t.turn(tag(7)), None, "there is no other");
        t.set_standing(R2, Up);
        assert_eq!((t.turn(tag(7)), to(&t, 7)), (Some(R1), Some(R2)));
        assert_eq!((t.turn(tag(7)), to(&t, 7)), (Some(R2), Some(R1)));
        t.lead(tag(7));
        assert_eq!(t.turn(tag(7)), None);
        assert_eq!(t.turn(tag(8)), None, "nobody said by which routers it may go");
    }

    #[test]
    fn routers_say_who_is_absent() {
        let mut t = two_routers();
        assert!(t.set_attached(tag(7), R1, false));
        assert!(!t.set_attached(tag(7), R1, false));
        assert!(!t.set_attached(tag(7), R2, true));
        assert!(t.is_absent(tag(7), R1) && !t.is_absent(tag(7), R2));
        t.set_attached(tag(7), R1, true);
        assert!(!t.is_absent(tag(7), R1));
    }

    proptest! {
        #[test]
        fn the_table_stays_bounded_and_its_order_complete(peers in proptest::collection::vec((any::<u8>(), any::<bool>()), 0..300)) {
            let mut t = two_routers();
            for (n, forget) in peers {
                let peer = Tag([n, 1, 1, 1, 1, 1, 1, 1]);
                if forget { t.forget(peer) } else { t.learn(peer, R1); }
                prop_assert_eq!(t.order.len(), t.peers.len());
                prop_assert!(t.order.iter().all(|p| t.peers.contains_key(p)));
            }
        }
    }

    #[test]
    fn a_flood_of_peers_forgets_the_oldest() {
        let mut t = two_routers();
        for n in 0..=MAX_PEERS as u64 {
            t.learn(Tag((n + 1_000_000).to_be_bytes()), R2);
        }
        assert_eq!(t.peers.len(), MAX_PEERS);
        assert!(!t.peers.contains_key(&Tag(1_000_000u64.to_be_bytes())));
    }
}
