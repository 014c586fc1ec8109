//! Handshakes under way: so many at once and no more, and those who never finish theirs do not keep others out.
//!
//! Whoever begins handshakes and lets them lie would otherwise hold every place until the deadline. So a newcomer that finds no place takes
//! that of the one that has had it longest, once that one has had its fair time: an honest handshake is done by then.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The places.
#[derive(Debug)]
pub struct Handshakes {
    places: usize,
    fair: Duration,
    state: Mutex<State>,
    displaced: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// In the order in which they began.
    under_way: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    since: Instant,
    _until_dropped: oneshot::Sender<()>,
}

/// One handshake's place; free again when dropped.
#[derive(Debug)]
pub struct Turn {
    of: Arc<Handshakes>,
    number: u64,
    over: oneshot::Receiver<()>,
}

impl Handshakes {
    /// `places` handshakes at once, each undisturbed for the `fair` time.
    pub fn new(places: usize, fair: Duration) -> Arc<Self> {
        Arc::new(Self { places, fair, state: Mutex::default(), displaced: AtomicU64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, unless all are taken by handshakes that have not had their fair time.
    pub fn begin(self: &Arc<Self>, now: Instant) -> Option<Turn> {
        let mut state = self.lock();
        if state.under_way.len() >= self.places {
            let (oldest, place) = state.under_way.first_key_value()?;
            let oldest = *oldest;
            if now.saturating_duration_since(place.since) < self.fair {
                return None;
            }
            state.under_way.remove(&oldest);
            self.displaced.fetch_add(1, Relaxed);
        }
        let number = state.next;
        state.next += 1;
        let (until_dropped, over) = oneshot::channel();
        state.under_way.insert(number, Place { since: now, _until_dropped: until_dropped });
        Some(Turn { of: self.clone(), number, over })
    }

    /// How many have lost their places to others.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Relaxed)
    }
}

impl Turn {
    /// Returns when the place is another's: the handshake is to be given up.
    pub async fn displaced(&mut self) {
        // Nobody sends: the sender is dropped.
        let _ = (&mut self.over).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.lock().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAIR: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn the_oldest_gives_way_after_its_fair_time() {
        let (start, handshakes) = (Instant::now(), Handshakes::new(2, FAIR));
        let mut first = handshakes.begin(start).unwrap();
        let mut second = handshakes.begin(start).unwrap();
        assert!(handshakes.begin(start + FAIR / 2).is_none(), "both still have time");
        let third = handshakes.begin(start + FAIR).unwrap();
        first.displaced().await;
        assert_eq!(handshakes.displaced(), 1);
        assert!(tokio::time::timeout(Duration::from_millis(10), second.displaced()).await.is_err());
        drop(first);
        assert!(handshakes.begin(start + FAIR / 2).is_none(), "its place is not free a second time");
        drop(third);
        assert!(handshakes.begin(start + FAIR / 2).is_some(), "what is done makes room");
        assert_eq!(handshakes.displaced(), 1);
    }
}
