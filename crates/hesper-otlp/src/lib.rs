//! OTLP as bytes: what a hop needs to know of telemetry that it checks, stamps, stores and sends on.
//!
//! What travels is a [`Batch`]: the encoded `Export<Signal>ServiceRequest` as it came, never a tree of decoded messages. One table of OTLP's
//! messages (`schema`, generated) drives everything that looks inside:
//! - [`validate()`] takes exactly what a decoder would take, and counts the items;
//! - [`stamp()`](stamp::stamp) puts the sender's identity on each resource and takes out whatever else claims to be one, by splicing the bytes;
//! - [`split`] makes several requests of one and one of several;
//! - [`edit`](edit::edit) sets and takes away the attributes that processors name, likewise;
//! - [`resource::said`] reads what the resources call themselves, for policy;
//! - [`json`] turns OTLP/JSON into the same bytes and back.
//!
//! Around it is what the protocol says of answers: [`PartialSuccess`], [`Refusal`], [`status`] (google.rpc.Status, gRPC codes and HTTP statuses),
//! [`retry`] (what may be sent again, and when), [`limits`] and the paths and names of each [`Signal`].
//! [`room`] is where the bytes are.
//!
//! Requests come from strangers. So every function here takes time and memory in proportion to its input, nests no deeper
//! than [`limits::DEPTH`], and answers bad bytes with an error that names the place. Nothing here knows of sockets, clocks or tasks.

pub mod edit;
mod encoding;
pub mod json;
pub mod limits;
mod refusal;
pub mod resource;
mod response;
pub mod retry;
pub mod room;
mod schema;
mod splice;
pub mod split;
pub mod stamp;
pub mod status;
mod validate;
mod wire;

pub use encoding::Encoding;
pub use hesper_model::signal::Signal;
pub use refusal::Refusal;
pub use response::{PartialSuccess, ResponseError};
pub use stamp::{Stamp, StampError};
pub use validate::{Counts, count, nested, validate};
pub use wire::{Fault, Malformed};

use bytes::Bytes;

/// The unit that travels: one request of one signal. Who sent it is beside it, never inside alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Of which signal.
    pub signal: Signal,
    /// The encoded `Export<Signal>ServiceRequest`.
    pub payload: Bytes,
}
