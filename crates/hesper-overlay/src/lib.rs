//! The QUIC data plane of Hesper: two nodes hold one ordinary end-to-end QUIC connection, and the connection ids carry the route.
//!
//! A router in between sees tags and sizes and can only drop. From the wire upwards:
//! - [`cid`], [`header`], [`knock`]: what a packet says in clear: tags in connection ids, how to read them, how to knock.
//! - [`frame`]: length-prefixed protobuf on attach connections and at the head of streams.
//! - [`transport`]: the one place where QUIC's parameters are chosen, and why.

pub mod cid;
pub mod frame;
pub mod header;
pub mod knock;
pub mod splice;
pub mod stream;
pub mod transport;
