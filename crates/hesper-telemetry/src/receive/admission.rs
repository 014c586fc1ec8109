//! How many bytes of requests are held at once, over all receivers: a budget that is never passed.
//!
//! Bytes are counted as they come in, never because somebody says how many will come. Nobody waits for room: who gets
//! none is refused and gives back what it has, so that at least one of those who compete always comes through. The
//! last quarter of the budget is for requests that have begun: newcomers do not starve them.

use hesper_otlp::Refusal;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// The budget when nobody chooses one: one of the largest requests, the window of its decoder, and others beside it. With a queue in
/// memory the process stays well below 200 MiB. JSON that would need more while it is decoded is too large.
pub const DEFAULT_BUDGET: usize = 80 << 20;

/// What each request is counted with, besides its bytes: its task and its headers. It bounds how many there are.
const REQUEST_COST: usize = 4096;

/// When those who found no room may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// The budget. Clones share it.
#[derive(Clone, Debug)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    budget: usize,
    used: AtomicUsize,
}

/// What one request holds of the budget; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    shared: Arc<Shared>,
    held: usize,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoRoom {
    /// Others hold it.
    Now,
    /// The request needs more than there is.
    Ever,
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(DEFAULT_BUDGET)
    }
}

impl Admission {
    /// A budget of so many bytes. Requests that need more by themselves are refused as too large, whatever the limits of their receiver.
    pub fn new(budget: usize) -> Self {
        Self { shared: Arc::new(Shared { budget, used: AtomicUsize::new(0) }) }
    }

    /// Bytes that may be held.
    pub fn budget(&self) -> usize {
        self.shared.budget
    }

    /// Bytes that are held now.
    pub fn in_flight(&self) -> usize {
        self.shared.used.load(Relaxed)
    }

    /// Lets a request begin.
    pub(crate) fn begin(&self) -> Result<Lease, Refusal> {
        let mut lease = Lease { shared: Arc::clone(&self.shared), held: 0 };
        lease.take(REQUEST_COST, newcomers(self.shared.budget))?;
        Ok(lease)
    }
}

impl Lease {
    /// Holds so many bytes for the request in all, if there is room. It never holds less than before.
    pub(crate) fn cover(&mut self, bytes: usize) -> Result<(), Refusal> {
        let wanted = bytes.saturating_add(REQUEST_COST);
        if wanted <= self.held { Ok(()) } else { self.take(wanted - self.held, self.shared.budget) }
    }

    /// Gives back what is more than so many bytes.
    pub(crate) fn settle(&mut self, bytes: usize) {
        let surplus = self.held.saturating_sub(bytes.saturating_add(REQUEST_COST));
        self.held -= surplus;
        self.shared.used.fetch_sub(surplus, Relaxed);
    }

    fn take(&mut self, more: usize, most: usize) -> Result<(), Refusal> {
        let budget = self.shared.budget;
        let taken = self.shared.used.fetch_update(Relaxed, Relaxed, |used| room(used, more, most));
        if taken.is_ok() {
            self.held += more;
            return Ok(());
        }
        Err(match why_not(self.held, more, most) {
            NoRoom::Ever => Refusal::TooLarge { limit: most },
            NoRoom::Now => Refusal::Overloaded {
                reason: format!(
                    "{budget} bytes of requests are in flight, and there is no room for more; send again later"
                ),
                after: COME_AGAIN,
            },
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.held, Relaxed);
    }
}

/// How much of the budget newcomers may fill.
fn newcomers(budget: usize) -> usize {
    budget - budget / 4
}

/// What is used after somebody takes more; `None`: it would be more than may be used.
fn room(used: usize, more: usize, most: usize) -> Option<usize> {
    used.checked_add(more).filter(|after| *after <= most)
}

/// Would there be room if everybody else were gone?
fn why_not(held: usize, more: usize, most: usize) -> NoRoom {
    if room(held, more, most).is_some() { NoRoom::Now } else { NoRoom::Ever }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_finds_no_room_is_told_when_to_come_again_or_that_it_never_fits() {
        let admission = Admission::new(100_000);
        let mut first = admission.begin().expect("room");
        first.cover(60_000).expect("room");
        let mut second = admission.begin().expect("room for one more to begin");
        assert!(matches!(second.cover(50_000), Err(Refusal::Overloaded { .. })));
        assert_eq!(second.cover(200_000), Err(Refusal::TooLarge { limit: 100_000 }));
        drop(first);
        second.cover(50_000).expect("room now");
        drop(second);
        assert_eq!(admission.in_flight(), 0);
    }

    #[test]
    fn the_last_quarter_is_for_those_who_have_begun() {
        let admission = Admission::new(100_000);
        let mut first = admission.begin().expect("room");
        first.cover(74_000).expect("room");
        assert!(matches!(admission.begin(), Err(Refusal::Overloaded { .. })));
        first.cover(90_000).expect("it has begun");
        first.settle(1000);
        assert_eq!(admission.in_flight(), 1000 + REQUEST_COST);
        admission.begin().expect("room again");
    }

    proptest! {
        /// However requests come, grow and go: the budget is never passed, what is held is the sum of the leases, one that is
        /// alone gets all that fits, and in the end nothing is held.
        #[test]
        fn the_budget_is_never_passed(steps in prop::collection::vec((0usize..8, 0usize..60_000, 0u8..4), 1..200)) {
            let admission = Admission::new(100_000);
            let mut leases: Vec<Option<Lease>> = (0..8).map(|_| None).collect();
            for (who, bytes, what) in steps {
                let alone = leases.iter().enumerate().all(|(i, lease)| i == who || lease.is_none());
                match (what, leases[who].as_mut()) {
                    (0, _) => leases[who] = None,
                    (1, Some(lease)) => lease.settle(bytes),
                    (_, Some(lease)) => {
                        let got = lease.cover(bytes);
                        prop_assert!(got.is_ok() || !alone);
                        if got.is_err() {
                            leases[who] = None;
                        }
                    }
                    (_, None) => leases[who] = admission.begin().ok(),
                }
                let held: usize = leases.iter().flatten().map(|lease| lease.held).sum();
                prop_assert_eq!(held, admission.in_flight());
                prop_assert!(held <= 100_000);
            }
            drop(leases);
            prop_assert_eq!(admission.in_flight(), 0);
        }
    }
}
