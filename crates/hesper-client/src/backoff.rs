//! Waiting times between attempts: exponential with full jitter. Pure; seedable.

use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// First ceiling.
const BASE: Duration = Duration::from_millis(100);
/// Last ceiling.
const CAP: Duration = Duration::from_secs(5);
/// Shortest wait: jitter may never make a busy loop.
const FLOOR: Duration = Duration::from_millis(10);

/// The next waiting time after each failure. The ceiling doubles each time up to a cap; each wait is drawn evenly from
/// zero to the ceiling ("full jitter").
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    ceiling: Duration,
    rng: StdRng,
}

impl Default for Backoff {
    /// 100 ms to 5 s, seeded from the system.
    fn default() -> Self {
        Self::new(BASE, CAP, rand::rng().random())
    }
}

impl Backoff {
    /// Ceilings from `base` to `cap`; the same seed gives the same waits.
    pub fn new(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base, cap, ceiling: base, rng: StdRng::seed_from_u64(seed) }
    }

    /// How long to wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(self.rng.random_range(0.0..=1.0)).max(FLOOR);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.cap);
        wait
    }

    /// After a success: the next wait is short again.
    pub fn reset(&mut self) {
        self.ceiling = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_under_a_doubling_ceiling_and_start_over_after_a_success() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(BASE, CAP, seed);
            for round in 0..2 {
                for ceiling in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
                    let wait = backoff.next_wait();
                    assert!(wait <= Duration::from_millis(ceiling), "seed {seed} round {round}: {wait:?}");
                    assert!(wait >= FLOOR);
                }
                backoff.reset();
            }
        }
    }

    #[test]
    fn waits_are_spread_and_repeat_with_their_seed() {
        let late = |seed| {
            let mut backoff = Backoff::new(BASE, CAP, seed);
            (0..8).map(|_| backoff.next_wait()).last().unwrap()
        };
        assert_eq!(late(1), late(1));
        let waits: Vec<_> = (0..1000).map(late).collect();
        for second in 0..5 {
            let within = waits.iter().filter(|w| w.as_secs() == second).count();
            assert!((130..270).contains(&within), "{within} of 1000 in second {second}");
        }
    }
}
