//! A node on the overlay: one QUIC endpoint, its attachments, the peers it dials and those that dial it.
//!
//! Policy is not decided here: whoever owns the node (the SDK) gives it routers, keys, passes and revocations.

use crate::{
    attach::AbortOnDrop,
    attachments::{self, Attachments},
    datagram::DatagramCounters,
    handshakes::Handshakes,
    inbound::{self, Arrival, Gate},
    memory::Memory,
    passes::PassBook,
    path_keeper::Lines,
    paths::Slot,
    peer::{OpenError, Peer, Peers},
    socket::NodeSocket,
    transport::{self, close},
};
use arc_swap::ArcSwap;
use hesper_model::id::{IdentityId, ServiceId, Tag, TerminatorId};
use hesper_pki::{credentials::SharedCredentials, tls, token::Verifier};
use quinn::{Endpoint, ServerConfig, TokioRuntime, crypto::rustls::NoInitialCipherSuite};
use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};

pub use crate::attachments::AttachState;

/// How often unused peer connections are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How long the last packets of a closing endpoint may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// What a node is made of.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Certificate, key and roots; renewed behind the handle.
    pub credentials: SharedCredentials,
    /// The session's tag.
    pub tag: Tag,
    /// Proves to routers that the tag is ours.
    pub session_token: String,
    /// How long grants that lapse during an outage of the controller are honoured.
    pub outage_grace: Duration,
}

/// Counters of one node.
#[derive(Debug, Default)]
pub struct NodeCounters {
    /// Streams whose grant was not accepted.
    pub rejected_streams: AtomicU64,
    /// Renewals whose grant was not accepted.
    pub rejected_renewals: AtomicU64,
    /// Handshakes of peers that were not begun because too many are under way.
    pub refused_handshakes: AtomicU64,
    /// Handshakes of peers that came to nothing.
    pub failed_handshakes: AtomicU64,
    /// Streams sent away because their dialer has too many.
    pub refused_streams: AtomicU64,
    /// Peers sent away because there are too many.
    pub refused_peers: AtomicU64,
    /// Datagrams that reached no program.
    pub datagrams: Arc<DatagramCounters>,
}

impl NodeCounters {
    /// What was refused to peers, by a name for metrics.
    pub fn refused(&self) -> [(&'static str, u64); 6] {
        [
            ("dial", self.rejected_streams.load(Relaxed)),
            ("renewal", self.rejected_renewals.load(Relaxed)),
            ("stream", self.refused_streams.load(Relaxed)),
            ("peer", self.refused_peers.load(Relaxed)),
            ("handshake", self.refused_handshakes.load(Relaxed)),
            ("unfinished_handshake", self.failed_handshakes.load(Relaxed)),
        ]
    }
}

/// Why a pass opened no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// None of the routers that the pass names is attached.
    #[error("not attached to any of the routers that may carry the traffic")]
    NotAttached,
    /// The routers refused it.
    #[error("the router refused the pass: {0}")]
    Refused(String),
    /// The peer is attached to none of them.
    #[error("the hosting node is not attached to the router")]
    PeerNotAttached,
}

/// Dropped, it ends: attachments and connections are closed.
pub struct Node {
    pub(crate) inner: Arc<Inner>,
    tasks: Mutex<Vec<AbortOnDrop>>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("tag", &self.inner.tag).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) credentials: SharedCredentials,
    pub(crate) socket: Arc<NodeSocket>,
    pub(crate) gate: Gate,
    pub(crate) counters: NodeCounters,
    pub(crate) inbound_seats: Arc<Semaphore>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) handshakes: Arc<Handshakes>,
    tag: Tag,
    endpoint: ArcSwap<Endpoint>,
    session_token: watch::Sender<String>,
    verifier: ArcSwap<Verifier>,
    pub(crate) attachments: Mutex<Attachments>,
    pub(crate) attached: watch::Sender<Vec<AttachState>>,
    passes: Mutex<PassBook>,
    peers: Peers,
    /// Changes when a router has come or gone, or has taken a pass again.
    paths: watch::Sender<u64>,
    /// The connections to and from peers.
    pub(crate) lines: Lines,
    pub(crate) without_path: watch::Sender<Vec<Tag>>,
}

/// What an attachment tells the node.
pub(crate) enum Event {
    /// A router no longer sees the holder of this tag, or has seen a successor: a hint, to be proven.
    PeerGone(Slot, Tag),
    Paths,
}

/// Seconds since the epoch.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn endpoint(&self) -> Arc<Endpoint> {
        self.endpoint.load_full()
    }

    /// The session's token, and newer ones when they come.
    pub(crate) fn session_token(&self) -> watch::Receiver<String> {
        self.session_token.subscribe()
    }

    pub(crate) fn verifier(&self) -> Arc<Verifier> {
        self.verifier.load_full()
    }

    pub(crate) fn passes(&self) -> MutexGuard<'_, PassBook> {
        lock(&self.passes)
    }

    pub(crate) fn paths(&self) -> watch::Receiver<u64> {
        self.paths.subscribe()
    }

    pub(crate) fn set_without_path(&self, tag: Tag, without: bool) {
        self.without_path.send_if_modified(|tags| {
            let known = tags.iter().position(|t| *t == tag);
            match (known, without) {
                (None, true) => tags.push(tag),
                (Some(at), false) => drop(tags.swap_remove(at)),
                _ => return false,
            }
            true
        });
    }

    /// Wakes those who look after connections to peers.
    pub(crate) fn paths_changed(&self) {
        self.paths.send_modify(|n| *n += 1);
    }

    pub(crate) fn event(&self, event: Event) {
        match event {
            Event::PeerGone(slot, tag) => {
                if self.lines.suspect(tag) {
                    self.socket.update(|t| t.set_attached(tag, slot, false));
                    self.paths_changed();
                }
            }
            Event::Paths => self.paths_changed(),
        }
    }
}

pub(crate) fn server_config(
    credentials: &SharedCredentials,
    ample: bool,
) -> Result<ServerConfig, NoInitialCipherSuite> {
    let narrow = transport::narrow(transport::peer_transport(), ample);
    transport::server_config(tls::peer_server(credentials.clone()), narrow, false)
}

fn endpoint(credentials: &SharedCredentials, tag: Tag, socket: Arc<NodeSocket>) -> io::Result<Endpoint> {
    let server = server_config(credentials, true).map_err(io::Error::other)?;
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new_with_abstract_socket(transport::endpoint_config(tag), Some(server), socket, runtime)
}

impl Node {
    /// Starts a node; it attaches to nothing yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system gives no UDP sockets.
    pub fn new(options: NodeOptions) -> io::Result<Self> {
        let socket = NodeSocket::new()?;
        let me = IdentityId::new(options.credentials.current().id.id.clone());
        let inner = Arc::new(Inner {
            endpoint: ArcSwap::from_pointee(endpoint(&options.credentials, options.tag, socket.clone())?),
            credentials: options.credentials,
            socket,
            gate: Gate::new(me, options.outage_grace),
            counters: NodeCounters::default(),
            inbound_seats: Arc::new(Semaphore::new(inbound::MAX_PEERS)),
            memory: Arc::default(),
            handshakes: Handshakes::new(inbound::MAX_HANDSHAKES, inbound::FAIR_TIME),
            tag: options.tag,
            session_token: watch::Sender::new(options.session_token),
            lines: Lines::default(),
            verifier: ArcSwap::default(),
            attachments: Mutex::default(),
            attached: watch::channel(Vec::new()).0,
            passes: Mutex::default(),
            peers: Peers::default(),
            paths: watch::Sender::new(0),
            without_path: watch::Sender::default(),
        });
        let tasks = vec![
            AbortOnDrop(tokio::spawn(accept(inner.clone())).abort_handle()),
            AbortOnDrop(tokio::spawn(keep_time(inner.clone())).abort_handle()),
            AbortOnDrop(tokio::spawn(attachments::keep(inner.clone())).abort_handle()),
        ];
        Ok(Self { inner, tasks: Mutex::new(tasks) })
    }

    /// The session's tag.
    pub fn tag(&self) -> Tag {
        self.inner.tag
    }

    /// A newer token for the same tag; routers are told at once.
    pub fn set_session_token(&self, token: &str) {
        self.inner.session_token.send_if_modified(|old| {
            let changed = old != token;
            token.clone_into(old);
            changed
        });
    }

    /// The keys that sign grants.
    pub fn set_verifier(&self, verifier: Verifier) {
        self.inner.verifier.store(Arc::new(verifier));
    }

    /// Is the controller reachable? During an outage lapsed grants are honoured for the grace.
    pub fn set_controller(&self, reachable: bool) {
        self.inner.gate.set_controller(reachable);
    }

    /// The connection to a hosting node, made now or found alive. Its pair must be open (see [`Self::present`]).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn connect_peer(&self, id: &IdentityId, tag: Tag) -> Result<Peer, OpenError> {
        self.inner.peers.get(&self.inner, id, tag).await
    }

    /// The connection to a hosting node, if there is one.
    pub fn connected_peer(&self, id: &IdentityId, tag: Tag) -> Option<Peer> {
        self.inner.peers.connected(id, tag)
    }

    /// Dials to this terminator of this service go to `arrivals`, which the program reads.
    pub fn bind(&self, terminator: TerminatorId, service: ServiceId, arrivals: mpsc::Sender<Arrival>) {
        self.inner.gate.bind(terminator, service, arrivals);
    }

    /// No new dials; open streams go on.
    pub fn unbind(&self, terminator: &TerminatorId) {
        self.inner.gate.unbind(terminator);
    }

    /// Ends the incoming streams that live by these grants, and refuses the grants from now on.
    pub fn revoke(&self, grants: &[String]) {
        self.inner.gate.revoke(grants);
    }

    /// Ends every incoming stream: this node itself is refused.
    pub fn revoke_all(&self) {
        self.inner.gate.revoke_all();
    }

    /// The grants (tokens) that incoming streams live by: a controller that was started again has forgotten them.
    pub fn hosted_grants(&self) -> Vec<String> {
        self.inner.gate.grants()
    }

    /// Streams open now: dialed from here, and hosted here.
    pub fn streams(&self) -> (usize, usize) {
        (self.inner.peers.streams(), self.inner.gate.streams())
    }

    /// What was refused.
    pub fn counters(&self) -> &NodeCounters {
        &self.inner.counters
    }

    /// What was lost below QUIC.
    pub fn socket_counters(&self) -> &crate::socket::Counters {
        self.inner.socket.counters()
    }

    /// Closes every connection and waits a moment until the other sides have been told.
    pub async fn close(&self) {
        self.stop();
        let _ = timeout(CLOSE_DEADLINE, self.inner.endpoint().wait_idle()).await;
    }

    /// The legs stay open: the last packets go through them.
    fn stop(&self) {
        lock(&self.tasks).clear();
        lock(&self.inner.attachments).stop();
        self.inner.endpoint().close(close::DONE, b"");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Accepts peers; when the endpoint dies (it should not), makes a new one on the same socket: attachments and peers come back by themselves.
async fn accept(node: Arc<Inner>) {
    loop {
        while let Some(incoming) = node.endpoint().accept().await {
            match node.handshakes.begin(Instant::now()) {
                Some(turn) => drop(tokio::spawn(inbound::serve(node.clone(), incoming, turn))),
                None => {
                    node.counters.refused_handshakes.fetch_add(1, Relaxed);
                    incoming.ignore();
                }
            }
        }
        tracing::warn!("the QUIC endpoint has stopped; making a new one");
        match endpoint(&node.credentials, node.tag, node.socket.clone()) {
            Ok(fresh) => node.endpoint.store(Arc::new(fresh)),
            Err(error) => tracing::warn!(%error, "cannot make a QUIC endpoint"),
        }
        tokio::time::sleep(CLOSE_DEADLINE).await;
    }
}

async fn keep_time(node: Arc<Inner>) {
    let mut expire = tokio::time::interval(inbound::EXPIRE_EVERY);
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = expire.tick() => node.gate.expire(),
            _ = sweep.tick() => for tag in node.peers.sweep() {
                node.socket.update(|t| t.forget(tag));
            }
        }
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
