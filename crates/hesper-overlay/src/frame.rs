//! Protobuf messages on a byte stream: a 4-byte big-endian length, then the body.

use prost::Message;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest body of any message, in bytes.
pub const MAX_MESSAGE_LEN: usize = 64 << 10;
/// Room that is made for a message before it has come; most are shorter.
const STEP: usize = 4 << 10;

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side finished between two messages.
    #[error("the stream ended")]
    Closed,
    /// The other side finished within a message.
    #[error("the stream ended within a message")]
    Truncated,
    /// The message is longer than allowed here.
    #[error("a message of {len} bytes is longer than the {max} allowed")]
    TooLong {
        /// Length of the body.
        len: usize,
        /// Longest accepted.
        max: usize,
    },
    /// The body is not such a message.
    #[error("the message cannot be decoded")]
    Decode(#[from] prost::DecodeError),
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[source] io::Error),
}

/// Reads one message of at most `max` bytes. Not cancel-safe: after a cancelled read the stream is of no more use.
pub async fn read_message<M: Message + Default>(
    recv: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> Result<M, FrameError> {
    let mut prefix = [0; 4];
    let first = recv.read(&mut prefix).await.map_err(FrameError::Io)?;
    if first == 0 {
        return Err(FrameError::Closed);
    }
    read_rest(recv, &mut prefix[first..]).await?;
    let len = u32::from_be_bytes(prefix) as usize;
    let max = max.min(MAX_MESSAGE_LEN);
    if len > max {
        return Err(FrameError::TooLong { len, max });
    }
    // Only what has come is kept: whoever announces much and sends nothing takes no room.
    let mut body = Vec::new();
    while body.len() < len {
        let begun = body.len();
        body.resize(len.min(begun + STEP), 0);
        read_rest(recv, &mut body[begun..]).await?;
    }
    Ok(M::decode(&body[..])?)
}

/// Writes one message; refuses one that the reader would refuse.
pub async fn write_message(
    send: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
) -> Result<(), FrameError> {
    send.write_all(&encode(message)?).await.map_err(FrameError::Io)
}

/// The bytes of one message, prefix included.
pub fn encode(message: &impl Message) -> Result<Vec<u8>, FrameError> {
    let len = message.encoded_len();
    if len > MAX_MESSAGE_LEN {
        return Err(FrameError::TooLong { len, max: MAX_MESSAGE_LEN });
    }
    let mut bytes = Vec::with_capacity(4 + len);
    bytes.extend((len as u32).to_be_bytes());
    // Fails only when there is no room.
    message.encode(&mut bytes).map_err(|e| FrameError::Io(e.into()))?;
    Ok(bytes)
}

async fn read_rest(recv: &mut (impl AsyncRead + Unpin), buf: &mut [u8]) -> Result<(), FrameError> {
    match recv.read_exact(buf).await {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(FrameError::Truncated),
        Err(e) => Err(FrameError::Io(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_proto::overlay::{AttachHello, Ping};

    #[tokio::test]
    async fn messages_follow_each_other_and_the_end_is_clean() {
        let mut bytes = encode(&Ping { nonce: 7 }).unwrap();
        bytes.extend(encode(&Ping::default()).unwrap());
        let mut r = &bytes[..];
        assert_eq!(read_message::<Ping>(&mut r, 100).await.unwrap().nonce, 7);
        assert_eq!(read_message::<Ping>(&mut r, 100).await.unwrap().nonce, 0);
        assert!(matches!(read_message::<Ping>(&mut r, 100).await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn bad_input_is_told_apart() {
        let whole = encode(&AttachHello { session_token: "token".into() }).unwrap();
        for cut in 1..whole.len() {
            let got = read_message::<AttachHello>(&mut &whole[..cut], 100).await;
            assert!(matches!(got, Err(FrameError::Truncated)), "cut at {cut}");
        }
        let got = read_message::<AttachHello>(&mut &whole[..], 3).await;
        assert!(matches!(got, Err(FrameError::TooLong { len: 7, max: 3 })));
        let huge = u32::MAX.to_be_bytes();
        let got = read_message::<AttachHello>(&mut &huge[..], usize::MAX).await;
        assert!(matches!(got, Err(FrameError::TooLong { max: MAX_MESSAGE_LEN, .. })));
        let got = read_message::<AttachHello>(&mut &[0, 0, 0, 1, 0xff][..], 100).await;
        assert!(matches!(got, Err(FrameError::Decode(_))));
        let long = AttachHello { session_token: "x".repeat(MAX_MESSAGE_LEN) };
        assert!(matches!(encode(&long), Err(FrameError::TooLong { .. })));
    }
}
