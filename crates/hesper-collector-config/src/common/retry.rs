//! `retry_on_failure`.

use crate::{remark::Topic, section::Section};
use std::time::Duration;

/// How a failed delivery is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Try again at all?
    pub enabled: bool,
    /// The first wait (5 s).
    pub initial_interval: Duration,
    /// Each wait is so much longer (1.5).
    pub multiplier: f64,
    /// How much of a wait is chance, 0 to 1 (0.5).
    pub randomization_factor: f64,
    /// The longest wait (30 s).
    pub max_interval: Duration,
    /// When to give up and drop the data. None is for ever, and the default here; the Collector gives up after 5 min.
    pub max_elapsed_time: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            multiplier: 1.5,
            randomization_factor: 0.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: None,
        }
    }
}

/// Reads `retry_on_failure`.
pub(crate) fn retry(s: &Section<'_>, default: Retry) -> Retry {
    let read = |s: &Section<'_>| {
        let elapsed = s.duration("max_elapsed_time", Duration::ZERO);
        let retry = Retry {
            enabled: s.flag("enabled", default.enabled),
            initial_interval: s.duration("initial_interval", default.initial_interval),
            multiplier: s.float("multiplier", default.multiplier),
            randomization_factor: s.float("randomization_factor", default.randomization_factor),
            max_interval: s.duration("max_interval", default.max_interval),
            max_elapsed_time: Some(elapsed).filter(|elapsed| !elapsed.is_zero()),
        };
        check(s, &retry);
        retry
    };
    s.section("retry_on_failure", read).unwrap_or(default)
}

fn check(s: &Section<'_>, retry: &Retry) {
    if !(0.0..=1.0).contains(&retry.randomization_factor) {
        s.refuse("randomization_factor", "not between 0 and 1", "write 0.5");
    }
    if retry.multiplier < 1.0 {
        s.refuse("multiplier", "waits would become shorter", "write a number from 1 on");
    }
    if let Some(elapsed) = retry.max_elapsed_time.filter(|_| retry.enabled) {
        if elapsed < retry.initial_interval {
            s.refuse("max_elapsed_time", "shorter than initial_interval", "make it longer, or 0 for ever");
        }
        let reason = format!("{}: what was not delivered after {elapsed:?} is dropped", s.what);
        s.remark(Topic::Durability, "max_elapsed_time", reason, "write 0, or leave it out, to try for ever");
    }
    if !retry.enabled {
        let reason = format!("{}: what cannot be delivered at once is dropped", s.what);
        s.remark(Topic::Durability, "enabled", reason, "write true to try again");
    }
}
