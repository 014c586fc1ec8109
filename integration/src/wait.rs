//! Waiting for a condition, with a deadline and a name for the message.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Between two looks. Short against any deadline, long enough not to keep a core busy.
const PAUSE: Duration = Duration::from_millis(25);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold `within` that time; the message says `what` was awaited.
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, within, || if condition() { Ok(()) } else { Err("not yet".to_owned()) });
}

/// Waits until `attempt` gives a value.
///
/// # Panics
/// When it gives none `within` that time; the message has the last reason.
pub fn wait_for<T>(what: &str, within: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if started.elapsed() >= within => {
                panic!("waited {within:?} in vain until {what}: {reason}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
