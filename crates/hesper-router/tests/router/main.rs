//! A real router on loopback, with the controller's side of its one call, and nodes made of hesper-overlay's parts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attach;
mod controller;
mod forward;
mod lifecycle;
mod nodes;
mod silence;
mod tap;
mod world;
