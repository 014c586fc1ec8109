//! The controller: who exists, who may do what. It signs certificates, grants and passes, and never sees traffic.
//!
//! - [`home`]: the home directory: made by [`home::init`], read by [`Controller::start`].
//! - `state`: the store's objects as one immutable model, swapped on every revision; every write is one transaction.
//! - `server`: the one TCP port: TLS with an optional client certificate, REST and gRPC side by side.
//! - `api`: the management API, a table of kinds over [`hesper_model::entity::Entity`]; its OpenAPI document comes from the same table.
//! - `auth`: logins by password or certificate, api-sessions, who is an administrator.
//! - `ca`: the certificate authorities and how one takes over from another, in phases.
//! - `events`: whom and what events name.
//! - `enroll`: the ledger that turns a one-time token into exactly one certificate.
//! - `control`: what nodes and routers ask over gRPC: watch, dial, bind, renew; grants and their revocation.
//! - `forward`: telemetry that is sent to the controller, and goes on from there.
//! - `trace`: the controller's own spans.
//! - [`validity`]: how long certificates, grants and sessions are valid.
//! - [`bootstrap`]: the defaults that `hesper quickstart` adds.
//!
//! Decisions are pure (`hesper-policy`, `enroll::ledger`, `control`'s grant ledger); this crate is the shell around them.

pub mod bootstrap;
pub mod home;
pub mod validity;

mod api;
mod auth;
mod ca;
mod control;
mod enroll;
mod events;
mod forward;
mod metrics;
mod server;
mod state;
mod trace;

pub use forward::{ForwardError, Forwarding};
pub use server::{Controller, Running, StartError, StartOptions};
