//! The vocabulary of Hesper as plain data: what exists, what it is called, who it may be.
//!
//! - [`id`]: one type per kind of id, and the 64-bit [`Tag`](id::Tag) that routes packets.
//! - [`role`]: role attributes, `@id`, `#attribute`, `#all`, and how a policy matches them (AnyOf, AllOf).
//! - [`entity`]: identities, services, configs, policies, edge routers, terminators, enrollments; [`entity::Kind`] lists them.
//! - [`config`]: the built-in config types (`intercept.v1`, `host.v1`, `host.v2`, `otlp.v1`, `proxy.v1`, `scrape.v1`) as Rust
//!   types, with their JSON schemas and a validator whose errors name the JSON path.
//! - [`signal`]: traces, metrics, logs, profiles, and what each is called.
//!
//! JSON is camelCase, in OpenZiti's field names, because the management API, the store and the CLI all speak it.
//! Nothing here does I/O, reads a clock or holds a secret.

pub mod config;
pub mod entity;
pub mod id;
pub mod role;
pub mod signal;
