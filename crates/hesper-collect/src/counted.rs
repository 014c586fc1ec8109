//! What receivers count: requests by outcome, items taken and refused.

use hesper_otlp::Signal;
use hesper_telemetry::{
    distribution::{self, Distribution},
    receive::{Observer, Outcome, Protocol, Request, TurnedAway},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Counters of one receiver. All its labels come from us: their number is bounded.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<Counts>);

/// The numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// Items by protocol and signal.
    pub(crate) items: BTreeMap<(&'static str, Signal), Items>,
    /// Requests by protocol and outcome.
    pub(crate) requests: BTreeMap<(&'static str, &'static str), u64>,
    /// How long they took, in seconds, by the same.
    pub(crate) durations: BTreeMap<(&'static str, &'static str), Distribution>,
    /// Bytes of requests that could be read, by protocol.
    pub(crate) bytes: BTreeMap<&'static str, Distribution>,
    /// Connections that were not served, by reason.
    pub(crate) turned_away: BTreeMap<&'static str, u64>,
}

/// What became of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Items {
    /// They are in the pipelines.
    pub(crate) accepted: u64,
    /// They were refused for a reason of the sender's, or for want of room.
    pub(crate) refused: u64,
    /// They were refused for a fault of ours.
    pub(crate) failed: u64,
}

impl Counted {
    /// The numbers as they are now.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Counted {
    fn request(&self, request: &Request) {
        let outcome = match request.outcome {
            Outcome::Accepted => "accepted",
            Outcome::Refused(name) => name,
            Outcome::Failed => "failed",
            Outcome::Gone => "gone",
        };
        let protocol = Protocol::name(request.protocol);
        let mut counts = self.lock();
        *counts.requests.entry((protocol, outcome)).or_default() += 1;
        let seconds = || Distribution::new(&distribution::SECONDS);
        counts.durations.entry((protocol, outcome)).or_insert_with(seconds).took(request.took);
        if request.bytes > 0 {
            let bytes = || Distribution::new(&distribution::BYTES);
            counts.bytes.entry(protocol).or_insert_with(bytes).observe(request.bytes as f64);
        }
        if let Some(signal) = request.signal {
            let items = counts.items.entry((protocol, signal)).or_default();
            items.accepted += request.accepted;
            match request.outcome {
                Outcome::Failed => items.failed += request.refused,
                _ => items.refused += request.refused,
            }
        }
    }

    fn turned_away(&self, why: TurnedAway) {
        let why = match why {
            TurnedAway::Full => "full",
            TurnedAway::NotReady => "not_ready",
        };
        *self.lock().turned_away.entry(why).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_item_is_counted_once() {
        let counted = Counted::default();
        let request = |outcome, accepted, refused| Request {
            protocol: Protocol::Grpc,
            signal: Some(Signal::Logs),
            outcome,
            accepted,
            refused,
            bytes: 10,
            took: Duration::from_millis(2),
        };
        counted.request(&request(Outcome::Accepted, 7, 1));
        counted.request(&request(Outcome::Refused("denied"), 0, 4));
        counted.request(&request(Outcome::Failed, 0, 2));
        counted.turned_away(TurnedAway::Full);
        let counts = counted.counts();
        assert_eq!(counts.items[&("grpc", Signal::Logs)], Items { accepted: 7, refused: 5, failed: 2 });
        assert_eq!(counts.requests[&("grpc", "denied")], 1);
        assert_eq!(counts.turned_away["full"], 1);
        assert_eq!(counts.durations[&("grpc", "denied")].counts.iter().sum::<u64>(), 1);
        assert_eq!(counts.bytes["grpc"].sum, 30.0);
    }
}
