//! What the gRPC side counts. Labels come from bounded sets: codes and outcomes.

use super::{grants::Ledger, sessions::Sessions};
use hesper_observe::metrics::{Counter, Family, Gauge, Registry};

/// Outcome and code.
type Labels = Vec<(&'static str, &'static str)>;

/// Counters and gauges of `control`.
#[derive(Clone, Default)]
pub(crate) struct ControlMetrics {
    /// Dials decided.
    pub(super) dials: Family<Labels, Counter>,
    /// Binds decided.
    pub(super) binds: Family<Labels, Counter>,
    /// Grants revoked.
    pub(super) revocations: Counter,
    /// Grants whose dialers were told of better ways.
    pub(super) reroutes: Counter,
    /// Watches cut off because their peer did not read.
    pub(super) slow: Counter,
    /// Calls refused because their identity made too many.
    pub(super) limited: Family<Labels, Counter>,
    /// Certificates renewed, or not.
    pub(super) renewals: Family<Labels, Counter>,
    sessions: Gauge,
    routers: Gauge,
    grants: Gauge,
    grants_refused: Gauge,
}

impl ControlMetrics {
    /// Shows them.
    pub(super) fn register(&self, registry: &Registry) {
        // Those that mostly stay at 0 are shown from the start, so that a first increase is seen.
        for what in ["calls", "watches"] {
            self.limited.get_or_create(&vec![("what", what)]).inc_by(0);
        }
        registry.register("dials", "Dials decided, by outcome and code", self.dials.clone());
        registry.register("binds", "Binds decided, by outcome and code", self.binds.clone());
        registry.register("grants_revoked", "Grants ended before their time", self.revocations.clone());
        registry.register(
            "reroutes",
            "Grants whose dialers were sent for better ways",
            self.reroutes.clone(),
        );
        registry.register(
            "watches_cut_off",
            "Watches ended because their peer did not read",
            self.slow.clone(),
        );
        registry.register(
            "calls_limited",
            "Calls and watches refused because their identity made too many",
            self.limited.clone(),
        );
        registry.register("renewals", "Certificate renewals by outcome and code", self.renewals.clone());
        registry.register("node_sessions", "Node sessions with an open watch", self.sessions.clone());
        registry.register("routers_online", "Edge routers with an open watch", self.routers.clone());
        registry.register("grants", "Grants that are out", self.grants.clone());
        registry.register(
            "grants_refused_full",
            "Grants refused since the start because there were too many",
            self.grants_refused.clone(),
        );
    }

    /// Takes over what is counted elsewhere.
    pub(super) fn show(&self, sessions: &Sessions, ledger: &Ledger) {
        let (nodes, routers) = sessions.count();
        for (gauge, value) in [
            (&self.sessions, nodes),
            (&self.routers, routers),
            (&self.grants, ledger.len()),
            (&self.grants_refused, usize::try_from(ledger.refused()).unwrap_or(usize::MAX)),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}
