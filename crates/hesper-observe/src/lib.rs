//! What every role says about itself: logs, metrics, health and audit events.
//!
//! - [`logs::init`]: `tracing` events to stderr, for people or as JSON; `HESPER_LOG` filters them. The level `ERROR` is
//!   kept for what an operator must act on: the integration tests fail on such a line.
//! - [`metrics::Registry`]: named metrics (`hesper_…`), and the axum handlers of `/metrics` (OpenMetrics text) and
//!   `/healthz`; [`metrics::serve_loopback`] serves both where a role has no HTTP server of its own.
//! - [`audit::Audit`]: who did what and whether it was allowed, one JSON object per line in a private file.
//!
//! Nothing here may be given a secret: no token, key or password is ever a field of an event.

pub mod audit;
pub mod logs;
pub mod metrics;
