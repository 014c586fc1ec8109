//! How much each identity may send: a token bucket for each of its rules. Pure.
//!
//! A bucket fills at its rate up to its burst. A batch takes its items and bytes out of the buckets of every rule that it counts to, or,
//! when one of them has too little, out of none. A batch that is larger than a burst would never pass: it passes when the bucket is full,
//! and leaves a debt that is filled first.

use hesper_model::config::otlp::{Charge, Rate};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Identities and rules that are kept: as many as can be connected, with some rules each. What is full again is forgotten first.
const KEPT_MAX: usize = 16_384;
/// What is asked of a sender for whom there is no room, and how often room is looked for.
const NO_ROOM_WAIT: Duration = Duration::from_secs(1);
/// Tokens are counted in billionths: a rate per second is a rate of those per nanosecond.
const UNIT: i128 = 1_000_000_000;

/// Whose bucket: an identity, and which of its rules.
type Key = (String, usize);

/// What each identity has left of what it may send to one service.
#[derive(Debug, Default)]
pub struct Quota {
    buckets: HashMap<Key, Bucket>,
    /// When room was looked for in vain.
    full_at: Option<Instant>,
    without_room: u64,
}

/// What is left under one rule.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    items: Level,
    bytes: Level,
}

/// A level at a time; a bucket without a limit has none.
#[derive(Clone, Copy, Debug)]
struct Level {
    rate: Option<Rate>,
    /// In billionths; negative = debt.
    tokens: i128,
    at: Instant,
}

impl Quota {
    /// Takes a batch out of what the identity `who` has left under the rules that the batch counts to.
    ///
    /// # Errors
    /// Too little is left, and nothing was taken: the batch passes after this time, if nothing else does before.
    pub fn take(
        &mut self,
        who: &str,
        charges: &[Charge],
        items: u64,
        bytes: u64,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut filled = Vec::with_capacity(charges.len());
        let (mut wait, mut new) = (Duration::ZERO, 0);
        for charge in charges {
            let key = (who.to_owned(), charge.rule);
            let bucket = match self.buckets.get_mut(&key) {
                // A refusal takes nothing, but the limits of now hold from now on.
                Some(known) => {
                    known.fill(charge, now);
                    *known
                }
                None => {
                    new += 1;
                    let mut full = Bucket::full(now);
                    full.fill(charge, now);
                    full
                }
            };
            wait = wait.max(bucket.items.wait(items)).max(bucket.bytes.wait(bytes));
            filled.push((key, bucket));
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        self.make_room(new, now)?;
        self.buckets.extend(filled.into_iter().map(|(key, bucket)| (key, bucket.less(items, bytes))));
        Ok(())
    }

    /// Identities and rules that are remembered now.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Is nobody remembered?
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Batches refused because there was no room to remember their sender.
    pub fn without_room(&self) -> u64 {
        self.without_room
    }

    fn make_room(&mut self, new: usize, now: Instant) -> Result<(), Duration> {
        if self.buckets.len() + new <= KEPT_MAX {
            return Ok(());
        }
        if self.full_at.is_none_or(|at| now.saturating_duration_since(at) >= NO_ROOM_WAIT) {
            self.buckets.retain(|_, bucket| !bucket.is_full_at(now));
            self.full_at = (self.buckets.len() + new > KEPT_MAX).then_some(now);
        }
        if self.buckets.len() + new <= KEPT_MAX {
            return Ok(());
        }
        self.without_room += 1;
        Err(NO_ROOM_WAIT)
    }
}

impl Bucket {
    /// As if nothing was ever taken out of it.
    fn full(now: Instant) -> Self {
        let level = Level { rate: None, tokens: i128::MAX, at: now };
        Self { items: level, bytes: level }
    }

    fn fill(&mut self, charge: &Charge, now: Instant) {
        self.items.fill(charge.limits.items, now);
        self.bytes.fill(charge.limits.bytes, now);
    }

    fn less(mut self, items: u64, bytes: u64) -> Self {
        self.items.tokens -= units(items);
        self.bytes.tokens -= units(bytes);
        self
    }

    fn is_full_at(mut self, now: Instant) -> bool {
        [&mut self.items, &mut self.bytes].into_iter().all(|level| {
            level.fill(level.rate, now);
            level.rate.is_none_or(|rate| level.tokens >= units(rate.burst))
        })
    }
}

impl Level {
    /// What came since the last time came at the rate of then; from now on it is this one.
    fn fill(&mut self, rate: Option<Rate>, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_nanos();
        let per_second = self.rate.map_or(0, |rate| rate.per_second);
        let come = i128::try_from(elapsed).unwrap_or(i128::MAX).saturating_mul(i128::from(per_second));
        // Without a limit there was never a debt.
        let level = if self.rate.is_none() { i128::MAX } else { self.tokens.saturating_add(come) };
        self.tokens = rate.map_or(i128::MAX, |rate| level.min(units(rate.burst)));
        self.rate = rate;
        self.at = self.at.max(now);
    }

    /// How long until so much may be taken out of it.
    fn wait(&self, count: u64) -> Duration {
        let Some(rate) = self.rate.filter(|_| count > 0) else { return Duration::ZERO };
        let missing = units(count.min(rate.burst)) - self.tokens;
        if missing <= 0 {
            return Duration::ZERO;
        }
        let nanos = missing.unsigned_abs().div_ceil(u128::from(rate.per_second.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

fn units(count: u64) -> i128 {
    i128::from(count) * UNIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_model::config::otlp::Limits;
    use proptest::prelude::*;

    fn charge(rule: usize, items: Option<(u64, u64)>, bytes: Option<(u64, u64)>) -> Charge {
        let rate = |(per_second, burst)| Rate { per_second, burst };
        Charge { rule, limits: Limits { items: items.map(rate), bytes: bytes.map(rate) } }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        let rule = [charge(0, Some((10, 50)), None)];
        assert_eq!(quota.take("a", &rule, 50, 1 << 40, start), Ok(()));
        assert_eq!(quota.take("a", &rule, 1, 0, start), Err(Duration::from_millis(100)));
        assert_eq!(quota.take("b", &rule, 50, 0, start), Ok(()), "each identity has its own");
        assert_eq!(quota.take("a", &rule, 20, 0, start + secs(1)), Err(secs(1)));
        assert_eq!(quota.take("a", &rule, 20, 0, start + secs(2)), Ok(()));
        assert_eq!(
            quota.take("a", &rule, 50, 0, start + secs(1000)),
            Ok(()),
            "no more than a burst is saved up"
        );
        assert_eq!(quota.take("a", &rule, 1, 0, start + secs(1000)), Err(Duration::from_millis(100)));
        assert_eq!(quota.take("a", &rule, 0, 0, start + secs(1000)), Ok(()), "nothing costs nothing");
    }

    #[test]
    fn a_batch_above_the_burst_passes_when_nothing_was_sent_and_is_paid_for() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        let rule = [charge(0, None, Some((10, 10)))];
        assert_eq!(quota.take("a", &rule, 1, 100, start), Ok(()));
        assert_eq!(quota.take("a", &rule, 1, 100, start), Err(secs(10)));
        assert_eq!(quota.take("a", &rule, 1, 1, start + secs(9)), Err(Duration::from_millis(100)));
        assert_eq!(quota.take("a", &rule, 1, 100, start + secs(10)), Ok(()));
    }

    #[test]
    fn a_batch_that_counts_to_several_rules_takes_of_all_or_none() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        let (wide, narrow) = (charge(0, Some((100, 100)), None), charge(3, Some((1, 10)), None));
        assert_eq!(quota.take("a", &[wide, narrow], 10, 0, start), Ok(()));
        assert_eq!(quota.take("a", &[wide, narrow], 10, 0, start), Err(secs(10)));
        assert_eq!(quota.take("a", &[wide], 90, 0, start), Ok(()), "nothing was taken of the wide one");
        assert_eq!(quota.take("a", &[], u64::MAX, u64::MAX, start), Ok(()), "no limit holds");
        assert_eq!(quota.len(), 2);
    }

    #[test]
    fn other_limits_count_from_when_they_come() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        let limit = |per_second, burst| [charge(0, Some((per_second, burst)), None)];
        assert_eq!(quota.take("a", &limit(10, 100), 100, 0, start), Ok(()));
        assert_eq!(
            quota.take("a", &limit(1000, 1000), 11, 0, start + secs(1)),
            Err(Duration::from_millis(1))
        );
        assert_eq!(
            quota.take("a", &limit(1000, 1000), 11, 0, start + secs(1) + Duration::from_millis(1)),
            Ok(())
        );
        assert_eq!(quota.take("a", &limit(10, 5), 6, 0, start + secs(9)), Ok(()), "full, with another burst");
        assert_eq!(quota.take("a", &[charge(0, None, None)], 1 << 60, 0, start + secs(9)), Ok(()));
        // A clock that goes backwards fills nothing and breaks nothing.
        assert_eq!(quota.take("a", &limit(10, 5), 5, 0, start), Ok(()));
        assert_eq!(quota.take("a", &limit(10, 5), 5, 0, start + secs(9)), Err(Duration::from_millis(500)));
    }

    #[test]
    fn what_is_full_again_makes_room_and_what_is_not_stays() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        let rule = [charge(0, Some((1, 10)), Some((1, 10)))];
        for n in 0..KEPT_MAX {
            let items = if n % 2 == 0 { 10 } else { 1 };
            assert_eq!(quota.take(&n.to_string(), &rule, items, 0, start), Ok(()));
        }
        assert_eq!(quota.take("more", &rule, 1, 0, start), Err(NO_ROOM_WAIT));
        assert_eq!(quota.take("2", &rule, 1, 0, start), Err(secs(1)), "it is remembered");
        assert_eq!((quota.len(), quota.without_room()), (KEPT_MAX, 1));
        assert_eq!(quota.take("more", &rule, 1, 0, start + secs(1)), Ok(()));
        assert_eq!(quota.len(), KEPT_MAX / 2 + 1);
        assert_eq!(quota.take("2", &rule, 2, 0, start + secs(1)), Err(secs(1)), "it still is");
    }

    proptest! {
        #[test]
        fn never_more_than_a_burst_and_the_rate(
            rate in 1..2_000u64,
            burst in 1..2_000u64,
            bytes_rate in 1..2_000u64,
            steps in prop::collection::vec((0..2_000_000_000u64, 0..4_000u64, 0..4_000u64), 1..60),
        ) {
            let rule = [charge(0, Some((rate, burst)), Some((bytes_rate, 1_000)))];
            let (mut quota, start) = (Quota::default(), Instant::now());
            let (mut passed, mut largest, mut nanos) = ([0u128; 2], [u128::from(burst), 1_000], 0);
            for (pause, items, bytes) in steps {
                nanos += pause;
                let now = start + Duration::from_nanos(nanos);
                match quota.take("a", &rule, items, bytes, now) {
                    Ok(()) => for (n, count) in [items, bytes].into_iter().enumerate() {
                        passed[n] += u128::from(count);
                        largest[n] = largest[n].max(u128::from(count));
                    },
                    Err(wait) => {
                        prop_assert_eq!(quota.take("a", &rule, items, bytes, now), Err(wait), "nothing was taken");
                        let just_before = now + wait - Duration::from_nanos(1);
                        prop_assert_eq!(quota.take("a", &rule, items, bytes, just_before), Err(Duration::from_nanos(1)));
                        prop_assert_eq!(quota.take("a", &rule, items, bytes, now + wait), Ok(()), "no batch waits for ever");
                        nanos += u64::try_from(wait.as_nanos()).expect("short");
                        for (n, count) in [items, bytes].into_iter().enumerate() {
                            passed[n] += u128::from(count);
                            largest[n] = largest[n].max(u128::from(count));
                        }
                    }
                }
                for (n, rate) in [rate, bytes_rate].into_iter().enumerate() {
                    let most = largest[n] * 1_000_000_000 + u128::from(rate) * u128::from(nanos);
                    prop_assert!(passed[n] * 1_000_000_000 <= most);
                }
            }
        }
    }
}
