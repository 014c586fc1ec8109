//! OTLP/JSON (OTLP specification, "JSON Protobuf Encoding"), to and from the protobuf encoding, by the same table.
//!
//! It is the JSON of proto3 with four rules of its own: names are lowerCamelCase only, unknown ones are ignored, ids of traces and
//! spans are hexadecimal, enumerations are numbers. We read names of enumerations all the same, as the Collector does.
//!
//! Both directions stream: no tree of values stands between, so that memory is that of the text and of the payload.

mod read;
mod scalar;
mod write;

pub use read::{JsonError, decode};
pub use write::encode;
