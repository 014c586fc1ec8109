//! A stream under a connection: its first bytes tell the version of HTTP, what comes is noted, and the end is not abrupt.

use super::watch::Activity;
use crate::net::BoxIo;
use bytes::{Buf, Bytes, BytesMut};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long bytes that nobody wants are read after our end of the stream: a socket that is closed with some unread takes
/// back the answer that tells why nobody wants them.
const LINGER: Duration = Duration::from_secs(2);

/// The version that the first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// A stream whose first bytes were read already.
pub(crate) struct Stream {
    io: BoxIo,
    first: Bytes,
    version: Version,
    activity: Arc<Activity>,
    end: End,
}

enum End {
    Open,
    Shut,
    Lingering(Pin<Box<Sleep>>),
    Done,
}

/// Reads as much as it takes to know the version. To be given a deadline.
pub(crate) async fn open(mut io: BoxIo, activity: Arc<Activity>) -> io::Result<(Version, Stream)> {
    let mut first = BytesMut::with_capacity(PREFACE.len());
    let version = loop {
        let read = (&mut io).take((PREFACE.len() - first.len()) as u64).read_buf(&mut first).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(&first) {
            activity.bytes_came();
            break Version::Http1;
        }
        if first.len() == PREFACE.len() {
            break Version::Http2;
        }
    };
    Ok((version, Stream { io, first: first.freeze(), version, activity, end: End::Open }))
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let len = self.first.len().min(into.remaining());
            into.put_slice(&self.first[..len]);
            self.first.advance(len);
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        if self.version == Version::Http1 && into.filled().len() > before {
            self.activity.bytes_came();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.end {
                End::Open => {
                    ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                    this.end = if this.activity.left_unread() { End::Shut } else { End::Done };
                }
                End::Shut => this.end = End::Lingering(Box::pin(sleep(LINGER))),
                End::Lingering(until) => {
                    if until.as_mut().poll(cx).is_pending() {
                        ready!(swallow(&mut this.io, cx));
                    }
                    this.end = End::Done;
                }
                End::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Reads what comes, until the other side has ended too.
fn swallow(io: &mut BoxIo, cx: &mut Context<'_>) -> Poll<()> {
    let mut scratch = [0; 16 << 10];
    loop {
        let mut into = ReadBuf::new(&mut scratch);
        let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut into));
        if read.is_err() || into.filled().is_empty() {
            return Poll::Ready(());
        }
    }
}
