//! What all connections of a node may hold in memory together, and each one's share of it.
//!
//! A connection holds what its peer has sent and no program has read, and what was written and the peer has not acknowledged; the peer decides
//! about both. With the windows that one fast stream needs, a few thousand peers could fill any machine. So wide windows come out of one
//! common amount: while it lasts, a connection gets all that it can use; the more of it is given away, the smaller are the shares, down to
//! [`LEAST`], which everybody gets. An identity with many connections gets half as much for each further one.

use crate::transport::{CONNECTION_WINDOW, SEND_WINDOW};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What is shared out: twelve connections with windows as wide as they come.
pub const COMMON: u64 = 1 << 30;
/// What every connection may hold in each direction, and one of its streams. All [`MAX_PEERS`](crate::inbound::MAX_PEERS) together: 2 GiB.
pub const LEAST: u32 = 256 << 10;
/// No connection takes more than this part of what is left, so that there always is something left.
const PART: u64 = 8;

/// What is left to be shared out.
#[derive(Debug)]
pub(crate) struct Memory {
    left: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { left: AtomicU64::new(COMMON) }
    }
}

/// Of one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<Memory>,
    taken: u64,
    /// Windows, in bytes.
    pub(crate) receive: u32,
    pub(crate) send: u64,
}

impl Memory {
    /// Is there so much left that new connections may have wide streams?
    pub(crate) fn is_ample(&self) -> bool {
        self.left.load(Relaxed) >= COMMON / 2
    }

    /// The share of a connection to a peer that has `others` already.
    pub(crate) fn share(self: &Arc<Self>, others: usize) -> Share {
        let full = u64::from(CONNECTION_WINDOW) + SEND_WINDOW;
        let wanted = u32::try_from(others).ok().and_then(|n| full.checked_shr(n)).unwrap_or(0);
        let mut taken = 0;
        let _ = self.left.fetch_update(Relaxed, Relaxed, |left| {
            taken = wanted.min(left / PART);
            Some(left - taken)
        });
        let receive = taken * u64::from(CONNECTION_WINDOW) / full;
        Share {
            of: self.clone(),
            taken,
            receive: u32::try_from(receive).unwrap_or(CONNECTION_WINDOW).max(LEAST),
            send: (taken - receive).max(LEAST.into()),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.left.fetch_add(self.taken, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::MAX_PEERS;

    fn held(shares: &[Share]) -> u64 {
        shares.iter().map(|s| u64::from(s.receive) + s.send).sum()
    }

    #[test]
    fn few_have_all_that_they_can_use_and_many_are_bounded() {
        let memory = Arc::new(Memory::default());
        let few: Vec<_> = (0..4).map(|_| memory.share(0)).collect();
        assert!(few.iter().all(|s| s.receive == CONNECTION_WINDOW && s.send == SEND_WINDOW));
        assert!(memory.is_ample());
        let many: Vec<_> = (few.len()..MAX_PEERS).map(|_| memory.share(0)).collect();
        assert!(many.iter().all(|s| s.receive >= LEAST && s.send >= LEAST.into()));
        assert!(held(&few) + held(&many) <= COMMON + 2 * MAX_PEERS as u64 * u64::from(LEAST));
        assert!(!memory.is_ample());
        drop((few, many));
        assert_eq!(memory.left.load(Relaxed), COMMON, "all of it is given back");
    }

    #[test]
    fn one_identity_with_many_connections_takes_as_much_as_two() {
        let memory = Arc::new(Memory::default());
        let its: Vec<_> = (0..64).map(|n| memory.share(n)).collect();
        let two = 2 * (u64::from(CONNECTION_WINDOW) + SEND_WINDOW);
        assert!(held(&its) <= two + 2 * 64 * u64::from(LEAST), "{}", held(&its));
        assert_eq!(memory.share(usize::MAX).receive, LEAST);
        assert_eq!(memory.share(0).receive, CONNECTION_WINDOW, "another's share is its own");
    }
}
