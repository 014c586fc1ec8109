//! The protobuf messages and gRPC services of Hesper.
//!
//! Generated from `proto/` by `cargo xtask codegen` and checked in, so that building needs no protoc; a test in `xtask`
//! regenerates and compares. Two packages:
//! - [`control`]: gRPC between nodes, routers and the controller.
//! - [`overlay`]: framed messages inside QUIC: on the attach connection (node and router) and at the head of each stream
//!   (dialer and binder).

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
