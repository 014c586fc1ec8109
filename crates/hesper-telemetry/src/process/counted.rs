//! How much goes into a processor and comes out.

use super::{Processor, Work};
use crate::origin::Origin;
use hesper_otlp::{Refusal, Signal};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Items of one processor by signal: spans, data points, log records, profiles.
#[derive(Debug, Default)]
pub struct Counters {
    incoming: [AtomicU64; 4],
    outgoing: [AtomicU64; 4],
    refused: [AtomicU64; 4],
}

/// Items of one signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// That came to the processor.
    pub incoming: u64,
    /// That left it.
    pub outgoing: u64,
    /// That it refused. What neither left nor was refused was dropped.
    pub refused: u64,
}

impl Counters {
    /// What was counted so far.
    pub fn of(&self, signal: Signal) -> Counted {
        let at = place(signal);
        let read = |counts: &[AtomicU64; 4]| counts[at].load(Ordering::Relaxed);
        Counted {
            incoming: read(&self.incoming),
            outgoing: read(&self.outgoing),
            refused: read(&self.refused),
        }
    }
}

fn place(signal: Signal) -> usize {
    match signal {
        Signal::Traces => 0,
        Signal::Metrics => 1,
        Signal::Logs => 2,
        Signal::Profiles => 3,
    }
}

/// A processor whose items are counted.
pub struct Counting {
    inner: Arc<dyn Processor>,
    counters: Arc<Counters>,
}

impl Counting {
    /// Counts what a processor does.
    pub fn new(inner: Arc<dyn Processor>) -> Self {
        Self { inner, counters: Arc::default() }
    }

    /// What is counted.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}

impl Processor for Counting {
    fn process(&self, mut work: Work, origin: &Origin) -> Result<Option<Work>, Refusal> {
        let (at, items) = (place(work.signal()), work.items());
        let add = |counts: &[AtomicU64; 4], items| {
            counts[at].fetch_add(items, Ordering::Relaxed);
        };
        add(&self.counters.incoming, items);
        match self.inner.process(work, origin) {
            Ok(Some(mut left)) => {
                add(&self.counters.outgoing, left.items());
                Ok(Some(left))
            }
            Ok(None) => Ok(None),
            Err(refusal) => {
                add(&self.counters.refused, items);
                Err(refusal)
            }
        }
    }
}
