//! Who comes in: a node that attaches, or another router that opens a link. Both knock and both prove themselves; the certificate
//! tells them apart.

use crate::{
    attach::{AttachError, Node},
    link::{self, Accepted, LinkError},
    metrics::AttachOutcome,
    sessions::{AdmitError, MAX_SESSIONS, Sessions},
    table::Place,
};
use hesper_overlay::{
    cid::KNOCK_LEN,
    handshakes::{Handshakes, Turn},
    transport::{HANDSHAKE_DEADLINE, close},
};
use hesper_pki::{CertificateDer, credentials::PeerIdentity, spiffe::SpiffeId};
use quinn::{Connection, ConnectionError, Endpoint, Incoming};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Handshakes at the same time; what comes beyond waits for its next packet.
const MAX_HANDSHAKES: usize = 1_024;
/// A handshake that has taken so long gives way to others, as between nodes; the node's first word belongs to it.
const FAIR_TIME: Duration = Duration::from_millis(1500);

/// Accepts nodes and routers until the endpoint ends.
pub(crate) async fn accept(sessions: Arc<Sessions>, endpoint: Endpoint) {
    let handshakes = Handshakes::new(MAX_HANDSHAKES, FAIR_TIME);
    while let Some(incoming) = endpoint.accept().await {
        // The socket lets a first packet through only with a verified knock. Anything else that QUIC takes for a new
        // connection is a late packet of an old one: not answered.
        if incoming.orig_dst_cid().len() != KNOCK_LEN || sessions.is_draining() {
            incoming.ignore();
            continue;
        }
        let room = sessions.session_count() < MAX_SESSIONS;
        let turn = if room { handshakes.begin(Instant::now()) } else { None };
        let Some(mut turn) = turn else {
            sessions.metrics().attach(AttachOutcome::Full);
            incoming.ignore();
            continue;
        };
        let sessions = sessions.clone();
        tokio::spawn(async move {
            // Boxed, as is a router: thousands of these tasks serve nodes, and should be no larger than that takes.
            let entered = Box::pin(in_time(&mut turn, enter(&sessions, incoming))).await;
            drop(turn);
            sessions.metrics().attach(outcome(&entered));
            match entered {
                Ok(Entered::Node(node)) => node.serve(&sessions).await,
                Ok(Entered::Router(router)) => Box::pin(router.serve(&sessions)).await,
                Err(error) => {
                    tracing::info!(error = &error as &dyn std::error::Error, "somebody is not let in");
                }
            }
        });
    }
}

async fn in_time(
    turn: &mut Turn,
    entering: impl Future<Output = Result<Entered, EnterError>>,
) -> Result<Entered, EnterError> {
    tokio::select! {
        entered = timeout(HANDSHAKE_DEADLINE, entering) => entered.unwrap_or(Err(EnterError::Timeout)),
        () = turn.displaced() => Err(EnterError::Displaced),
    }
}

enum Entered {
    Node(Node),
    Router(Accepted),
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
enum EnterError {
    #[error("the handshake failed")]
    Handshake(#[from] ConnectionError),
    #[error("the handshake took longer than {} s", HANDSHAKE_DEADLINE.as_secs())]
    Timeout,
    #[error("the handshake gave way to a newer one")]
    Displaced,
    #[error("the certificate names nobody")]
    Certificate,
    #[error("{0} comes too often")]
    TooOften(SpiffeId, #[source] AdmitError),
    #[error("the node {0} is not attached")]
    Node(SpiffeId, #[source] AttachError),
    #[error("no link with the router {0}")]
    Router(SpiffeId, #[source] LinkError),
}

fn outcome(entered: &Result<Entered, EnterError>) -> AttachOutcome {
    match entered {
        Ok(Entered::Node(_)) => AttachOutcome::Accepted,
        Ok(Entered::Router(_)) => AttachOutcome::Linked,
        Err(EnterError::Handshake(_) | EnterError::Certificate) => AttachOutcome::HandshakeFailed,
        Err(EnterError::Timeout) => AttachOutcome::Timeout,
        Err(EnterError::Displaced) => AttachOutcome::Displaced,
        Err(EnterError::TooOften(..)) => AttachOutcome::Limited,
        Err(EnterError::Node(_, error)) => error.outcome(),
        Err(EnterError::Router(_, LinkError::NotWanted(_))) => AttachOutcome::Refused,
        Err(EnterError::Router(_, LinkError::Closed(_))) => AttachOutcome::HandshakeFailed,
        Err(EnterError::Router(..)) => AttachOutcome::Protocol,
    }
}

async fn enter(sessions: &Sessions, incoming: Incoming) -> Result<Entered, EnterError> {
    // Where the handshake is made from. QUIC may have followed a packet elsewhere by its end, which proves nothing.
    let place = Place { address: incoming.remote_address(), local_ip: incoming.local_ip() };
    let connection = incoming.accept()?.await?;
    let peer = peer_of(&connection).ok_or(EnterError::Certificate)?;
    if let Err(error) = sessions.handshake(&peer) {
        connection.close(close::REFUSED, error.to_string().as_bytes());
        return Err(EnterError::TooOften(peer.id, error));
    }
    if link::is_router(&peer) {
        let accepted = Accepted::new(sessions, connection, place, &peer).await;
        return accepted.map(Entered::Router).map_err(|error| EnterError::Router(peer.id, error));
    }
    let id = peer.id.clone();
    Node::attach(sessions, connection, place, peer)
        .await
        .map(Entered::Node)
        .map_err(|error| EnterError::Node(id, error))
}

/// Whom the handshake proved: the leaf of the node's chain.
fn peer_of(connection: &Connection) -> Option<PeerIdentity> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    PeerIdentity::of(chain.first()?).ok()
}
