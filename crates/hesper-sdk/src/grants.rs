//! What a dialer holds: leases (a grant, its pass, and the streams that live by them), and when to use or renew which.
//!
//! The timing and the choice of a terminator are plain functions of numbers ([`timing`], [`choice`]); a [`lease`] and the cache of them
//! here only keep things.

mod choice;
mod lease;
mod timing;

pub(crate) use self::{choice::Choice, lease::Lease, timing::Use};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// What a grant is cached by: service (as the program names it) and instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) service: String,
    pub(crate) instance: String,
    /// The terminator that was drawn for a dial; empty = whichever the controller chooses.
    pub(crate) terminator: String,
}

impl Key {
    /// The same with this terminator and no other.
    pub(crate) fn of(&self, terminator: &str) -> Self {
        Self { terminator: terminator.into(), ..self.clone() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One way per key; whoever needs it while it is being asked for waits.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Arc<Lease>>>>;

/// The leases of a context.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    slots: Mutex<HashMap<Key, Slot>>,
    /// Every lease that may have streams, the cached ones included.
    all: Mutex<Vec<Weak<Lease>>>,
    /// The terminator used last, for strategy `sticky`; longer than its lease.
    last: Mutex<HashMap<Key, String>>,
}

/// Services and instances whose last terminator is remembered.
const MAX_LAST: usize = 4096;

impl Leases {
    pub(crate) fn slot(&self, key: &Key) -> Slot {
        lock(&self.slots).entry(key.clone()).or_default().clone()
    }

    pub(crate) fn last_terminator(&self, key: &Key) -> String {
        lock(&self.last).get(key).cloned().unwrap_or_default()
    }

    pub(crate) fn chose(&self, key: &Key, terminator: &str) {
        let mut last = lock(&self.last);
        if last.len() >= MAX_LAST && !last.contains_key(key) {
            last.clear();
        }
        last.insert(key.clone(), terminator.to_owned());
    }

    pub(crate) fn remember(&self, lease: &Arc<Lease>) {
        lock(&self.all).push(Arc::downgrade(lease));
    }

    /// Every lease now in use or cached.
    pub(crate) fn all(&self) -> Vec<Arc<Lease>> {
        let mut all = lock(&self.all);
        all.retain(|l| l.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Forgets what is neither in use nor usable. During an outage everything stays: it may be all there is.
    pub(crate) fn sweep(&self, now: u64, connected: bool) {
        lock(&self.slots).retain(|_, slot| {
            let in_use = Arc::strong_count(slot) > 1;
            let Ok(lease) = slot.try_lock() else { return true };
            match lease.as_ref() {
                None => in_use,
                Some(l) => {
                    let over = l.is_spent() || (connected && now >= l.tokens().life.end);
                    in_use || l.is_live() || !over
                }
            }
        });
    }

    /// Grants ended before their time: their streams end, and new dials ask again.
    pub(crate) fn revoke(&self, grant_ids: &[String]) {
        self.with_grants(grant_ids).iter().for_each(|lease| lease.revoke());
    }

    /// The leases that these grants belong to now.
    pub(crate) fn with_grants(&self, grant_ids: &[String]) -> Vec<Arc<Lease>> {
        let mut leases = self.all();
        leases.retain(|lease| grant_ids.contains(&lease.tokens().response.grant_id));
        leases
    }
}
