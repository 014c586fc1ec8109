//! How far away a router is, as its answers to pings show: pure.
//!
//! QUIC's own estimate gives each sample an eighth of the weight; on a connection that carries a ping per second or two it takes half a
//! minute to believe in a change. What paths are chosen by is the least of the last few seconds instead: a way that has become shorter shows
//! with the next answer, one that has become longer when the window is over, and a single late answer does not show at all.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Answers older than this count no more, once there is a newer one: two or three pings of an idle connection.
pub const WINDOW: Duration = Duration::from_secs(4);
/// Pings without an answer, and answers, that are remembered: as many as a busy connection has in the window.
const MAX: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub struct RoundTrips {
    asked: VecDeque<(u64, Instant)>,
    measured: VecDeque<(Instant, Duration)>,
}

impl RoundTrips {
    /// A ping leaves with this number, which is random: nobody can answer it before having heard it.
    pub fn asked(&mut self, nonce: u64, now: Instant) {
        if self.asked.len() == MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((nonce, now));
    }

    /// The answer to a ping. Any other number means nothing, nor does one for the second time.
    pub fn answered(&mut self, nonce: u64, now: Instant) {
        let Some(at) = self.asked.iter().position(|(asked, _)| *asked == nonce) else { return };
        let Some((_, since)) = self.asked.drain(..=at).next_back() else { return };
        while self.measured.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
            || self.measured.len() == MAX
        {
            self.measured.pop_front();
        }
        self.measured.push_back((now, now.saturating_duration_since(since)));
    }

    /// The round trip as it is now; `None` before the first answer.
    pub fn least(&self) -> Option<Duration> {
        self.measured.iter().map(|(_, rtt)| *rtt).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Pings with these pauses before them and these round trips, the next one after the answer to the one before.
    fn measure(trips: &mut RoundTrips, at: &mut Instant, pings: &[(u64, u64)]) {
        for (pause, rtt) in pings {
            let nonce = trips.measured.len() as u64;
            *at += ms(*pause);
            trips.asked(nonce, *at);
            *at += ms(*rtt);
            trips.answered(nonce, *at);
        }
    }

    /// A ping per second, each answered late by so much.
    fn noisy(rtt: u64, noise: &[u64]) -> Vec<(u64, u64)> {
        noise.iter().map(|late| (1_000, rtt + late)).collect()
    }

    #[test]
    fn only_an_answer_to_what_was_asked_counts_and_once() {
        let (mut trips, now) = (RoundTrips::default(), Instant::now());
        trips.answered(0, now);
        assert_eq!(trips.least(), None);
        trips.asked(7, now);
        trips.asked(8, now + ms(10));
        trips.answered(9, now + ms(11));
        trips.answered(8, now + ms(30));
        assert_eq!(trips.least(), Some(ms(20)));
        trips.answered(8, now + ms(31));
        trips.answered(7, now + ms(31));
        assert_eq!((trips.least(), trips.measured.len()), (Some(ms(20)), 1), "what came late is of no use");
        (0..100).for_each(|nonce| trips.asked(nonce, now));
        assert_eq!(trips.asked.len(), MAX);
    }

    #[test]
    fn a_way_that_becomes_shorter_shows_at_once_and_one_that_becomes_longer_within_the_window() {
        let (mut trips, mut at) = (RoundTrips::default(), Instant::now());
        measure(&mut trips, &mut at, &[(1_000, 40); 10]);
        measure(&mut trips, &mut at, &[(1_000, 5)]);
        assert_eq!(trips.least(), Some(ms(5)));
        let changed = at;
        while trips.least() == Some(ms(5)) {
            measure(&mut trips, &mut at, &[(1_000, 40)]);
        }
        assert_eq!(trips.least(), Some(ms(40)));
        assert!(at - changed <= WINDOW + ms(1_040), "{:?}", at - changed);
    }

    proptest! {
        /// Whatever the pings, the result is the least of the window: no answer that is older counts, and none that is not there.
        #[test]
        fn it_is_the_least_of_the_last_few_seconds(pings in proptest::collection::vec((0u64..3_000, 0u64..500), 1..100)) {
            let (mut trips, mut at, mut all) = (RoundTrips::default(), Instant::now(), Vec::new());
            for (pause, rtt) in pings {
                measure(&mut trips, &mut at, &[(pause, rtt)]);
                all.push((at, ms(rtt)));
                let recent = all.iter().rev().take(MAX).filter(|(then, _)| at - *then < WINDOW);
                prop_assert_eq!(trips.least(), recent.map(|(_, rtt)| *rtt).min());
            }
        }

        /// A change that stays is believed after the window, and noise on top of a round trip hides it no longer.
        #[test]
        fn a_lasting_change_is_believed_within_seconds(
            before in 1u64..300, after in 1u64..300,
            noise in proptest::collection::vec(0u64..200, 12)
        ) {
            let (mut trips, mut at) = (RoundTrips::default(), Instant::now());
            measure(&mut trips, &mut at, &noisy(before, &noise));
            let changed = at;
            for rtt in noisy(after, &noise) {
                measure(&mut trips, &mut at, &[rtt]);
                let now = trips.least().unwrap();
                let late = at - changed >= WINDOW + ms(1_000 + rtt.1);
                prop_assert!(!late || now >= ms(after), "{now:?}");
                prop_assert!(now <= ms(rtt.1));
            }
        }
    }
}
