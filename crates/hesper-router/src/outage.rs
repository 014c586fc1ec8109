//! What a lapsed token is still worth while the controller is away: pure.
//!
//! Passes live for minutes and are renewed by the nodes. When no controller can be reached nobody can renew, so whatever was
//! valid when the outage began is honoured for the grace that the operator chose, and everything fails closed after it. When
//! the controller returns, nodes get a moment to renew before the lapsed passes end.

/// Seconds after the controller's return in which nodes fetch fresh passes; reconnecting takes them up to five.
const RENEWAL_WINDOW_SECS: u64 = 60;

/// The controller's absence, past or present. All times in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    grace_secs: u64,
    since: Option<u64>,
    /// Lost again at, if the controller was there for a moment only.
    again: u64,
    ended: Option<u64>,
}

impl Outage {
    /// No outage so far; `grace_secs` = 0 honours nothing beyond its time.
    pub(crate) fn new(grace_secs: u64) -> Self {
        Self { grace_secs, since: None, again: 0, ended: None }
    }

    /// The controller was last heard of at `at`. A relapse within the renewal window continues the outage before it for what had
    /// lapsed by then, and is another outage for everything else.
    pub(crate) fn lost(&mut self, at: u64) {
        match (self.since, self.ended) {
            (Some(_), None) => return,
            (Some(_), Some(ended)) if at < ended + RENEWAL_WINDOW_SECS => {}
            _ => self.since = Some(at),
        }
        self.again = at;
        self.ended = None;
    }

    /// The controller is back.
    pub(crate) fn over(&mut self, now: u64) {
        if self.since.is_some() && self.ended.is_none() {
            self.ended = Some(now);
        }
    }

    /// Until when something that expires at `exp` is honoured: never earlier than `exp`.
    pub(crate) fn deadline(&self, exp: u64) -> u64 {
        let Some(since) = self.since.filter(|since| exp >= *since) else { return exp };
        let lost = if exp < self.again { since } else { self.again };
        let grace = lost.saturating_add(self.grace_secs);
        let until = match self.ended {
            None => grace,
            Some(ended) if exp < ended + RENEWAL_WINDOW_SECS => grace.min(ended + RENEWAL_WINDOW_SECS),
            Some(_) => exp,
        };
        until.max(exp)
    }

    /// Is something that expires at `exp` honoured at `now`?
    pub(crate) fn honours(&self, exp: u64, now: u64) -> bool {
        now < self.deadline(exp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_valid_when_the_controller_left_lasts_through_the_grace() {
        let mut outage = Outage::new(3_600);
        assert!(!outage.honours(1_000, 1_000), "no outage: the end is the end");
        outage.lost(900);
        for (exp, now, good) in [
            (1_000, 1_000, true),
            (1_000, 900 + 3_599, true),
            (1_000, 900 + 3_600, false),
            (899, 899, false),
            (900, 901, true),
            (9_000, 8_999, true),
            (9_000, 9_000, false),
        ] {
            assert_eq!(outage.honours(exp, now), good, "exp {exp} at {now}");
        }
    }

    #[test]
    fn the_controllers_return_leaves_a_moment_to_renew() {
        let mut outage = Outage::new(3_600);
        outage.lost(900);
        outage.over(2_000);
        assert!(outage.honours(1_000, 2_059));
        assert!(!outage.honours(1_000, 2_060));
        assert!(!outage.honours(2_100, 2_100), "given after the return: as usual");
        outage.lost(2_010);
        assert!(outage.honours(1_000, 2_500), "a relapse continues the first outage");
        assert!(!outage.honours(1_000, 900 + 3_600), "and its grace");
        assert!(outage.honours(2_100, 2_010 + 3_599), "renewed in between: a grace of its own");
        assert!(!outage.honours(2_100, 2_010 + 3_600));
        outage.over(2_600);
        outage.lost(3_000);
        assert!(!outage.honours(1_000, 3_001), "a later outage is another one");
    }

    proptest! {
        #[test]
        fn never_shorter_than_the_token_and_nothing_without_grace(
            events in proptest::collection::vec((any::<bool>(), 0u64..500), 0..20), exp in 0u64..5_000, grace in 0u64..2_000,
        ) {
            let (mut with, mut without, mut now) = (Outage::new(grace), Outage::new(0), 0);
            for (lost, later) in events {
                now += later;
                for outage in [&mut with, &mut without] {
                    if lost { outage.lost(now) } else { outage.over(now) }
                }
                prop_assert!(with.deadline(exp) >= exp);
                prop_assert_eq!(without.deadline(exp), exp);
                prop_assert!(with.deadline(exp) <= exp.max(now + grace));
                prop_assert!(with.deadline(exp) <= with.deadline(exp + 1), "what ends later is honoured longer");
            }
        }
    }
}
