//! How nodes and routers reach the controller.
//!
//! - [`enroll`]: from a one-time token to an identity file. The key is made here and never sent; the controller must
//!   show the CA that the token names, so that the first contact is authenticated already.
//! - [`channel`]: the gRPC channel, mutual TLS, over one or several controllers; reads the credentials at each connect.
//! - [`renewal`]: a new certificate for the same key at half-life, with jitter, swapped without a restart.
//! - [`keeper`]: a node's credentials in memory and on disk, and the CAs that the controller tells it to trust.
//! - [`clock`], [`diagnosis`]: what time the controller has, and why certificates are refused: a clock, an absence, a rotation.
//! - [`backoff`]: waiting times between attempts, jittered so that a thousand nodes do not come back in step.
//! - [`connect`]: TCP and TLS to one controller with a deadline, and errors that name the address and the step.
//! - [`rpc`]: calls as spans, and the trace that goes along.
//!
//! Every wait on the network has a deadline, and every answer a size limit.

pub mod backoff;
pub mod channel;
pub mod clock;
pub mod connect;
pub mod diagnosis;
pub mod enroll;
pub mod keeper;
pub mod renewal;
pub mod rpc;
