//! What is said on an attach connection, and which answers are outstanding.

use super::{AttachError, PONG_DEADLINE, PassAnswer, PeerAttached, Present};
use crate::frame;
use hesper_proto::overlay::{FromNode, FromRouter, PassResult, Ping, PresentPass, from_node, from_router};
use quinn::{RecvStream, SendStream};
use std::collections::HashMap;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Passes that a router may leave unanswered at any time.
const MAX_UNANSWERED: usize = 65_536;
/// Longest message from a router.
const MAX_MESSAGE: usize = 4096;

/// The node's side of the conversation.
pub(super) struct Talk {
    send: SendStream,
    pending: HashMap<u64, (String, Option<oneshot::Sender<PassAnswer>>)>,
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
        self.pending.insert(request_id, (order.pass.purpose, order.answer));
        let message = PresentPass { request_id, pass: order.pass.token };
        say(&mut self.send, from_node::Message::Pass(message)).await
    }

    /// Returns whether this opened a pair again that had been open before.
    pub(super) fn answered(&mut self, router: &str, result: PassResult) -> bool {
        let Some((purpose, answer)) = self.pending.remove(&result.request_id) else { return false };
        if !result.error.is_empty() {
            tracing::debug!(router, purpose, error = result.error, "router refused a pass");
        }
        let Some(answer) = answer else { return result.error.is_empty() };
        let error = result.error;
        let said = if error.is_empty() { Ok(PeerAttached(result.peer_attached)) } else { Err(error) };
        let _ = answer.send(said);
        false
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
