//! Streams that stand still for longer than their service allows (`maxIdleTimeMillis`).

use crate::inner::Inner;
use hesper_overlay::stream::StreamHandle;
use std::time::{Duration, Instant};

/// A stream, and since when nothing has moved on it.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) stream: StreamHandle,
    still: Still,
}

/// Since when a counter has not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Still {
    count: u64,
    since: Instant,
}

impl Still {
    /// What is counted stands at `count` now: for how long?
    fn look(&mut self, now: Instant, count: u64) -> Duration {
        if count != self.count {
            *self = Self { count, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

impl Watched {
    pub(crate) fn new(stream: StreamHandle, now: Instant) -> Self {
        let count = stream.moved();
        Self { stream, still: Still { count, since: now } }
    }

    /// Has nothing moved for so long? Seen at the pace of the calls: a stream may live that much longer.
    pub(crate) fn is_idle(&mut self, now: Instant, limit: Duration) -> bool {
        self.still.look(now, self.stream.moved()) >= limit
    }
}

/// Ends what stands still, of every service that has a limit.
pub(crate) fn sweep(inner: &Inner) {
    let view = inner.view.borrow().clone();
    let limits = view.services.iter().filter(|s| s.max_idle_time_millis > 0);
    for service in limits {
        let limit = Duration::from_millis(service.max_idle_time_millis);
        let leases = inner.leases.all();
        for lease in leases.iter().filter(|l| l.service_id == service.id) {
            let streams = lease.end_idle(Instant::now(), limit);
            if streams > 0 {
                tracing::info!(service = service.name, streams, ?limit, "idle streams ended");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_still_is_idle() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut still = Still { count: 0, since: start };
        for (ms, count, idle) in [(500, 0, 500), (1000, 1, 0), (1500, 1, 500), (2000, 9, 0), (9000, 9, 7000)]
        {
            assert_eq!(still.look(at(ms), count).as_millis(), idle, "{ms}");
        }
    }
}
