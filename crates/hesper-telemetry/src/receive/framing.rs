//! The frame of a unary gRPC call: one byte that tells whether the message is compressed, its length, the message, and nothing behind it
//! (gRPC over HTTP/2, "Length-Prefixed-Message").

use bytes::{Buf, Bytes};
use hesper_otlp::Refusal;

/// Bytes before the message.
const PREFIX: usize = 5;

/// Where in the frame we are.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    prefix: [u8; PREFIX],
    have: usize,
    left: usize,
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The prefix.
    Start {
        /// Is the message compressed as `grpc-encoding` says?
        compressed: bool,
        /// Its length as it is on the wire, bytes.
        len: usize,
    },
    /// Bytes of the message.
    Data(Bytes),
}

impl Framing {
    /// Takes the next piece off the front of a chunk; `None`: the chunk is empty.
    pub(crate) fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Piece>, Refusal> {
        if chunk.is_empty() {
            return Ok(None);
        }
        if self.have < PREFIX {
            let len = chunk.len().min(PREFIX - self.have);
            self.prefix[self.have..self.have + len].copy_from_slice(&chunk[..len]);
            self.have += len;
            chunk.advance(len);
            return if self.have < PREFIX { Ok(None) } else { self.start().map(Some) };
        }
        if self.left == 0 {
            return Err(Refusal::Malformed("the call has more than one message".to_owned()));
        }
        let data = chunk.split_to(chunk.len().min(self.left));
        self.left -= data.len();
        Ok(Some(Piece::Data(data)))
    }

    /// The call has ended: was that its message, whole?
    pub(crate) fn finish(&self) -> Result<(), Refusal> {
        let reason = match (self.have, self.left) {
            (PREFIX, 0) => return Ok(()),
            (0, _) => "the call has no message".to_owned(),
            (PREFIX, left) => format!("the message is cut short: {left} bytes are missing"),
            _ => "the prefix of the message is cut short".to_owned(),
        };
        Err(Refusal::Malformed(reason))
    }

    fn start(&mut self) -> Result<Piece, Refusal> {
        let [flag, len @ ..] = self.prefix;
        let len = u32::from_be_bytes(len) as usize;
        self.left = len;
        match flag {
            0 | 1 => Ok(Piece::Start { compressed: flag == 1, len }),
            _ => Err(Refusal::Malformed(format!("a message that begins with byte {flag} is no gRPC"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Puts chunks through: what the prefix said, and the message.
    fn read(chunks: impl IntoIterator<Item = Bytes>) -> Result<(bool, Vec<u8>), Refusal> {
        let (mut framing, mut start, mut message) = (Framing::default(), None, Vec::new());
        for mut chunk in chunks {
            while let Some(piece) = framing.next(&mut chunk)? {
                match piece {
                    Piece::Start { compressed, .. } => start = Some(compressed),
                    Piece::Data(data) => message.extend_from_slice(&data),
                }
            }
        }
        framing.finish()?;
        Ok((start.expect("a prefix"), message))
    }

    fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
        let len = u32::try_from(message.len()).expect("short").to_be_bytes();
        [&[flag][..], &len, message].concat()
    }

    fn cut(bytes: &[u8], mut at: Vec<usize>) -> Vec<Bytes> {
        at.iter_mut().for_each(|at| *at %= bytes.len() + 1);
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).collect()
    }

    #[test]
    fn what_is_no_single_message_is_refused() {
        let one = |bytes: &[u8]| read([Bytes::copy_from_slice(bytes)]);
        assert_eq!(one(b"\0\0\0\0\0"), Ok((false, vec![])));
        for (bytes, why) in [
            (&b""[..], "no message"),
            (b"\0\0\0", "cut short"),
            (b"\0\0\0\0\x02a", "1 bytes are missing"),
            (b"\x02\0\0\0\0", "byte 2"),
            (b"\0\0\0\0\x01ab", "more than one"),
        ] {
            let Err(Refusal::Malformed(reason)) = one(bytes) else { panic!("{bytes:?} is taken") };
            assert!(reason.contains(why), "{reason}");
        }
    }

    proptest! {
        /// Wherever the chunks are cut, the message is the same.
        #[test]
        fn cuts_do_not_matter(message in prop::collection::vec(any::<u8>(), 0..300), flag in 0u8..2, at in prop::collection::vec(any::<usize>(), 0..9)) {
            let chunks = cut(&frame(flag, &message), at);
            prop_assert_eq!(read(chunks), Ok((flag == 1, message)));
        }

        /// Whatever comes, it is a frame exactly when its length says so.
        #[test]
        fn only_whole_frames_pass(bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => 0u8..12], 0..20), at in prop::collection::vec(any::<usize>(), 0..4)) {
            let whole = bytes.len() >= 5
                && bytes[0] < 2
                && u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize == bytes.len() - 5;
            prop_assert_eq!(read(cut(&bytes, at)).is_ok(), whole);
        }
    }
}
