//! The passes that a node shows to its routers: a plain book, so that each new attachment can be given what is still good.

use hesper_model::id::Tag;
use std::collections::HashMap;

/// A pass as the controller gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pass {
    /// The peer whose pair it opens.
    pub peer: Tag,
    /// What it is for: a renewal of the same purpose replaces it (the terminator's id).
    pub purpose: String,
    /// The signed text.
    pub token: String,
    /// The ways that it opens, best first: this node's router and the peer's, one id where both are the same.
    pub paths: Vec<Vec<String>>,
    /// End, seconds since the epoch.
    pub exp: u64,
}

impl Pass {
    /// The routers that it is shown to, each once, best first.
    pub fn routers(&self) -> Vec<&str> {
        let mut routers: Vec<&str> = Vec::new();
        for first in self.paths.iter().filter_map(|path| path.first()) {
            if !routers.contains(&first.as_str()) {
                routers.push(first);
            }
        }
        routers
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass")
            .field("peer", &self.peer)
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// How long a lapsed pass is kept, seconds. Routers honour it during an outage of the controller, and judge that themselves.
const KEEP_LAPSED_SECS: u64 = 24 * 3600;

/// Most ways to one peer that are told apart.
pub const MAX_WAYS: usize = 16;

/// Passes by peer and purpose. Its size is that of the dialer's grant cache, which fills it.
#[derive(Debug, Default)]
pub struct PassBook {
    passes: HashMap<(Tag, String), (u64, Pass)>,
    next: u64,
}

impl PassBook {
    /// Adds a pass, in place of an earlier one for the same purpose.
    pub fn insert(&mut self, now: u64, pass: Pass) {
        self.passes.retain(|_, (_, p)| p.exp.saturating_add(KEEP_LAPSED_SECS) > now);
        self.next += 1;
        self.passes.insert((pass.peer, pass.purpose.clone()), (self.next, pass));
    }

    /// No longer needed.
    pub fn remove(&mut self, peer: Tag, purpose: &str) {
        self.passes.remove(&(peer, purpose.to_owned()));
    }

    /// The passes to show to this router.
    pub fn of_router(&self, router_id: &str) -> Vec<Pass> {
        let passes = self.passes.values().map(|(_, p)| p);
        passes.filter(|p| p.routers().contains(&router_id)).cloned().collect()
    }

    /// All the ways to a peer, those of the newest pass first; each once, at most [`MAX_WAYS`].
    pub fn ways(&self, peer: Tag) -> Vec<Vec<String>> {
        let mut passes: Vec<_> =
            self.passes.iter().filter(|((t, _), _)| *t == peer).map(|(_, p)| p).collect();
        passes.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        let mut ways: Vec<Vec<String>> = Vec::new();
        for way in passes.into_iter().flat_map(|(_, p)| &p.paths) {
            if ways.len() < MAX_WAYS && !ways.contains(way) {
                ways.push(way.clone());
            }
        }
        ways
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(peer: u8, purpose: &str, routers: &[&str], exp: u64) -> Pass {
        Pass {
            peer: Tag([peer; 8]),
            purpose: purpose.into(),
            token: format!("{peer}{purpose}{exp}"),
            paths: routers.iter().map(|r| vec![(*r).to_owned()]).collect(),
            exp,
        }
    }

    #[test]
    fn each_router_gets_its_passes_and_a_renewal_replaces() {
        let mut book = PassBook::default();
        book.insert(0, pass(1, "t1", &["r1", "r2"], 300));
        book.insert(0, pass(1, "t2", &["r2"], 300));
        book.insert(0, pass(1, "t1", &["r1", "r2"], 600));
        assert_eq!(book.of_router("r1"), [pass(1, "t1", &["r1", "r2"], 600)]);
        assert_eq!(book.of_router("r2").len(), 2);
        book.remove(Tag([1; 8]), "t1");
        assert_eq!(book.of_router("r1"), []);
        book.insert(300 + KEEP_LAPSED_SECS, pass(2, "t3", &[], 1_000_000));
        assert_eq!(book.of_router("r2"), []);
    }

    #[test]
    fn the_newest_pass_says_which_way_is_best() {
        let mut book = PassBook::default();
        book.insert(0, pass(1, "t1", &["r1", "r2"], 300));
        book.insert(0, pass(1, "t2", &["r3", "r1"], 300));
        book.insert(0, pass(2, "t1", &["r9"], 300));
        assert_eq!(book.ways(Tag([1; 8])).concat(), ["r3", "r1", "r2"]);
        book.insert(0, pass(1, "t1", &["r2"], 600));
        assert_eq!(book.ways(Tag([1; 8])).concat(), ["r2", "r3", "r1"]);
    }

    #[test]
    fn the_token_is_not_shown() {
        assert!(!format!("{:?}", pass(1, "t1", &[], 7)).contains("1t17"));
    }
}
