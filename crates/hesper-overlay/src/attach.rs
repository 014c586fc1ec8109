//! One attachment: the lasting conversation between this node and one router.
//!
//! Knock, handshake, session token; then passes, pings and what the router has to say. When it ends, for whatever reason, it is begun again,
//! for ever, with jittered backoff. Each attempt resolves the router's names anew and opens the leg anew.

mod conversation;
mod pulse;
mod tend;

use crate::{
    control::heard,
    frame::FrameError,
    knock,
    node::{Event, Inner},
    passes::Pass,
    paths::{Slot, Standing},
    socket,
    transport::{self, HANDSHAKE_DEADLINE, VIRTUAL_ADDR, close},
};
use conversation::{Answered, Talk, hear, read_all, say};
use hesper_model::id::Tag;
use hesper_pki::tls;
use hesper_proto::overlay::{AttachHello, from_node, from_router};
use hesper_trace::TraceContext;
use pulse::Pulse;
use quinn::{ConnectionId, RecvStream};
use rand::Rng;
use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

/// How long a message to a router may take to be written.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// First and longest pause between attempts; each is drawn between zero and the bound (full jitter).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Orders that may wait for one router.
const ORDERS: usize = 1024;

/// A router to attach to, as the controller names it.
#[derive(Clone, PartialEq, Eq)]
pub struct AttachTarget {
    /// The router's id, which its certificate must show.
    pub router_id: String,
    /// Its name, for people.
    pub name: String,
    /// UDP addresses, `host:port`.
    pub addresses: Vec<String>,
    /// Its tag.
    pub tag: Tag,
    /// Key id of this session's knock.
    pub knock_key_id: [u8; 8],
    /// Key of this session's knock.
    pub knock_key: [u8; 32],
}

impl fmt::Debug for AttachTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachTarget")
            .field("router_id", &self.router_id)
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// What a router said to a pass.
pub(crate) type PassAnswer = Result<PeerAttached, String>;

/// Is the peer attached to that router now?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerAttached(pub(crate) bool);

/// An order to the task of one attachment.
pub(crate) struct Present {
    pub(crate) pass: Pass,
    pub(crate) answer: Answer,
    /// The trace of whoever waits for the answer.
    pub(crate) trace: Option<TraceContext>,
}

/// Who wants to know what the router says to a pass.
pub(crate) enum Answer {
    /// A dial waits for it.
    To(mpsc::Sender<(Slot, PassAnswer)>),
    /// After an attachment: the pair may have been in use before.
    Reopen,
    /// Nobody; but where the peer is is noted.
    Note,
}

/// The node's side of the task.
pub(crate) struct Attachment {
    pub(crate) slot: Slot,
    pub(crate) rank: usize,
    pub(crate) name: String,
    pub(crate) target: watch::Sender<AttachTarget>,
    pub(crate) orders: mpsc::Sender<Present>,
    pub(crate) status: watch::Receiver<Status>,
    /// The router is to be asked for a sign of life.
    pub(crate) doubt: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where an attachment stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Not attached; the last failure.
    Trying(String),
    /// The round trip.
    Attached(Duration),
    /// Attached, but the router is about to stop.
    Draining,
}

impl Attachment {
    pub(crate) fn start(node: &Arc<Inner>, slot: Slot, rank: usize, target: AttachTarget) -> Self {
        node.socket.update(|t| t.set_router(slot, target.tag, target.knock_key_id));
        let (orders, order_queue) = mpsc::channel(ORDERS);
        let (status_tx, status) = watch::channel(Status::Trying("not yet tried".into()));
        let (name, doubt) = (target.name.clone(), Arc::new(Notify::new()));
        let (target, target_rx) = watch::channel(target);
        let task = Task {
            node: node.clone(),
            slot,
            target: target_rx,
            status: status_tx,
            trouble: Arc::new(Notify::new()),
            doubt: doubt.clone(),
            rtt_at: StdInstant::now(),
            unused_since: StdInstant::now(),
            carried: 0,
        };
        let task = tokio::spawn(task.run(order_queue)).abort_handle();
        Self { slot, rank, name, target, orders, status, doubt, task }
    }
}

/// Why one attempt, or one attachment, ended.
#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error("none of its addresses {0:?} can be resolved")]
    NoAddress(Vec<String>),
    #[error("cannot open a UDP socket towards {0}")]
    Socket(SocketAddr, #[source] std::io::Error),
    #[error("the TLS settings are not usable")]
    Tls,
    #[error("its id is not usable in a certificate")]
    Id,
    #[error("cannot begin")]
    Connect(#[from] quinn::ConnectError),
    #[error("no answer from {0} (is the UDP port open, is the clock right?)")]
    NoAnswer(SocketAddr),
    #[error("the handshake failed")]
    Handshake(#[source] quinn::ConnectionError),
    #[error("the connection is lost")]
    Lost(#[from] quinn::ConnectionError),
    #[error("the conversation broke")]
    Frame(#[from] FrameError),
    #[error("the router refused: {0}")]
    Refused(String),
    #[error("the router broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the router is silent")]
    Silent,
    #[error("the router is about to stop")]
    Left,
    #[error("the controller gave new data for this router")]
    Changed,
}

struct Task {
    node: Arc<Inner>,
    slot: Slot,
    target: watch::Receiver<AttachTarget>,
    status: watch::Sender<Status>,
    trouble: Arc<Notify>,
    doubt: Arc<Notify>,
    rtt_at: StdInstant,
    /// Since when no peer has used the router, and what had gone by it until then.
    unused_since: StdInstant,
    carried: u64,
}

/// One attachment: its connection, and what is known of the router by it.
struct RouterLine {
    connection: quinn::Connection,
    pulse: Pulse,
    tokens: watch::Receiver<String>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Present>) {
        let mut pause = BACKOFF.0;
        loop {
            let target = self.target.borrow_and_update().clone();
            let begun = Instant::now();
            let result = self.attach(&target, &mut orders).await;
            let was_attached = !matches!(*self.status.borrow(), Status::Trying(_));
            let Err(error) = result;
            let text = chain(&error);
            self.stand(Standing::Down);
            if was_attached {
                tracing::info!(router = %target.name, reason = %text, "detached");
            } else {
                tracing::debug!(router = %target.name, error = %text, "cannot attach");
            }
            self.status.send_replace(Status::Trying(text));
            self.node.attachments_changed();
            // Nobody is there to answer: the senders learn it at once.
            while let Ok(order) = orders.try_recv() {
                drop(order);
            }
            if matches!(error, AttachError::Changed) || begun.elapsed() > BACKOFF.1 {
                pause = BACKOFF.0;
            }
            let jittered = pause.mul_f64(rand::rng().random_range(0.1..=1.0));
            tokio::select! {
                () = sleep(jittered) => pause = (pause * 2).min(BACKOFF.1),
                () = self.doubt.notified() => {}
                changed = self.target.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn attach(
        &mut self,
        target: &AttachTarget,
        orders: &mut mpsc::Receiver<Present>,
    ) -> Result<std::convert::Infallible, AttachError> {
        let addresses =
            timeout(HANDSHAKE_DEADLINE, socket::resolve(&target.addresses)).await.unwrap_or_default();
        let mut last = AttachError::NoAddress(target.addresses.clone());
        for address in addresses {
            match self.connect(target, address).await {
                Ok(connection) => return self.converse(target, connection, orders).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect(
        &mut self,
        target: &AttachTarget,
        address: SocketAddr,
    ) -> Result<quinn::Connection, AttachError> {
        self.node.socket.update(|t| t.set_router(self.slot, target.tag, target.knock_key_id));
        // A new one for each leg: what was reported of the last leg says nothing about this one.
        self.trouble = Arc::new(Notify::new());
        self.node
            .socket
            .set_leg(self.slot, address, self.trouble.clone())
            .map_err(|e| AttachError::Socket(address, e))?;
        let own = self.node.credentials.current();
        let expected = own.id.router(&target.router_id).map_err(|_| AttachError::Id)?;
        let (key_id, key) = (target.knock_key_id, target.knock_key);
        let nonce = std::sync::atomic::AtomicU16::new(rand::random());
        let config = transport::client_config(
            tls::peer_client(self.node.credentials.clone(), expected),
            transport::attach_transport(),
            move || {
                let nonce = nonce.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                ConnectionId::new(&knock::make(key_id, &key, crate::node::unix_now(), nonce))
            },
        )
        .map_err(|_| AttachError::Tls)?;
        let connecting = self.node.endpoint().connect_with(config, VIRTUAL_ADDR, "hesper")?;
        tokio::select! {
            connection = connecting => connection.map_err(AttachError::Handshake),
            () = self.trouble.notified() => Err(AttachError::NoAnswer(address)),
            () = sleep(HANDSHAKE_DEADLINE) => Err(AttachError::NoAnswer(address)),
        }
    }

    async fn converse(
        &mut self,
        target: &AttachTarget,
        connection: quinn::Connection,
        orders: &mut mpsc::Receiver<Present>,
    ) -> Result<std::convert::Infallible, AttachError> {
        let mut tokens = self.node.session_token();
        let session_token = tokens.borrow_and_update().clone();
        let hello = async {
            let (mut send, mut recv) = connection.open_bi().await?;
            let hello = from_node::Message::Hello(AttachHello { session_token });
            say(&mut send, hello).await?;
            match hear(&mut recv).await? {
                from_router::Message::Accepted(a) if a.router_id == target.router_id => Ok((send, recv)),
                from_router::Message::Refused(r) => Err(AttachError::Refused(r.reason)),
                _ => Err(AttachError::Protocol("its first word is not an acceptance")),
            }
        };
        let (send, recv) = timeout(HANDSHAKE_DEADLINE, hello).await.unwrap_or(Err(AttachError::Silent))?;
        tracing::info!(router = %target.name, "attached");
        self.stand(Standing::Up);
        self.status.send_replace(Status::Attached(connection.rtt()));
        self.node.attachments_changed();
        let talk = Talk::new(send);
        let line =
            RouterLine { pulse: Pulse::new(StdInstant::now(), heard(&connection)), connection, tokens };
        let connection = line.connection.clone();
        let result = self.talk(target, line, talk, recv, orders).await;
        let ours = matches!(result, Err(AttachError::Changed | AttachError::Left));
        connection.close(if ours { close::DONE } else { close::GONE }, b"");
        result
    }

    async fn talk(
        &mut self,
        target: &AttachTarget,
        mut line: RouterLine,
        mut talk: Talk,
        recv: RecvStream,
        orders: &mut mpsc::Receiver<Present>,
    ) -> Result<std::convert::Infallible, AttachError> {
        let passes = self.node.passes().of_router(&target.router_id);
        for pass in passes {
            talk.present(Present { pass, answer: Answer::Reopen, trace: None }).await?;
        }
        let (heard_tx, mut heard) = mpsc::channel(16);
        let reader = tokio::spawn(read_all(recv, heard_tx));
        let _stop_reader = AbortOnDrop(reader.abort_handle());
        let stir = self.node.socket.stir(self.slot).unwrap_or_default();
        let mut next = Duration::ZERO;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => talk.present(order).await?,
                    None => return Err(AttachError::Changed),
                },
                message = heard.recv() => match message {
                    Some(Ok(message)) => self.heard(target, &mut talk, message)?,
                    Some(Err(e)) => return Err(e),
                    None => return Err(AttachError::Silent),
                },
                () = sleep(next) => {}
                () = stir.notified() => {}
                () = self.trouble.notified() => {
                    let beats = line.pulse.refused();
                    self.act(beats, &mut talk).await?;
                }
                () = self.doubt.notified() => {
                    // What was heard until now is no answer.
                    self.look(&mut line, &mut talk).await?;
                    let beats = line.pulse.ask(StdInstant::now());
                    self.act(beats, &mut talk).await?;
                }
                Ok(()) = line.tokens.changed() => {
                    let token = line.tokens.borrow_and_update().clone();
                    talk.hello(token).await?;
                }
                changed = self.target.changed() => {
                    let new = self.target.borrow_and_update().clone();
                    if changed.is_err() || needs_new_attachment(target, &new) {
                        return Err(AttachError::Changed);
                    }
                }
            }
            next = self.look(&mut line, &mut talk).await?;
        }
    }

    /// What the router can do for peers from now on; those who use it learn of a change.
    fn stand(&self, standing: Standing) {
        if self.node.socket.update(|t| t.set_standing(self.slot, standing)) {
            self.node.event(Event::Paths);
        }
    }

    fn heard(
        &self,
        target: &AttachTarget,
        talk: &mut Talk,
        message: from_router::Message,
    ) -> Result<(), AttachError> {
        match message {
            from_router::Message::PassResult(result) => {
                let answered = talk.answered(self.slot, &target.name, result);
                if let Some(Answered { peer, attached, reopened }) = answered {
                    let news = self.node.socket.update(|t| t.set_attached(peer, self.slot, attached));
                    if news || reopened {
                        self.node.event(Event::Paths);
                    }
                }
            }
            from_router::Message::Refused(r) => return Err(AttachError::Refused(r.reason)),
            from_router::Message::Draining(_) => {
                tracing::info!(router = %target.name, "router is draining");
                self.stand(Standing::Draining);
                self.status.send_replace(Status::Draining);
                self.node.attachments_changed();
            }
            from_router::Message::PeerGone(gone) => {
                if let Some(tag) = Tag::from_slice(&gone.tag) {
                    self.node.event(Event::PeerGone(self.slot, tag));
                }
            }
            // Only a hint: what the peer does not answer proves it.
            from_router::Message::PeerRestarted(restarted) => {
                if let Some(tag) = Tag::from_slice(&restarted.tag) {
                    self.node.event(Event::PeerGone(self.slot, tag));
                }
            }
            from_router::Message::Pong(pong) => talk.pong(pong.nonce),
            // That anything was heard is what counts; this is the answer to a newer session token.
            from_router::Message::Accepted(_) => {}
        }
        Ok(())
    }
}

/// The knock key and addresses matter only for the next attempt; another tag is another router.
fn needs_new_attachment(old: &AttachTarget, new: &AttachTarget) -> bool {
    old.tag != new.tag
}

pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text.push_str(": ");
        text.push_str(&e.to_string());
        source = e.source();
    }
    text
}
