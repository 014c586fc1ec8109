//! Pairs and the passes that hold them open.
//!
//! One pass may be presented more than once: by its dialer, attached here, and by other routers at which the dialer is attached
//! too. Each presentation counts on its own, and says where the two sides may be.

use super::{Others, RouterIx, Table};
use hesper_model::id::Tag;
use std::{collections::BTreeSet, sync::Arc};

/// Live passes that one dialer session may hold here: more than it has services to dial.
pub(crate) const MAX_PASSES_PER_SESSION: usize = 4_096;
/// Live passes in all, about 64 MB: a thousand nodes with 250 peers each.
pub(crate) const MAX_PASSES: usize = 262_144;
/// Live passes that are kept whole, to be handed over links that come back: about 64 MB more.
pub(crate) const MAX_HANDED: usize = 65_536;

/// Where the two sides of a pass may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ways {
    /// The dialer, attached here, presented it. `direct`: its binder may be attached here; `over`: or behind these links,
    /// best first.
    Dialer { direct: bool, over: Vec<RouterIx> },
    /// This router handed it over: the dialer is behind that link, the binder here.
    Link(RouterIx),
}

/// One presentation of a pass, reduced to what forwarding needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) id: Arc<str>,
    /// The dialer.
    pub(crate) a: Tag,
    /// The binder.
    pub(crate) b: Tag,
    /// Seconds since the epoch.
    pub(crate) exp: u64,
    pub(crate) ways: Ways,
    /// As it was signed, if it must be handed over a link.
    pub(crate) token: Option<Arc<str>>,
}

/// A pass and who presented it: `None` = its dialer.
pub(super) type Key = (Arc<str>, Option<RouterIx>);

impl Pass {
    pub(super) fn key(&self) -> Key {
        let by = match self.ways {
            Ways::Dialer { .. } => None,
            Ways::Link(link) => Some(link),
        };
        (self.id.clone(), by)
    }

    /// The links, the side that is here, the side behind them.
    fn over(&self) -> (&[RouterIx], Tag, Tag) {
        match &self.ways {
            Ways::Dialer { over, .. } => (over, self.a, self.b),
            Ways::Link(link) => (std::slice::from_ref(link), self.b, self.a),
        }
    }

    fn pair(&self) -> Pair {
        Pair::new(self.a, self.b)
    }
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
    /// The room for whole passes is used up.
    #[error("this router holds {MAX_HANDED} passes for other routers already")]
    Handed,
}

/// Two tags without order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair(Tag, Tag);

impl Pair {
    pub(super) fn new(x: Tag, y: Tag) -> Self {
        if x <= y { Self(x, y) } else { Self(y, x) }
    }
}

/// A link that leads to one side of a pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) to: Tag,
    pub(super) link: RouterIx,
    pub(super) exp: u64,
}

#[derive(Debug, Default)]
pub(super) struct OpenPair {
    /// Until when both sides may be here; 0 = not at all.
    pub(super) direct: u64,
    /// Links to either side, best first: in the order of the pass presented last.
    pub(super) over: Vec<Way>,
    /// The presentations that hold it open, the latest last.
    openings: Vec<Key>,
}

impl Table {
    /// Opens the pair of a verified pass, or holds it open longer. The same id again from the same presenter replaces what it
    /// said before.
    pub(crate) fn open(&mut self, pass: Pass) -> Result<(), Full> {
        let key = pass.key();
        self.close(&key);
        let held = self.held.get(&(pass.a, key.1)).copied().unwrap_or(0);
        if held >= MAX_PASSES_PER_SESSION {
            return Err(Full::Session);
        }
        if self.passes.len() >= MAX_PASSES {
            return Err(Full::Router);
        }
        let handed = self.handed + usize::from(pass.token.is_some());
        if handed > MAX_HANDED {
            return Err(Full::Handed);
        }
        self.handed = handed;
        self.held.insert((pass.a, key.1), held + 1);
        let (links, here, _) = pass.over();
        for link in links {
            let inbound = self.links.get_mut(link.0 as usize).map(|l| &mut l.inbound);
            if let Some(inbound) = inbound {
                inbound.entry(here).or_default().insert((pass.exp, key.clone()));
            }
        }
        let pair = pass.pair();
        self.pairs.entry(pair).or_default().openings.push(key.clone());
        self.peers.entry(pass.a).or_default().insert(pass.b);
        self.peers.entry(pass.b).or_default().insert(pass.a);
        self.by_expiry.insert((pass.exp, key.clone()));
        self.passes.insert(key, pass);
        self.reckon(pair);
        Ok(())
    }

    /// A pass ended before its time, whoever presented it. The pair that it held open, if no other pass does.
    pub(crate) fn revoke_pass(&mut self, id: &str) -> Option<(Tag, Tag)> {
        let id: Arc<str> = id.into();
        let of_id = self.passes.range((id.clone(), None)..=(id, Some(RouterIx(u32::MAX))));
        let keys: Vec<_> = of_id.map(|(key, _)| key.clone()).collect();
        // All of them are of the same two.
        let (a, b) = keys.first().and_then(|key| self.passes.get(key)).map(|pass| (pass.a, pass.b))?;
        keys.iter().for_each(|key| self.close(key));
        (!self.is_open(a, b)).then_some((a, b))
    }

    /// Is there a live pass of these two?
    pub(crate) fn is_open(&self, a: Tag, b: Tag) -> bool {
        self.pairs.contains_key(&Pair::new(a, b))
    }

    /// Forgets passes that are no longer honoured at `now`; [`Table::route`] does not depend on it. The pairs that have lapsed with
    /// the last of theirs.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<(Tag, Tag)> {
        let mut lapsed = Vec::new();
        // What ends later is honoured longer, outage or not.
        while let Some((exp, key)) = self.by_expiry.first().cloned()
            && !self.outage.honours(exp, now)
        {
            let pair = self.passes.get(&key).map(|pass| (pass.a, pass.b));
            self.close(&key);
            lapsed.extend(pair.filter(|(a, b)| !self.is_open(*a, *b)));
        }
        lapsed
    }

    /// Number of open pairs.
    pub(crate) fn open_pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Who has open pairs with `tag`, itself a session here.
    pub(crate) fn others(&self, tag: Tag) -> Others {
        let sessions: Vec<_> = self.peers.get(&tag).map(|p| p.iter().copied().collect()).unwrap_or_default();
        let pairs = sessions.iter().filter_map(|peer| self.pairs.get(&Pair::new(tag, *peer)));
        let ways = pairs.flat_map(|pair| &pair.over).filter(|way| way.to != tag);
        let links: BTreeSet<_> = ways.map(|way| way.link).collect();
        Others { sessions, links: links.into_iter().collect() }
    }

    pub(super) fn close_pairs_of(&mut self, tag: Tag) {
        for peer in self.others(tag).sessions {
            let openings =
                self.pairs.get(&Pair::new(tag, peer)).map(|p| p.openings.clone()).unwrap_or_default();
            openings.iter().for_each(|key| self.close(key));
        }
    }

    /// Ends one presentation.
    fn close(&mut self, key: &Key) {
        let Some(pass) = self.passes.remove(key) else { return };
        self.by_expiry.remove(&(pass.exp, key.clone()));
        self.handed -= usize::from(pass.token.is_some());
        let holder = (pass.a, key.1);
        if let Some(held) = self.held.get_mut(&holder) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&holder);
            }
        }
        let (links, here, _) = pass.over();
        for link in links {
            let Some(link) = self.links.get_mut(link.0 as usize) else { continue };
            if let Some(passes) = link.inbound.get_mut(&here) {
                passes.remove(&(pass.exp, key.clone()));
                if passes.is_empty() {
                    link.inbound.remove(&here);
                }
            }
        }
        if let Some(pair) = self.pairs.get_mut(&pass.pair()) {
            pair.openings.retain(|k| k != key);
        }
        self.reckon(pass.pair());
    }

    /// Sums up what a pair's passes say, for forwarding.
    fn reckon(&mut self, key: Pair) {
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        if pair.openings.is_empty() {
            self.pairs.remove(&key);
            self.forget_peer(key.0, key.1);
            self.forget_peer(key.1, key.0);
            return;
        }
        pair.direct = 0;
        pair.over.clear();
        for pass in pair.openings.iter().rev().filter_map(|key| self.passes.get(key)) {
            if matches!(pass.ways, Ways::Dialer { direct: true, .. }) {
                pair.direct = pair.direct.max(pass.exp);
            }
            let (links, _, to) = pass.over();
            for link in links {
                match pair.over.iter_mut().find(|w| w.to == to && w.link == *link) {
                    Some(way) => way.exp = way.exp.max(pass.exp),
                    None => pair.over.push(Way { to, link: *link, exp: pass.exp }),
                }
            }
        }
    }

    fn forget_peer(&mut self, of: Tag, peer: Tag) {
        if let Some(peers) = self.peers.get_mut(&of) {
            peers.remove(&peer);
            if peers.is_empty() {
                self.peers.remove(&of);
            }
        }
    }
}
