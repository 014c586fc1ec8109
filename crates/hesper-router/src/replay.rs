//! Each knock opens once, for the address that used it first: pure.
//!
//! A knock is visible on the wire. Without this filter whoever saw one could send it again from another address within its time
//! and learn that a router is there. A node repeats its own knock when the first packet is lost: same address, so still good.

use hesper_overlay::cid::KNOCK_LEN;
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

/// Seconds that a knock is remembered: its slot and two on either side, the longest it can verify.
const REMEMBER_SECS: u64 = 80;
/// Knocks remembered of one key, that is of one node session: an honest node makes one per attach attempt.
const MAX_PER_KEY: usize = 64;
/// Knocks remembered in all, about 6 MB: a thousand attaches per second for the whole time.
const MAX_KNOCKS: usize = 80_000;

/// What the filter says of a knock whose MAC is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// First use, or repeated by the same address.
    Good,
    /// Used before by another address.
    Replayed,
    /// This key, or everybody together, knocks too often.
    TooMany,
}

/// Knocks used lately and by whom.
#[derive(Debug, Default)]
pub(crate) struct ReplayFilter {
    used: HashMap<[u8; KNOCK_LEN], SocketAddr>,
    per_key: HashMap<[u8; 8], usize>,
    order: VecDeque<(u64, [u8; KNOCK_LEN])>,
}

impl ReplayFilter {
    /// Judges a knock that verified at `now` (seconds since the epoch) and remembers it.
    pub(crate) fn check(&mut self, knock: &[u8; KNOCK_LEN], source: SocketAddr, now: u64) -> Seen {
        self.forget(now);
        if let Some(first) = self.used.get(knock) {
            return if *first == source { Seen::Good } else { Seen::Replayed };
        }
        let of_key = self.per_key.get(&key_id(knock)).copied().unwrap_or(0);
        if of_key >= MAX_PER_KEY || self.used.len() >= MAX_KNOCKS {
            return Seen::TooMany;
        }
        self.used.insert(*knock, source);
        self.per_key.insert(key_id(knock), of_key + 1);
        self.order.push_back((now + REMEMBER_SECS, *knock));
        Seen::Good
    }

    fn forget(&mut self, now: u64) {
        while self.order.front().is_some_and(|(until, _)| *until < now) {
            let Some((_, knock)) = self.order.pop_front() else { return };
            self.used.remove(&knock);
            if let Some(count) = self.per_key.get_mut(&key_id(&knock)) {
                *count -= 1;
                if *count == 0 {
                    self.per_key.remove(&key_id(&knock));
                }
            }
        }
    }
}

fn key_id(knock: &[u8; KNOCK_LEN]) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&knock[..8]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_overlay::knock;

    const SECRET: [u8; 32] = [9; 32];

    fn make(key_id: [u8; 8], now: u64, nonce: u16) -> [u8; KNOCK_LEN] {
        knock::make(key_id, &knock::derive(&SECRET, key_id), now, nonce)
    }

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_knock_is_good_for_its_first_address_only() {
        let mut filter = ReplayFilter::default();
        let knock = make([1; 8], 1_000, 0);
        assert_eq!(filter.check(&knock, from(1), 1_000), Seen::Good);
        assert_eq!(filter.check(&knock, from(1), 1_001), Seen::Good, "the node repeats it");
        assert_eq!(filter.check(&knock, from(2), 1_001), Seen::Replayed);
        assert_eq!(filter.check(&make([1; 8], 1_000, 1), from(2), 1_001), Seen::Good, "another knock");
    }

    #[test]
    fn a_knock_is_remembered_as_long_as_it_verifies() {
        for made in 1_000..1_016 {
            let knock = make([1; 8], made, 0);
            let mut filter = ReplayFilter::default();
            // The earliest clock that accepts it sees it first.
            let first = (made - 100..made).find(|now| knock::verify(&SECRET, &knock, *now)).unwrap();
            assert_eq!(filter.check(&knock, from(1), first), Seen::Good);
            for now in first..made + 200 {
                assert!(
                    !knock::verify(&SECRET, &knock, now)
                        || filter.check(&knock, from(2), now) == Seen::Replayed,
                    "made {made}, forgotten at {now}"
                );
            }
        }
    }

    #[test]
    fn one_busy_key_does_not_shut_out_another_and_all_is_forgotten() {
        let mut filter = ReplayFilter::default();
        for nonce in 0..MAX_PER_KEY as u16 {
            assert_eq!(filter.check(&make([1; 8], 1_000, nonce), from(1), 1_000), Seen::Good);
        }
        assert_eq!(filter.check(&make([1; 8], 1_000, 999), from(1), 1_000), Seen::TooMany);
        assert_eq!(filter.check(&make([2; 8], 1_000, 999), from(1), 1_000), Seen::Good);
        assert_eq!(filter.check(&make([1; 8], 1_096, 0), from(1), 1_096), Seen::Good);
        assert_eq!((filter.used.len(), filter.per_key.len(), filter.order.len()), (1, 1, 1));
    }
}
