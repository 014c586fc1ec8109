//! Which terminators the dials of one key go to, and how long that holds.

use super::timing::Life;
use hesper_proto::control::Share;

/// A choice among some of the terminators only is made anew after so long, seconds: they may be well again, and nobody says so.
const NARROWED_SECS: u64 = 5;

/// The choice of a terminator: what it was made from, and when it is made anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Choice {
    /// When, seconds since the epoch.
    pub(crate) at: u64,
    /// The service's digest (`Service.choice`) before the controller was asked.
    pub(crate) digest: u64,
    /// Were some that are online avoided, or not reached?
    pub(crate) narrowed: bool,
    /// What part of the dials each terminator gets; empty = all go to the one chosen.
    pub(crate) shares: Vec<Share>,
}

impl Choice {
    /// Costs that come with use, and ways that get shorter, are not in the digest: so it is made anew once in a grant's life.
    pub(super) fn is_good(&self, now: u64, digest: u64, life: Life) -> bool {
        let good_for = if self.narrowed { NARROWED_SECS } else { life.due(0) - life.begin };
        self.digest == digest && now < self.at.saturating_add(good_for)
    }

    /// The terminator of one dial; `point` is anywhere from 0 to `u64::MAX`.
    pub(super) fn draw(&self, point: u64) -> Option<&str> {
        let total: u64 = self.shares.iter().map(|s| u64::from(s.weight)).sum();
        let mut left = u64::try_from((u128::from(point) * u128::from(total)) >> 64).ok()?;
        for share in &self.shares {
            match left.checked_sub(share.weight.into()) {
                Some(less) => left = less,
                None => return Some(&share.terminator_id),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life { begin: 1000, end: 1300 };

    #[test]
    fn a_choice_is_good_until_what_it_was_made_from_changes() {
        let choice = Choice { at: 1000, digest: 7, ..Choice::default() };
        let narrowed = Choice { narrowed: true, ..choice.clone() };
        for (choice, now, digest, good) in [
            (&choice, 1000, 7, true),
            (&choice, 1000, 8, false),
            (&choice, 1179, 7, true),
            (&choice, 1180, 7, false),
            (&narrowed, 1004, 7, true),
            (&narrowed, 1005, 7, false),
        ] {
            assert_eq!(choice.is_good(now, digest, LIFE), good, "{choice:?} {now} {digest}");
        }
    }

    #[test]
    fn dials_are_drawn_by_the_shares() {
        let share = |id: &str, weight| Share { terminator_id: id.into(), weight };
        let choice = Choice { shares: vec![share("a", 1), share("b", 3)], ..Choice::default() };
        let drawn: String = (0..8).filter_map(|eighth| choice.draw(eighth << 61)).collect();
        assert_eq!(drawn, "aabbbbbb");
        assert_eq!((choice.draw(u64::MAX), Choice::default().draw(5)), (Some("b"), None));
        let many = Choice { shares: vec![share("x", u32::MAX); 256], ..Choice::default() };
        assert_eq!(many.draw(u64::MAX), Some("x"));
    }
}
