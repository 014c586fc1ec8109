//! The attach connections: nodes that came in prove which tag is theirs, and present passes.
//!
//! Every wait on a node has a deadline: the handshake with its `hello` as a whole, each answer, and QUIC's idle time for the rest.
//! A node that sends more than it needs is read more slowly; one that does not read is closed.

use crate::{
    link::Handed,
    metrics::AttachOutcome,
    rate::Rate,
    sessions::{AdmitError, Opened, Sessions, now_unix},
    table::Place,
    trace::Admit,
};
use hesper_overlay::{
    frame::{FrameError, read_message, write_message},
    transport::close,
};
use hesper_pki::{credentials::PeerIdentity, token::SessionClaims};
use hesper_proto::overlay::{
    AttachAccepted, FromNode, FromRouter, PassResult, Pong, PresentPass, Refused, from_node, from_router,
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use std::{
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};

/// Longest message from a node: a token is at most 8 KiB.
const MAX_MESSAGE: usize = 16 << 10;
/// Answers and notices that wait for one node.
const OUTBOX: usize = 256;
/// A node must take an answer within this time.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a node waits for other routers to say whether its peer is attached there.
const LINK_DEADLINE: Duration = Duration::from_secs(1);
/// Passes of one node for which other routers are waited for; for more the answer is that the peer is not known to be there.
const MAX_ASKING: usize = 64;
/// A refused node must take the reason within this time.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);
/// Messages that a node may send at once, for the passes after an attach, and per second later on.
const MESSAGES: (f64, f64) = (5_000.0, 100.0);

/// Why a node is not attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("the connection ended")]
    Closed(#[from] ConnectionError),
    #[error("the node does not speak the attach protocol")]
    Frame(#[from] FrameError),
    #[error("the node's first message is not its hello")]
    NoHello,
    #[error("the node was refused")]
    Refused(#[from] AdmitError),
}

impl AttachError {
    /// How it is counted.
    pub(crate) fn outcome(&self) -> AttachOutcome {
        match self {
            Self::Closed(_) => AttachOutcome::HandshakeFailed,
            Self::Frame(_) | Self::NoHello => AttachOutcome::Protocol,
            Self::Refused(AdmitError::Refused(_)) => AttachOutcome::Refused,
            Self::Refused(AdmitError::Limit(_)) => AttachOutcome::Limited,
            Self::Refused(_) => AttachOutcome::Full,
        }
    }
}

/// What waits for one node. Boxed: the queue has room for 32 messages from the beginning, most of which is never used.
pub(crate) type Outbox = mpsc::Sender<Box<FromRouter>>;

/// An attached node.
pub(crate) struct Node {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    peer: PeerIdentity,
    claims: SessionClaims,
    epoch: u64,
    outbox: Outbox,
    notices: mpsc::Receiver<Box<FromRouter>>,
}

impl Node {
    /// Hears the first word of an identity that proved itself from `place` with its certificate, and attaches its session.
    pub(crate) async fn attach(
        sessions: &Sessions,
        connection: Connection,
        place: Place,
        peer: PeerIdentity,
    ) -> Result<Self, AttachError> {
        let (mut send, mut recv) = connection.accept_bi().await?;
        let hello: FromNode = read_message(&mut recv, MAX_MESSAGE).await?;
        let Some(from_node::Message::Hello(hello)) = hello.message else {
            return Err(AttachError::NoHello);
        };
        let (outbox, notices) = mpsc::channel(OUTBOX);
        let admitted = sessions.check_session(&hello.session_token, &peer, now_unix()).and_then(|claims| {
            let epoch = sessions.attach(&peer, &claims, place, &connection, outbox.clone())?;
            Ok((claims, epoch))
        });
        match admitted {
            Ok((claims, epoch)) => {
                tracing::info!(identity = %claims.sub, tag = %claims.tag, address = %place.address, "attached");
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
    pub(crate) async fn serve(self, sessions: &Sessions) {
        let Self { connection, send, recv, peer, claims, epoch, outbox, notices } = self;
        let asking = Arc::new(Semaphore::new(MAX_ASKING));
        let session = Session { sessions, peer, claims, epoch, outbox, asking };
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
    outbox: Outbox,
    /// For answers that wait for another router.
    asking: Arc<Semaphore>,
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
            sleep(rate.take(Instant::now())).await;
            if let Some(answer) = self.answer(message.message.ok_or(End::Unexpected)?)? {
                // The writer has a deadline, so this ends.
                self.outbox.send(boxed(answer)).await.map_err(|_| End::Slow)?;
            }
        }
    }

    /// `None`: the answer comes later.
    fn answer(&self, message: from_node::Message) -> Result<Option<from_router::Message>, End> {
        use from_node::Message::{Hello, Pass, Ping};
        Ok(Some(match message {
            Hello(hello) => {
                let fresh = self.sessions.check_session(&hello.session_token, &self.peer, now_unix())?;
                if fresh.tag != self.claims.tag {
                    return Err(AdmitError::from(crate::admission::Refusal::OtherTag).into());
                }
                self.sessions.prolong(fresh.tag, self.epoch, fresh.exp);
                accepted(self.sessions)
            }
            Pass(pass) => return Ok(self.present(&pass).map(from_router::Message::PassResult)),
            Ping(ping) => from_router::Message::Pong(Pong { nonce: ping.nonce }),
        }))
    }

    fn present(&self, pass: &PresentPass) -> Option<PassResult> {
        let request_id = pass.request_id;
        let (begun, admit) = (Instant::now(), Admit::begin(pass, self.sessions.plane()));
        let opened = self.sessions.open(&pass.pass, &self.claims, now_unix());
        self.sessions.metrics().pass(opened.is_ok(), begun.elapsed());
        match opened {
            Ok(opened) => self.opened(request_id, opened, admit),
            Err(error) => {
                admit.refused(&error);
                tracing::info!(identity = %self.claims.sub, %error, "a pass opens nothing");
                Some(PassResult { request_id, error: error.to_string(), peer_attached: false })
            }
        }
    }

    /// Hands the pass over, where it leads over links. If only other routers can say whether the peer is attached, they are waited
    /// for beside everything else: pings are answered meanwhile.
    fn opened(&self, request_id: u64, opened: Opened, admit: Admit) -> Option<PassResult> {
        let links = self.sessions.links();
        let handed = opened.handed.map(|handed| Handed { trace: admit.trace_context(), ..handed });
        let asked = handed.map(|handed| links.hand_over(&opened.over, &handed)).unwrap_or_default();
        let here = opened.here;
        let result = move |peer_attached| {
            admit.opened(here, peer_attached);
            PassResult { request_id, error: String::new(), peer_attached }
        };
        if opened.here || asked.is_empty() {
            return Some(result(opened.here));
        }
        let Ok(permit) = self.asking.clone().try_acquire_owned() else { return Some(result(false)) };
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            let attached = timeout(LINK_DEADLINE, any(asked)).await.unwrap_or(false);
            let answer = from_router::Message::PassResult(result(attached));
            // An error means that the session is gone.
            let _ = outbox.send(boxed(answer)).await;
            drop(permit);
        });
        None
    }
}

/// Does one of these say yes? Known at the first one that does, or when all have been heard.
async fn any(mut asked: Vec<oneshot::Receiver<bool>>) -> bool {
    std::future::poll_fn(|cx| {
        let mut yes = false;
        asked.retain_mut(|answer| match Pin::new(answer).poll(cx) {
            Poll::Ready(attached) => {
                yes |= attached.unwrap_or(false);
                false
            }
            Poll::Pending => true,
        });
        if yes || asked.is_empty() { Poll::Ready(yes) } else { Poll::Pending }
    })
    .await
}

pub(crate) fn boxed(message: from_router::Message) -> Box<FromRouter> {
    Box::new(FromRouter { message: Some(message) })
}

async fn write(
    mut send: SendStream,
    mut notices: mpsc::Receiver<Box<FromRouter>>,
    first: from_router::Message,
) -> Result<(), End> {
    let mut next = Some(boxed(first));
    while let Some(message) = next {
        match timeout(WRITE_DEADLINE, write_message(&mut send, &*message)).await {
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
