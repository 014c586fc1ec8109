//! When a grant is used, chosen anew and renewed: plain functions of numbers.

use std::time::Duration;

/// Part of a grant's life after which it is renewed, or chosen anew for new dials, in percent.
const RENEW_AT_PERCENT: u64 = 60;
/// A renewal comes this much later at most, in percent of the life, so that the nodes of a large mesh do not ask in step.
const RENEW_JITTER_PERCENT: u64 = 8;
/// First and longest pause between failed renewals, seconds.
const RETRY_SECS: (u64, u64) = (1, 15);
/// Renewals after a new watch are spread over this time.
const NEW_WATCH_SPREAD: Duration = Duration::from_secs(1);

/// Begin and end of a grant, seconds since the epoch, by this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

/// What to do with a cached grant when somebody dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Use it.
    Cached,
    /// Ask for a new one; if nobody answers, use it.
    Refresh,
    /// Ask for a new one.
    Ask,
}

impl Life {
    /// When it is due for renewal; `jitter` is from 0 to 255.
    pub(crate) fn due(self, jitter: u8) -> u64 {
        let life = self.end.saturating_sub(self.begin);
        self.begin + life * RENEW_AT_PERCENT / 100 + life * RENEW_JITTER_PERCENT * u64::from(jitter) / 25_500
    }

    /// A choice that is good no more is made anew for new dials, though renewals keep the lease alive.
    pub(crate) fn decide(self, now: u64, good_choice: bool, connected: bool) -> Use {
        match (connected, now < self.end) {
            (true, true) if good_choice && now < self.due(0) => Use::Cached,
            (true, true) => Use::Refresh,
            (true, false) => Use::Ask,
            // The hosting side honours a lapsed grant during an outage, and judges that itself.
            (false, _) => Use::Cached,
        }
    }
}

/// When a lease is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// The watch that this is about.
    pub(super) watch: u64,
    /// Issued or renewed in that watch: a controller that was started again remembers no older grant, and could not revoke it.
    known: bool,
    /// Earliest next try, seconds since the epoch, and the pause after it.
    next: u64,
    pause: u64,
}

impl Renewal {
    /// Of a grant that was just issued in this watch.
    pub(crate) fn done(watch: u64) -> Self {
        Self { watch, known: true, next: 0, pause: RETRY_SECS.0 }
    }

    pub(super) fn is_known_in(&self, watch: u64) -> bool {
        self.watch == watch && self.known
    }

    /// How long to wait before a renewal that is due by now; `due` is when the grant's age asks for it. Notes the try.
    pub(crate) fn take(&mut self, now: u64, watch: u64, due: u64, jitter: u8) -> Option<Duration> {
        if self.watch != watch {
            *self = Self { known: false, ..Self::done(watch) };
        }
        if now < self.next || (self.known && now < due) {
            return None;
        }
        let spread = if self.next == 0 && !self.known { NEW_WATCH_SPREAD } else { Duration::ZERO };
        self.next = now + spread.as_secs() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_SECS.1);
        Some(spread * u32::from(jitter) / u32::from(u8::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life { begin: 1000, end: 1300 };

    #[test]
    fn renewal_is_due_at_sixty_percent_and_a_little_later_for_some() {
        assert_eq!(LIFE.due(0), 1180);
        assert_eq!(LIFE.due(255), 1204);
        assert_eq!(Life { begin: 5, end: 5 }.due(255), 5);
        assert_eq!(Life { begin: 9, end: 5 }.due(255), 9, "a clock that is ahead of the controller's");
    }

    #[test]
    fn a_dial_uses_what_is_cached_for_a_while() {
        for (now, good, connected, expected) in [
            (1000, true, true, Use::Cached),
            (1000, false, true, Use::Refresh),
            (1179, true, true, Use::Cached),
            (1180, true, true, Use::Refresh),
            (1299, false, true, Use::Refresh),
            (1300, true, true, Use::Ask),
            (1180, false, false, Use::Cached),
            (5000, false, false, Use::Cached),
        ] {
            assert_eq!(LIFE.decide(now, good, connected), expected, "{now} {good} {connected}");
        }
    }

    #[test]
    fn a_renewal_is_tried_when_due_and_again_with_growing_pauses() {
        let mut renewal = Renewal::done(1);
        let mut tries = Vec::new();
        for now in 1000..1250 {
            tries.extend(renewal.take(now, 1, 1180, 255).map(|wait| (now, wait)));
        }
        let expected = [1180, 1181, 1183, 1187, 1195, 1210, 1225, 1240];
        assert_eq!(tries, expected.map(|now| (now, Duration::ZERO)));
    }

    #[test]
    fn a_new_watch_renews_at_once_what_an_older_one_issued() {
        for (jitter, wait) in [(0, Duration::ZERO), (51, Duration::from_millis(200)), (255, NEW_WATCH_SPREAD)]
        {
            let mut renewal = Renewal::done(1);
            assert_eq!(renewal.take(1001, 1, 1180, jitter), None, "fresh");
            assert_eq!(
                renewal.take(1001, 2, 1180, jitter),
                Some(wait),
                "the new controller knows nothing of it"
            );
            assert_eq!(renewal.take(1002, 2, 1180, jitter), None, "being tried");
            assert_eq!(renewal.take(1003, 2, 1180, jitter), Some(Duration::ZERO), "that failed");
            assert_eq!(renewal.take(1003, 3, 1180, jitter), Some(wait), "another watch: no old pause counts");
            renewal = Renewal::done(3);
            assert_eq!(renewal.take(1003, 3, 1180, jitter), None, "renewed");
        }
    }
}
