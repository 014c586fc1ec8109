//! OTLP from outside, with the official messages and tonic, none of Hesper's own code: where data arrives and where it comes from.

mod arrived;
mod load;
mod post;
mod rpc;
mod sdk;
mod sink;

pub use arrived::{Attributes, Item, Requests};
pub use load::{Load, Sent};
pub use post::Body;
pub use rpc::RpcStatus;
pub use sdk::{Sdk, Sending};
pub use sink::{Failure, OtlpSink, Received};
