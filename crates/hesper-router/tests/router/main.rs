//! Real routers on loopback, with the controller's side of their one call, and nodes made of hesper-overlay's parts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attach;
mod controller;
mod forward;
mod hostile_link;
mod lifecycle;
mod links;
mod nodes;
mod silence;
mod tap;
mod world;
