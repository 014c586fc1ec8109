//! `memory_limiter`: refuses data before memory runs out. Senders are told to come again.
//!
//! Memory is measured when a batch comes and the last measurement is older than `check_interval`; batches in between go by that one. Above the
//! soft limit (the limit less the spike) everything is refused, until memory is below it again.

mod available;

use super::{Processor, Work};
use crate::origin::Origin;
use hesper_collector_config::processors::{Limit, MemoryLimiter as Settings};
use hesper_otlp::Refusal;
use std::{
    io,
    sync::{
        Mutex, TryLockError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub(super) use available::available;

/// Senders are not told to come again sooner.
const SOONEST: Duration = Duration::from_secs(1);

/// Bytes of memory that this process has, and the time; others in tests.
pub(super) trait Gauge: Send + Sync {
    fn used(&self) -> io::Result<u64>;
    fn now(&self) -> Instant;
}

/// The gauge of this process.
#[derive(Debug)]
pub(super) struct Process;

impl Gauge for Process {
    fn used(&self) -> io::Result<u64> {
        available::used()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// Limits in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) soft: u64,
    pub(super) hard: u64,
}

impl Limits {
    /// Of settings, given how much memory there is.
    pub(super) fn new(settings: &Settings, available: u64) -> Self {
        let bytes = |limit| match limit {
            Limit::Bytes(bytes) => bytes,
            Limit::Percent(share) => available / 100 * share,
        };
        let hard = bytes(settings.limit);
        let spike = settings.spike.map_or(hard / 5, bytes);
        Self { soft: hard.saturating_sub(spike), hard }
    }
}

/// The `memory_limiter` processor.
pub(super) struct MemoryLimiter<G> {
    id: String,
    limits: Limits,
    interval: Duration,
    gauge: G,
    /// When memory was measured last.
    measured: Mutex<Option<Instant>>,
    /// How many limits are passed: [`BELOW`] to [`HARD`].
    level: AtomicU8,
    used: AtomicU64,
}

/// No limit is passed.
const BELOW: u8 = 0;
/// Both are.
const HARD: u8 = 2;

impl<G: Gauge> MemoryLimiter<G> {
    pub(super) fn new(id: &str, limits: Limits, interval: Duration, gauge: G) -> Self {
        let (measured, level, used) = (Mutex::new(None), AtomicU8::new(BELOW), AtomicU64::new(0));
        Self { id: id.to_owned(), limits, interval, gauge, measured, level, used }
    }

    fn check(&self) {
        let mut measured = match self.measured.try_lock() {
            Ok(measured) => measured,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another batch measures.
            Err(TryLockError::WouldBlock) => return,
        };
        let now = self.gauge.now();
        if measured.is_some_and(|then| now.saturating_duration_since(then) < self.interval) {
            return;
        }
        *measured = Some(now);
        match self.gauge.used() {
            Ok(used) => self.judge(used),
            Err(error) => {
                tracing::warn!(processor = self.id, %error, "memory cannot be measured; the last measurement counts")
            }
        }
    }

    fn judge(&self, used: u64) {
        self.used.store(used, Ordering::Relaxed);
        let Limits { soft, hard } = self.limits;
        let level = u8::from(used > soft) + u8::from(used > hard);
        match (self.level.swap(level, Ordering::Relaxed), level) {
            (before, after) if before == after => {}
            (_, BELOW) => tracing::info!(processor = self.id, used, "memory is below the limit again"),
            (_, HARD) => {
                tracing::warn!(
                    processor = self.id,
                    used,
                    hard,
                    "memory is above the hard limit; data is refused"
                )
            }
            _ => {
                tracing::warn!(
                    processor = self.id,
                    used,
                    soft,
                    "memory is above the soft limit; data is refused"
                )
            }
        }
    }
}

impl<G: Gauge> Processor for MemoryLimiter<G> {
    fn process(&self, work: Work, _: &Origin) -> Result<Option<Work>, Refusal> {
        self.check();
        if self.level.load(Ordering::Relaxed) == BELOW {
            return Ok(Some(work));
        }
        let used = self.used.load(Ordering::Relaxed);
        Err(Refusal::Overloaded {
            reason: format!(
                "{}: {} MiB of memory are used, and from {} MiB on data is refused; send it again later",
                self.id,
                used >> 20,
                self.limits.soft >> 20
            ),
            after: self.interval.max(SOONEST),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hesper_otlp::{Batch, Signal};
    use std::sync::atomic::AtomicUsize;

    /// Memory and time as a test sets them.
    struct Fake {
        used: AtomicU64,
        start: Instant,
        ms: AtomicU64,
        reads: AtomicUsize,
    }

    impl Gauge for &Fake {
        fn used(&self) -> io::Result<u64> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            match self.used.load(Ordering::Relaxed) {
                u64::MAX => Err(io::Error::other("no /proc")),
                used => Ok(used),
            }
        }

        fn now(&self) -> Instant {
            self.start + Duration::from_millis(self.ms.load(Ordering::Relaxed))
        }
    }

    fn settings(limit: Limit, spike: Option<Limit>) -> Settings {
        Settings { check_interval: Duration::from_secs(1), limit, spike }
    }

    #[test]
    fn limits_are_shares_of_what_there_is() {
        let limits = |limit, spike| {
            let Limits { soft, hard } = Limits::new(&settings(limit, spike), 1000);
            (soft, hard)
        };
        assert_eq!(limits(Limit::Bytes(500), None), (400, 500));
        assert_eq!(limits(Limit::Bytes(500), Some(Limit::Bytes(50))), (450, 500));
        assert_eq!(limits(Limit::Percent(80), None), (640, 800));
        assert_eq!(limits(Limit::Percent(80), Some(Limit::Percent(25))), (550, 800));
    }

    #[test]
    fn data_is_refused_above_the_soft_limit_and_memory_measured_at_the_interval() {
        let (used, start, ms, reads) =
            (AtomicU64::new(100), Instant::now(), AtomicU64::new(0), AtomicUsize::new(0));
        let fake = Fake { used, start, ms, reads };
        let limits = Limits { soft: 200, hard: 300 };
        let limiter = MemoryLimiter::new("memory_limiter", limits, Duration::from_secs(1), &fake);
        let takes = || {
            let batch = Batch { signal: Signal::Traces, payload: Bytes::new() };
            limiter.process(Work::new(batch), &Origin::default()).map(|work| assert!(work.is_some()))
        };
        for _ in 0..10 {
            takes().expect("there is room");
        }
        assert_eq!(fake.reads.load(Ordering::Relaxed), 1, "once per interval");
        fake.used.store(201, Ordering::Relaxed);
        takes().expect("not measured yet");
        fake.ms.store(1000, Ordering::Relaxed);
        let Err(Refusal::Overloaded { reason, after }) = takes() else { panic!("refused") };
        assert!(reason.contains("memory_limiter") && after == Duration::from_secs(1), "{reason}");
        // What cannot be measured stays as it was.
        fake.used.store(u64::MAX, Ordering::Relaxed);
        fake.ms.store(2000, Ordering::Relaxed);
        takes().expect_err("still");
        fake.used.store(200, Ordering::Relaxed);
        takes().expect_err("not measured yet");
        fake.ms.store(3000, Ordering::Relaxed);
        takes().expect("room again");
        assert_eq!(fake.reads.load(Ordering::Relaxed), 4);
    }
}
