//! How often one identity may call: token buckets, one per identity, forgotten when full. Pure.

use hesper_model::id::IdentityId;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Identities remembered at a time; above it the full buckets are looked for and forgotten.
const FORGET_ABOVE: usize = 1_024;

/// What a bucket holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Calls per second that go on for ever.
    pub(crate) per_second: u32,
    /// Calls at once after a rest.
    pub(crate) burst: u32,
}

impl Limit {
    /// Time that one call takes to come back.
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }
}

/// Too many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at most {per_second} a second, {burst} at once; again in {again_in:?}")]
pub(crate) struct TooOften {
    per_second: u32,
    burst: u32,
    /// When the next call is allowed.
    pub(crate) again_in: Duration,
}

/// The buckets of one kind of call.
#[derive(Debug)]
pub(crate) struct Rates {
    limit: Limit,
    /// When each bucket will be full.
    full_at: HashMap<IdentityId, Instant>,
    forget_above: usize,
}

impl Rates {
    /// All buckets full.
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, full_at: HashMap::new(), forget_above: FORGET_ABOVE }
    }

    /// Takes one call out of the identity's bucket.
    ///
    /// # Errors
    /// It is empty.
    pub(crate) fn take(&mut self, id: &IdentityId, now: Instant) -> Result<(), TooOften> {
        let Limit { per_second, burst } = self.limit;
        let full_at = self.full_at.get(id).copied().unwrap_or(now).max(now) + self.limit.interval();
        let depth = self.limit.interval() * burst;
        if full_at > now + depth {
            return Err(TooOften { per_second, burst, again_in: full_at - now - depth });
        }
        self.full_at.insert(id.clone(), full_at);
        if self.full_at.len() > self.forget_above {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.forget_above = FORGET_ABOVE.max(2 * self.full_at.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Limit = Limit { per_second: 10, burst: 5 };

    #[test]
    fn a_burst_and_then_the_rate_each_for_itself() {
        let (mut rates, t0) = (Rates::new(LIMIT), Instant::now());
        let (a, b) = (IdentityId::new("a"), IdentityId::new("b"));
        assert!((0..5).all(|_| rates.take(&a, t0).is_ok()));
        let refused = rates.take(&a, t0).expect_err("empty");
        assert_eq!(refused.again_in, Duration::from_millis(100));
        assert_eq!(refused.to_string(), "at most 10 a second, 5 at once; again in 100ms");
        assert!(rates.take(&b, t0).is_ok(), "another's bucket");
        let later = t0 + refused.again_in;
        assert!(rates.take(&a, later).is_ok() && rates.take(&a, later).is_err());
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let (mut rates, t0) = (Rates::new(LIMIT), Instant::now());
        for n in 0..10 * FORGET_ABOVE as u64 {
            let id = IdentityId::new(n.to_string());
            rates.take(&id, t0 + Duration::from_millis(n)).expect("its first");
        }
        assert!(rates.full_at.len() <= 2 * FORGET_ABOVE, "{}", rates.full_at.len());
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(waits in proptest::collection::vec(0u64..300, 0..200)) {
            let (mut rates, start) = (Rates::new(LIMIT), Instant::now());
            let (id, mut now, mut taken) = (IdentityId::new("a"), start, 0);
            for wait in waits {
                now += Duration::from_millis(wait);
                match rates.take(&id, now) {
                    Ok(()) => taken += 1,
                    Err(refused) => {
                        let mut later = Rates { full_at: rates.full_at.clone(), ..Rates::new(LIMIT) };
                        prop_assert!(later.take(&id, now + refused.again_in).is_ok(), "the time it names is right");
                    }
                }
            }
            let allowed = u128::from(LIMIT.burst) + (now - start).as_millis() * u128::from(LIMIT.per_second) / 1_000;
            prop_assert!(taken <= allowed);
        }
    }
}
