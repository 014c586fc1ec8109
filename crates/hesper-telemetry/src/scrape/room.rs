//! What all scrapes of a receiver share, so that many targets cannot take more than a few: memory and processors.

use std::{sync::Arc, thread::available_parallelism};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of answers in memory at once, decompressed. A usual answer has less than one MiB, the largest that are known about 100.
const BYTES: usize = 512 << 20;
/// The largest answer, where the job has no limit of its own.
pub(super) const LARGEST: u64 = 256 << 20;
/// What is counted in: one permit is so many bytes.
const UNIT: usize = 64 << 10;

/// Room for answers.
#[derive(Clone)]
pub(super) struct Room {
    bytes: Arc<Semaphore>,
    work: Arc<Semaphore>,
}

/// Room that one answer has taken. It is free again when this is dropped.
pub(super) struct Taken {
    room: Room,
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self { bytes: Arc::new(Semaphore::new(BYTES / UNIT)), work: Arc::new(Semaphore::new(processors)) }
    }
}

impl Room {
    /// Nothing yet.
    pub(super) fn begin(&self) -> Taken {
        Taken { room: self.clone(), permit: None }
    }

    /// The right to work on an answer. Waits in turn.
    pub(super) async fn work(&self) -> Option<OwnedSemaphorePermit> {
        self.work.clone().acquire_owned().await.ok()
    }
}

impl Taken {
    /// Takes room for so many bytes in all. Waits where there is none, which the deadline of the scrape ends.
    pub(super) async fn grow(&mut self, bytes: usize) {
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        // More than there is would never come; the limit of an answer is below that.
        let wanted = bytes.div_ceil(UNIT).min(BYTES / UNIT).saturating_sub(held);
        let Ok(more) = u32::try_from(wanted) else { return };
        if more == 0 {
            return;
        }
        if let Ok(permit) = self.room.bytes.clone().acquire_many_owned(more).await {
            match &mut self.permit {
                Some(held) => held.merge(permit),
                None => self.permit = Some(permit),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn room_is_taken_and_given_back() {
        let room = Room::default();
        let mut one = room.begin();
        assert!(one.grow(BYTES - UNIT).now_or_never().is_some());
        let mut two = room.begin();
        assert!(two.grow(1).now_or_never().is_some());
        assert!(two.grow(UNIT + 1).now_or_never().is_none(), "there is no more");
        drop(one);
        assert!(two.grow(UNIT + 1).now_or_never().is_some());
        drop(two);
        assert_eq!(room.bytes.available_permits(), BYTES / UNIT);
    }
}
