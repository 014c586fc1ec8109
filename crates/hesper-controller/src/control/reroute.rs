//! When a dialer is told that its ways are not the best any more. Pure: what was told and what is now in, grants to renew out.
//!
//! A change must last before it is told, a loss shortly and an improvement longer, so that a node that reattaches or a round-trip
//! time that wavers moves nobody. The dialer renews the grant, and its new pass has the new ways; no stream notices.

use super::paths::{Path, Ranked, is_redundant};
use hesper_model::id::Tag;
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// How long a lost way must be lost.
const LOST_FOR: Duration = Duration::from_millis(250);
/// How long another way must be better.
const BETTER_FOR: Duration = Duration::from_secs(2);
/// A dialer that does not renew is told again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Clearly better: by a quarter, and by this many microseconds at least.
const MARGIN: u64 = 2_000;

/// Why other ways should be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The best way that was told does not work any more, and another does.
    Gone,
    /// Another way is clearly cheaper.
    Beaten,
    /// One router carried every way that was told; now the loss of any can be survived.
    Alone,
}

impl Cause {
    const fn patience(self) -> Duration {
        match self {
            Self::Gone => LOST_FOR,
            Self::Beaten | Self::Alone => BETTER_FOR,
        }
    }
}

/// Should the dialer that was told these ways learn those that work now? Both best first.
pub(crate) fn cause(told: &[Path], now: &[Ranked]) -> Option<Cause> {
    let (used, best) = (told.first()?, now.first()?);
    let Some(used) = now.iter().find(|r| r.path == *used).filter(|r| r.class == best.class) else {
        return Some(Cause::Gone);
    };
    if best.micros.saturating_mul(4) <= used.micros.saturating_mul(3) && best.micros + MARGIN <= used.micros {
        return Some(Cause::Beaten);
    }
    (!is_redundant(told) && is_redundant(now.iter().map(|r| &r.path))).then_some(Cause::Alone)
}

/// A live grant for which there are better ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The grant.
    pub(crate) id: String,
    /// Session of its dialer.
    pub(crate) dialer: Tag,
    /// Why.
    pub(crate) cause: Cause,
}

/// Since when there are better ways for which grants.
#[derive(Debug, Default)]
pub(crate) struct Reroutes(HashMap<String, Waiting>);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    told: Option<Instant>,
}

impl Reroutes {
    /// Takes everything that is found now. Grants to tell by dialer, and when to look again if nothing changes before.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        found: Vec<Found>,
    ) -> (BTreeMap<Tag, Vec<String>>, Option<Instant>) {
        let (mut tell, mut next) = (BTreeMap::<Tag, Vec<String>>::new(), None);
        let mut waiting = HashMap::with_capacity(found.len());
        for Found { id, dialer, cause } in found {
            let mut of = self.0.get(&id).copied().unwrap_or(Waiting { since: now, told: None });
            let mut due = of.told.map_or(of.since + cause.patience(), |told| told + AGAIN_AFTER);
            if due <= now {
                of.told = Some(now);
                due = now + AGAIN_AFTER;
                tell.entry(dialer).or_default().push(id.clone());
            }
            next = Some(next.map_or(due, |next: Instant| next.min(due)));
            waiting.insert(id, of);
        }
        self.0 = waiting;
        (tell, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::paths::Class;
    use hesper_model::id::EdgeRouterId;
    use proptest::prelude::*;

    fn path(text: &str) -> Path {
        text.split('-').map(EdgeRouterId::new).collect()
    }

    fn ranked(text: &str) -> Ranked {
        let (text, class) = match text.strip_suffix('?') {
            Some(text) => (text, Class::DialerUnseen),
            None => (text, Class::Works),
        };
        let (way, micros) = text.split_once('=').expect("a cost");
        Ranked { path: path(way), class, micros: micros.parse().expect("a number") }
    }

    #[test]
    fn losses_and_clear_gains_are_worth_a_change() {
        use Cause::{Alone, Beaten, Gone};
        for (told, now, expected) in [
            ("a b", "a=9000 b=9500", None),
            ("a b", "", None),
            ("", "a=1", None),
            ("a b", "b=9000", Some(Gone)),
            ("a", "b=9000", Some(Gone)),
            ("a b", "b=7000 a=9000", None),
            ("a b", "b=6700 a=9000", Some(Beaten)),
            // A quarter of little is not worth it, nor 2 ms of much.
            ("a b", "b=100 a=2000", None),
            ("a b", "b=0 a=2000", Some(Beaten)),
            ("a b", "b=90000 a=93000", None),
            // The dialer has left `a`, or was never seen there.
            ("a b", "b=9000 a=100?", Some(Gone)),
            ("a b", "a=9000? b=9500?", None),
            ("a", "a=9000 b=9000", Some(Alone)),
            ("a", "a=9000 a-b=9000", None),
            ("a a-b", "a=9000 b=9000 a-b=9000", Some(Alone)),
        ] {
            let told: Vec<_> = told.split_whitespace().map(path).collect();
            let now: Vec<_> = now.split_whitespace().map(ranked).collect();
            assert_eq!(cause(&told, &now), expected, "{told:?} {now:?}");
        }
    }

    const DIALER: Tag = Tag([1; 8]);

    fn found(id: &str, cause: Cause) -> Vec<Found> {
        vec![Found { id: id.into(), dialer: DIALER, cause }]
    }

    #[test]
    fn a_change_is_told_when_it_has_lasted_and_then_rarely() {
        let (mut reroutes, t0) = (Reroutes::default(), Instant::now());
        let at = |ms| t0 + Duration::from_millis(ms);
        let mut told = |ms, cause: Option<Cause>| {
            let found = cause.map(|cause| found("g", cause)).unwrap_or_default();
            let (tell, next) = reroutes.step(at(ms), found);
            (tell.get(&DIALER).map_or(0, Vec::len), next)
        };
        assert_eq!(told(0, Some(Cause::Beaten)), (0, Some(at(2_000))));
        assert_eq!(told(1_999, Some(Cause::Beaten)), (0, Some(at(2_000))));
        assert_eq!(told(2_000, None), (0, None), "it was over before");
        assert_eq!(told(3_000, Some(Cause::Beaten)), (0, Some(at(5_000))));
        assert_eq!(told(3_300, Some(Cause::Gone)).0, 1, "a loss does not wait so long");
        assert_eq!(told(3_400, Some(Cause::Gone)), (0, Some(at(13_300))), "told once");
        assert_eq!(told(13_300, Some(Cause::Gone)).0, 1, "and again to one that did not hear it");
    }

    proptest! {
        #[test]
        fn nobody_is_told_often(steps in proptest::collection::vec((0u64..3_000, 0u8..4), 0..60)) {
            let (mut reroutes, mut now, mut last) = (Reroutes::default(), Instant::now(), None);
            for (wait, what) in steps {
                now += Duration::from_millis(wait);
                let cause = [None, Some(Cause::Gone), Some(Cause::Beaten), Some(Cause::Alone)][usize::from(what)];
                let (tell, next) = reroutes.step(now, cause.map(|c| found("g", c)).unwrap_or_default());
                prop_assert_eq!(next.is_some(), cause.is_some());
                prop_assert!(next.is_none_or(|next| next > now));
                if !tell.is_empty() {
                    prop_assert!(last.is_none_or(|last| now - last >= LOST_FOR));
                    last = Some(now);
                }
            }
        }
    }
}
