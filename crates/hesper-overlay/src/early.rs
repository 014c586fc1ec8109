//! The first bytes of a TCP client: they go along behind the header of its dial instead of waiting for the answer, which saves a round trip.
//!
//! The hosting side hands none of them to its program before that has said yes: after a no they may be sent to another host. When the connection
//! is lost before the answer, nobody knows what became of them. Then they are sent to nobody else, so that no request is carried out twice;
//! and so that this is rare, they go along only to a peer that was heard of a moment ago.

use crate::splice::closes_by_reset;
use bytes::{BufMut, Bytes};
use quinn::SendStream;
use socket2::SockRef;
use std::{
    convert::Infallible,
    future::pending,
    io::{self, Read},
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Most bytes of one client that go along: more than most requests have. The others wait in the kernel, where all would wait otherwise. A
/// hosting node keeps them in the window that it gives to the connection.
pub const MAX_EARLY: usize = 16 << 10;
/// Room that is made for them at a time.
const STEP: usize = 2 << 10;
/// A peer that was heard of so lately is taken for alive. Should it have died since, the dials of this span are lost with it.
const LATELY: Duration = Duration::from_millis(500);

/// A TCP connection that is to be joined to a stream, and what was read from it while the stream was dialed.
#[derive(Debug)]
pub struct EarlyTcp {
    tcp: TcpStream,
    /// Kept for another host until one has said yes.
    taken: Vec<u8>,
    /// How many of them the stream of the last dial has.
    sent: usize,
    /// Nothing more is to be read: the client has finished, or its connection failed. A failure is told once only.
    over: Option<io::Result<()>>,
}

impl EarlyTcp {
    /// For a connection of which nothing was read. Until it was joined to a stream and both have ended, its close is a reset: no client must
    /// take a failed dial for an empty answer.
    pub fn new(tcp: TcpStream) -> Self {
        // Fails on what is no open socket.
        let _ = closes_by_reset(&tcp, true);
        Self { tcp, taken: Vec::new(), sent: 0, over: None }
    }

    /// How many of the client's bytes went along with the last dial. When it failed, the hosting side may have used them: then no other must
    /// get them.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Nobody has used what was sent.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// What has come by now.
    fn ready(&mut self) -> &[u8] {
        if let Some(room) = self.room() {
            let begun = self.taken.len();
            self.taken.resize(begun + room, 0);
            // Not by way of tokio, which would first want to be told by the kernel that there is something.
            let read = (&*SockRef::from(&self.tcp)).read(&mut self.taken[begun..]);
            self.taken.truncate(begun + read.as_ref().map_or(0, |n| *n));
            match read {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                read => self.note(read),
            }
        }
        &self.taken
    }

    /// Takes more and sends it, until there is nothing more to be taken or the stream takes none. Cancel-safe.
    async fn send_on(&mut self, send: &mut SendStream) {
        loop {
            while self.sent < self.taken.len() {
                match send.write(&self.taken[self.sent..]).await {
                    Ok(sent) => self.sent += sent,
                    // The answer, or its absence, says why.
                    Err(_) => return,
                }
            }
            let Some(room) = self.room() else { return };
            let read = self.tcp.read_buf(&mut (&mut self.taken).limit(room)).await;
            self.note(read);
        }
    }

    /// Room for the next read, as long as more may be taken.
    fn room(&mut self) -> Option<usize> {
        let room = STEP.min(MAX_EARLY - self.taken.len());
        if self.over.is_some() || room == 0 {
            return None;
        }
        self.taken.reserve(room);
        Some(room)
    }

    fn note(&mut self, read: io::Result<usize>) {
        match read {
            Ok(0) => self.over = Some(Ok(())),
            Ok(_) => {}
            Err(error) => self.over = Some(Err(error)),
        }
    }

    /// The connection, how many bytes of it the stream has, and those that it is still to get.
    ///
    /// # Errors
    /// The connection has failed.
    pub(crate) fn into_parts(self) -> io::Result<(TcpStream, u64, Bytes)> {
        // An end is read again, a failure is not.
        self.over.unwrap_or(Ok(()))?;
        let mut rest = Bytes::from(self.taken);
        let sent = rest.split_to(self.sent);
        Ok((self.tcp, sent.len() as u64, rest))
    }
}

/// The header of a dial, and what goes along behind it.
pub(crate) struct Outgoing<'a> {
    /// The header, with what the client had sent by then: one packet, if both are short.
    first: Vec<u8>,
    header_len: usize,
    sent: usize,
    client: Option<&'a mut EarlyTcp>,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(header: Vec<u8>, mut client: Option<&'a mut EarlyTcp>) -> Self {
        let (header_len, mut first) = (header.len(), header);
        if let Some(client) = &mut client {
            first.extend_from_slice(client.ready());
        }
        Self { first, header_len, sent: 0, client }
    }

    /// Has some of the client's bytes been handed to the stream?
    pub(crate) fn is_at_stake(&self) -> bool {
        self.client.as_ref().is_some_and(|c| c.sent > 0)
    }

    /// Sends it, and whatever else the client sends. A failure is told by the answer, or its absence. Cancel-safe.
    pub(crate) async fn push(&mut self, send: &mut SendStream) -> Infallible {
        while self.sent < self.first.len() {
            let Ok(sent) = send.write(&self.first[self.sent..]).await else { return pending().await };
            self.sent += sent;
            if let Some(client) = &mut self.client {
                client.sent = self.sent.saturating_sub(self.header_len);
            }
        }
        if let Some(client) = &mut self.client {
            client.send_on(send).await;
        }
        pending().await
    }
}

/// When a peer was heard of last, as far as it can be told from looks at a counter.
#[derive(Debug)]
pub(crate) struct LastHeard {
    count: u64,
    /// The last look.
    looked: Instant,
    /// It was heard of at this time or later.
    heard: Instant,
}

impl LastHeard {
    /// It has just been heard of.
    pub(crate) fn new(now: Instant, count: u64) -> Self {
        Self { count, looked: now, heard: now }
    }

    /// The counter of what was heard stands at `count` now.
    pub(crate) fn look(&mut self, now: Instant, count: u64) {
        if self.count != count {
            (self.count, self.heard) = (count, self.looked);
        }
        self.looked = now;
    }

    /// Is it alive, as far as one can know?
    pub(crate) fn is_lately(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < LATELY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_alive_for_a_moment_after_a_sign() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut last = LastHeard::new(start, 7);
        // Time of the look, the counter, and whether it was heard of lately.
        for (ms, count, lately) in [
            (499, 7, true),
            (500, 7, false),
            // Somewhere between the two looks, perhaps soon after the first.
            (900, 8, true),
            (999, 8, true),
            (1000, 8, false),
            (9000, 9, false),
            (9100, 10, true),
        ] {
            last.look(at(ms), count);
            assert_eq!(last.is_lately(at(ms)), lately, "{ms}");
        }
    }
}
