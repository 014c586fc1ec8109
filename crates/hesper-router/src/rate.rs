//! A token bucket: how long a sender must wait for its next message, or whether it may have it now. Pure.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Rate {
    burst: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Rate {
    /// `burst` messages at once, `per_second` in the long run.
    pub(crate) fn new(burst: f64, per_second: f64, now: Instant) -> Self {
        Self { burst, per_second, left: burst, at: now }
    }

    /// Takes one message; the wait after which it may be handled.
    pub(crate) fn take(&mut self, now: Instant) -> Duration {
        self.earn(now);
        self.left -= 1.0;
        if self.left >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.left / self.per_second) }
    }

    /// Takes one now, or none at all.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        self.earn(now);
        let free = self.left >= 1.0;
        if free {
            self.left -= 1.0;
        }
        free
    }

    /// Has nothing been taken for so long that it does not matter any more?
    pub(crate) fn is_rested(&mut self, now: Instant) -> bool {
        self.earn(now);
        self.left >= self.burst
    }

    fn earn(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + earned).min(self.burst);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_it_goes_at_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(3.0, 10.0, start);
        for _ in 0..3 {
            assert_eq!(rate.take(start), Duration::ZERO);
        }
        let mut now = start;
        for _ in 0..20 {
            let wait = rate.take(now);
            assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(101), "{wait:?}");
            now += wait;
        }
        assert_eq!(rate.take(now + Duration::from_secs(60)), Duration::ZERO, "patience is rewarded");
    }
}
