//! When a delivery that failed is tried again: exponential backoff with chance in it.

use hesper_collector_config::Retry;
use std::time::Duration;

/// The longest wait that a destination can ask for. Who says more is asked again after an hour all the same.
const AFTER_MAX: Duration = Duration::from_secs(3600);

/// How often one delivery has failed, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Backoff {
    /// The next wait, before chance.
    interval: Option<Duration>,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again after this.
    Wait(Duration),
    /// It has been tried for long enough.
    GiveUp,
}

impl Backoff {
    /// An attempt has failed, `elapsed` after the first one began. `after` is what the destination asked for: no wait is shorter,
    /// and those that follow grow from it. `chance` is between 0 and 1.
    pub(crate) fn failed(
        &mut self,
        settings: &Retry,
        elapsed: Duration,
        after: Option<Duration>,
        chance: f64,
    ) -> Next {
        if !settings.enabled {
            return Next::GiveUp;
        }
        let after = after.unwrap_or_default().min(AFTER_MAX);
        let interval =
            self.interval.unwrap_or(settings.initial_interval).min(settings.max_interval).max(after);
        self.interval = Some(scale(interval, settings.multiplier).min(settings.max_interval.max(interval)));
        let factor = 1.0 - settings.randomization_factor + 2.0 * settings.randomization_factor * chance;
        let wait = scale(interval, factor).max(after);
        match settings.max_elapsed_time {
            Some(most) if elapsed.saturating_add(wait) > most => Next::GiveUp,
            _ => Next::Wait(wait),
        }
    }
}

/// A duration beyond all durations is the longest one.
fn scale(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits(settings: &Retry, after: &[Option<u64>]) -> Vec<u64> {
        let mut backoff = Backoff::default();
        let wait = |after: &Option<u64>| match backoff.failed(
            settings,
            Duration::ZERO,
            after.map(Duration::from_secs),
            0.5,
        ) {
            Next::Wait(wait) => u64::try_from(wait.as_millis()).expect("short"),
            Next::GiveUp => panic!("given up"),
        };
        after.iter().map(wait).collect()
    }

    #[test]
    fn waits_grow_up_to_the_longest() {
        let retry = Retry::default();
        assert_eq!(waits(&retry, &[None; 7]), [5000, 7500, 11250, 16875, 25312, 30000, 30000]);
    }

    #[test]
    fn check_41_what_the_destination_asks_for_is_the_least_and_the_rest_grows_from_it() {
        let retry = Retry::default();
        assert_eq!(waits(&retry, &[Some(1), Some(10), None, None]), [5000, 10000, 15000, 22500]);
        assert_eq!(waits(&retry, &[Some(60), None, Some(1 << 40)]), [60000, 30000, 3_600_000]);
    }

    #[test]
    fn it_gives_up_only_when_told_to() {
        let mut backoff = Backoff::default();
        let mut retry = Retry::default();
        assert!(matches!(backoff.failed(&retry, Duration::MAX, None, 0.5), Next::Wait(_)), "never by itself");
        retry.max_elapsed_time = Some(60 * SECOND);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(&retry, 55 * SECOND, None, 0.5), Next::Wait(5 * SECOND));
        assert_eq!(backoff.failed(&retry, 55 * SECOND, None, 0.5), Next::GiveUp, "7.5 s later");
        retry.enabled = false;
        assert_eq!(backoff.failed(&retry, Duration::ZERO, None, 0.5), Next::GiveUp);
    }

    proptest! {
        #[test]
        fn waits_are_within_their_bounds(
            factor in 0.0..=1.0_f64,
            multiplier in 1.0..10.0_f64,
            steps in prop::collection::vec((prop::option::of(0_u64..100_000), 0.0..=1.0_f64), 1..60),
        ) {
            let settings = Retry { randomization_factor: factor, multiplier, ..Retry::default() };
            let mut backoff = Backoff::default();
            for (after, chance) in steps {
                let after = after.map(Duration::from_millis);
                let Next::Wait(wait) = backoff.failed(&settings, Duration::ZERO, after, chance) else {
                    return Err(TestCaseError::fail("given up"));
                };
                prop_assert!(wait >= after.unwrap_or_default());
                let most = settings.max_interval.max(after.unwrap_or_default());
                prop_assert!(wait <= scale(most, 1.0 + factor + 0.001), "{:?}", wait);
                let least = settings.initial_interval.min(settings.max_interval);
                prop_assert!(wait >= scale(least, (1.0 - factor - 0.001).max(0.0)));
            }
        }
    }
}
