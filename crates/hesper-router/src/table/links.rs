//! Links: other routers, and which sessions here their packets may reach.

use super::{Key, Pair, Place, Route, Source, Table};
use crate::drops::DropReason;
use hesper_model::id::{EdgeRouterId, Tag};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Other routers that are remembered, up or not; a pass that names more goes by those known.
const MAX_ROUTERS: usize = 4_096;
/// Absent sessions that are remembered of one link; of more it is not known.
const MAX_ABSENT: usize = 65_536;

/// Another router, by the own numbering: stable while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RouterIx(pub(super) u32);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Link {
    epoch: u64,
    /// `None` while the link is down.
    pub(super) place: Option<Place>,
    draining: bool,
    /// Has it carried packets since this was last asked?
    used: AtomicBool,
    /// Sessions that are not attached there, as that router said.
    absent: HashSet<Tag>,
    /// Sessions here that its packets may reach, and the passes that say so by their end.
    pub(super) inbound: HashMap<Tag, BTreeSet<(u64, Key)>>,
}

impl Link {
    fn mark_used(&self) {
        // Mostly set already: a read does not take the cache line from the other cores.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl Table {
    /// The number of another router; a new one if there is room.
    pub(crate) fn router(&mut self, id: &EdgeRouterId) -> Option<RouterIx> {
        if let Some(ix) = self.by_router.get(id) {
            return Some(*ix);
        }
        let ix =
            u32::try_from(self.links.len()).ok().filter(|n| (*n as usize) < MAX_ROUTERS).map(RouterIx)?;
        self.links.push(Link::default());
        self.by_router.insert(id.clone(), ix);
        Some(ix)
    }

    /// A router proved itself and is at `place`; a later `epoch` replaces an earlier link with the same router.
    pub(crate) fn link_up(&mut self, ix: RouterIx, epoch: u64, place: Place) {
        let Some(link) = self.links.get_mut(ix.0 as usize).filter(|l| l.epoch <= epoch) else { return };
        (link.epoch, link.draining) = (epoch, false);
        link.absent.clear();
        self.release_address(Source::Link(ix));
        self.take_address(Source::Link(ix), place);
    }

    /// The other router has proven that it is at `place` now.
    pub(crate) fn link_moved(&mut self, ix: RouterIx, epoch: u64, place: Place) {
        if self.link(ix, epoch).is_some_and(|l| l.place != Some(place)) {
            self.release_address(Source::Link(ix));
            self.take_address(Source::Link(ix), place);
        }
    }

    /// The other router is still at `place`, which a node may have taken for a while: it takes it back when it is free.
    pub(crate) fn link_stayed(&mut self, ix: RouterIx, epoch: u64, place: Place) {
        let homeless = self.link(ix, epoch).is_some_and(|l| l.place.is_none());
        if homeless && !self.by_address.contains_key(&place.address) {
            self.take_address(Source::Link(ix), place);
        }
    }

    /// Has a node taken the address of this link, or is it down?
    pub(crate) fn is_link_homeless(&self, ix: RouterIx) -> bool {
        self.links.get(ix.0 as usize).is_some_and(|l| l.place.is_none())
    }

    /// The other router is about to stop: its link comes after all others.
    pub(crate) fn link_draining(&mut self, ix: RouterIx, epoch: u64) {
        if let Some(link) = self.links.get_mut(ix.0 as usize).filter(|l| l.epoch == epoch) {
            link.draining = true;
        }
    }

    /// The other router says that a session is attached there, or is not: the way over it comes after others then.
    pub(crate) fn set_absent(&mut self, ix: RouterIx, epoch: u64, tag: Tag, absent: bool) {
        let Some(link) = self.links.get_mut(ix.0 as usize).filter(|l| l.epoch == epoch) else { return };
        if !absent {
            link.absent.remove(&tag);
        } else if link.absent.len() < MAX_ABSENT {
            link.absent.insert(tag);
        }
    }

    /// The link's connection ended; its pairs stay until their passes end, and may take other ways. False: another connection has
    /// replaced this one.
    pub(crate) fn link_down(&mut self, ix: RouterIx, epoch: u64) -> bool {
        let current = self.link(ix, epoch).is_some();
        if current {
            self.release_address(Source::Link(ix));
        }
        current
    }

    /// Has this link carried packets since this was last asked?
    pub(crate) fn take_used(&self, ix: RouterIx) -> bool {
        self.links.get(ix.0 as usize).is_some_and(|link| link.used.swap(false, Ordering::Relaxed))
    }

    /// Sessions here that have an open pair with `tag` over this link.
    pub(crate) fn over_link(&self, ix: RouterIx, tag: Tag) -> Vec<Tag> {
        let peers = self.peers.get(&tag).into_iter().flatten();
        let over = |peer: &&Tag| {
            let pair = self.pairs.get(&Pair::new(tag, **peer));
            pair.is_some_and(|p| p.over.iter().any(|w| w.link == ix && w.to == tag))
        };
        peers.filter(over).copied().collect()
    }

    /// The passes of dialers here whose paths lead over this link, as they were signed, each with its binder.
    pub(crate) fn to_hand_over(&self, ix: RouterIx) -> Vec<(Arc<str>, Tag)> {
        let passes =
            self.links.get(ix.0 as usize).into_iter().flat_map(|link| link.inbound.values().flatten());
        passes
            .filter_map(|(_, key)| self.passes.get(key).and_then(|p| Some((p.token.clone()?, p.b))))
            .collect()
    }

    pub(super) fn link_route(&self, ix: RouterIx, to: Tag, now: u64) -> Route {
        let Some(link) = self.links.get(ix.0 as usize) else { return Route::Drop(DropReason::UnknownSource) };
        link.mark_used();
        let latest = link.inbound.get(&to).and_then(|passes| passes.last());
        if !latest.is_some_and(|(exp, _)| self.outage.honours(*exp, now)) {
            return Route::Drop(DropReason::LinkPairClosed);
        }
        match self.sessions.get(&to).and_then(|s| s.place) {
            Some(place) => Route::To(place),
            None => Route::Drop(DropReason::DestinationNotAttached),
        }
    }

    /// The best of these links that is up: where the other side is attached, as far as is known, and the router stays. The first
    /// among equals.
    pub(super) fn best(&self, links: impl Iterator<Item = RouterIx>, to: Tag) -> Option<Place> {
        let up = links.filter_map(|ix| self.links.get(ix.0 as usize)).filter(|l| l.place.is_some());
        let link = up.min_by_key(|l| (l.absent.contains(&to), l.draining))?;
        link.mark_used();
        link.place
    }

    fn link(&self, ix: RouterIx, epoch: u64) -> Option<&Link> {
        self.links.get(ix.0 as usize).filter(|l| l.epoch == epoch)
    }
}
