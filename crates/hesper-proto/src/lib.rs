//! The protobuf messages and gRPC services of Hesper.
//!
//! Generated from `proto/` by `cargo xtask codegen` and checked in, so that building needs no protoc; a test in `xtask`
//! regenerates and compares. Three packages:
//! - [`control`]: gRPC between nodes, routers and the controller.
//! - [`overlay`]: framed messages inside QUIC: on the attach connection (node and router) and at the head of each stream
//!   (dialer and binder).
//! - [`telemetry`]: what lies beside a batch of OTLP, on disk and between gateways.

/// Metadata key of `Dial`, `Bind`, `Unbind` and `UpdateTerminator`: the tag of the caller's session, 16 hexadecimal digits. Without
/// it the call is for the session that the identity opened last; programs that share one identity must send it.
pub const SESSION_METADATA: &str = "hesper-session";

/// Package `hesper.control.v1`.
pub mod control {
    #![allow(clippy::all, reason = "generated code")]
    include!("generated/hesper.control.v1.rs");
}

/// Package `hesper.overlay.v1`.
pub mod overlay {
    #![allow(clippy::all, reason = "generated code")]
    include!("generated/hesper.overlay.v1.rs");
}

/// Package `hesper.telemetry.v1`.
pub mod telemetry {
    #![allow(clippy::all, reason = "generated code")]
    include!("generated/hesper.telemetry.v1.rs");
}
