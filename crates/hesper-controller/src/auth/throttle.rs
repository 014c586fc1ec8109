//! How often somebody may try to log in. Pure: time comes from outside.
//!
//! Failures are counted per caller (address and username) and per address. After a few, each further one doubles the wait.
//! A success forgets the caller's failures, not the address's.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Failures of one username from one address before there is a wait.
const FREE_PER_CALLER: u32 = 5;
/// Failures from one address before there is a wait: several administrators may sit behind one.
const FREE_PER_ADDRESS: u32 = 20;
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Failures are forgotten after so long.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Callers remembered; when there are more, the one that failed longest ago is forgotten.
const MAX_CALLERS: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Failed logins of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    callers: HashMap<String, Failures>,
}

impl Throttle {
    /// How long the caller has to wait before the next try.
    pub(super) fn wait(&self, address: &str, username: &str, now: Instant) -> Option<Duration> {
        let of = |key: &str, free| self.callers.get(key).and_then(|f| remaining(*f, free, now));
        of(&caller(address, username), FREE_PER_CALLER).max(of(address, FREE_PER_ADDRESS))
    }

    /// A login failed.
    pub(super) fn failed(&mut self, address: &str, username: &str, now: Instant) {
        for key in [caller(address, username), address.to_owned()] {
            self.make_room(now);
            let failures = self.callers.entry(key).or_insert(Failures { count: 0, last: now });
            let fresh = now.duration_since(failures.last) < MEMORY;
            *failures =
                Failures { count: if fresh { failures.count.saturating_add(1) } else { 1 }, last: now };
        }
    }

    /// A login succeeded.
    pub(super) fn succeeded(&mut self, address: &str, username: &str) {
        self.callers.remove(&caller(address, username));
    }

    fn make_room(&mut self, now: Instant) {
        if self.callers.len() < MAX_CALLERS {
            return;
        }
        self.callers.retain(|_, f| now.duration_since(f.last) < MEMORY);
        while self.callers.len() >= MAX_CALLERS {
            let oldest = self.callers.iter().min_by_key(|(_, f)| f.last).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.callers.remove(&oldest);
        }
    }
}

fn caller(address: &str, username: &str) -> String {
    format!("{address}\0{username}")
}

fn remaining(failures: Failures, free: u32, now: Instant) -> Option<Duration> {
    let over = failures.count.checked_sub(free)?;
    let wait = Duration::from_secs(1u64.checked_shl(over).unwrap_or(u64::MAX)).min(LONGEST_WAIT);
    let passed = now.duration_since(failures.last);
    (passed < MEMORY).then(|| wait.checked_sub(passed)).flatten().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(throttle: &mut Throttle, failures: u32, start: Instant) {
        (0..failures).for_each(|_| throttle.failed("a", "admin", start));
    }

    #[test]
    fn the_wait_doubles_and_ends() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        after(&mut throttle, FREE_PER_CALLER - 1, start);
        assert_eq!(throttle.wait("a", "admin", start), None);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            throttle.failed("a", "admin", start);
            assert_eq!(throttle.wait("a", "admin", start), Some(Duration::from_secs(expected)));
        }
        assert_eq!(throttle.wait("a", "admin", start + Duration::from_secs(60)), None);
        assert_eq!(throttle.wait("a", "other", start), None, "another user from there may try");
        assert_eq!(
            throttle.wait("b", "admin", start),
            None,
            "nobody can lock an administrator out from elsewhere"
        );
    }

    #[test]
    fn one_address_with_many_names_waits_too() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        for i in 0..FREE_PER_ADDRESS {
            throttle.failed("a", &format!("user{i}"), start);
        }
        assert_eq!(throttle.wait("a", "yet another", start), Some(Duration::from_secs(1)));
    }

    #[test]
    fn success_and_time_forget() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        after(&mut throttle, FREE_PER_CALLER, start);
        throttle.succeeded("a", "admin");
        assert_eq!(throttle.wait("a", "admin", start), None);
        after(&mut throttle, FREE_PER_CALLER + 4, start);
        let later = start + MEMORY;
        throttle.failed("a", "admin", later);
        assert_eq!(throttle.wait("a", "admin", later), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        for i in 0..u64::try_from(MAX_CALLERS).expect("small") {
            throttle.failed(&format!("address{i}"), "admin", start + Duration::from_millis(i));
        }
        assert!(throttle.callers.len() <= MAX_CALLERS);
    }
}
