//! What was revoked before its time and must not be presented again: pure.
//!
//! A revoked pass stays signed and unexpired, so its id is remembered for as long as the router could still honour it. If too
//! many pile up the oldest are forgotten, and then every token issued before that moment is refused: closed, never open.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
};

/// Ids remembered of each kind, about 8 MB.
const MAX_IDS: usize = 65_536;

/// Revoked ids of one kind.
#[derive(Debug)]
pub(crate) struct Revoked<K> {
    ids: HashSet<K>,
    order: VecDeque<(u64, K)>,
    remember_secs: u64,
    /// Whatever was issued up to this time is refused.
    floor: u64,
}

impl<K: Clone + Eq + Hash> Revoked<K> {
    /// Remembers each id for `remember_secs`: the longest time that what it names can be honoured after its revocation.
    pub(crate) fn new(remember_secs: u64) -> Self {
        Self { ids: HashSet::new(), order: VecDeque::new(), remember_secs, floor: 0 }
    }

    /// `id` is revoked at `now`.
    pub(crate) fn insert(&mut self, id: K, now: u64) {
        while self.order.front().is_some_and(|(at, _)| at + self.remember_secs < now) {
            self.forget_oldest();
        }
        if self.order.len() >= MAX_IDS
            && let Some(at) = self.forget_oldest()
        {
            self.floor = at;
        }
        if self.ids.insert(id.clone()) {
            self.order.push_back((now, id));
        }
    }

    /// Is something with this id, issued at `iat`, revoked?
    pub(crate) fn contains(&self, id: &K, iat: u64) -> bool {
        iat < self.floor || self.ids.contains(id)
    }

    fn forget_oldest(&mut self) -> Option<u64> {
        let (at, id) = self.order.pop_front()?;
        self.ids.remove(&id);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_refused_for_as_long_as_it_matters() {
        let mut revoked = Revoked::new(100);
        revoked.insert(1, 1_000);
        revoked.insert(2, 1_050);
        assert!(revoked.contains(&1, 990) && revoked.contains(&2, 990) && !revoked.contains(&3, 990));
        revoked.insert(3, 1_100);
        assert!(revoked.contains(&1, 990));
        revoked.insert(4, 1_101);
        assert!(!revoked.contains(&1, 990), "nobody would honour it any more");
        assert_eq!(revoked.ids.len(), revoked.order.len());
    }

    #[test]
    fn too_many_close_rather_than_open() {
        let mut revoked = Revoked::new(1_000_000);
        for i in 0..=MAX_IDS as u64 {
            revoked.insert(i, 1_000 + i);
        }
        assert_eq!(revoked.ids.len(), MAX_IDS);
        assert!(revoked.contains(&0, 999), "forgotten, but issued before it was revoked");
        assert!(!revoked.contains(&u64::MAX, 1_000), "issued later");
    }
}
