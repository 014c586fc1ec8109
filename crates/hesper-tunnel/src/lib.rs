//! Puts unmodified programs on the mesh, without root.
//!
//! - [`host`]: binds every service that this identity may bind and that has a `host.v1` or `host.v2` config; each stream becomes one
//!   TCP connection to the config's target, each flow of datagrams one UDP socket.
//! - [`proxy`]: local TCP and UDP listeners, each for one service: `service:port[:udp]`, or `proxy.v1` configs.
//! - [`http`]: an HTTP proxy for unmodified scrapers and browsers, with Prometheus' service discovery at `/sd`.
//! - [`run`]: all of it in one process, from one identity.
//!
//! The hosting side also runs the configs' health checks ([`health`]), which decide how its terminators rank among others.
//!
//! The decisions are plain functions of the node's view: [`names`] (what a request means), [`target`] (where a hosted stream goes),
//! [`sd`] (what Prometheus discovers), [`plan`] (what to start and stop). The rest only carries them out, live: a change of
//! policy, service or config takes effect without a restart and disturbs nothing else.

pub mod app_data;
mod dialer;
mod follow;
pub mod health;
pub mod host;
pub mod http;
mod metrics;
pub mod names;
pub mod plan;
pub mod proxy;
pub mod run;
pub mod sd;
pub mod service;
pub mod target;
mod udp;

pub use dialer::{Dialer, Flow};
pub use follow::{Known, follow};
pub use metrics::{Metrics, show_refused};

#[cfg(test)]
mod testing;
