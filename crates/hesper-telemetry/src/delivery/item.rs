//! A batch in a queue.

use super::ledger::Entry;
use crate::origin::{BatchId, Origin};
use bytes::Bytes;
use hesper_collector_config::Sizer;
use hesper_otlp::Batch;
use std::{
    ops::{AddAssign, SubAssign},
    sync::Arc,
};

/// A batch for one destination. A clone shares everything.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its number in the log, or among those in memory.
    pub(crate) number: u64,
    /// How it is called at the next gateway.
    pub(crate) id: BatchId,
    pub(crate) origin: Arc<Origin>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) payload: Bytes,
}

impl Item {
    pub(crate) fn batch(&self) -> Batch {
        Batch { signal: self.entry.signal, payload: self.payload.clone() }
    }

    pub(crate) fn size(&self) -> Size {
        Size { requests: 1, items: self.entry.items, bytes: self.payload.len() as u64 }
    }
}

/// How much there is, by every measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) requests: u64,
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

impl Size {
    pub(crate) fn by(&self, sizer: Sizer) -> u64 {
        match sizer {
            Sizer::Requests => self.requests,
            Sizer::Items => self.items,
            Sizer::Bytes => self.bytes,
        }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.items += other.items;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, other: Self) {
        self.requests -= other.requests;
        self.items -= other.items;
        self.bytes -= other.bytes;
    }
}
