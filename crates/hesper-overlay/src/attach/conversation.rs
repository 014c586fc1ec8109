//! What is said on an attach connection, and which answers are outstanding.

use super::{AttachError, PONG_DEADLINE, PassAnswer, PeerAttached, Present};
use crate::{frame, passes::Pass, paths::Slot};
use hesper_model::id::Tag;
use hesper_proto::overlay::{FromNode, FromRouter, PassResult, Ping, PresentPass, from_node, from_router};
use quinn::{RecvStream, SendStream};
use std::collections::HashMap;
use tokio::{sync::mpsc, time::timeout};

/// Passes that a router may leave unanswered at any time.
const MAX_UNANSWERED: usize = 65_536;
/// Longest message from a router.
const MAX_MESSAGE: usize = 4096;

/// A pass that was shown.
struct Pending {
    peer: Tag,
    purpose: String,
    answer: Option<mpsc::Sender<(Slot, PassAnswer)>>,
}

/// The node's side of the conversation.
pub(super) struct Talk {
    send: SendStream,
    pending: HashMap<u64, Pending>,
    next_request: u64,
}

impl Talk {
    pub(super) fn new(send: SendStream) -> Self {
        Self { send, pending: HashMap::new(), next_request: 1 }
    }

    pub(super) async fn present(&mut self, order: Present) -> Result<(), AttachError> {
        if self.pending.len() >= MAX_UNANSWERED {
            return Err(AttachError::Protocol("it does not answer passes"));
        }
        let request_id = self.next_request;
        self.next_request += 1;
        let Pass { peer, purpose, token, .. } = order.pass;
        self.pending.insert(request_id, Pending { peer, purpose, answer: order.answer });
        let message = PresentPass { request_id, pass: token };
        say(&mut self.send, from_node::Message::Pass(message)).await
    }

    /// Returns, of a pass that was taken: its peer, whether that is attached there, and whether nobody waited for this (a pair that had been
    /// open before is open again).
    pub(super) fn answered(
        &mut self,
        slot: Slot,
        router: &str,
        result: PassResult,
    ) -> Option<(Tag, bool, bool)> {
        let Pending { peer, purpose, answer } = self.pending.remove(&result.request_id)?;
        let PassResult { error, peer_attached, .. } = result;
        let taken = error.is_empty().then_some((peer, peer_attached, answer.is_none()));
        if taken.is_none() {
            tracing::debug!(router, purpose, error, "router refused a pass");
        }
        if let Some(answer) = answer {
            let said = if taken.is_some() { Ok(PeerAttached(peer_attached)) } else { Err(error) };
            // There is room for one answer of each router.
            let _ = answer.try_send((slot, said));
        }
        taken
    }

    pub(super) async fn ping(&mut self) -> Result<(), AttachError> {
        say(&mut self.send, from_node::Message::Ping(Ping { nonce: self.next_request })).await
    }
}

pub(super) async fn say(send: &mut SendStream, message: from_node::Message) -> Result<(), AttachError> {
    let message = FromNode { message: Some(message) };
    match timeout(PONG_DEADLINE, frame::write_message(send, &message)).await {
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
