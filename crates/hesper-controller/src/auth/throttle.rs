//! How often somebody may try to log in. Pure: time comes from outside.
//!
//! Tries are counted per caller (address and username) and per address, and from their beginning: several at once get no further than one
//! after the other. After a few failures each further one doubles the wait, and then one try at a time is let through. A success forgets the
//! caller's failures, not the address's.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Failures of one username from one address before there is a wait.
const FREE_PER_CALLER: u32 = 5;
/// Failures from one address before there is a wait: several administrators may sit behind one.
const FREE_PER_ADDRESS: u32 = 20;
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long those wait who find too many tries under way: one takes a fraction of that.
const TURN: Duration = Duration::from_secs(1);
/// Failures are forgotten after so long.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Callers remembered; when there are more, the tenth of them that failed longest ago is forgotten.
const MAX_CALLERS: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Tries {
    failed: u32,
    /// When one failed last, or the first began.
    last: Instant,
    under_way: u32,
}

/// Logins of the last minutes that failed, and those under way.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    callers: HashMap<String, Tries>,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The password was right.
    Succeeded,
    /// It was wrong.
    Failed,
    /// It was not looked at.
    Untried,
}

/// Why there may be no try now, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Too many have failed.
    Failed(Duration),
    /// As many are under way as may still fail.
    Turn(Duration),
}

impl Throttle {
    /// A try begins, and counts as one that may fail until it has ended.
    ///
    /// # Errors
    /// How long the caller has to wait before the next one.
    pub(super) fn begin(&mut self, address: &str, username: &str, now: Instant) -> Result<(), Wait> {
        let keys = keys(address, username);
        let known = keys.iter().filter_map(|(key, free)| Some((*self.callers.get(key)?, *free)));
        let known: Vec<_> = known.collect();
        if let Some(wait) = known.iter().filter_map(|(tries, free)| remaining(*tries, *free, now)).max() {
            return Err(Wait::Failed(wait));
        }
        if known
            .iter()
            .any(|(tries, free)| tries.under_way >= free.saturating_sub(tries.failed_by(now)).max(1))
        {
            return Err(Wait::Turn(TURN));
        }
        for (key, _) in keys {
            self.make_room(now);
            let tries = self.callers.entry(key).or_insert(Tries { failed: 0, last: now, under_way: 0 });
            tries.failed = tries.failed_by(now);
            tries.under_way = tries.under_way.saturating_add(1);
        }
        Ok(())
    }

    /// A try that had begun is over.
    pub(super) fn end(&mut self, address: &str, username: &str, end: End, now: Instant) {
        for (key, free) in keys(address, username) {
            let Some(tries) = self.callers.get_mut(&key) else { continue };
            tries.under_way = tries.under_way.saturating_sub(1);
            match end {
                End::Failed => {
                    tries.failed = tries.failed_by(now).saturating_add(1);
                    tries.last = now;
                }
                End::Succeeded if free == FREE_PER_CALLER => tries.failed = 0,
                End::Succeeded | End::Untried => {}
            }
            if (tries.failed, tries.under_way) == (0, 0) {
                self.callers.remove(&key);
            }
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.callers.len() < MAX_CALLERS {
            return;
        }
        self.callers.retain(|_, t| t.under_way > 0 || t.failed_by(now) > 0);
        if self.callers.len() < MAX_CALLERS {
            return;
        }
        let mut lasts: Vec<_> = self.callers.values().map(|t| t.last).collect();
        let (_, last, _) = lasts.select_nth_unstable(MAX_CALLERS / 10);
        self.callers.retain(|_, t| t.under_way > 0 || t.last > *last);
    }
}

impl Tries {
    /// Failures that are not forgotten yet.
    fn failed_by(&self, now: Instant) -> u32 {
        if now.duration_since(self.last) < MEMORY { self.failed } else { 0 }
    }
}

/// A try under way. Dropped without a word, as when the caller has hung up, it has failed: what it tried may have been right.
#[derive(Debug)]
pub(super) struct Try<'a> {
    throttle: &'a Mutex<Throttle>,
    address: &'a str,
    username: &'a str,
    end: End,
}

impl<'a> Try<'a> {
    /// Begins one.
    ///
    /// # Errors
    /// How long the caller has to wait before the next one.
    pub(super) fn begin(
        throttle: &'a Mutex<Throttle>,
        address: &'a str,
        username: &'a str,
    ) -> Result<Self, Wait> {
        lock(throttle).begin(address, username, Instant::now())?;
        Ok(Self { throttle, address, username, end: End::Failed })
    }

    /// It is over.
    pub(super) fn end(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        lock(self.throttle).end(self.address, self.username, self.end, Instant::now());
    }
}

fn lock(throttle: &Mutex<Throttle>) -> MutexGuard<'_, Throttle> {
    throttle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a try counts for, and how many failures are free.
fn keys(address: &str, username: &str) -> [(String, u32); 2] {
    [(format!("{address}\0{username}"), FREE_PER_CALLER), (address.to_owned(), FREE_PER_ADDRESS)]
}

fn remaining(tries: Tries, free: u32, now: Instant) -> Option<Duration> {
    let over = tries.failed_by(now).checked_sub(free)?;
    let wait = Duration::from_secs(1u64.checked_shl(over).unwrap_or(u64::MAX)).min(LONGEST_WAIT);
    wait.checked_sub(now.duration_since(tries.last)).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Throttle {
        fn failed(&mut self, address: &str, username: &str, now: Instant) {
            // As if it had waited.
            let _ = self.begin(address, username, now);
            self.end(address, username, End::Failed, now);
        }

        /// How long the caller would have to wait.
        fn wait(&mut self, address: &str, username: &str, now: Instant) -> Option<Wait> {
            let wait = self.begin(address, username, now);
            if wait.is_ok() {
                self.end(address, username, End::Untried, now);
            }
            wait.err()
        }
    }

    fn seconds(seconds: u64) -> Option<Wait> {
        Some(Wait::Failed(Duration::from_secs(seconds)))
    }

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
            assert_eq!(throttle.wait("a", "admin", start), seconds(expected));
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
        assert_eq!(throttle.wait("a", "yet another", start), seconds(1));
    }

    #[test]
    fn success_and_time_forget() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        after(&mut throttle, FREE_PER_CALLER, start);
        throttle.begin("a", "admin", start + Duration::from_secs(2)).expect("after the wait");
        throttle.end("a", "admin", End::Succeeded, start + Duration::from_secs(2));
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

    #[test]
    fn many_at_once_get_no_further_than_one_after_the_other() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        let begun = (0..1000).filter(|_| throttle.begin("a", "admin", start).is_ok()).count();
        assert_eq!(begun, FREE_PER_CALLER as usize);
        assert_eq!(throttle.begin("a", "admin", start), Err(Wait::Turn(TURN)));
        (0..begun).for_each(|_| throttle.end("a", "admin", End::Failed, start));
        assert_eq!(throttle.wait("a", "admin", start), seconds(1));
        let later = start + Duration::from_secs(1);
        let begun = (0..1000).filter(|_| throttle.begin("a", "admin", later).is_ok()).count();
        assert_eq!(begun, 1, "one for each wait");
        let names = (0..1000).filter(|n| throttle.begin("b", &format!("user{n}"), start).is_ok()).count();
        assert_eq!(names, FREE_PER_ADDRESS as usize);
    }

    #[test]
    fn what_did_not_fail_is_given_back() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        for end in [End::Succeeded, End::Untried] {
            for _ in 0..100 {
                throttle.begin("a", "admin", start).expect("nothing has failed");
                throttle.end("a", "admin", end, start);
            }
        }
        assert!(throttle.callers.is_empty(), "{throttle:?}");
        let throttle = Mutex::new(throttle);
        for _ in 0..FREE_PER_CALLER {
            drop(Try::begin(&throttle, "a", "admin").expect("free"));
        }
        assert!(
            matches!(Try::begin(&throttle, "a", "admin"), Err(Wait::Failed(_))),
            "who hangs up has failed"
        );
    }
}
