//! Which router carries a packet: a plain table of routers and peers, no sockets.
//!
//! A packet says where it goes by its destination connection id alone: a router's own tag or a knock → that router; a peer's tag → the
//! router chosen for that peer. Choices come from two sides: a dialer prefers the routers that its grant names; a hosting node answers
//! where the peer's handshake came from.

use crate::header::Dcid;
use hesper_model::id::Tag;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
};

/// A router that this node knows, by the node's own numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Most peers with a choice of their own. Beyond it the oldest choice is forgotten and that peer goes by the default router, which with
/// one router is always right.
pub const MAX_PEERS: usize = 65_536;

#[derive(Clone, Debug)]
struct Router {
    tag: Tag,
    key_id: [u8; 8],
    up: bool,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    /// Where its last handshake packet came from.
    learned: Option<Slot>,
    /// Routers named by the grant, best first.
    preferred: Vec<Slot>,
}

/// Routers, their state, and the choice for each peer.
#[derive(Clone, Default)]
pub struct PathTable {
    routers: BTreeMap<Slot, Router>,
    by_tag: HashMap<Tag, Slot>,
    by_key_id: HashMap<[u8; 8], Slot>,
    peers: HashMap<Tag, Peer>,
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
    /// Adds a router, or renews its tag and knock key; it starts as not up.
    pub fn set_router(&mut self, slot: Slot, tag: Tag, key_id: [u8; 8]) {
        let up = self.routers.get(&slot).is_some_and(|r| r.up);
        self.remove_router(slot);
        self.routers.insert(slot, Router { tag, key_id, up });
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

    /// A router can carry traffic now (attached, not draining), or no longer.
    pub fn set_up(&mut self, slot: Slot, up: bool) {
        if let Some(router) = self.routers.get_mut(&slot) {
            router.up = up;
        }
    }

    /// The routers that may carry traffic to a peer, best first.
    pub fn prefer(&mut self, peer: Tag, routers: Vec<Slot>) {
        self.peer(peer).preferred = routers;
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

    /// The peer's connection is over.
    pub fn forget(&mut self, peer: Tag) {
        if self.peers.remove(&peer).is_some() {
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

    /// A preferred router that is up, the learned one, any that is up; if none is up, the same order without asking (the attachment
    /// may be a moment away).
    fn to_peer(&self, tag: Tag) -> Option<Slot> {
        let up = |slot: &Slot| self.routers.get(slot).is_some_and(|r| r.up);
        let known = |slot: &Slot| self.routers.contains_key(slot);
        let choices = self.peers.get(&tag).map(|p| p.preferred.iter().chain(&p.learned));
        let choices = || choices.clone().into_iter().flatten();
        choices()
            .find(|s| up(s))
            .or_else(|| self.routers.keys().find(|s| up(s)))
            .or_else(|| choices().find(|s| known(s)))
            .or_else(|| self.routers.keys().next())
            .copied()
    }

    fn peer(&mut self, tag: Tag) -> &mut Peer {
        if !self.peers.contains_key(&tag) {
            if self.peers.len() >= MAX_PEERS
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
    use super::*;
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
        t.set_up(R2, true);
        assert_eq!(to(&t, 7), Some(R2), "the one up");
        t.set_up(R1, true);
        assert!(t.learn(tag(7), R2));
        assert!(!t.learn(tag(7), R2), "no news");
        assert_eq!(to(&t, 7), Some(R2), "learned");
        t.prefer(tag(7), vec![R1, R2]);
        assert_eq!(to(&t, 7), Some(R1), "preferred");
        t.set_up(R1, false);
        assert_eq!(to(&t, 7), Some(R2), "preferred router down");
        t.set_up(R2, false);
        assert_eq!(to(&t, 7), Some(R1), "both down");
        t.forget(tag(7));
        assert!(t.order.is_empty());
    }

    #[test]
    fn renewing_a_router_moves_its_tag_and_keeps_its_state() {
        let mut t = two_routers();
        t.set_up(R1, true);
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
