//! What all connections of a node may hold in memory together, and each one's share of it.
//!
//! A connection holds what its peer has sent and no program has read, and what was written and the peer has not acknowledged; the peer decides
//! about both. With the windows that one fast stream needs, a few thousand peers could fill any machine. So wide windows come out of one
//! common amount: while it lasts, a connection gets all that it can use; the more of it is given away, the smaller are the shares, down to
//! [`LEAST`], which everybody gets. An identity with many connections gets half as much for each further one.
//!
//! What waits for the readers of UDP flows comes out of the same amount, block by block as it comes and only while it waits: most
//! connections never carry a datagram, and one that is too many is dropped, which a window must not be.

use crate::transport::{CONNECTION_WINDOW, DATAGRAM_RECEIVE_BUFFER, DATAGRAM_SEND_BUFFER, SEND_WINDOW};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What is shared out: twelve connections with windows as wide as they come.
pub const COMMON: u64 = 1 << 30;
/// What every connection may hold in each direction, and one of its streams. All [`MAX_PEERS`](crate::inbound::MAX_PEERS) together: 2 GiB.
pub const LEAST: u32 = 256 << 10;
/// What a connection that begins while memory is ample may hold of datagrams below the queues of its flows: on the way to them, and to the
/// network. Others: [`BLOCK`] each way.
const DATAGRAMS: u64 = (DATAGRAM_RECEIVE_BUFFER + DATAGRAM_SEND_BUFFER) as u64;
/// No connection takes more than this part of what is left, so that there always is something left.
const PART: u64 = 8;
/// What the unread datagrams of a connection take at once: so seldom that connections do not hinder each other, and so little that hardly
/// anything is taken in vain. The first block is everybody's, as [`LEAST`] is. All [`MAX_PEERS`](crate::inbound::MAX_PEERS) together: 256 MiB.
pub const BLOCK: u64 = 64 << 10;

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

fn is_ample(left: u64) -> bool {
    left >= COMMON / 2
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
    /// Is there so much left that new connections may have wide streams, and the longer buffers for datagrams?
    pub(crate) fn is_ample(&self) -> bool {
        is_ample(self.left.load(Relaxed))
    }

    /// The share of a connection to a peer that has `others` already.
    pub(crate) fn share(self: &Arc<Self>, others: usize) -> Share {
        let full = u64::from(CONNECTION_WINDOW) + SEND_WINDOW;
        let wanted = u32::try_from(others).ok().and_then(|n| full.checked_shr(n)).unwrap_or(0);
        let (mut windows, mut datagrams) = (0, 0);
        let _ = self.left.fetch_update(Relaxed, Relaxed, |left| {
            datagrams = if is_ample(left) { DATAGRAMS } else { 0 };
            windows = wanted.min((left - datagrams) / PART);
            Some(left - datagrams - windows)
        });
        let receive = windows * u64::from(CONNECTION_WINDOW) / full;
        Share {
            of: self.clone(),
            taken: windows + datagrams,
            receive: u32::try_from(receive).unwrap_or(CONNECTION_WINDOW).max(LEAST),
            send: (windows - receive).max(LEAST.into()),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.left.fetch_add(self.taken, Relaxed);
    }
}

/// What the unread datagrams of one connection take beyond their first [`BLOCK`]; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Queued {
    of: Arc<Memory>,
    taken: u64,
}

impl Queued {
    /// Nothing yet.
    pub(crate) fn of(memory: &Arc<Memory>) -> Self {
        Self { of: memory.clone(), taken: 0 }
    }

    /// From now on so many bytes wait. Returns whether they may: if not, nothing has changed. Fewer than before always may.
    pub(crate) fn hold(&mut self, bytes: u64) -> bool {
        let needed = bytes.div_ceil(BLOCK).saturating_sub(1) * BLOCK;
        if needed > self.taken {
            let more = needed - self.taken;
            let take = |left: u64| (needed <= (left + self.taken) / PART).then(|| left - more);
            if self.of.left.fetch_update(Relaxed, Relaxed, take).is_err() {
                return false;
            }
            self.taken = needed;
        } else if (bytes == 0 && self.taken > 0) || needed + BLOCK < self.taken {
            // Not back and forth at the edge of a block.
            self.of.left.fetch_add(self.taken - needed, Relaxed);
            self.taken = needed;
        }
        true
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.of.left.fetch_add(self.taken, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{datagram::CONNECTION_QUEUE, inbound::MAX_PEERS};

    /// The queues of UDP flows, filled as far as they may be.
    fn fill(memory: &Arc<Memory>, connections: usize) -> Vec<Queued> {
        let fill = |mut queued: Queued| {
            let full = (0..=CONNECTION_QUEUE as u64).step_by(1300).find(|bytes| !queued.hold(*bytes));
            assert!(full.is_none_or(|bytes| bytes > BLOCK), "a first block is everybody's");
            queued
        };
        (0..connections).map(|_| fill(Queued::of(memory))).collect()
    }

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
        assert_eq!(COMMON - memory.left.load(Relaxed), its.iter().map(|s| s.taken).sum::<u64>());
        assert!(its.iter().all(|s| s.taken >= DATAGRAMS), "the buffers of datagrams are counted");
        assert_eq!(memory.share(usize::MAX).receive, LEAST);
        assert_eq!(memory.share(0).receive, CONNECTION_WINDOW, "another's share is its own");
    }

    #[test]
    fn unread_datagrams_of_all_connections_come_out_of_the_common_amount() {
        let memory = Arc::new(Memory::default());
        let queues = fill(&memory, MAX_PEERS);
        let unread: u64 = queues.iter().map(|q| q.taken).sum();
        assert!((COMMON / 2..=COMMON).contains(&unread), "{unread}");
        assert_eq!(memory.left.load(Relaxed), COMMON - unread);
        assert!(!memory.is_ample(), "new connections are narrow meanwhile");
        let share = memory.share(0);
        assert!(u64::from(share.receive) + share.send <= COMMON - unread + 2 * u64::from(LEAST));
        drop((queues, share));
        assert_eq!(memory.left.load(Relaxed), COMMON, "all of it is given back");
    }

    #[test]
    fn what_is_read_is_given_back() {
        let memory = Arc::new(Memory::default());
        let mut queued = Queued::of(&memory);
        assert!(queued.hold(BLOCK) && queued.taken == 0);
        assert!(queued.hold(3 * BLOCK + 1) && queued.taken == 3 * BLOCK);
        assert!(queued.hold(3 * BLOCK) && queued.taken == 3 * BLOCK, "the next one may need it");
        assert!(queued.hold(2 * BLOCK) && queued.taken == BLOCK);
        assert!(queued.hold(0));
        assert_eq!(memory.left.load(Relaxed), COMMON);
    }
}
