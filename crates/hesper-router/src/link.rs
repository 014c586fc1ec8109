//! Links to other routers: one QUIC connection each, begun with a knock and proven by certificates of routers.
//!
//! The router with the smaller id connects (`keep`), the other one accepts (`accept`); from the first words on both sides are alike. What is
//! said on a link is small: passes handed over and answered, pings, notices. Packets of nodes pass beside it, between the same
//! two addresses, as `table` decides. Every wait on the other router has a deadline, and neither can make the other wait for
//! itself: only so many passes are on their way unanswered, and all answers and notices have room.

mod accept;
mod keep;
mod registry;

use crate::{
    links::{Beat, Heart},
    rate::Rate,
    sessions::{Sessions, now_unix},
    table::{Place, RouterIx},
    trace::{self, Admit},
};
pub(crate) use accept::Accepted;
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_overlay::{
    frame::{FrameError, read_message, write_message},
    transport::close,
};
use hesper_pki::{credentials::PeerIdentity, spiffe::SpiffeRole};
use hesper_proto::overlay::{
    LinkHello, LinkMessage, PassResult, Ping, Pong, PresentPass, link_message::Message,
};
use hesper_trace::TraceContext;
pub(crate) use keep::Linker;
use quinn::{ConnectError, Connection, ConnectionError, RecvStream, SendStream};
pub(crate) use registry::Links;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// Longest message: a token is at most 8 KiB.
const MAX_MESSAGE: usize = 16 << 10;
/// Passes on their way to one router that it has not answered.
const WINDOW: usize = 64;
/// Passes that wait for one router.
const PASSES: usize = 4_096;
/// Messages that wait for one router, and the part that notices leave free: for all passes on their way, all answers, and as
/// many pings as it may miss.
const OUTBOX: usize = 4_096;
const RESERVED: usize = 3 * WINDOW;
/// The other router must take a message within this time.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// And answer a pass within this time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Messages that another router may send at once, and per second later on: each pass costs one verification.
const MESSAGES: (f64, f64) = (10_000.0, 5_000.0);

/// A pass to be handed over, as it was signed.
#[derive(Clone, Debug)]
pub(crate) struct Handed {
    pub(crate) token: Arc<str>,
    pub(crate) binder: Tag,
    /// The trace in which it is, if somebody waits for the answer.
    pub(crate) trace: Option<TraceContext>,
}

/// A pass and who waits for the answer: is the binder attached there?
type Order = (Handed, Option<oneshot::Sender<bool>>);

/// How one link is reached from outside of its task.
pub(crate) struct Wire {
    connection: Connection,
    heart: Arc<Mutex<Heart>>,
    passes: mpsc::Sender<Order>,
    outbox: mpsc::Sender<LinkMessage>,
}

impl Wire {
    /// How far away the other router is.
    fn round_trip(&self) -> Duration {
        // QUIC has measured the handshake.
        lock(&self.heart).round_trip().unwrap_or_else(|| self.connection.rtt())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a link does not come about, or ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("none of its addresses {0:?} can be resolved")]
    NoAddress(Vec<String>),
    #[error("its id is not usable in a certificate")]
    Id,
    #[error("no answer from {0}")]
    NoAnswer(SocketAddr),
    #[error("the TLS settings are not usable for QUIC")]
    Tls(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    #[error("cannot begin")]
    Connect(#[from] ConnectError),
    #[error("the connection ended")]
    Closed(#[from] ConnectionError),
    #[error("it does not speak the link protocol")]
    Frame(#[from] FrameError),
    #[error("it sent a message that has no place here")]
    Unexpected,
    #[error("it refused: {0}")]
    Refused(String),
    #[error("it was refused: {0}")]
    NotWanted(&'static str),
    #[error("there is no room for another router")]
    NoRoom,
    #[error("it does not read what it is sent")]
    Slow,
    #[error("it is silent")]
    Silent,
}

/// The first word of either side.
fn hello(sessions: &Sessions) -> Result<LinkMessage, LinkError> {
    let told = sessions.plane().told().ok_or(LinkError::NotWanted("this router does not know itself yet"))?;
    let hello = LinkHello { router_id: told.id.to_string() };
    Ok(LinkMessage { message: Some(Message::Hello(hello)) })
}

/// Is a connection that proved this identity a link's?
pub(crate) fn is_router(peer: &PeerIdentity) -> bool {
    peer.id.role == SpiffeRole::Router
}

/// Keeps a link from the first words on until it ends, and says why it did.
async fn converse(
    sessions: &Sessions,
    id: &EdgeRouterId,
    place: Place,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
) -> LinkError {
    let (outbox, messages) = mpsc::channel(OUTBOX);
    let (passes, orders) = mpsc::channel(PASSES);
    let heart = Arc::new(Mutex::new(Heart::new(Instant::now())));
    let wire = Wire { connection: connection.clone(), heart: heart.clone(), passes, outbox: outbox.clone() };
    let Some((ix, epoch)) = sessions.link_up(id, place, wire) else {
        connection.close(close::REFUSED, b"no room");
        return LinkError::NoRoom;
    };
    tracing::info!(router = %id, address = %place.address, "link up");
    let link = Link {
        sessions,
        id,
        ix,
        epoch,
        outbox,
        heart,
        pending: Mutex::default(),
        window: Semaphore::new(WINDOW),
    };
    let end = tokio::select! {
        end = link.read(recv) => end,
        end = write(send, messages) => end,
        end = link.hand_over(orders) => end,
        end = link.beat(&connection) => end,
        end = connection.closed() => Err(LinkError::Closed(end)),
    };
    let end = end.err().unwrap_or(LinkError::Unexpected);
    match end {
        LinkError::Frame(_) | LinkError::Unexpected => connection.close(close::PROTOCOL, b"protocol error"),
        LinkError::Silent | LinkError::Slow => connection.close(close::GONE, b""),
        _ => connection.close(close::DONE, b""),
    }
    end
}

/// A pass on its way.
struct Pending {
    since: Instant,
    binder: Tag,
    answer: Option<oneshot::Sender<bool>>,
}

/// A link that is up, as seen from inside of its task; it is down when this is dropped.
struct Link<'a> {
    sessions: &'a Sessions,
    id: &'a EdgeRouterId,
    ix: RouterIx,
    epoch: u64,
    outbox: mpsc::Sender<LinkMessage>,
    heart: Arc<Mutex<Heart>>,
    /// By request id, so the first one has waited longest.
    pending: Mutex<BTreeMap<u64, Pending>>,
    window: Semaphore,
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        self.sessions.link_down(self.ix, self.epoch);
    }
}

impl Link<'_> {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<u64, Pending>> {
        lock(&self.pending)
    }

    fn heart(&self) -> MutexGuard<'_, Heart> {
        lock(&self.heart)
    }

    async fn read(&self, mut recv: RecvStream) -> Result<(), LinkError> {
        let mut rate = Rate::new(MESSAGES.0, MESSAGES.1, Instant::now());
        loop {
            let message: LinkMessage = match read_message(&mut recv, MAX_MESSAGE).await {
                // The connection's own end says more.
                Err(FrameError::Io(_)) => std::future::pending().await,
                other => other?,
            };
            sleep(rate.take(Instant::now())).await;
            if let Some(answer) = self.heard(message.message.ok_or(LinkError::Unexpected)?)? {
                // There is room for as many as may come, from a router that keeps to the window.
                let answer = LinkMessage { message: Some(answer) };
                self.outbox.try_send(answer).map_err(|_| LinkError::Slow)?;
            }
        }
    }

    fn heard(&self, message: Message) -> Result<Option<Message>, LinkError> {
        match message {
            Message::Pass(pass) => return Ok(Some(Message::PassResult(self.take(&pass)))),
            Message::Ping(ping) => return Ok(Some(Message::Pong(Pong { nonce: ping.nonce }))),
            Message::PassResult(result) => self.answered(&result)?,
            Message::Pong(pong) => {
                self.heart().heard(pong.nonce, Instant::now());
                self.sessions.links().answered(self.ix, self.epoch, pong.nonce);
            }
            Message::Draining(_) => {
                tracing::info!(router = %self.id, "another router is draining");
                self.sessions.plane().table_mut().link_draining(self.ix, self.epoch);
            }
            Message::PeerGone(gone) => {
                let tag = Tag::from_slice(&gone.tag).ok_or(LinkError::Unexpected)?;
                self.sessions.gone_there(self.ix, self.epoch, tag);
            }
            Message::PeerRestarted(restarted) => {
                let tag = Tag::from_slice(&restarted.tag).ok_or(LinkError::Unexpected)?;
                self.sessions.restarted_there(self.ix, tag);
            }
            Message::Refused(refused) => return Err(LinkError::Refused(refused.reason)),
            Message::Hello(_) => return Err(LinkError::Unexpected),
        }
        Ok(None)
    }

    fn take(&self, pass: &PresentPass) -> PassResult {
        let request_id = pass.request_id;
        let (begun, admit) = (Instant::now(), Admit::begin(pass, self.sessions.plane()));
        let opened = self.sessions.open_handed(&pass.pass, self.id, self.ix, now_unix());
        self.sessions.metrics().pass(opened.is_ok(), begun.elapsed());
        match opened {
            Ok(peer_attached) => {
                admit.opened(peer_attached, peer_attached);
                PassResult { request_id, error: String::new(), peer_attached }
            }
            Err(error) => {
                admit.refused(&error);
                tracing::info!(router = %self.id, %error, "a pass that was handed over opens nothing");
                PassResult { request_id, error: error.to_string(), peer_attached: false }
            }
        }
    }

    fn answered(&self, result: &PassResult) -> Result<(), LinkError> {
        let pending = self.pending().remove(&result.request_id).ok_or(LinkError::Unexpected)?;
        self.window.add_permits(1);
        if !result.error.is_empty() {
            tracing::info!(router = %self.id, error = %result.error, "a pass opens nothing there");
        }
        let attached = result.error.is_empty() && result.peer_attached;
        self.sessions.plane().table_mut().set_absent(self.ix, self.epoch, pending.binder, !attached);
        if let Some(answer) = pending.answer {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(attached);
        }
        Ok(())
    }

    /// What lives from earlier first, then what comes.
    async fn hand_over(&self, mut orders: mpsc::Receiver<Order>) -> Result<(), LinkError> {
        let earlier = self.sessions.plane().table().to_hand_over(self.ix);
        let earlier =
            earlier.into_iter().map(|(token, binder)| (Handed { token, binder, trace: None }, None));
        for (request_id, order) in (0..).zip(earlier) {
            self.hand(request_id, order).await?;
        }
        let mut request_id = 1 << 32;
        while let Some(order) = orders.recv().await {
            self.hand(request_id, order).await?;
            request_id += 1;
        }
        std::future::pending().await
    }

    async fn hand(&self, request_id: u64, (pass, answer): Order) -> Result<(), LinkError> {
        // Given back with the answer. The semaphore is never closed.
        self.window.acquire().await.map_err(|_| LinkError::Silent)?.forget();
        let pending = Pending { since: Instant::now(), binder: pass.binder, answer };
        self.pending().insert(request_id, pending);
        let (traceparent, tracestate) = trace::values(pass.trace.as_ref());
        let pass = PresentPass { request_id, pass: pass.token.to_string(), traceparent, tracestate };
        let pass = Message::Pass(pass);
        self.outbox.send(LinkMessage { message: Some(pass) }).await.map_err(|_| LinkError::Slow)
    }

    async fn beat(&self, connection: &Connection) -> Result<(), LinkError> {
        let mut ticks = interval(Heart::EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let used = self.sessions.plane().table().take_used(self.ix);
            let nonce = rand::random();
            let beat = self.heart().beat(used, connection.rtt(), nonce, Instant::now());
            let waiting = self.pending().first_key_value().map(|(_, first)| first.since.elapsed());
            match beat {
                Beat::Dead => return Err(LinkError::Silent),
                _ if waiting.is_some_and(|waiting| waiting > ANSWER_DEADLINE) => {
                    return Err(LinkError::Silent);
                }
                // A full outbox is a router that does not read; it will be found silent.
                Beat::Ping => {
                    let ping = LinkMessage { message: Some(Message::Ping(Ping { nonce })) };
                    let _ = self.outbox.try_send(ping);
                }
                Beat::Rest => {}
            }
        }
    }
}

async fn write(mut send: SendStream, mut messages: mpsc::Receiver<LinkMessage>) -> Result<(), LinkError> {
    while let Some(message) = messages.recv().await {
        match timeout(WRITE_DEADLINE, write_message(&mut send, &message)).await {
            Ok(Ok(())) => {}
            Ok(Err(FrameError::Io(_))) => std::future::pending().await,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(LinkError::Slow),
        }
    }
    Ok(())
}
