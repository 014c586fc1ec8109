//! The routers that are here: whose watch is open, who is about to stop, and which of them are linked. Pure.

use super::{Attached, Epoch, settled};
use hesper_model::id::EdgeRouterId;
use std::collections::{BTreeMap, BTreeSet};

/// Links that one router may report: one with every other router of a large mesh.
pub(crate) const LINKS_MAX: usize = 1_024;

/// A router whose watch is open.
#[derive(Clone, Debug, Default)]
struct Router {
    epoch: Epoch,
    draining: bool,
    attached: usize,
    /// Routers that it has a link up with, and the round-trip times.
    links: Attached,
}

/// What a report changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Whether dials may go through it.
    pub(crate) usable: bool,
    /// Which links are up.
    pub(crate) links: bool,
    /// How long they take.
    pub(crate) rtt: bool,
}

/// Every router whose watch is open.
#[derive(Debug, Default)]
pub(crate) struct Routers(BTreeMap<EdgeRouterId, Router>);

impl Routers {
    /// A watch opened; an older one counts no more.
    pub(crate) fn open(&mut self, id: EdgeRouterId, epoch: Epoch) {
        self.0.insert(id, Router { epoch, ..Router::default() });
    }

    /// The watch of this epoch ended. True when the router is gone with it.
    pub(crate) fn close(&mut self, id: &EdgeRouterId, epoch: Epoch) -> bool {
        let ended = self.0.get(id).is_some_and(|r| r.epoch == epoch);
        if ended {
            self.0.remove(id);
        }
        ended
    }

    /// What a router says about itself.
    pub(crate) fn report(
        &mut self,
        id: &EdgeRouterId,
        epoch: Epoch,
        attached: usize,
        draining: bool,
        links: Attached,
    ) -> Changed {
        let Some(router) = self.0.get_mut(id).filter(|r| r.epoch == epoch) else {
            return Changed::default();
        };
        let links = settled(&router.links, links);
        let changed = Changed {
            usable: router.draining != draining,
            links: !router.links.keys().eq(links.keys()),
            rtt: router.links != links,
        };
        (router.attached, router.draining, router.links) = (attached, draining, links);
        changed
    }

    /// Those that are here.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &EdgeRouterId> {
        self.0.keys()
    }

    /// Is the router's watch open?
    pub(crate) fn is_online(&self, id: &EdgeRouterId) -> bool {
        self.0.contains_key(id)
    }

    /// May new dials go through the router?
    pub(crate) fn is_usable(&self, id: &EdgeRouterId) -> bool {
        self.0.get(id).is_some_and(|r| !r.draining)
    }

    /// Round-trip time of the link between two routers in microseconds, 0 while unmeasured; none while it is not up. It is up when
    /// both ends say so: a link that only one of them believes in carries nothing.
    pub(crate) fn link(&self, a: &EdgeRouterId, b: &EdgeRouterId) -> Option<u32> {
        let seen_by = |from: &EdgeRouterId, to: &EdgeRouterId| self.0.get(from)?.links.get(to).copied();
        Some(seen_by(a, b)?.max(seen_by(b, a)?))
    }

    /// The routers that this one has a link up with; see [`Routers::link`].
    pub(crate) fn linked(&self, id: &EdgeRouterId) -> BTreeSet<EdgeRouterId> {
        let seen = self.0.get(id).into_iter().flat_map(|router| router.links.keys());
        seen.filter(|other| self.link(id, other).is_some()).cloned().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
