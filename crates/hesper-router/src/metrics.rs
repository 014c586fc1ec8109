//! What the router counts. Hot counters are looked up once, here, and are single atomics afterwards.
//!
//! Every label is a word of ours: `reason` of `hesper_router_packets_dropped_total` (the drop reasons), `outcome` of
//! `hesper_router_attaches_total` (the attach outcomes), of `hesper_router_passes_total` and of
//! `hesper_router_pass_duration_seconds` (`opened`, `refused`); `holder` of `hesper_certificate_expiry_timestamp_seconds` is `router`.
//! Nodes, services and other routers are never labels.

use crate::drops::DropReason;
use hesper_observe::metrics::{Counter, Gauge, Histogram, Registry};
use std::time::Duration;

/// What a pass that was presented comes to.
const PASS_OUTCOMES: [&str; 2] = ["opened", "refused"];

/// How an attach ended; [`AttachOutcome::name`] is the label value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum AttachOutcome {
    /// The node is attached.
    Accepted,
    /// QUIC or TLS did not come about: wrong certificate, lost packets.
    HandshakeFailed,
    /// Not done within the deadline.
    Timeout,
    /// Given up in favour of a newer one, as too many were under way.
    Displaced,
    /// It was another router, and the link is up.
    Linked,
    /// The session token was refused, or the link.
    Refused,
    /// The identity has more than its share already.
    Limited,
    /// No room for another session or handshake.
    Full,
    /// The node did not speak the protocol.
    Protocol,
}

impl AttachOutcome {
    const ALL: [Self; 9] = [
        Self::Accepted,
        Self::HandshakeFailed,
        Self::Timeout,
        Self::Displaced,
        Self::Linked,
        Self::Refused,
        Self::Limited,
        Self::Full,
        Self::Protocol,
    ];

    /// The outcome as a metric label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::HandshakeFailed => "handshake_failed",
            Self::Timeout => "timeout",
            Self::Displaced => "displaced",
            Self::Linked => "linked",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Full => "full",
            Self::Protocol => "protocol",
        }
    }
}

/// The router's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) packets: Counter,
    pub(crate) bytes: Counter,
    pub(crate) receive_faults: Counter,
    pub(crate) sessions: Gauge,
    pub(crate) silent: Counter,
    pub(crate) restarted: Counter,
    pub(crate) links: Gauge,
    pub(crate) pairs: Gauge,
    pub(crate) connected: Gauge,
    passes: [(Counter, Histogram); 2],
    drops: [Counter; DropReason::ALL.len()],
    attaches: [Counter; AttachOutcome::ALL.len()],
}

impl Metrics {
    /// Registers all of them.
    pub(crate) fn new(registry: &Registry) -> Self {
        let drops = registry.counters::<Vec<(&'static str, &'static str)>>(
            "router_packets_dropped",
            "Packets not forwarded, by reason",
        );
        let attaches = registry
            .counters::<Vec<(&'static str, &'static str)>>("router_attaches", "Attach attempts, by outcome");
        let passes = registry
            .counters::<Vec<(&'static str, &'static str)>>("router_passes", "Passes presented, by outcome");
        // Each look-up on its own: what it returns holds a lock.
        let pass_durations = registry.memory_durations_by::<Vec<(&'static str, &'static str)>>(
            "router_pass_duration",
            "How long it took to verify a pass and to open what it is for, by outcome",
        );
        let passes = PASS_OUTCOMES.map(|outcome| {
            let labels = vec![("outcome", outcome)];
            (passes.get_or_create_owned(&labels), pass_durations.get_or_create_owned(&labels))
        });
        Self {
            packets: registry.counter("router_packets_forwarded", "Packets sent on"),
            bytes: registry.counter("router_bytes_forwarded", "Bytes of UDP payload sent on"),
            receive_faults: registry.counter("router_receive_faults", "Failed reads of the UDP socket"),
            sessions: registry.gauge("router_sessions", "Attached sessions"),
            silent: registry
                .counter("router_sessions_silent", "Sessions detached because nothing was heard of them"),
            restarted: registry.counter(
                "router_sessions_restarted",
                "Sessions that did not answer after their identity had attached as another one",
            ),
            links: registry.gauge("router_links", "Links to other routers that are up"),
            pairs: registry.gauge("router_open_pairs", "Pairs of sessions that a pass holds open"),
            connected: registry.gauge("router_controller_connected", "1 while a controller is connected"),
            passes,
            drops: DropReason::ALL.map(|r| drops.get_or_create(&vec![("reason", r.name())]).clone()),
            attaches: AttachOutcome::ALL
                .map(|o| attaches.get_or_create(&vec![("outcome", o.name())]).clone()),
        }
    }

    /// `datagrams` were dropped.
    pub(crate) fn dropped(&self, reason: DropReason, datagrams: usize) {
        self.drops[reason as usize].inc_by(datagrams as u64);
    }

    /// A pass was presented.
    pub(crate) fn pass(&self, is_opened: bool, took: Duration) {
        let [(opened, opening), (refused, refusing)] = &self.passes;
        let (counter, histogram) = if is_opened { (opened, opening) } else { (refused, refusing) };
        counter.inc();
        histogram.observe(took.as_secs_f64());
    }

    /// An attach attempt ended.
    pub(crate) fn attach(&self, outcome: AttachOutcome) {
        self.attaches[outcome as usize].inc();
    }
}
