//! Everything that is read before its sender is known, as functions of bytes that must hold whatever the bytes are.
//!
//! Each of [`TARGETS`] checks more than that nothing panics: what is accepted must be what was meant. The same functions are run by libFuzzer
//! (`integration/fuzz`, its own workspace, with a nightly compiler) and by `integration/tests/fuzz_corpus.rs`, which replays the checked-in
//! corpus and some thousands of its mutations with every test run. An input that once broke something is kept in the corpus.
//!
//! - [`packet`]: headers and knocks, by which a router's socket decides.
//! - [`token`]: the four kinds of JWT, raw and (because random bytes never carry a good signature) under a key that the target knows.
//! - [`grant`]: claims that are signed well and held against a dialer, a binder and a stream.
//! - [`frame`]: messages on attach connections, on links and at the head of streams.
//! - [`proxy`]: heads of requests to the HTTP proxy.
//! - [`otlp`], [`otlp_json`]: telemetry, in both encodings.
//! - [`config`], [`filter`]: what a client of the management API writes.

pub mod config;
pub mod filter;
pub mod frame;
pub mod grant;
pub mod mutate;
pub mod otlp;
pub mod otlp_json;
pub mod packet;
pub mod proxy;
pub mod token;

/// A time at which the tokens and knocks of the corpus are good, seconds since the epoch.
pub const NOW: u64 = 1_800_000_000;

/// A target: its name, which is also that of its directory in the corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 9] = [
    ("packet", packet::run),
    ("token", token::run),
    ("grant", grant::run),
    ("frame", frame::run),
    ("proxy", proxy::run),
    ("config", config::run),
    ("filter", filter::run),
    ("otlp", otlp::run),
    ("otlp_json", otlp_json::run),
];
