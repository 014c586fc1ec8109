//! Messages: a length, then protobuf.

use futures::executor::block_on;
use hesper_overlay::frame::{FrameError, MAX_MESSAGE_LEN, encode, read_message};
use hesper_proto::overlay::{ControlFrame, DialResult, FromNode, FromRouter, LinkMessage, StreamHeader};
use prost::Message;
use std::fmt::Debug;
use tokio::io::AsyncReadExt;

/// What a peer sent, read as each kind of message that it could be.
///
/// # Panics
/// When it is read otherwise than it was written, or otherwise in two pieces than in one.
pub fn run(bytes: &[u8]) {
    read::<FromNode>(bytes);
    read::<FromRouter>(bytes);
    read::<LinkMessage>(bytes);
    read::<StreamHeader>(bytes);
    read::<ControlFrame>(bytes);
    read::<DialResult>(bytes);
}

fn read<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    let mut rest = bytes;
    let mut messages = Vec::new();
    let end = loop {
        match block_on(read_message::<M>(&mut rest, MAX_MESSAGE_LEN)) {
            Ok(message) => messages.push(message),
            Err(error) => break error,
        }
    };
    assert!(!matches!(end, FrameError::Io(_)), "{end}");
    assert!(!matches!(end, FrameError::Closed) || rest.is_empty());
    for message in &messages {
        let again = encode(message).expect("it was short enough");
        let read = block_on(read_message::<M>(&mut &again[..], MAX_MESSAGE_LEN)).expect("our own message");
        assert_eq!(&read, message);
    }
    let cut = bytes.len() / 2;
    let mut pieces = AsyncReadExt::chain(&bytes[..cut], &bytes[cut..]);
    for message in &messages {
        assert_eq!(&block_on(read_message::<M>(&mut pieces, MAX_MESSAGE_LEN)).expect("the same"), message);
    }
}
