//! The hosting side: which nodes come in, which streams they may open, and how those end.
//!
//! Here: from a connection attempt to a connected node. `caller` serves the streams of one such node, `gate` keeps what all of
//! them share: what is bound, and what is open. `arrival`: a dial that waits for the hosting program's word.

mod arrival;
mod caller;
mod gate;

pub use self::arrival::Arrival;
pub(crate) use self::gate::Gate;

use self::caller::Caller;
use crate::{
    admission::Dialer,
    handshakes::Turn,
    node::{self, Inner},
    transport::{HANDSHAKE_DEADLINE, close},
};
use hesper_model::id::IdentityId;
use hesper_pki::{CertificateDer, spiffe::SpiffeRole, tls};
use quinn::Connection;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::timeout;

/// Handshakes under way at once, some 50 KiB each; more are dropped, and tried again by their dialers.
pub(crate) const MAX_HANDSHAKES: usize = 512;
/// A handshake that has taken so long gives way to others: two lost packets on a way around the world, and a busy machine, fit in.
pub(crate) const FAIR_TIME: Duration = Duration::from_millis(1500);
/// Peer connections at once: the agents that report to one collector. What they may make us hold: see [`memory`](crate::memory).
pub const MAX_PEERS: usize = 4096;
/// The same of one identity: it may be used by several programs, each with one connection, and one more while it restarts.
const MAX_PEERS_OF_IDENTITY: usize = 64;
/// How often lapsed grants are looked for.
pub(crate) const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// A connection attempt: handshake within the deadline, then its streams until it ends.
pub(crate) async fn serve(node: Arc<Inner>, incoming: quinn::Incoming, turn: Turn) {
    let Some(connection) = shake_hands(&node, incoming, turn).await else {
        node.counters.failed_handshakes.fetch_add(1, Relaxed);
        return;
    };
    let Some(_seat) = node.inbound_seats.clone().try_acquire_owned().ok() else {
        node.counters.refused_peers.fetch_add(1, Relaxed);
        return connection.close(close::REFUSED, b"too many peers");
    };
    let Some(dialer) = dialer_of(&node, &connection) else {
        tracing::warn!("a peer's certificate names no identity of this trust domain");
        return connection.close(close::REFUSED, b"not an identity");
    };
    let Some((others, of_identity)) = node.gate.enter(&dialer.id) else {
        node.counters.refused_peers.fetch_add(1, Relaxed);
        return connection.close(close::REFUSED, b"too many connections of this identity");
    };
    tracing::debug!(peer = %dialer.id, "peer connected to us");
    let caller = Caller::new(&node, connection, dialer, others, of_identity);
    drop(node);
    caller.serve().await;
}

async fn shake_hands(node: &Inner, incoming: quinn::Incoming, mut turn: Turn) -> Option<Connection> {
    let accepted = if node.memory.is_ample() {
        incoming.accept()
    } else {
        let config = node::server_config(&node.credentials, false).ok()?;
        incoming.accept_with(Arc::new(config))
    };
    let connecting =
        accepted.inspect_err(|error| tracing::debug!(%error, "a peer could not be accepted")).ok()?;
    tokio::select! {
        made = timeout(HANDSHAKE_DEADLINE, connecting) => match made {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(error)) => tracing::debug!(%error, "the handshake with a peer failed"),
            Err(_) => tracing::debug!("the handshake with a peer took too long"),
        },
        () = turn.displaced() => tracing::debug!("the handshake with a peer gave way to another"),
    }
    None
}

fn dialer_of(node: &Inner, connection: &Connection) -> Option<Dialer> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let peer = tls::peer_of(&chain).ok()?;
    let ours = peer.id.trust_domain == node.credentials.current().id.trust_domain;
    (ours && peer.id.role == SpiffeRole::Identity)
        .then(|| Dialer { id: IdentityId::new(peer.id.id), spki_sha256: peer.spki_sha256 })
}
