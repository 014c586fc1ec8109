//! How long to wait before a connection is tried again.

use std::time::Duration;

/// The first wait. Short: most servers that are gone are about to come back, and every waiting batch knocks at one connection only.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait, before chance: shorter than the longest wait between two attempts to deliver (30 s), so as not to add to it.
const LONGEST: Duration = Duration::from_secs(10);

/// Failures in a row, and what follows of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure. `chance` is from 0 to 1: no two clients come back at the same time (OTLP demands jitter).
    pub(crate) fn fail(&mut self, chance: f64) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(0.5 + chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_43_waits_grow_and_hang_on_chance() {
        let waits = |chance| {
            let mut backoff = Backoff::default();
            (0..40).map(|_| backoff.fail(chance)).collect::<Vec<_>>()
        };
        let (short, long) = (waits(0.0), waits(1.0));
        assert_eq!((short[0], long[0]), (FIRST / 2, FIRST * 3 / 2));
        assert!(short.is_sorted() && long.is_sorted());
        assert_eq!(long[39], LONGEST * 3 / 2);
        assert!(short.iter().zip(&long).all(|(short, long)| short < long));
    }
}
