//! The mesh traces itself: spans of every role, by every kind of exporter, into real receivers.
//!
//! - [`ground`]: what a sink got, as traces: who is whose parent.
//! - [`exporters`]: each kind of URL; an exporter that is not there costs nobody anything.
//! - [`paths`]: a dial and a scrape over every role.
//! - [`hops`]: a request of OTLP through two gateways is one trace; the share that is recorded.

mod exporters;
mod ground;
mod hops;
mod paths;
