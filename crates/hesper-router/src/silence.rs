//! Has a session been heard of lately? Pure.
//!
//! Nodes ping every two seconds or more often, so one that says nothing for five is gone: killed, frozen, or cut off. Looks at its
//! connection are counted and not time: a router that was asleep itself looks once when it wakes, hears what has been waiting
//! for it, and gives nobody up for its own sleep.

use std::time::Duration;

/// Pause between two looks: also the longest time that a node whose address changed stays deaf after its first packet from there.
pub(crate) const LOOK: Duration = Duration::from_millis(250);
/// Looks without a sign after which a way over a link is preferred: more than one ping is missing.
const QUIET_AFTER: u32 = 11;
/// Looks without a sign after which the session is detached: five seconds.
const SILENT_AFTER: u32 = 20;

/// What is made of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Well,
    Quiet,
    /// Once; it goes on as quiet until it is detached.
    Silent,
}

/// One session's silence.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    signs: u64,
    looks: u32,
}

impl Silence {
    /// So many authenticated signs have come from it since it attached.
    pub(crate) fn look(&mut self, signs: u64) -> Look {
        if signs == self.signs {
            self.looks = self.looks.saturating_add(1);
        } else {
            *self = Self { signs, looks: 0 };
        }
        match self.looks {
            SILENT_AFTER => Look::Silent,
            QUIET_AFTER.. => Look::Quiet,
            _ => Look::Well,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_given_up_after_five_seconds_and_one_that_pings_never() {
        assert_eq!(LOOK * SILENT_AFTER, Duration::from_secs(5));
        assert!(LOOK * QUIET_AFTER > Duration::from_millis(2_500), "a ping may be late");
        let mut silence = Silence::default();
        let looks: Vec<_> = (0..24).map(|_| silence.look(0)).collect();
        assert_eq!(looks[..10], [Look::Well; 10]);
        assert_eq!(looks[10..19], [Look::Quiet; 9]);
        assert_eq!((looks[19], &looks[20..]), (Look::Silent, &[Look::Quiet; 4][..]), "said once");
        assert_eq!(silence.look(1), Look::Well);
        assert!((0..1_000).all(|look| silence.look(look / 8) == Look::Well), "a ping every two seconds");
    }
}
