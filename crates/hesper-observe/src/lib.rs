//! What every role says about itself: logs, metrics, health and events.
//!
//! - [`logs::init`]: `tracing` events to stderr, for people or as JSON; `HESPER_LOG` filters them. The level `ERROR` is
//!   kept for what an operator must act on: the integration tests fail on such a line.
//! - [`metrics::Registry`]: named metrics (`hesper_…`), and the axum handlers of `/metrics` (OpenMetrics text) and
//!   `/healthz`; [`metrics::serve_loopback`] serves both where a role has no HTTP server of its own.
//! - [`events::Events`]: who did what and whether it was allowed, and what happened to the network: JSON lines in a private file, a ring
//!   of the last ones for whoever follows, log records for OTLP.
//!
//! Nothing here may be given a secret: no token, key or password is ever a field of an event.

pub mod events;
pub mod logs;
pub mod metrics;
