//! The receivers from outside, over real TCP. Tests are named after the checks of OTLP conformance that they make.

mod admission;
mod answers;
mod auth;
mod connections;
mod encodings;
mod framing;
mod limits;
mod origin;
mod paths;
mod shutdown;
mod support;
