//! The attach connections: nodes come in, prove who they are and which tag is theirs, and present passes.
//!
//! Every wait on a node has a deadline: the handshake with its `hello` as a whole, each answer, and QUIC's idle time for the rest.
//! A node that sends more than it needs is read more slowly; one that does not read is closed.

use crate::{
    metrics::AttachOutcome,
    rate::Rate,
    sessions::{AdmitError, MAX_SESSIONS, Sessions, now_unix},
};
use hesper_overlay::{
    cid::KNOCK_LEN,
    frame::{FrameError, read_message, write_message},
    transport::{HANDSHAKE_DEADLINE, close},
};
use hesper_pki::{CertificateDer, credentials::PeerIdentity, token::SessionClaims};
use hesper_proto::overlay::{
    AttachAccepted, FromNode, FromRouter, PassResult, Pong, PresentPass, Refused, from_node, from_router,
};
use quinn::{Connection, ConnectionError, Endpoint, Incoming, RecvStream, SendStream};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

/// Handshakes at the same time; what comes beyond waits for its next packet.
const MAX_HANDSHAKES: usize = 1_024;
/// Longest message from a node: a token is at most 8 KiB.
const MAX_MESSAGE: usize = 16 << 10;
/// Answers and notices that wait for one node.
const OUTBOX: usize = 256;
/// A node must take an answer within this time.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// A refused node must take the reason within this time.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);
/// Messages that a node may send at once, for the passes after an attach, and per second later on.
const MESSAGES: (f64, f64) = (5_000.0, 100.0);

/// Accepts nodes until the endpoint ends.
pub(crate) async fn accept(sessions: Arc<Sessions>, endpoint: Endpoint) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    while let Some(incoming) = endpoint.accept().await {
        // The socket lets a first packet through only with a verified knock. Anything else that QUIC takes for a new
        // connection is a late packet of an old one: not answered.
        if incoming.orig_dst_cid().len() != KNOCK_LEN || sessions.is_draining() {
            incoming.ignore();
            continue;
        }
        let room = sessions.session_count() < MAX_SESSIONS;
        let Some(permit) = handshakes.clone().try_acquire_owned().ok().filter(|_| room) else {
            sessions.metrics().attach(AttachOutcome::Full);
            incoming.ignore();
            continue;
        };
        let sessions = sessions.clone();
        tokio::spawn(async move {
            let attached = timeout(HANDSHAKE_DEADLINE, Node::attach(&sessions, incoming)).await;
            drop(permit);
            match attached.unwrap_or(Err(AttachError::Timeout)) {
                Ok(node) => {
                    sessions.metrics().attach(AttachOutcome::Accepted);
                    node.serve(&sessions).await;
                }
                Err(error) => {
                    sessions.metrics().attach(error.outcome());
                    tracing::info!(error = &error as &dyn std::error::Error, "a node is not attached");
                }
            }
        });
    }
}

/// Why a node is not attached.
#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error("the handshake failed")]
    Handshake(#[from] ConnectionError),
    #[error("the handshake took longer than {} s", HANDSHAKE_DEADLINE.as_secs())]
    Timeout,
    #[error("the certificate names nobody")]
    Certificate,
    #[error("the node does not speak the attach protocol")]
    Frame(#[from] FrameError),
    #[error("the node's first message is not its hello")]
    NoHello,
    #[error("the node was refused")]
    Refused(#[from] AdmitError),
}

impl AttachError {
    fn outcome(&self) -> AttachOutcome {
        match self {
            Self::Handshake(_) | Self::Certificate => AttachOutcome::HandshakeFailed,
            Self::Timeout => AttachOutcome::Timeout,
            Self::Frame(_) | Self::NoHello => AttachOutcome::Protocol,
            Self::Refused(AdmitError::Refused(_)) => AttachOutcome::Refused,
            Self::Refused(_) => AttachOutcome::Full,
        }
    }
}

/// An attached node.
struct Node {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    peer: PeerIdentity,
    claims: SessionClaims,
    epoch: u64,
    outbox: mpsc::Sender<FromRouter>,
    notices: mpsc::Receiver<FromRouter>,
}

impl Node {
    async fn attach(sessions: &Sessions, incoming: Incoming) -> Result<Self, AttachError> {
        let connection = incoming.accept()?.await?;
        let peer = peer_of(&connection).ok_or(AttachError::Certificate)?;
        let (mut send, mut recv) = connection.accept_bi().await?;
        let hello: FromNode = read_message(&mut recv, MAX_MESSAGE).await?;
        let Some(from_node::Message::Hello(hello)) = hello.message else {
            return Err(AttachError::NoHello);
        };
        let (outbox, notices) = mpsc::channel(OUTBOX);
        let admitted = sessions.check_session(&hello.session_token, &peer, now_unix()).and_then(|claims| {
            let epoch = sessions.attach(&claims, &connection, outbox.clone())?;
            Ok((claims, epoch))
        });
        match admitted {
            Ok((claims, epoch)) => {
                tracing::info!(identity = %claims.sub, tag = %claims.tag, address = %connection.remote_address(), "attached");
                let node = Self { connection, send, recv, peer, claims, epoch, outbox, notices };
                Ok(node)
            }
            Err(error) => {
                refuse(&connection, &mut send, &error).await;
                Err(error.into())
            }
        }
    }

    /// Answers the node until its connection ends, one way or another.
    async fn serve(self, sessions: &Sessions) {
        let Self { connection, send, recv, peer, claims, epoch, outbox, notices } = self;
        let session = Session { sessions, peer, claims, epoch, outbox };
        let end = tokio::select! {
            end = session.read(recv) => end,
            end = write(send, notices, accepted(sessions)) => end,
            end = connection.closed() => Err(End::Closed(end)),
        };
        sessions.detach(session.claims.tag, epoch);
        let (identity, tag) = (&session.claims.sub, session.claims.tag);
        match end {
            Ok(()) | Err(End::Closed(_)) => tracing::info!(%identity, %tag, "detached"),
            Err(ref error) => {
                tracing::warn!(%identity, %tag, error = error as &dyn std::error::Error, "detached");
            }
        }
        match end {
            Err(End::Refused(_)) => connection.close(close::REFUSED, b"the session token is not accepted"),
            Err(End::Frame(_) | End::Unexpected) => connection.close(close::PROTOCOL, b"protocol error"),
            Ok(()) | Err(_) => connection.close(close::DONE, b""),
        }
    }
}

/// Why an attached session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the connection ended")]
    Closed(#[source] ConnectionError),
    #[error("the node does not speak the attach protocol")]
    Frame(#[from] FrameError),
    #[error("the node sent a message that is none of the attach protocol")]
    Unexpected,
    #[error("the node does not read what it is sent")]
    Slow,
    #[error("the node's new session token was refused")]
    Refused(#[from] AdmitError),
}

/// What answering a node's messages takes.
struct Session<'a> {
    sessions: &'a Sessions,
    peer: PeerIdentity,
    claims: SessionClaims,
    epoch: u64,
    outbox: mpsc::Sender<FromRouter>,
}

impl Session<'_> {
    async fn read(&self, mut recv: RecvStream) -> Result<(), End> {
        let mut rate = Rate::new(MESSAGES.0, MESSAGES.1, Instant::now());
        loop {
            let message: FromNode = match read_message(&mut recv, MAX_MESSAGE).await {
                Err(FrameError::Closed) => return Ok(()),
                // The connection's own end says more.
                Err(FrameError::Io(_)) => std::future::pending().await,
                other => other?,
            };
            tokio::time::sleep(rate.take(Instant::now())).await;
            let answer = self.answer(message.message.ok_or(End::Unexpected)?)?;
            // The writer has a deadline, so this ends.
            self.outbox.send(FromRouter { message: Some(answer) }).await.map_err(|_| End::Slow)?;
        }
    }

    fn answer(&self, message: from_node::Message) -> Result<from_router::Message, End> {
        use from_node::Message::{Hello, Pass, Ping};
        Ok(match message {
            Hello(hello) => {
                let fresh = self.sessions.check_session(&hello.session_token, &self.peer, now_unix())?;
                if fresh.tag != self.claims.tag {
                    return Err(AdmitError::from(crate::admission::Refusal::OtherTag).into());
                }
                self.sessions.prolong(fresh.tag, self.epoch, fresh.exp);
                accepted(self.sessions)
            }
            Pass(pass) => from_router::Message::PassResult(self.present(&pass)),
            Ping(ping) => from_router::Message::Pong(Pong { nonce: ping.nonce }),
        })
    }

    fn present(&self, pass: &PresentPass) -> PassResult {
        let request_id = pass.request_id;
        match self.sessions.open(&pass.pass, &self.claims, now_unix()) {
            Ok(peer_attached) => {
                self.sessions.metrics().passes_opened.inc();
                PassResult { request_id, error: String::new(), peer_attached }
            }
            Err(error) => {
                self.sessions.metrics().passes_refused.inc();
                tracing::info!(identity = %self.claims.sub, %error, "a pass opens nothing");
                PassResult { request_id, error: error.to_string(), peer_attached: false }
            }
        }
    }
}

async fn write(
    mut send: SendStream,
    mut notices: mpsc::Receiver<FromRouter>,
    first: from_router::Message,
) -> Result<(), End> {
    let mut next = Some(FromRouter { message: Some(first) });
    while let Some(message) = next {
        match timeout(WRITE_DEADLINE, write_message(&mut send, &message)).await {
            Ok(Ok(())) => {}
            Ok(Err(FrameError::Io(_))) => std::future::pending().await,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(End::Slow),
        }
        next = notices.recv().await;
    }
    Ok(())
}

fn accepted(sessions: &Sessions) -> from_router::Message {
    let router_id = sessions.plane().told().map(|t| t.id.to_string()).unwrap_or_default();
    from_router::Message::Accepted(AttachAccepted { router_id })
}

/// Tells the node why, then closes.
async fn refuse(connection: &Connection, send: &mut SendStream, error: &AdmitError) {
    let refused = from_router::Message::Refused(Refused { reason: error.to_string() });
    let farewell = async {
        write_message(send, &FromRouter { message: Some(refused) }).await?;
        // Both fail only if the node is gone already.
        let _ = send.finish();
        let _ = send.stopped().await;
        Ok::<_, FrameError>(())
    };
    let _ = timeout(FAREWELL_DEADLINE, farewell).await;
    connection.close(close::REFUSED, error.to_string().as_bytes());
}

/// Whom the handshake proved: the leaf of the node's chain.
fn peer_of(connection: &Connection) -> Option<PeerIdentity> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    PeerIdentity::of(chain.first()?).ok()
}
