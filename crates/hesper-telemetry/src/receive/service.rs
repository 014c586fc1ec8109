//! What all requests of a server share, and which protocol a request speaks.

use super::{
    admission::Admission,
    body::{Answer, Arriving},
    connection,
    grpc::{self, GrpcSide},
    http::{self as otlp_http, HttpSide},
    media,
    observe::Observer,
};
use crate::{flow::Sink, net::Peer};
use hesper_otlp::Signal;
use http::{Response, Version, request::Parts};
use std::sync::Arc;

/// A server, as its connections see it.
pub(crate) struct Core {
    pub(crate) grpc: Option<GrpcSide>,
    pub(crate) http: Option<HttpSide>,
    pub(crate) sinks: Sinks,
    pub(crate) admission: Admission,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) connection: connection::Settings,
}

/// The heads of the pipelines.
#[derive(Default)]
pub(crate) struct Sinks([Option<Arc<dyn Sink>>; 4]);

impl Sinks {
    pub(crate) fn set(&mut self, signal: Signal, sink: Arc<dyn Sink>) {
        self.0[signal as usize] = Some(sink);
    }

    pub(crate) fn get(&self, signal: Signal) -> Option<&Arc<dyn Sink>> {
        self.0[signal as usize].as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Answers a request.
pub(crate) async fn answer(
    core: &Core,
    peer: &Arc<Peer>,
    head: &Parts,
    body: &mut Arriving,
) -> Response<Answer> {
    match (&core.grpc, &core.http) {
        (Some(side), _) if media::is_grpc(&head.headers) && head.version == Version::HTTP_2 => {
            grpc::answer(core, side, peer, head, body).await
        }
        (_, Some(side)) => otlp_http::answer(core, side, peer, head, body).await,
        (_, None) => otlp_http::wrong_port(core, head),
    }
}
