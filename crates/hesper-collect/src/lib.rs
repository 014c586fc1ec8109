//! `hesper collect`: a Collector whose network is the mesh.
//!
//! - [`files`]: the configuration's files, and `--check`'s words about them.
//! - [`collector`]: a configuration at work, and how it becomes another one. `graph` has its parts: components that are made or
//!   `kept`, pipelines, receivers.
//! - `intake`: what a receiver hands over is judged (`gate`, by the terms of the sender's grant), given its [`provenance`],
//!   stamped, and `spread` over the pipelines; each of them processes it and gives it to its queues, whose `fullness` is told.
//! - [`mesh`]: `hesper://SERVICE` for receivers and exporters: bound services and dialed streams. `listen`: every place to listen at; `discovery`:
//!   what can be scraped.
//! - [`accounts`]: what became of every item; [`forget`]: what is kept for an exporter that is no more.
//! - `health`: one URL that says whether all is well. `own_metrics`: what is `counted`, as `numbers` with names.
//!
//! How telemetry is received, stored and sent is `hesper-telemetry`'s; this crate puts it together.

pub mod accounts;
pub mod collector;
mod counted;
mod discovery;
pub mod files;
pub mod forget;
mod fullness;
mod gate;
mod graph;
mod health;
mod intake;
mod kept;
mod listen;
pub mod mesh;
mod numbers;
mod own_metrics;
pub mod provenance;
mod spread;

pub use collector::{Collector, Setup};
pub use graph::StartError;
