//! OTLP to others: [`Grpc`] and [`Http`].
//!
//! Both send the bytes of a shipment as they are. `compress` makes them smaller, `pieces` divides what a destination is too small for,
//! `answer` says what its answer means. Connections: a `link` is one of HTTP/2, opened again when it ends, `pool` has one
//! for each address of the destination.

mod answer;
mod compress;
mod dial;
mod frame;
mod grpc;
pub(crate) mod http;
mod link;
mod pieces;
mod pool;
pub(crate) mod request;

pub use grpc::Grpc;
pub use http::Http;

pub use super::BuildError;

use std::error::Error;

/// What a destination is told besides the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Nothing: it is not known to be one of ours.
    Receiver,
    /// Whose data it is and the name of the batch ([`FORWARDED_HEADER`](crate::origin::FORWARDED_HEADER)): another gateway, over the mesh.
    /// Never told towards an address of the network under it.
    Gateway,
}

/// An error with its causes, which hyper tells one by one.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
