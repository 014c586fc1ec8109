//! What is said on an attach connection, and which answers are outstanding.

use super::{Answer, AttachError, PeerAttached, Present, WRITE_DEADLINE};
use crate::{frame, passes::Pass, paths::Slot, round_trips::RoundTrips};
use hesper_model::id::Tag;
use hesper_proto::overlay::{
    AttachHello, FromNode, FromRouter, PassResult, Ping, PresentPass, from_node, from_router,
};
use quinn::{RecvStream, SendStream};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};

/// Passes that a router may leave unanswered at any time.
const MAX_UNANSWERED: usize = 65_536;
/// Longest message from a router.
const MAX_MESSAGE: usize = 4096;

/// A pass that was shown.
struct Pending {
    peer: Tag,
    purpose: String,
    answer: Answer,
}

/// What a router said to a pass.
pub(super) struct Answered {
    pub(super) peer: Tag,
    /// Is the pair open, and the peer there?
    pub(super) attached: bool,
    /// The pair had been open before, and is again.
    pub(super) reopened: bool,
}

/// The node's side of the conversation.
pub(super) struct Talk {
    send: SendStream,
    pending: HashMap<u64, Pending>,
    next_request: u64,
    round_trips: RoundTrips,
}

impl Talk {
    pub(super) fn new(send: SendStream) -> Self {
        Self { send, pending: HashMap::new(), next_request: 1, round_trips: RoundTrips::default() }
    }

    pub(super) async fn present(&mut self, order: Present) -> Result<(), AttachError> {
        if self.pending.len() >= MAX_UNANSWERED {
            return Err(AttachError::Protocol("it does not answer passes"));
        }
        let request_id = self.next_request;
        self.next_request += 1;
        let Pass { peer, purpose, token, .. } = order.pass;
        self.pending.insert(request_id, Pending { peer, purpose, answer: order.answer });
        let (traceparent, tracestate) =
            order.trace.map(|trace| (trace.traceparent(), trace.tracestate())).unwrap_or_default();
        let message = PresentPass { request_id, pass: token, traceparent, tracestate };
        say(&mut self.send, from_node::Message::Pass(message)).await
    }

    /// Notes an answer, and hands it to whoever waits.
    pub(super) fn answered(&mut self, slot: Slot, router: &str, result: PassResult) -> Option<Answered> {
        let Pending { peer, purpose, answer } = self.pending.remove(&result.request_id)?;
        let PassResult { error, peer_attached, .. } = result;
        let taken = error.is_empty();
        let answered = Answered {
            peer,
            attached: taken && peer_attached,
            reopened: taken && matches!(answer, Answer::Reopen),
        };
        if !taken {
            tracing::debug!(router, purpose, error, "router refused a pass");
        }
        if let Answer::To(answer) = answer {
            let said = if taken { Ok(PeerAttached(peer_attached)) } else { Err(error) };
            // There is room for one answer of each router.
            let _ = answer.try_send((slot, said));
        }
        Some(answered)
    }

    /// A newer session token.
    pub(super) async fn hello(&mut self, session_token: String) -> Result<(), AttachError> {
        say(&mut self.send, from_node::Message::Hello(AttachHello { session_token })).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), AttachError> {
        let nonce = rand::random();
        self.round_trips.asked(nonce, Instant::now());
        say(&mut self.send, from_node::Message::Ping(Ping { nonce })).await
    }

    /// The answer to a ping.
    pub(super) fn pong(&mut self, nonce: u64) {
        self.round_trips.answered(nonce, Instant::now());
    }

    /// How far away the router is; `None` before its first answer to a ping.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trips.least()
    }
}

pub(super) async fn say(send: &mut SendStream, message: from_node::Message) -> Result<(), AttachError> {
    let message = FromNode { message: Some(message) };
    match timeout(WRITE_DEADLINE, frame::write_message(send, &message)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(AttachError::Silent),
    }
}

pub(super) async fn hear(recv: &mut RecvStream) -> Result<from_router::Message, AttachError> {
    let message: FromRouter = frame::read_message(recv, MAX_MESSAGE).await?;
    message.message.ok_or(AttachError::Protocol("an empty message"))
}

/// Reading a frame cannot be cancelled halfway, so it has a task of its own.
pub(super) async fn read_all(
    mut recv: RecvStream,
    heard: mpsc::Sender<Result<from_router::Message, AttachError>>,
) {
    loop {
        let message = match hear(&mut recv).await {
            // A word of a newer router.
            Err(AttachError::Protocol("an empty message")) => continue,
            other => other,
        };
        let failed = message.is_err();
        if heard.send(message).await.is_err() || failed {
            return;
        }
    }
}
