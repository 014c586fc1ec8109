//! The dialing side: one QUIC connection per hosting node, many streams on it.
//!
//! A connection is made by the first dial (others wait for it), kept while streams are open and for a while after, and given up when the
//! peer is gone.

use crate::{
    control::{self, Line},
    datagram::Datagrams,
    early::{EarlyTcp, Outgoing},
    frame::{self, FrameError},
    node::Inner,
    path_keeper,
    paths::Slot,
    stream::Stream,
    transport::{self, HANDSHAKE_DEADLINE, VIRTUAL_ADDR, close},
};
use hesper_model::id::{IdentityId, Tag};
use hesper_pki::tls;
use hesper_proto::overlay::{
    ControlHeader, DialHeader, DialResult, Probe, RenewGrant, StreamHeader, control_frame::Frame,
    stream_header,
};
use quinn::{RecvStream, SendStream};
use std::{
    collections::HashMap,
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// How long a connection without streams is kept, for the next dial.
pub(crate) const LINGER: Duration = Duration::from_secs(60);
/// How long a peer may be silent after something was sent to it. Lost packets are sent again many times in this span.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a router may take to bring the answer of a peer to the first packet, before the next one is tried; a little less than QUIC takes to
/// send it for the third time, so that this one takes the other way.
const TURN: Duration = Duration::from_millis(850);
/// Longest answer to a dial.
const MAX_RESULT: usize = 16 << 10;

/// Why no stream was opened at a peer.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The id is not usable in a certificate.
    #[error("{0:?} is not an identity id")]
    Id(String),
    /// The TLS settings are not usable.
    #[error("the TLS settings are not usable")]
    Tls,
    /// The endpoint takes no more connections.
    #[error("cannot connect to the peer")]
    Connect(#[from] quinn::ConnectError),
    /// No handshake with the peer, or its connection is lost.
    #[error("no connection to the peer")]
    Lost(#[from] quinn::ConnectionError),
    /// The deadline passed.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// The peer does not even acknowledge: it is dead, frozen or cut off.
    #[error("the peer is silent")]
    Silent,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol")]
    Frame(#[from] FrameError),
    /// The peer said no.
    #[error("{message}")]
    Refused {
        /// One of [`crate::admission::code`].
        code: String,
        /// For people.
        message: String,
    },
}

/// A hosting node, reached. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: IdentityId,
    tag: Tag,
    line: Arc<Line>,
    datagrams: Datagrams,
    /// Counts open streams: each holds a clone.
    live: Arc<()>,
    last_used: Mutex<Instant>,
}

/// The sending half of a stream whose dial is not answered by a yes. Dropped, it is reset: finished, which is what dropping does otherwise,
/// the hosting side could take it for a whole request.
struct Undecided<'a> {
    send: &'a mut SendStream,
    yes: bool,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if !self.yes {
            let _ = self.send.reset(crate::stream::code::ABORTED);
        }
    }
}

/// Held by each stream: keeps the count, and notes when it ends.
struct StreamGuard {
    peer: Arc<Shared>,
    _live: Arc<()>,
    _lease: Box<dyn Send + Sync>,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.peer.touch();
    }
}

impl Shared {
    fn touch(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Peer {
    pub(crate) async fn connect(node: &Arc<Inner>, id: &IdentityId, tag: Tag) -> Result<Self, OpenError> {
        let own = node.credentials.current();
        let expected = own.id.identity(id.as_str()).map_err(|_| OpenError::Id(id.to_string()))?;
        let tls = tls::peer_client(node.credentials.clone(), expected);
        let narrow = transport::narrow(transport::dialer_transport(), node.memory.is_ample());
        let config = transport::client_config(tls, narrow, move || crate::cid::fresh_dcid(tag))
            .map_err(|_| OpenError::Tls)?;
        // The connection serves many dials.
        let connecting =
            hesper_trace::detached(|| node.endpoint().connect_with(config, VIRTUAL_ADDR, "hesper"))?;
        let handshake = async {
            let connection = connecting.await?;
            let (mut send, recv) = connection.open_bi().await?;
            let control = StreamHeader { header: Some(stream_header::Header::Control(ControlHeader {})) };
            frame::write_message(&mut send, &control).await?;
            Ok::<_, OpenError>((connection, send, recv))
        };
        let mut avoid = Vec::new();
        let (connection, send, recv) = tokio::select! {
            made = timeout(HANDSHAKE_DEADLINE, handshake) => made.map_err(|_| OpenError::Timeout("the handshake"))??,
            never = take_turns(node, tag, &mut avoid) => match never {},
        };
        tracing::debug!(peer = %id, %tag, "peer connected");
        let (line, queue) = Line::new(connection.clone(), node.memory.share(0));
        line.set_tag(tag);
        tokio::spawn(control::write(line.clone(), send, queue));
        tokio::spawn(path_keeper::keep(Arc::downgrade(node), line.clone(), true, avoid));
        let reader = line.clone();
        tokio::spawn(async move { control::read(&reader, recv, |_| ()).await });
        Ok(Self(Arc::new(Shared {
            id: id.clone(),
            tag,
            datagrams: Datagrams::new(connection.clone(), node),
            line,
            live: Arc::default(),
            last_used: Mutex::new(Instant::now()),
        })))
    }

    /// Opens a stream by a grant, within `deadline`. `lease` is dropped when the stream is over.
    ///
    /// # Errors
    /// See [`OpenError`]; [`OpenError::Refused`] carries the hosting side's word.
    pub async fn open(
        &self,
        header: DialHeader,
        lease: Box<dyn Send + Sync>,
        deadline: Duration,
    ) -> Result<Stream, OpenError> {
        self.dial(header, lease, deadline, None).await
    }

    /// The same for a TCP client, whose first bytes go along if the peer was heard of a moment ago. The stream goes on by
    /// [`Stream::splice_tcp_early`]; after an error see [`EarlyTcp::sent`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_early(
        &self,
        header: DialHeader,
        lease: Box<dyn Send + Sync>,
        deadline: Duration,
        client: &mut EarlyTcp,
    ) -> Result<Stream, OpenError> {
        client.rewind();
        self.dial(header, lease, deadline, Some(client)).await
    }

    async fn dial(
        &self,
        header: DialHeader,
        lease: Box<dyn Send + Sync>,
        deadline: Duration,
        mut client: Option<&mut EarlyTcp>,
    ) -> Result<Stream, OpenError> {
        let until = Instant::now() + deadline;
        self.0.touch();
        self.0.line.expect_traffic();
        let live = self.0.live.clone();
        let (mut send, mut recv) = timeout_at(until, self.0.line.connection.open_bi())
            .await
            .map_err(|_| OpenError::Timeout("opening a stream (too many are open at this peer)"))??;
        let mut undecided = Undecided { send: &mut send, yes: false };
        let flow = header.datagrams.then(|| self.0.datagrams.flow(recv.id()));
        let dial = StreamHeader { header: Some(stream_header::Header::Dial(header)) };
        let header = frame::encode(&dial)?;
        let result = self.exchange(undecided.send, &mut recv, header, client.as_deref_mut(), until).await;
        let said_no = match &result {
            Ok(result) => !result.code.is_empty(),
            // It ended the stream without a word, which it does not do after a yes.
            Err(OpenError::Frame(FrameError::Closed | FrameError::Truncated)) => true,
            Err(_) => false,
        };
        if let Some(client) = client.filter(|_| said_no) {
            client.rewind();
        }
        let result = result?;
        if said_no {
            return Err(OpenError::Refused { code: result.code, message: result.message });
        }
        undecided.yes = true;
        drop(undecided);
        let guard = StreamGuard { peer: self.0.clone(), _live: live, _lease: lease };
        Ok(Stream::new(send, recv, self.0.id.clone(), Box::new(guard)).with_flow(flow))
    }

    /// Sends the header, and the client's first bytes behind it, until the answer has come.
    async fn exchange(
        &self,
        send: &mut SendStream,
        recv: &mut RecvStream,
        header: Vec<u8>,
        client: Option<&mut EarlyTcp>,
        until: Instant,
    ) -> Result<DialResult, OpenError> {
        let line = &self.0.line;
        let (mut heard, lately) = line.heard_lately();
        let mut outgoing = Outgoing::new(header, client.filter(|_| lately));
        let mut answer = pin!(frame::read_message::<DialResult>(recv, MAX_RESULT));
        loop {
            tokio::select! {
                biased;
                result = &mut answer => return result.map_err(|e| match (e, line.connection.close_reason()) {
                    (FrameError::Io(_), Some(lost)) => lost.into(),
                    (e, _) => e.into(),
                }),
                never = outgoing.push(send) => match never {},
                () = sleep_until(until.min(Instant::now() + SILENCE)) => {}
            }
            if Instant::now() >= until {
                return Err(OpenError::Timeout("the answer of the hosting side"));
            }
            // A peer that lives acknowledges at once, however long its program takes to answer.
            let before = std::mem::replace(&mut heard, line.heard());
            if heard != before {
                line.send(Frame::Probe(Probe {}));
                continue;
            }
            line.suspect();
            // With bytes of a client nothing else can be tried: then the peer's connection decides.
            if !outgoing.is_at_stake() {
                return Err(OpenError::Silent);
            }
        }
    }

    /// Sends a renewed grant for the open streams of its service and terminator. Best effort: a lost connection has no streams.
    pub fn renew(&self, renewal: RenewGrant) {
        self.0.line.send(Frame::Renew(renewal));
    }

    /// Can new streams be opened here?
    pub fn is_usable(&self) -> bool {
        !self.0.line.is_suspect() && self.0.line.connection.close_reason().is_none()
    }

    /// Streams open now.
    pub fn streams(&self) -> usize {
        Arc::strong_count(&self.0.live) - 1
    }

    fn is_idle(&self) -> bool {
        let last = *self.0.last_used.lock().unwrap_or_else(PoisonError::into_inner);
        self.streams() == 0 && last.elapsed() >= LINGER
    }
}

/// While no answer comes, the handshake is tried by one router after the other; `avoid` gathers those without an answer.
async fn take_turns(node: &Inner, tag: Tag, avoid: &mut Vec<Slot>) -> Infallible {
    loop {
        tokio::time::sleep(TURN).await;
        if let Some(slot) = node.socket.update(|t| t.turn(tag)) {
            tracing::debug!(%tag, router = slot.0, "no answer from the peer; trying another router");
            avoid.push(slot);
        }
    }
}

/// The peers of a node.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    slots: Mutex<HashMap<(IdentityId, Tag), Arc<PeerSlot>>>,
}

/// One connection at a time; whoever needs it while it is made waits for it.
type PeerSlot = tokio::sync::Mutex<Option<Peer>>;

impl Peers {
    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<(IdentityId, Tag), Arc<PeerSlot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live connection to a peer, or a new one.
    pub(crate) async fn get(&self, node: &Arc<Inner>, id: &IdentityId, tag: Tag) -> Result<Peer, OpenError> {
        let slot = self.slots().entry((id.clone(), tag)).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(peer) = slot.as_ref().filter(|p| p.is_usable()) {
            peer.0.touch();
            return Ok(peer.clone());
        }
        let peer = Peer::connect(node, id, tag).await?;
        *slot = Some(peer.clone());
        Ok(peer)
    }

    /// The live connection to a peer, if there is one.
    pub(crate) fn connected(&self, id: &IdentityId, tag: Tag) -> Option<Peer> {
        let slot = self.slots().get(&(id.clone(), tag)).cloned()?;
        // Locked = being connected: then there is none.
        slot.try_lock().ok()?.clone().filter(|p| p.0.line.connection.close_reason().is_none())
    }

    /// Closes connections that nobody uses; returns the tags of those forgotten.
    pub(crate) fn sweep(&self) -> Vec<Tag> {
        let mut gone = Vec::new();
        self.slots().retain(|(_, tag), slot| {
            let in_use = Arc::strong_count(slot) > 1;
            let keep = match slot.try_lock() {
                Err(_) => true,
                Ok(_) if in_use => true,
                Ok(peer) => match peer.as_ref() {
                    None => false,
                    Some(p) if p.0.line.connection.close_reason().is_some() => false,
                    Some(p) if p.is_idle() => {
                        p.0.line.close(close::DONE);
                        false
                    }
                    Some(_) => true,
                },
            };
            if !keep {
                gone.push(*tag);
            }
            keep
        });
        gone
    }

    /// Streams open now at all peers.
    pub(crate) fn streams(&self) -> usize {
        self.slots().values().filter_map(|s| s.try_lock().ok()?.as_ref().map(Peer::streams)).sum()
    }
}

impl Peer {
    /// Its tag.
    pub fn tag(&self) -> Tag {
        self.0.tag
    }

    /// Its identity.
    pub fn id(&self) -> &IdentityId {
        &self.0.id
    }
}
