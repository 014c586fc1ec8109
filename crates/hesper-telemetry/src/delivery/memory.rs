//! A queue in memory: bounded, in order, and nothing leaves it before it is settled.

use super::item::{Item, Size};
use hesper_collector_config::{SendingQueue, Sizer};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, oneshot};

/// Most bytes of a queue whose size is not given in bytes: a thousand requests may be 64 GiB. With what receivers hold at once
/// ([`DEFAULT_BUDGET`](crate::receive::DEFAULT_BUDGET)) it stays below the 200 MiB that a collector may take when nothing can be sent on.
const BYTES_MAX: u64 = 32 << 20;

/// How a batch ended, for a sender that waits for it.
pub(crate) type Ending = Result<(), String>;

/// The queue of one destination.
#[derive(Debug)]
pub(crate) struct Memory {
    state: Mutex<State>,
    /// Told when something was put in.
    filled: Notify,
    /// Told when room was made.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    capacity: Capacity,
    /// All that is reserved, waiting or taken.
    size: Size,
    waiting: VecDeque<Item>,
    /// Under way, by number.
    taken: BTreeMap<u64, Item>,
    waiters: HashMap<u64, oneshot::Sender<Ending>>,
}

/// What it holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) sizer: Sizer,
    pub(crate) max: u64,
}

impl From<&SendingQueue> for Capacity {
    fn from(queue: &SendingQueue) -> Self {
        Self { sizer: queue.sizer, max: queue.queue_size }
    }
}

/// Room that somebody has. Given back when it is dropped unused.
#[derive(Debug)]
pub(crate) struct Reserved {
    queue: Arc<Memory>,
    size: Size,
}

impl Memory {
    pub(crate) fn new(capacity: Capacity) -> Arc<Self> {
        let state = State {
            capacity,
            size: Size::default(),
            waiting: VecDeque::new(),
            taken: BTreeMap::new(),
            waiters: HashMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state), filled: Notify::new(), freed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn resize(&self, capacity: Capacity) {
        self.state().capacity = capacity;
        self.freed.notify_waiters();
    }

    /// Room for a batch, if there is some now. An empty queue has room for any batch: else a large one would be refused for ever.
    pub(crate) fn reserve(self: &Arc<Self>, size: Size) -> Option<Reserved> {
        let mut state = self.state();
        let Capacity { sizer, max } = state.capacity;
        let bytes_max = if sizer == Sizer::Bytes { u64::MAX } else { BYTES_MAX };
        let fits = state.size.by(sizer).saturating_add(size.by(sizer)) <= max
            && state.size.bytes.saturating_add(size.bytes) <= bytes_max;
        if !fits && state.size.requests > 0 {
            return None;
        }
        state.size += size;
        Some(Reserved { queue: self.clone(), size })
    }

    /// As [`Self::reserve`], but waits for room: give it a deadline.
    pub(crate) async fn reserve_later(self: &Arc<Self>, size: Size) -> Reserved {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Before looking, so that nothing is missed.
            freed.as_mut().enable();
            if let Some(reserved) = self.reserve(size) {
                return reserved;
            }
            freed.await;
        }
    }

    /// The next batch. It stays in the queue until it is [done](Self::done).
    pub(crate) fn take(&self) -> Option<Item> {
        let mut state = self.state();
        let item = state.waiting.pop_front()?;
        state.taken.insert(item.number, item.clone());
        Some(item)
    }

    /// As [`Self::take`], but waits for one. Cancel safe.
    pub(crate) async fn next(&self) -> Item {
        loop {
            let mut filled = std::pin::pin!(self.filled.notified());
            filled.as_mut().enable();
            if let Some(item) = self.take() {
                return item;
            }
            filled.await;
        }
    }

    /// A batch is settled: whoever waits for it is told.
    pub(crate) fn done(&self, number: u64, ending: Ending) {
        let waiter = {
            let mut state = self.state();
            let Some(item) = state.taken.remove(&number) else { return };
            state.size -= item.size();
            state.waiters.remove(&number)
        };
        self.freed.notify_waiters();
        if let Some(waiter) = waiter {
            // Who does not wait any more has gone.
            let _ = waiter.send(ending);
        }
    }

    /// Empties the queue: what waits and what is under way, in order.
    pub(crate) fn clear(&self) -> Vec<Item> {
        let mut state = self.state();
        let mut items: Vec<_> = std::mem::take(&mut state.taken).into_values().collect();
        items.extend(state.waiting.drain(..));
        items.iter().for_each(|item| state.size -= item.size());
        // Their senders are not told that it is delivered.
        state.waiters.clear();
        drop(state);
        self.freed.notify_waiters();
        items
    }

    /// Is everything in it under way?
    pub(crate) fn is_drained(&self) -> bool {
        self.state().waiting.is_empty()
    }

    /// What is in it, what of that is under way included.
    pub(crate) fn size(&self) -> Size {
        self.state().size
    }

    pub(crate) fn capacity(&self) -> Capacity {
        self.state().capacity
    }
}

impl Reserved {
    /// Puts a batch into the room that was made for it. `waiter` is told how it ends.
    pub(crate) fn put(mut self, item: Item, waiter: Option<oneshot::Sender<Ending>>) {
        let mut state = self.queue.state();
        state.size -= self.size;
        state.size += item.size();
        if let Some(waiter) = waiter {
            state.waiters.insert(item.number, waiter);
        }
        // Numbers are given just before: they are nearly in order, and always so for one sender.
        state.waiting.push_back(item);
        drop(state);
        self.size = Size::default();
        self.queue.filled.notify_one();
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.size != Size::default() {
            self.queue.state().size -= self.size;
            self.queue.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::ledger::Entry,
        origin::{BatchId, Origin, RecordHeader},
    };
    use bytes::Bytes;
    use futures::FutureExt;
    use hesper_otlp::Signal;
    use proptest::prelude::*;

    fn item(number: u64, items: u64, bytes: usize) -> Item {
        let header = RecordHeader { origin: Origin::default(), signal: Signal::Logs, items, batch: None };
        Item {
            number,
            id: BatchId { queue: [0; 16], number },
            origin: Arc::default(),
            entry: Arc::new(Entry::of(&header)),
            payload: Bytes::from(vec![0; bytes]),
        }
    }

    fn put(queue: &Arc<Memory>, item: Item) -> bool {
        queue.reserve(item.size()).map(|room| room.put(item, None)).is_some()
    }

    fn sized(sizer: Sizer, max: u64) -> Arc<Memory> {
        Memory::new(Capacity { sizer, max })
    }

    #[test]
    fn each_sizer_bounds_it() {
        for (sizer, max, fits) in [(Sizer::Requests, 3, 3), (Sizer::Items, 20, 2), (Sizer::Bytes, 500, 5)] {
            let queue = sized(sizer, max);
            let taken = (0..10).filter(|number| put(&queue, item(*number, 10, 100))).count();
            assert_eq!(taken, fits, "{sizer:?}");
        }
        let queue = sized(Sizer::Requests, 1000);
        let taken = (0..200).filter(|number| put(&queue, item(*number, 1, 1 << 20))).count();
        assert_eq!(taken, 32, "bytes bound every queue");
    }

    #[test]
    fn one_that_is_too_large_goes_alone() {
        let queue = sized(Sizer::Items, 5);
        assert!(put(&queue, item(1, 100, 1)) && !put(&queue, item(2, 1, 1)));
        assert_eq!(queue.take().map(|item| item.number), Some(1));
        assert!(!put(&queue, item(2, 1, 1)), "it is under way");
        queue.done(1, Ok(()));
        assert!(put(&queue, item(2, 1, 1)));
    }

    #[test]
    fn who_waits_for_room_or_for_an_end_is_told() {
        let queue = sized(Sizer::Requests, 1);
        let (waiter, mut end) = oneshot::channel();
        queue.reserve(item(1, 1, 1).size()).expect("room").put(item(1, 1, 1), Some(waiter));
        let mut later = Box::pin(queue.reserve_later(item(2, 1, 1).size()));
        assert!((&mut later).now_or_never().is_none());
        queue.take();
        queue.done(1, Err("no".into()));
        assert_eq!(end.try_recv().expect("told"), Err("no".to_owned()));
        drop(later.now_or_never().expect("room"));
        assert_eq!(queue.size(), Size::default(), "what was not used is given back");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_order_is_kept(steps in prop::collection::vec(0_u8..4, 0..80)) {
            let queue = sized(Sizer::Requests, 8);
            let (mut next, mut waiting, mut taken) = (1, VecDeque::new(), Vec::new());
            for step in steps {
                match step {
                    0 | 1 => {
                        let fits = put(&queue, item(next, 1, 7));
                        prop_assert_eq!(fits, waiting.len() + taken.len() < 8);
                        if fits {
                            waiting.push_back(next);
                        }
                        next += 1;
                    }
                    2 => {
                        let number = queue.take().map(|item| item.number);
                        prop_assert_eq!(number, waiting.pop_front());
                        taken.extend(number);
                    }
                    _ => {
                        if let Some(number) = taken.pop() {
                            queue.done(number, Ok(()));
                        }
                    }
                }
                let count = (waiting.len() + taken.len()) as u64;
                prop_assert_eq!(queue.size(), Size { requests: count, items: count, bytes: 7 * count });
            }
            let left: Vec<_> = queue.clear().iter().map(|item| item.number).collect();
            prop_assert_eq!(left, taken.into_iter().chain(waiting).collect::<Vec<_>>());
            prop_assert_eq!(queue.size(), Size::default());
        }
    }
}
