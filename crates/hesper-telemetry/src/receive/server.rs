//! Where connections come in, and how a server ends.

use super::{
    body::{Answer, Arriving},
    builder::Builder,
    connection, grpc,
    observe::TurnedAway,
    service::{self, Core},
};
use crate::net::{Arrival, Incoming, Peer};
use hesper_otlp::Refusal;
use http::{Request, Response};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// OTLP over gRPC, over HTTP, or both.
#[derive(Clone)]
pub struct Server {
    pub(crate) core: Arc<Core>,
    pub(crate) max_connections: usize,
    pub(crate) drain: Duration,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Connections that were cut because they did not finish in time: their senders do not know whether their data was taken.
    pub cut: usize,
}

impl Server {
    /// Begins to describe a server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Serves what comes in until there will be no more of it and all of it has ended, or until `stop`: then nothing new is
    /// taken, requests in flight are finished within the time that [`Builder::drain`] gives, and the rest is cut. Whoever
    /// drops the future cuts everything at once.
    pub async fn serve(&self, mut incoming: Box<dyn Incoming>, stop: CancellationToken) -> Ended {
        let mut connections = JoinSet::new();
        let mut more = true;
        while more || !connections.is_empty() {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => self.note(ended),
                arrival = incoming.next(), if more => match arrival {
                    Some(arrival) => self.begin(&mut connections, arrival, &stop),
                    None => more = false,
                },
            }
        }
        drop(incoming);
        let finished = timeout(self.drain, async {
            while let Some(ended) = connections.join_next().await {
                self.note(ended);
            }
        });
        // Some may have ended and not been joined: those are not cut.
        let _ = finished.await;
        while let Some(ended) = connections.try_join_next() {
            self.note(ended);
        }
        let cut = connections.len();
        if cut > 0 {
            warn!(connections = cut, within = ?self.drain, "connections did not finish in time and were cut");
        }
        connections.shutdown().await;
        Ended { cut }
    }

    /// Answers one call of gRPC that came over a connection of somebody else, who says from whom it is, or why it is refused: then
    /// nothing of its body is read. Deadlines and limits of the request are ours, those of the connection are not.
    pub async fn call(
        &self,
        from: Result<Arc<Peer>, Refusal>,
        request: Request<hyper::body::Incoming>,
    ) -> Response<Answer> {
        let (head, body) = request.into_parts();
        match (from, &self.core.grpc) {
            (Ok(peer), _) => service::answer(&self.core, &peer, &head, &mut Arriving::new(body)).await,
            (Err(refusal), Some(_)) => grpc::refuse(&self.core, &head, refusal),
            (Err(_), None) => super::http::wrong_port(&self.core, &head),
        }
    }

    fn begin(
        &self,
        connections: &mut JoinSet<Result<(), connection::NotReady>>,
        arrival: Arrival,
        stop: &CancellationToken,
    ) {
        if connections.len() >= self.max_connections {
            self.core.observer.turned_away(TurnedAway::Full);
            return;
        }
        // A token of its own, so that connections do not meet at one lock whenever something happens.
        connections.spawn(connection::serve(Arc::clone(&self.core), arrival, stop.child_token()));
    }

    fn note(&self, ended: Result<Result<(), connection::NotReady>, JoinError>) {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(connection::NotReady)) => self.core.observer.turned_away(TurnedAway::NotReady),
            Err(error) => error!(%error, "a connection ended by a fault of its receiver"),
        }
    }
}
