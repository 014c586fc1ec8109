//! Is a session still there although its identity has attached as another one? Pure.
//!
//! One identity may well run several sessions at once. A node that was restarted comes as another session, too, and then the older one
//! is dead long before its connection times out. Only the older one can tell: it is asked for a sign, and it is gone when it gives none.
//! A session is asked by one question at a time, however many others attach meanwhile, and found to be gone once.

use std::time::Duration;

/// Pause between two looks at those that were asked.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// Looks without a sign after which a session is gone, besides two round trips: QUIC acknowledges within 25 ms, and a peer that the session
/// had should know within a second, of which it needs the greater part itself. Looks are counted and not time, as in [`crate::silence`].
const PATIENCE: u32 = 4;
/// A round trip is not believed to be longer.
const MAX_RTT: Duration = Duration::from_millis(500);

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It has given a sign, or there is no question.
    There,
    /// It has given none.
    Gone,
}

/// The doubt about one session.
#[derive(Debug, Default)]
pub(crate) enum Doubt {
    #[default]
    None,
    /// It was asked when it had given so many signs.
    Asked { signs: u64, looks: u32 },
    /// It was found to be gone, and may still prove the contrary.
    Gone { signs: u64 },
}

impl Doubt {
    /// Another session of its identity has attached; so many authenticated signs have come from this one. Should it be asked?
    pub(crate) fn arise(&mut self, signs: u64, rtt: Duration) -> bool {
        match self {
            // A sign from before this other session says nothing about it now: who has given one is asked anew.
            Self::Asked { signs: before, .. } | Self::Gone { signs: before } if *before == signs => false,
            Self::None | Self::Asked { .. } | Self::Gone { .. } => {
                let round_trips = 2 * rtt.min(MAX_RTT).as_millis() / LOOK.as_millis();
                let looks = PATIENCE + u32::try_from(round_trips).unwrap_or_default();
                *self = Self::Asked { signs, looks };
                true
            }
        }
    }

    /// To be asked every [`LOOK`] until it is settled.
    pub(crate) fn look(&mut self, now: u64) -> Option<Settled> {
        match self {
            Self::Asked { signs, .. } if *signs != now => *self = Self::None,
            Self::Asked { looks, .. } if *looks > 1 => {
                *looks -= 1;
                return None;
            }
            Self::Asked { signs, .. } => {
                *self = Self::Gone { signs: *signs };
                return Some(Settled::Gone);
            }
            Self::None | Self::Gone { .. } => {}
        }
        Some(Settled::There)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEAR: Duration = Duration::from_millis(1);

    /// Looks at one that gives no sign after having given `signs`, until it is settled.
    fn looks(doubt: &mut Doubt, signs: u64) -> (u32, Settled) {
        let settled = (1..).find_map(|looks| Some((looks, doubt.look(signs)?)));
        settled.expect("it ends")
    }

    #[test]
    fn a_session_that_gives_no_sign_is_gone_once() {
        let mut doubt = Doubt::default();
        assert_eq!(doubt.look(7), Some(Settled::There), "nobody doubts it");
        assert!(doubt.arise(7, NEAR));
        assert!(!doubt.arise(7, NEAR), "it has been asked");
        assert_eq!(looks(&mut doubt, 7), (PATIENCE, Settled::Gone));
        assert!(LOOK * PATIENCE <= Duration::from_millis(200), "its peers should know within a second");
        assert!(!doubt.arise(7, NEAR), "it is gone already");
        assert_eq!(doubt.look(7), Some(Settled::There), "and that was said");
        assert!(doubt.arise(8, NEAR), "it was not gone after all");
        assert_eq!(doubt.look(9), Some(Settled::There));
        assert!(doubt.arise(9, NEAR), "another session, another doubt");
    }

    #[test]
    fn an_answer_to_an_older_question_is_none_to_a_newer_one() {
        let mut doubt = Doubt::default();
        assert!(doubt.arise(7, NEAR));
        // It answers and dies, and its successor attaches before anybody has looked.
        assert!(doubt.arise(8, NEAR));
        assert_eq!(looks(&mut doubt, 8), (PATIENCE, Settled::Gone));
    }

    #[test]
    fn who_is_far_away_is_given_the_time_of_the_way() {
        for (rtt, expected) in
            [(0, PATIENCE), (100, PATIENCE + 4), (500, PATIENCE + 20), (9_000, PATIENCE + 20)]
        {
            let mut doubt = Doubt::default();
            assert!(doubt.arise(0, Duration::from_millis(rtt)));
            assert_eq!(looks(&mut doubt, 0), (expected, Settled::Gone), "{rtt} ms");
        }
    }

    proptest! {
        /// Sessions that all answer within the time are never found to be gone, and asked no more often than they answer.
        #[test]
        fn any_number_of_sessions_that_answer_cost_one_question_each(
            attaches in proptest::collection::vec(0..PATIENCE, 1..200)
        ) {
            let (mut doubt, mut signs, mut asked) = (Doubt::default(), 0, 0);
            for pause in &attaches {
                asked += u64::from(doubt.arise(signs, NEAR));
                for _ in 0..*pause {
                    prop_assert_ne!(doubt.look(signs), Some(Settled::Gone));
                }
                if *pause > 0 {
                    signs += 1;
                    prop_assert_eq!(doubt.look(signs), Some(Settled::There));
                }
            }
            prop_assert!(asked <= signs + 1);
        }
    }
}
