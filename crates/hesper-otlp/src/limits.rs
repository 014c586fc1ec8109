//! How large messages may be (OTLP specification 1.11, "Message size limits").

/// Largest request, bytes: the specification's recommendation, before and after decompression.
pub const REQUEST_LEN: usize = 64 * 1024 * 1024;

/// Largest response, bytes, that a server sends and a client reads, also after decompression.
pub const RESPONSE_LEN: usize = 4 * 1024 * 1024;

/// Deepest nesting of messages, the request itself being level 0. It is that of prost and so of every Rust peer; Go and C++ stop
/// at 10000 and 100.
pub const DEPTH: u32 = 100;

/// The limits of one receiver or exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request as it comes off the wire, bytes.
    pub request: usize,
    /// Largest request after decompression, bytes.
    pub decompressed: usize,
    /// Largest response, bytes.
    pub response: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request: REQUEST_LEN, decompressed: REQUEST_LEN, response: RESPONSE_LEN }
    }
}
