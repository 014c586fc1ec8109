//! The connection of a client of the proxy.

use hyper_util::rt::TokioIo;
use socket2::SockRef;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A client: who it is, and how its connection closes.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Its address.
    pub(super) address: SocketAddr,
    by_reset: Arc<AtomicBool>,
}

impl Client {
    /// Is a close of the connection, from the next write on, a reset, whoever closes it? An answer whose end is the end of the
    /// connection (to a client of HTTP/1.0) must not look whole when it was cut.
    pub(super) fn closes_by_reset(&self, reset: bool) {
        self.by_reset.store(reset, Relaxed);
    }
}

/// The connection itself, for hyper.
pub(super) struct ClientIo {
    tcp: TcpStream,
    by_reset: Arc<AtomicBool>,
    is_by_reset: bool,
}

impl ClientIo {
    pub(super) fn new(tcp: TcpStream, address: SocketAddr) -> (TokioIo<Self>, Client) {
        let by_reset = Arc::new(AtomicBool::new(false));
        let client = Client { address, by_reset: by_reset.clone() };
        (TokioIo::new(Self { tcp, by_reset, is_by_reset: false }), client)
    }

    /// The connection, when hyper has given it back.
    pub(super) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    fn tcp(mut self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        let by_reset = self.by_reset.load(Relaxed);
        if by_reset != self.is_by_reset {
            SockRef::from(&self.tcp).set_linger(by_reset.then_some(Duration::ZERO))?;
            self.is_by_reset = by_reset;
        }
        Ok(Pin::new(&mut self.get_mut().tcp))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }
}
