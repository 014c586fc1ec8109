//! Where a destination's batches come from.

use super::{desk::Desk, item::Item, ledger::Entry, memory::Memory, numbers::QueueIds};
use crate::origin::RecordHeader;
use hesper_queue::{ReadError, Reader, Record};
use std::{sync::Arc, time::Duration};

/// How much is read of a log at once, bytes.
const READ: usize = 1 << 20;
/// The pause after the disk refused to read.
const PAUSE: Duration = Duration::from_secs(1);

/// A queue, as its destination reads it.
pub(crate) enum Source {
    Memory(Arc<Memory>),
    Disk(Box<DiskSource>),
}

/// A destination of a log.
pub(crate) struct DiskSource {
    pub(crate) reader: Reader,
    pub(crate) desk: Arc<Desk>,
    pub(crate) ids: Arc<QueueIds>,
    pub(crate) pipeline: String,
    /// The disk refused just now.
    pub(crate) paused: bool,
}

impl Source {
    /// The next batches, in order; nothing when there will never be any. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Vec<Item>> {
        match self {
            Self::Memory(memory) => Some(vec![memory.next().await]),
            Self::Disk(disk) => disk.next().await,
        }
    }

    /// Is there nothing to take now? A log keeps what it has.
    pub(crate) fn is_drained(&self) -> bool {
        match self {
            Self::Memory(memory) => memory.is_drained(),
            Self::Disk(_) => true,
        }
    }
}

impl DiskSource {
    async fn next(&mut self) -> Option<Vec<Item>> {
        loop {
            if self.paused {
                tokio::time::sleep(PAUSE).await;
                self.paused = false;
            }
            match self.reader.next(READ).await {
                Ok(records) => {
                    let items: Vec<_> = records.into_iter().filter_map(|record| self.item(record)).collect();
                    if !items.is_empty() {
                        return Some(items);
                    }
                }
                Err(ReadError::Closed) => return None,
                Err(error) => {
                    let (pipeline, destination) = (&self.pipeline, self.reader.name());
                    tracing::warn!(pipeline, destination, %error, "trying again");
                    self.paused = true;
                }
            }
        }
    }

    /// `None` when it is settled already: it was acknowledged too late for the last process to write that down, or dropped just now.
    fn item(&self, record: Record) -> Option<Item> {
        let number = record.seq;
        if self.desk.book().is_settled(self.reader.name(), number) {
            return None;
        }
        match RecordHeader::decode(&record.header) {
            Ok(header) => Some(Item {
                number,
                id: self.ids.name(number),
                entry: Arc::new(Entry::of(&header)),
                origin: Arc::new(header.origin),
                payload: record.payload,
            }),
            Err(error) => {
                let (pipeline, destination) = (&self.pipeline, self.reader.name());
                tracing::warn!(pipeline, destination, number, %error, "a record in the queue is none of ours: skipped");
                self.desk.lose(destination, number..number + 1);
                None
            }
        }
    }
}
