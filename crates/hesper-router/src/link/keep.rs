//! Keeps up the links that this router connects: one task for each, for as long as the controller names the other side.

use super::{LinkError, MAX_MESSAGE, converse, hello};
use crate::{
    links::Peer,
    sessions::{Sessions, now_unix, place_of},
};
use hesper_client::backoff::Backoff;
use hesper_model::id::EdgeRouterId;
use hesper_overlay::{
    frame::{read_message, write_message},
    knock,
    transport::{HANDSHAKE_DEADLINE, attach_transport, client_config},
};
use hesper_pki::{credentials::SharedCredentials, tls};
use hesper_proto::overlay::{LinkMessage, link_message::Message};
use quinn::{Connection, ConnectionId, Endpoint, RecvStream, SendStream};
use rand::Rng;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::lookup_host,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// First and last ceiling of the waits between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// A link that held for so long was a good one: the next attempt comes at once.
const GOOD: Duration = Duration::from_secs(5);
/// Who is to be connected is looked at this often, besides whenever the controller speaks.
const LOOK: Duration = Duration::from_secs(1);

/// What it takes to connect.
#[derive(Clone)]
pub(crate) struct Linker {
    pub(crate) sessions: Arc<Sessions>,
    /// The endpoint that now serves the port.
    pub(crate) endpoint: Arc<Mutex<Endpoint>>,
    pub(crate) credentials: SharedCredentials,
}

impl Linker {
    /// Runs for ever. Its links end with it.
    pub(crate) async fn run(self) {
        let mut told = self.sessions.told();
        let mut tasks = JoinSet::new();
        let mut kept: HashMap<EdgeRouterId, watch::Sender<Peer>> = HashMap::new();
        loop {
            told.mark_unchanged();
            let own = self.sessions.plane().told().map(|told| told.id.clone());
            let wanted = own.map(|own| self.sessions.links().to_connect(&own)).unwrap_or_default();
            // A task whose sender is gone ends.
            kept.retain(|id, _| wanted.iter().any(|peer| peer.id == *id));
            for peer in wanted {
                match kept.get(&peer.id) {
                    Some(known) => {
                        known.send_if_modified(|before| {
                            *before != peer && {
                                *before = peer;
                                true
                            }
                        });
                    }
                    None => {
                        let id = peer.id.clone();
                        let (known, follow) = watch::channel(peer);
                        tasks.spawn(self.clone().keep(follow));
                        kept.insert(id, known);
                    }
                }
            }
            while tasks.try_join_next().is_some() {}
            // The sender lives as long as the sessions, which are held here.
            let _ = timeout(LOOK, told.changed()).await;
        }
    }

    /// Connects to one router again and again.
    async fn keep(self, mut peer: watch::Receiver<Peer>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, rand::rng().random());
        while !self.sessions.is_draining() {
            let target = peer.borrow_and_update().clone();
            let began = Instant::now();
            let unwanted = async { while peer.changed().await.is_ok() {} };
            let ended = tokio::select! {
                ended = self.connect_and_talk(&target) => ended,
                () = unwanted => return,
            };
            tracing::info!(router = %target.name, error = &ended as &dyn std::error::Error, "no link");
            if began.elapsed() > GOOD {
                backoff.reset();
            }
            sleep(backoff.next_wait()).await;
            if peer.has_changed().is_err() {
                return;
            }
        }
    }

    async fn connect_and_talk(&self, target: &Peer) -> LinkError {
        let connected = async {
            let mut last = LinkError::NoAddress(target.addresses.clone());
            for address in resolve(&target.addresses).await {
                match timeout(HANDSHAKE_DEADLINE, self.connect(target, address)).await {
                    Ok(Ok(parts)) => return Ok(parts),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = LinkError::NoAnswer(address),
                }
            }
            Err(last)
        };
        match connected.await {
            Ok((connection, send, recv)) => {
                // A side that connects stays with the address that it has chosen.
                let place = place_of(&connection);
                converse(&self.sessions, &target.id, place, connection, send, recv).await
            }
            Err(error) => error,
        }
    }

    async fn connect(
        &self,
        target: &Peer,
        address: SocketAddr,
    ) -> Result<(Connection, SendStream, RecvStream), LinkError> {
        let own = self.credentials.current();
        let expected = own.id.router(target.id.as_str()).map_err(|_| LinkError::Id)?;
        let (key_id, key) = (target.knock_key_id.0, target.knock_key.0);
        let nonce = AtomicU16::new(rand::rng().random());
        let knock = move || {
            let nonce = nonce.fetch_add(1, Ordering::Relaxed);
            ConnectionId::new(&knock::make(key_id, &key, now_unix(), nonce))
        };
        let tls = tls::peer_client(self.credentials.clone(), expected);
        let config = client_config(tls, attach_transport(), knock)?;
        let endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let connection = endpoint.connect_with(config, address, "hesper")?.await?;
        let (mut send, mut recv) = connection.open_bi().await?;
        write_message(&mut send, &hello(&self.sessions)?).await?;
        match read_message::<LinkMessage>(&mut recv, MAX_MESSAGE).await?.message {
            Some(Message::Hello(hello)) if hello.router_id == target.id.as_str() => {
                Ok((connection, send, recv))
            }
            Some(Message::Refused(refused)) => Err(LinkError::Refused(refused.reason)),
            _ => Err(LinkError::Unexpected),
        }
    }
}

async fn resolve(addresses: &[String]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for address in addresses {
        match timeout(HANDSHAKE_DEADLINE, lookup_host(address)).await {
            Ok(Ok(addresses)) => {
                found.extend(addresses.filter(|a| a.port() != 0 && !a.ip().is_unspecified()))
            }
            Ok(Err(error)) => tracing::debug!(%address, %error, "cannot resolve another router's address"),
            Err(_) => tracing::debug!(%address, "no answer to the look-up of another router's address"),
        }
    }
    found
}
