//! What both sides of a UDP service share: limits, and how what moved is counted.

use crate::{Metrics, metrics::Side};
use hesper_sdk::Sent;
use std::time::Duration;

/// A flow on which nothing has moved for so long is over, unless the service says otherwise (`maxIdleTimeMillis`).
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// Longest datagram that IP can carry.
pub(crate) const MAX_DATAGRAM: usize = 65_535;

/// Counts what one flow carries.
pub(crate) struct Carried<'a> {
    metrics: &'a Metrics,
    service: &'a str,
    side: Side,
    too_slow: u64,
}

impl<'a> Carried<'a> {
    pub(crate) fn new(metrics: &'a Metrics, service: &'a str, side: Side) -> Self {
        Self { metrics, service, side, too_slow: 0 }
    }

    /// A datagram that was given to the mesh.
    pub(crate) fn sent(&self, sent: Sent) {
        match sent {
            Sent::Yes => self.metrics.datagram(self.service, self.side, "to-mesh"),
            Sent::TooLong { max } => {
                tracing::debug!(service = self.service, max, "a datagram was too long for the path");
                self.dropped("too-long");
            }
            Sent::Congested => self.dropped("congested"),
        }
    }

    /// A datagram that came out of the mesh.
    pub(crate) fn received(&self) {
        self.metrics.datagram(self.service, self.side, "from-mesh");
    }

    pub(crate) fn dropped(&self, reason: &'static str) {
        self.metrics.dropped(self.service, self.side, reason, 1);
    }

    /// So many in all were dropped before we took them out of the flow.
    pub(crate) fn too_slow(&mut self, in_all: u64) {
        let more = in_all.saturating_sub(self.too_slow);
        if more > 0 {
            self.metrics.dropped(self.service, self.side, "too-slow", more);
            self.too_slow = in_all;
        }
    }
}
