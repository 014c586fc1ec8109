//! When to ask a provider for its keys: a table, without clock and network.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Keys are asked for again after so long.
const FRESH: Duration = Duration::from_secs(3600);
/// When the provider cannot be reached, its keys are good for so long.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// For keys that are not known it is asked at most that often, whatever strangers send.
const QUIET: Duration = Duration::from_secs(10);
/// When it could not be reached, it is left alone for so long.
const RETRY: Duration = Duration::from_secs(5);
/// Key ids that are remembered as unknown.
const MAX_MISSING: usize = 256;

/// What is known about the keys.
#[derive(Default)]
pub(super) struct Refresh {
    fetched: Option<Instant>,
    failed: Option<Instant>,
    /// Ids that were looked for since, and that the provider does not have.
    missing: BTreeSet<String>,
}

/// What to do for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Use the key.
    Use,
    /// Use the key, and ask for newer ones meanwhile.
    UseAndFetch,
    /// Ask first.
    Fetch,
    /// The provider does not have the key.
    Unknown,
    /// It cannot be known now; after so long it may be.
    Later(Duration),
}

impl Refresh {
    /// For a token whose key is there (`found`), or is not.
    pub(super) fn step(&self, now: Instant, found: bool, id: &str) -> Step {
        let since = |at: Instant| now.saturating_duration_since(at);
        let age = self.fetched.map(since);
        let resting = self.failed.map(since).filter(|ago| *ago < RETRY).map(|ago| RETRY - ago);
        match (found, age, resting) {
            (true, Some(age), _) if age < FRESH => Step::Use,
            (true, Some(age), None) if age < STALE => Step::UseAndFetch,
            (true, Some(age), Some(_)) if age < STALE => Step::Use,
            (false, Some(age), _) if age < QUIET && self.missing.contains(id) => Step::Unknown,
            (_, _, Some(rest)) => Step::Later(rest),
            (false, Some(age), None) if age < QUIET => Step::Later(QUIET - age),
            _ => Step::Fetch,
        }
    }

    /// The keys have come.
    pub(super) fn fetched(&mut self, now: Instant) {
        *self = Self { fetched: Some(now), ..Self::default() };
    }

    /// They have not.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failed = Some(now);
    }

    /// A key is not among those that have just come.
    pub(super) fn missing(&mut self, id: &str) {
        if self.missing.len() < MAX_MISSING {
            self.missing.insert(id.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn keys_are_used_asked_for_again_and_given_up() {
        let start = Instant::now();
        let mut refresh = Refresh::default();
        assert_eq!(refresh.step(start, false, "a"), Step::Fetch);
        refresh.fetched(start);
        for (age, expected) in [
            (Duration::ZERO, Step::Use),
            (FRESH - SECOND, Step::Use),
            (FRESH, Step::UseAndFetch),
            (STALE - SECOND, Step::UseAndFetch),
            (STALE, Step::Fetch),
        ] {
            assert_eq!(refresh.step(start + age, true, "a"), expected, "{age:?}");
        }
        refresh.failed(start + FRESH);
        assert_eq!(refresh.step(start + FRESH, true, "a"), Step::Use, "the provider is left alone");
        assert_eq!(refresh.step(start + FRESH + RETRY, true, "a"), Step::UseAndFetch);
        refresh.failed(start + STALE);
        assert_eq!(refresh.step(start + STALE, true, "a"), Step::Later(RETRY));
        refresh.fetched(start + STALE);
        assert_eq!(refresh.step(start + STALE, true, "a"), Step::Use);
    }

    #[test]
    fn unknown_keys_cost_the_provider_one_question_in_a_while() {
        let start = Instant::now();
        let mut refresh = Refresh::default();
        refresh.fetched(start);
        assert_eq!(
            refresh.step(start + SECOND, false, "b"),
            Step::Later(QUIET - SECOND),
            "it may be a new one"
        );
        assert_eq!(refresh.step(start + QUIET, false, "b"), Step::Fetch);
        refresh.fetched(start + QUIET);
        refresh.missing("b");
        assert_eq!(refresh.step(start + QUIET, false, "b"), Step::Unknown);
        assert_eq!(refresh.step(start + QUIET, false, "c"), Step::Later(QUIET));
        assert_eq!(refresh.step(start + 2 * QUIET, false, "b"), Step::Fetch);
        for n in 0..2 * MAX_MISSING {
            refresh.missing(&n.to_string());
        }
        assert_eq!(refresh.missing.len(), MAX_MISSING);
    }

    #[test]
    fn a_provider_that_is_away_is_not_asked_all_the_time() {
        let start = Instant::now();
        let mut refresh = Refresh::default();
        refresh.failed(start);
        assert_eq!(refresh.step(start + SECOND, false, "a"), Step::Later(RETRY - SECOND));
        assert_eq!(refresh.step(start + RETRY, false, "a"), Step::Fetch);
    }
}
