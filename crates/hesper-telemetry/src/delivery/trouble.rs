//! What is told of a destination that does not take what it is sent. Pure.
//!
//! An outage has thousands of failed attempts: the first is told at once, then one in a while with how many there were, sooner when the
//! reason is another one, and the end of it.

use std::time::Duration;
use tokio::time::Instant;

/// How long failures for the same reason are only counted, and for another one.
const QUIET: Duration = Duration::from_secs(60);
const OTHER: Duration = Duration::from_secs(1);

/// Attempts of one destination.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    told: Option<(Instant, String)>,
    untold: u64,
    failed: u64,
}

impl Trouble {
    /// An attempt failed. Some: tell it, for so many.
    pub(crate) fn failed(&mut self, reason: &str, now: Instant) -> Option<u64> {
        self.failed += 1;
        self.untold += 1;
        if let Some((told, before)) = &self.told
            && now < *told + if before == reason { QUIET } else { OTHER }
        {
            return None;
        }
        self.told = Some((now, reason.to_owned()));
        Some(std::mem::take(&mut self.untold))
    }

    /// One succeeded. Some: the trouble is over, after so many failures.
    pub(crate) fn over(&mut self) -> Option<u64> {
        self.told.take()?;
        self.untold = 0;
        Some(std::mem::take(&mut self.failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_at_its_start_now_and_then_and_at_its_end() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        assert_eq!(trouble.over(), None);
        let told: Vec<u64> = (0..150)
            .filter_map(|second| trouble.failed("down", start + Duration::from_secs(second)))
            .collect();
        assert_eq!(told, [1, 60, 60]);
        assert_eq!((trouble.over(), trouble.over()), (Some(150), None));
        assert_eq!(trouble.failed("down", start), Some(1), "the next one is told at once");
        assert_eq!(trouble.failed("refused", start), None);
        assert_eq!(trouble.failed("refused", start + OTHER), Some(2), "another reason is told soon");
    }
}
