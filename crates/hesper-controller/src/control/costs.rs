//! What terminators cost beyond their static cost: who uses them, and for whom they failed lately. Pure.
//!
//! The figures are OpenZiti's: 2 points for each user (there a circuit, here a dialer that holds a grant), 20 for each failed dial, of
//! which a success takes back 2 and time the rest, at least 10 a minute and ever faster. What one dialer reports weighs no more than a
//! few failures, so that nobody can talk others out of a terminator.
//!
//! Dialers keep the choice of a terminator for some minutes. They are to choose anew when a terminator has become decisively dearer by
//! failures: then its *alarm* changes, which is in the digest that they compare. A single failure raises none, nor does what wears off: those
//! who went elsewhere come back one by one as their choices end, not all at once. Users raise none either: who leaves a terminator counts there
//! until its grant ends, so all would leave together.

use hesper_model::id::{IdentityId, TerminatorId};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Points for each dialer that holds a grant.
const USER: u32 = 2;
/// Points for a failed dial.
const FAILURE: u32 = 20;
/// Points of failures from which on a terminator raises an alarm, and again whenever they have doubled.
const DECISIVE: u32 = 2 * FAILURE;
/// Points that a success takes back.
const SUCCESS: u32 = 2;
/// Points that one dialer can put on one terminator.
const OF_ONE_DIALER_MAX: u32 = 5 * FAILURE;
/// A dial names what it has avoided again on each attempt: within this time it is the same failure.
const SAME_FAILURE: Duration = Duration::from_secs(5);
/// How often time takes points back.
const PERIOD: Duration = Duration::from_secs(60);
/// Points that it takes back at least.
const CREDIT: u32 = 10;
/// After each such number of periods without a failure it takes back twice as much.
const DOUBLED_EVERY: u32 = 5;
/// Pairs of terminator and dialer remembered: beyond it failures are not counted.
const PAIRS_MAX: usize = 50_000;
/// Largest dynamic cost, as the largest static one.
const MAX: u32 = u16::MAX as u32;

/// Failures of terminators, by the dialers that reported them.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    failures: HashMap<TerminatorId, HashMap<IdentityId, Failures>>,
    pairs: usize,
    alarms: HashMap<TerminatorId, Alarm>,
    /// Alarms raised so far.
    raised: u64,
}

/// The last alarm of a terminator.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    /// How many there had been of all, with it.
    number: u64,
    /// How dear the terminator is: how often [`DECISIVE`] was doubled, and one more; 0 = not dear any more.
    level: u32,
}

/// The level of so many points after another one. It falls only when half of what raises to it is gone.
fn level(points: u32, before: u32) -> u32 {
    let reached = (points / DECISIVE).checked_ilog2().map_or(0, |doubled| doubled + 1);
    let kept = (1..=before).rev().find(|level| points >= (DECISIVE << (level - 1)) / 2);
    reached.max(kept.unwrap_or(0))
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    /// Points at `last`, less what successes took back.
    points: u32,
    last: Instant,
}

impl Failures {
    /// What time has left of them.
    fn at(self, now: Instant) -> u32 {
        let periods = now.saturating_duration_since(self.last).as_secs() / PERIOD.as_secs();
        let mut left = self.points;
        for period in 0..u32::try_from(periods).unwrap_or(u32::MAX) {
            left = left.saturating_sub(CREDIT.max(1 << (period / DOUBLED_EVERY).min(31)));
            if left == 0 {
                break;
            }
        }
        left
    }
}

impl Costs {
    /// A dial of this dialer failed at the terminator. Returns whether its alarm has changed.
    pub(crate) fn failed(&mut self, terminator: &TerminatorId, dialer: &IdentityId, now: Instant) -> bool {
        let known = self.failures.get(terminator).and_then(|of| of.get(dialer)).copied();
        if known.is_some_and(|f| now.saturating_duration_since(f.last) < SAME_FAILURE) {
            return false;
        }
        if known.is_none() {
            if self.pairs >= PAIRS_MAX {
                return false;
            }
            self.pairs += 1;
        }
        let points = (known.map_or(0, |f| f.at(now)) + FAILURE).min(OF_ONE_DIALER_MAX);
        let of = self.failures.entry(terminator.clone()).or_default();
        of.insert(dialer.clone(), Failures { points, last: now });
        self.alarm(terminator, now)
    }

    /// Raises the terminator's alarm if it has become decisively dearer.
    fn alarm(&mut self, terminator: &TerminatorId, now: Instant) -> bool {
        let before = self.alarms.get(terminator).map_or(0, |a| a.level);
        let level = level(self.points(terminator, now), before);
        if level > before {
            self.raised += 1;
            self.alarms.insert(terminator.clone(), Alarm { number: self.raised, level });
        } else if let Some(alarm) = self.alarms.get_mut(terminator) {
            alarm.level = level;
        }
        level > before
    }

    /// Terminators that have become decisively dearer at some time, each with a number that is another one after the next such time.
    pub(crate) fn alarms(&self) -> impl Iterator<Item = (&TerminatorId, u64)> {
        self.alarms.iter().map(|(id, alarm)| (id, alarm.number))
    }

    /// This dialer's streams live at the terminator.
    pub(crate) fn succeeded(&mut self, terminator: &TerminatorId, dialer: &IdentityId) {
        if let Some(failures) = self.failures.get_mut(terminator).and_then(|of| of.get_mut(dialer)) {
            failures.points = failures.points.saturating_sub(SUCCESS);
        }
    }

    /// The dynamic cost of a terminator that has so many users.
    pub(crate) fn of(&self, terminator: &TerminatorId, users: usize, now: Instant) -> u32 {
        let failed = self.points(terminator, now);
        let used = u32::try_from(users).unwrap_or(u32::MAX).saturating_mul(USER);
        used.saturating_add(failed).min(MAX)
    }

    /// Points for failures.
    fn points(&self, terminator: &TerminatorId, now: Instant) -> u32 {
        let failures = self.failures.get(terminator).into_iter().flat_map(HashMap::values);
        failures.fold(0, |sum, f| sum.saturating_add(f.at(now)))
    }

    /// Forgets what time has taken back, and terminators that do not exist any more.
    pub(crate) fn forget(&mut self, now: Instant, exists: impl Fn(&TerminatorId) -> bool) {
        self.alarms.retain(|id, _| exists(id));
        let dear: Vec<_> =
            self.alarms.iter().filter(|(_, a)| a.level > 0).map(|(id, _)| id.clone()).collect();
        for id in dear {
            self.alarm(&id, now);
        }
        self.failures.retain(|_, of| {
            of.retain(|_, failures| failures.at(now) > 0);
            !of.is_empty()
        });
        self.pairs = self.failures.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_model::entity::{Precedence, TerminatorStrategy};
    use hesper_policy::terminators::{Candidate, choose};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn t(id: usize) -> TerminatorId {
        TerminatorId::new(id.to_string())
    }

    fn d(id: &str) -> IdentityId {
        IdentityId::new(id)
    }

    #[test]
    fn failures_cost_twenty_and_wear_off() {
        let (mut costs, t0) = (Costs::default(), Instant::now());
        let at = |seconds| t0 + Duration::from_secs(seconds);
        assert_eq!(costs.of(&t(1), 3, t0), 6);
        costs.failed(&t(1), &d("a"), t0);
        costs.failed(&t(1), &d("a"), at(1));
        assert_eq!(costs.of(&t(1), 0, t0), 20, "the same failure, reported again");
        costs.failed(&t(1), &d("b"), t0);
        costs.succeeded(&t(1), &d("b"));
        assert_eq!((costs.of(&t(1), 0, t0), costs.of(&t(2), 0, t0)), (38, 0));
        assert_eq!((costs.of(&t(1), 1, at(59)), costs.of(&t(1), 1, at(60))), (40, 20));
        assert_eq!(costs.of(&t(1), 0, at(120)), 0);
        costs.forget(at(60), |_| true);
        assert_eq!(costs.pairs, 2);
        costs.forget(at(120), |_| true);
        assert!(costs.pairs == 0 && costs.failures.is_empty());
    }

    #[test]
    fn one_dialer_cannot_talk_others_out_of_a_terminator() {
        let (mut costs, t0) = (Costs::default(), Instant::now());
        for n in 0..100 {
            costs.failed(&t(1), &d("a"), t0 + SAME_FAILURE * n);
        }
        let last = t0 + SAME_FAILURE * 99;
        assert!(costs.of(&t(1), 0, last) <= OF_ONE_DIALER_MAX);
        assert_eq!(costs.of(&t(1), 0, last + PERIOD * 10), 0);
    }

    #[test]
    fn an_alarm_is_for_decisive_failures_and_not_for_their_wearing_off() {
        let (mut costs, t0) = (Costs::default(), Instant::now());
        let at = |seconds| t0 + Duration::from_secs(seconds);
        let number = |costs: &Costs| costs.alarms().next().map(|(_, number)| number);
        assert!(!costs.failed(&t(1), &d("a"), t0), "one failure");
        assert!(!costs.failed(&t(1), &d("a"), at(1)), "the same");
        assert_eq!(number(&costs), None);
        assert!(costs.failed(&t(1), &d("b"), at(2)));
        assert!(!costs.failed(&t(1), &d("c"), at(3)));
        assert!(costs.failed(&t(1), &d("d"), at(4)), "twice as many");
        assert_eq!(number(&costs), Some(2));
        // Half of it wears off and comes again: nobody is disturbed.
        costs.forget(at(64), |_| true);
        assert!(!costs.failed(&t(1), &d("a"), at(65)) && !costs.failed(&t(1), &d("b"), at(66)));
        costs.forget(at(300), |_| true);
        assert_eq!(number(&costs), Some(2), "that it is well again changes no choice");
        costs.failed(&t(1), &d("a"), at(301));
        assert!(costs.failed(&t(1), &d("b"), at(302)), "dear again");
        assert_eq!(number(&costs), Some(3));
        costs.forget(at(303), |_| false);
        assert_eq!(number(&costs), None, "a terminator that is gone");
    }

    proptest! {
        /// However failures come, alarms are rare: each takes as many points as it announces, less what the last one left.
        #[test]
        fn alarms_are_fewer_than_the_failures_they_need(steps in proptest::collection::vec((0u8..5, 0u64..90), 0..100)) {
            let (mut costs, mut now, mut failures, mut alarms) = (Costs::default(), Instant::now(), 0_u32, 0_u32);
            for (who, wait) in steps {
                now += Duration::from_secs(wait);
                costs.forget(now, |_| true);
                failures += 1;
                alarms += u32::from(costs.failed(&t(1), &d(&who.to_string()), now));
            }
            prop_assert!(alarms <= failures / 2 + 1, "{alarms} of {failures}");
        }

        /// Dialers that come one after the other are spread over equal terminators evenly, and over unequal ones until their costs meet.
        #[test]
        fn smartrouting_fills_up_to_one_level(fixed in proptest::collection::vec(0u32..60, 1..6), seed: u64) {
            let (costs, now, mut rng) = (Costs::default(), Instant::now(), StdRng::seed_from_u64(seed));
            let mut users = vec![0; fixed.len()];
            for _ in 0..400 {
                let all: Vec<_> = (0..fixed.len()).map(|n| Candidate {
                    id: t(n), host: d("h"), instance: String::new(),
                    cost: fixed[n] + costs.of(&t(n), users[n], now), precedence: Precedence::Default,
                }).collect();
                users[choose(&all, TerminatorStrategy::Smartrouting, None, &mut rng).expect("one")] += 1;
            }
            let level = |n: usize| fixed[n] + costs.of(&t(n), users[n], now);
            let used: Vec<_> = (0..fixed.len()).filter(|n| users[*n] > 0).map(level).collect();
            let (low, high) = (used.iter().min().expect("some"), used.iter().max().expect("some"));
            prop_assert!(high - low <= USER, "{users:?} at {used:?}");
        }

        #[test]
        fn costs_never_overflow_and_only_fall_with_time(steps in proptest::collection::vec((0u8..3, 0u64..400), 0..60)) {
            let (mut costs, mut now) = (Costs::default(), Instant::now());
            for (what, wait) in steps {
                now += Duration::from_secs(wait);
                if what < 2 {
                    costs.failed(&t(1), &d(["a", "b"][usize::from(what)]), now);
                } else {
                    costs.succeeded(&t(1), &d("a"));
                }
                let cost = costs.of(&t(1), 0, now);
                prop_assert!(cost <= 2 * OF_ONE_DIALER_MAX && costs.of(&t(1), usize::MAX, now) == MAX);
                prop_assert!(costs.of(&t(1), 0, now + PERIOD) <= cost);
            }
        }
    }
}
