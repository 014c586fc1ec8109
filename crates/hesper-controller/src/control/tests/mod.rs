//! The gRPC services over loopback, with a store on disk; only TLS is left out: a layer puts the caller in.

mod dials;
mod events;
mod grants;
mod nodes;
mod scale;
mod senders;
mod world;

use hesper_proto::control::DialRequest;

fn ask(service: &str) -> DialRequest {
    DialRequest { service: service.into(), ..DialRequest::default() }
}
