//! The hosting side: who comes in, which streams they may open, and how those end.

use crate::{
    admission::{Admission, Dialer, PeerId, Rejection, StreamId, code},
    control::{self, Line},
    datagram::Datagrams,
    frame,
    handshakes::Turn,
    node::{self, Inner, unix_now},
    path_keeper,
    stream::{Stream, StreamError, StreamHandle, code as stream_code},
    transport::{FIRST_STREAMS, HANDSHAKE_DEADLINE, MAX_STREAMS, close},
};
use hesper_model::id::{IdentityId, ServiceId, TerminatorId};
use hesper_pki::{
    CertificateDer,
    spiffe::SpiffeRole,
    tls,
    token::{GrantClaims, TokenError, Verifier},
};
use hesper_proto::overlay::{
    DialHeader, DialResult, RenewGrant, StreamHeader, control_frame::Frame, stream_header,
};
use quinn::{Connection, RecvStream, SendStream};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

/// Handshakes under way at once, some 50 KiB each; more are dropped, and tried again by their dialers.
pub(crate) const MAX_HANDSHAKES: usize = 512;
/// A handshake that has taken so long gives way to others: two lost packets on a way around the world, and a busy machine, fit in.
pub(crate) const FAIR_TIME: Duration = Duration::from_millis(1500);
/// Peer connections at once: the agents that report to one collector. What they may make us hold: see [`memory`](crate::memory).
pub const MAX_PEERS: usize = 4096;
/// The same of one identity: it may be used by several programs, each with one connection, and one more while it restarts.
const MAX_PEERS_OF_IDENTITY: usize = 64;
/// Open streams of one identity, over all its connections; each is a file descriptor of a hosting tunneler.
const MAX_STREAMS_OF_IDENTITY: usize = MAX_STREAMS as usize;
/// Streams of one connection that have not yet said what they are, with up to [`MAX_HEADER`] each; the next ones wait.
const MAX_OPENING: usize = 64;
/// How long a new stream may take to say what it is.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// Longest first message of a stream: a grant and what the dialer tells the program.
const MAX_HEADER: usize = frame::MAX_MESSAGE_LEN;
/// How long the answer to a dial may take to be written; it is the first thing on its stream.
const RESULT_DEADLINE: Duration = Duration::from_secs(5);
/// How often lapsed grants are looked for.
pub(crate) const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// What is bound, and which streams are open.
pub(crate) struct Gate(Mutex<State>);

struct State {
    admission: Admission,
    handles: HashMap<StreamId, StreamHandle>,
    listeners: HashMap<TerminatorId, mpsc::Sender<Arrival>>,
    /// The tokens of the grants that streams live by, by the grants' ids.
    tokens: HashMap<String, String>,
    /// What each dialing identity has.
    peers: HashMap<IdentityId, Taken>,
    next: u64,
}

/// What one identity has open here.
#[derive(Debug, Default)]
struct Taken {
    connections: usize,
    /// Held by each open stream.
    streams: Arc<()>,
}

/// A dial that was admitted and waits for the hosting program's word. Dropped, it is refused.
#[derive(Debug)]
pub struct Arrival {
    /// Who dials, as the handshake proved it.
    pub dialer: IdentityId,
    /// The dialed service.
    pub service: ServiceId,
    /// The dialed terminator.
    pub terminator: TerminatorId,
    /// What the dialer tells the program, JSON; empty = nothing.
    pub app_data: String,
    stream: Stream,
}

impl Arrival {
    /// Is it dialed for datagrams (see [`Stream::into_datagrams`])?
    pub fn is_datagrams(&self) -> bool {
        self.stream.is_datagrams()
    }

    /// Accepts the dial.
    ///
    /// # Errors
    /// The dialer is gone, or its grant has just ended.
    pub async fn accept(mut self) -> io::Result<Stream> {
        answer(&mut self.stream, DialResult::default()).await?;
        Ok(self.stream)
    }

    /// Refuses it, with a reason for the dialer.
    pub async fn refuse(mut self, reason: &str) {
        let result = DialResult { code: code::REFUSED.into(), message: reason.into() };
        // A dialer that is gone needs no answer.
        if answer(&mut self.stream, result).await.is_ok() {
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await;
        }
    }
}

async fn answer(stream: &mut (impl tokio::io::AsyncWrite + Unpin), result: DialResult) -> io::Result<()> {
    match timeout(RESULT_DEADLINE, frame::write_message(stream, &result)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(frame::FrameError::Io(e))) => Err(e),
        Ok(Err(e)) => Err(io::Error::other(e)),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

impl Gate {
    pub(crate) fn new(me: IdentityId, outage_grace: Duration) -> Self {
        Self(Mutex::new(State {
            admission: Admission::new(me, outage_grace.as_secs()),
            handles: HashMap::new(),
            listeners: HashMap::new(),
            tokens: HashMap::new(),
            peers: HashMap::new(),
            next: 1,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bind(&self, terminator: TerminatorId, service: ServiceId, arrivals: mpsc::Sender<Arrival>) {
        let mut state = self.lock();
        state.admission.bind(terminator.clone(), service);
        state.listeners.insert(terminator, arrivals);
    }

    pub(crate) fn unbind(&self, terminator: &TerminatorId) {
        let mut state = self.lock();
        state.admission.unbind(terminator);
        state.listeners.remove(terminator);
    }

    pub(crate) fn set_controller(&self, reachable: bool) {
        self.lock().admission.set_controller(reachable, unix_now());
    }

    pub(crate) fn revoke(&self, grants: &[String]) {
        let handles = {
            let mut state = self.lock();
            let ended = state.admission.revoke(unix_now(), grants.iter().map(String::as_str));
            state.take(&ended)
        };
        end(handles, StreamError::Revoked);
    }

    pub(crate) fn revoke_all(&self) {
        let handles = {
            let mut state = self.lock();
            let ended = state.admission.revoke_all(unix_now());
            state.take(&ended)
        };
        end(handles, StreamError::Revoked);
    }

    pub(crate) fn expire(&self) {
        let handles = {
            let mut state = self.lock();
            let ended = state.admission.expire(unix_now());
            state.forget_tokens();
            state.take(&ended)
        };
        end(handles, StreamError::Expired);
    }

    /// The grants that streams live by, as their dialers presented them.
    pub(crate) fn grants(&self) -> Vec<String> {
        let mut state = self.lock();
        state.forget_tokens();
        state.tokens.values().cloned().collect()
    }

    pub(crate) fn streams(&self) -> usize {
        self.lock().admission.len()
    }

    /// One more connection of this identity: how many others it has, and what counts its streams. `None`: no room.
    fn enter(&self, id: &IdentityId) -> Option<(usize, Arc<()>)> {
        let mut state = self.lock();
        let taken = state.peers.entry(id.clone()).or_default();
        let others = taken.connections;
        (others < MAX_PEERS_OF_IDENTITY).then(|| {
            taken.connections += 1;
            (others, taken.streams.clone())
        })
    }

    fn leave(&self, peer: PeerId, id: &IdentityId) {
        let mut state = self.lock();
        state.admission.leave(peer);
        if let Some(taken) = state.peers.get_mut(id) {
            taken.connections -= 1;
            if taken.connections == 0 {
                state.peers.remove(id);
            }
        }
    }

    fn next_id(&self) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        state.next
    }

    fn close(&self, stream: StreamId) {
        let mut state = self.lock();
        state.admission.close(stream);
        state.handles.remove(&stream);
    }

    fn frozen_clock(&self, now: u64) -> Option<u64> {
        self.lock().admission.frozen_clock(now)
    }
}

impl State {
    /// Those that no stream lives by any more.
    fn forget_tokens(&mut self) {
        let live = self.admission.grants();
        self.tokens.retain(|id, _| live.contains(id.as_str()));
    }

    fn take(&mut self, ended: &[StreamId]) -> Vec<StreamHandle> {
        ended.iter().filter_map(|id| self.handles.remove(id)).collect()
    }
}

/// Outside the gate's lock: the end of a stream takes that lock itself.
fn end(handles: Vec<StreamHandle>, reason: StreamError) {
    handles.iter().for_each(|h| h.end(reason.clone()));
}

/// Closes a stream at the gate when its last half is gone.
struct StreamGuard {
    /// Count the open streams of its connection and of its dialer.
    _live: [Arc<()>; 2],
    gate: Weak<Inner>,
    id: StreamId,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if let Some(node) = self.gate.upgrade() {
            node.gate.close(self.id);
        }
    }
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
    let id = PeerId(node.gate.next_id());
    let datagrams = Datagrams::new(connection.clone(), node.counters.datagrams.clone());
    let (line, queue) = Line::new(connection.clone(), node.memory.share(others));
    tokio::spawn(path_keeper::keep(Arc::downgrade(&node), line.clone(), false, Vec::new()));
    datagrams.listen(line.clone());
    let caller = Arc::new(Caller {
        node: Arc::downgrade(&node),
        connection,
        datagrams,
        line,
        queue: Mutex::new(Some(queue)),
        id,
        dialer,
        verified: Mutex::default(),
        live: Arc::default(),
        of_identity,
        rejected: AtomicU64::new(0),
        allowed: Mutex::new(FIRST_STREAMS),
    });
    drop(node);
    let opening = Arc::new(Semaphore::new(MAX_OPENING));
    let reason = loop {
        let place = tokio::select! {
            place = opening.clone().acquire_owned() => place,
            reason = caller.connection.closed() => break reason,
        };
        match caller.connection.accept_bi().await {
            Ok((send, recv)) => {
                tokio::spawn(caller.clone().stream(send, recv, place.ok()));
            }
            Err(reason) => break reason,
        }
    };
    tracing::debug!(peer = %caller.dialer.id, %reason, "peer disconnected");
    if let Some(node) = caller.node.upgrade() {
        node.gate.leave(caller.id, &caller.dialer.id);
    }
}

fn dialer_of(node: &Inner, connection: &Connection) -> Option<Dialer> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let peer = tls::peer_of(&chain).ok()?;
    let ours = peer.id.trust_domain == node.credentials.current().id.trust_domain;
    (ours && peer.id.role == SpiffeRole::Identity)
        .then(|| Dialer { id: IdentityId::new(peer.id.id), spki_sha256: peer.spki_sha256 })
}

/// A connected dialing node.
struct Caller {
    node: Weak<Inner>,
    connection: Connection,
    datagrams: Datagrams,
    line: Arc<Line>,
    /// For the control stream, of which there is one.
    queue: Mutex<Option<mpsc::Receiver<Frame>>>,
    id: PeerId,
    dialer: Dialer,
    /// The grant that was verified last, with the keys that verified it. A dialer shows the same one for every stream until it is
    /// renewed, and a signature costs more than the rest of opening a stream.
    verified: Mutex<Option<Verified>>,
    /// Held by each open stream.
    live: Arc<()>,
    /// Held by each open stream of all its connections.
    of_identity: Arc<()>,
    /// Dials and renewals that were rejected.
    rejected: AtomicU64,
    /// Streams that the dialer may have open now.
    allowed: Mutex<u32>,
}

struct Verified {
    by: Arc<Verifier>,
    text: String,
    claims: GrantClaims,
}

impl Caller {
    /// The claims of a grant whose signature is good. Time, revocation and target are checked on every use, by [`Admission`].
    fn claims(&self, node: &Inner, grant: &str, now: u64) -> Result<GrantClaims, TokenError> {
        let by = node.verifier();
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = verified.as_ref().filter(|v| v.text == grant && Arc::ptr_eq(&v.by, &by)) {
            return Ok(known.claims.clone());
        }
        let claims = Admission::verify(&by, grant, now, node.gate.frozen_clock(now))?;
        *verified = Some(Verified { by, text: grant.to_owned(), claims: claims.clone() });
        Ok(claims)
    }

    /// Something of this peer was rejected. The log is told of the first, the second, the fourth, …: a peer must not fill the disk. Returns
    /// how many there have been.
    fn worth_a_line(&self) -> Option<u64> {
        let so_far = self.rejected.fetch_add(1, Relaxed) + 1;
        so_far.is_power_of_two().then_some(so_far)
    }

    /// Lets the dialer open twice as many streams once it uses half of those it may, up to [`MAX_STREAMS`].
    fn make_room(&self) {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if *allowed < MAX_STREAMS && Arc::strong_count(&self.live) > *allowed as usize / 2 {
            *allowed = (*allowed * 2).min(MAX_STREAMS);
            self.connection.set_max_concurrent_bi_streams((*allowed).into());
        }
    }

    async fn stream(
        self: Arc<Self>,
        mut send: SendStream,
        mut recv: RecvStream,
        opening: Option<OwnedSemaphorePermit>,
    ) {
        let header =
            timeout(HEADER_DEADLINE, frame::read_message::<StreamHeader>(&mut recv, MAX_HEADER)).await;
        drop(opening);
        match header {
            Ok(Ok(StreamHeader { header: Some(stream_header::Header::Dial(dial)) })) => {
                self.dial(dial, send, recv).await;
            }
            Ok(Ok(StreamHeader { header: Some(stream_header::Header::Control(_)) })) => {
                self.control(send, recv).await
            }
            Ok(Ok(StreamHeader { header: None })) => {
                refuse(send, recv, code::PROTOCOL, "the stream's first message is not understood").await;
            }
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.dialer.id, %error, "a stream began badly");
                let _ = send.reset(stream_code::ABORTED);
            }
            Err(_) => {
                let _ = send.reset(stream_code::ABORTED);
            }
        }
    }

    async fn dial(&self, dial: DialHeader, send: SendStream, recv: RecvStream) {
        let Some(node) = self.node.upgrade() else { return };
        // One is the gate's, one is of each connection.
        if Arc::strong_count(&self.of_identity) > MAX_STREAMS_OF_IDENTITY + MAX_PEERS_OF_IDENTITY {
            node.counters.refused_streams.fetch_add(1, Relaxed);
            return refuse(send, recv, code::BUSY, "this identity has too many streams open here").await;
        }
        let id = StreamId(node.gate.next_id());
        let (service, terminator) = (ServiceId::new(dial.service_id), TerminatorId::new(dial.terminator_id));
        let guard =
            StreamGuard { _live: [self.live.clone(), self.of_identity.clone()], gate: self.node.clone(), id };
        self.make_room();
        let flow = dial.datagrams.then(|| self.datagrams.flow(send.id()));
        let mut stream = Stream::new(send, recv, self.dialer.id.clone(), Box::new(guard)).with_flow(flow);
        match self.admit(&node, id, (&service, &terminator), &dial.grant, &stream) {
            Ok(listener) => {
                let arrival = Arrival {
                    dialer: self.dialer.id.clone(),
                    service,
                    terminator,
                    app_data: dial.app_data,
                    stream,
                };
                if let Err(full) = listener.try_send(arrival) {
                    let (code, why) = match full {
                        mpsc::error::TrySendError::Full(_) => (code::BUSY, "the hosting program is busy"),
                        mpsc::error::TrySendError::Closed(_) => {
                            (code::INVALID_TERMINATOR, "the hosting program has just left")
                        }
                    };
                    let mut arrival = full.into_inner();
                    say_no(&mut arrival.stream, code, why).await;
                }
            }
            Err(rejection) => {
                node.counters.rejected_streams.fetch_add(1, Relaxed);
                let reason = crate::attach::chain(&rejection);
                if let Some(so_far) = self.worth_a_line() {
                    tracing::warn!(dialer = %self.dialer.id, %service, %terminator, %reason, so_far, "dial rejected");
                }
                say_no(&mut stream, rejection.code(), &reason).await;
            }
        }
    }

    /// Verifies outside the gate's lock; registers stream and handle in one step under it.
    fn admit(
        &self,
        node: &Inner,
        id: StreamId,
        target: (&ServiceId, &TerminatorId),
        grant: &str,
        stream: &Stream,
    ) -> Result<mpsc::Sender<Arrival>, Rejection> {
        let now = unix_now();
        let claims = self.claims(node, grant, now)?;
        let mut state = node.gate.lock();
        state.admission.admit(now, id, (self.id, &self.dialer), target, &claims)?;
        self.line.set_tag(claims.tag);
        state.handles.insert(id, stream.handle());
        state.tokens.entry(claims.jti).or_insert_with(|| grant.to_owned());
        state.listeners.get(target.1).cloned().ok_or_else(|| Rejection::NotBound(target.1.clone()))
    }

    /// The connection's control stream: renewals, the dialer's path, and probes both ways.
    async fn control(&self, send: SendStream, recv: RecvStream) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(queue) = queue else {
            return refuse(send, recv, code::PROTOCOL, "a connection has one control stream").await;
        };
        tokio::spawn(control::write(self.line.clone(), send, queue));
        control::read(&self.line, recv, |renewal| {
            if let Some(node) = self.node.upgrade()
                && let Err(rejection) = self.renew(&node, &renewal)
            {
                node.counters.rejected_renewals.fetch_add(1, Relaxed);
                if let Some(so_far) = self.worth_a_line() {
                    let reason = crate::attach::chain(&rejection);
                    tracing::warn!(dialer = %self.dialer.id, service = renewal.service_id, %reason, so_far, "renewal rejected");
                }
            }
        })
        .await;
    }

    fn renew(&self, node: &Inner, renewal: &RenewGrant) -> Result<(), Rejection> {
        let now = unix_now();
        let claims = Admission::verify(&node.verifier(), &renewal.grant, now, node.gate.frozen_clock(now))?;
        let target = (&ServiceId::new(&renewal.service_id), &TerminatorId::new(&renewal.terminator_id));
        let mut state = node.gate.lock();
        state.admission.renew(now, (self.id, &self.dialer), target, &claims)?;
        state.tokens.insert(claims.jti, renewal.grant.clone());
        Ok(())
    }
}

async fn say_no(stream: &mut Stream, code: &str, message: &str) {
    if answer(stream, DialResult { code: code.into(), message: message.into() }).await.is_ok() {
        let _ = tokio::io::AsyncWriteExt::shutdown(stream).await;
    }
}

async fn refuse(mut send: SendStream, _recv: RecvStream, code: &str, message: &str) {
    if answer(&mut send, DialResult { code: code.into(), message: message.into() }).await.is_ok() {
        let _ = send.finish();
    }
}
