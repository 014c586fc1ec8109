//! OTLP over gRPC.

mod odd;
mod rules;
mod sends;

use crate::support::{Answer, body};
use bytes::Bytes;
use http::{HeaderMap, Response};
use tonic::Status;

/// An answer of gRPC: a message, and a status in the trailers.
fn answer(message: &[u8], status: &Status) -> Answer {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).expect("a status");
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    let framed = if status.code() == tonic::Code::Ok { Bytes::from(framed) } else { Bytes::new() };
    head().body(body(framed, Some(trailers))).expect("an answer")
}

fn head() -> http::response::Builder {
    Response::builder().header("content-type", "application/grpc")
}

fn ok() -> Answer {
    answer(b"", &Status::ok(""))
}
