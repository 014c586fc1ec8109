//! One overlay stream: bytes both ways between a dialer and a hosting program, with half-close and an end that cannot be ignored.
//!
//! The QUIC halves sit behind a lock that is held only within one poll, so that the node can end the stream from outside (a grant
//! lapsed or was revoked) even while the program that owns it is not looking.

use crate::datagram::{DatagramFlow, Flow};
use bytes::Bytes;
use hesper_model::id::IdentityId;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Stream codes: why a side stopped or reset a stream.
pub mod code {
    use super::VarInt;
    /// The program gave up the stream.
    pub const ABORTED: VarInt = VarInt::from_u32(1);
    /// The grant was revoked.
    pub const REVOKED: VarInt = VarInt::from_u32(0x10);
    /// The grant lapsed and was not renewed.
    pub const EXPIRED: VarInt = VarInt::from_u32(0x11);
    /// Nothing moved for longer than the service allows.
    pub const IDLE: VarInt = VarInt::from_u32(0x12);
}

/// Why a stream is of no more use. Found inside the [`io::Error`] of a read or write (`get_ref`, `downcast_ref`).
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    /// A policy changed: the dialer may no longer use the service.
    #[error("access to the service was revoked")]
    Revoked,
    /// The grant ran out and was not renewed in time.
    #[error("the grant for the service ran out and was not renewed")]
    Expired,
    /// Nothing moved for longer than the service allows (its `maxIdleTimeMillis`).
    #[error("nothing moved for longer than the service allows an idle stream")]
    Idle,
    /// The other side gave up the stream before its end.
    #[error("the other side aborted the stream")]
    Aborted,
    /// The connection between the two nodes is lost.
    #[error("the connection to the peer is lost")]
    PeerLost(#[source] ConnectionError),
    /// This half was closed before.
    #[error("the stream is closed")]
    Closed,
}

impl StreamError {
    fn of_code(code: VarInt) -> Self {
        match code {
            code::REVOKED => Self::Revoked,
            code::EXPIRED => Self::Expired,
            code::IDLE => Self::Idle,
            _ => Self::Aborted,
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Reset(code) => Self::of_code(code),
            ReadError::ConnectionLost(e) => Self::PeerLost(e),
            _ => Self::Closed,
        }
    }
}

impl From<WriteError> for StreamError {
    fn from(e: WriteError) -> Self {
        match e {
            WriteError::Stopped(code) => Self::of_code(code),
            WriteError::ConnectionLost(e) => Self::PeerLost(e),
            _ => Self::Closed,
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(e: StreamError) -> Self {
        let kind = match &e {
            StreamError::Revoked | StreamError::Expired => io::ErrorKind::PermissionDenied,
            StreamError::Aborted => io::ErrorKind::ConnectionReset,
            StreamError::Idle | StreamError::PeerLost(ConnectionError::TimedOut) => io::ErrorKind::TimedOut,
            StreamError::PeerLost(_) => io::ErrorKind::ConnectionAborted,
            StreamError::Closed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, e)
    }
}

struct Side<S> {
    stream: Option<S>,
    waker: Option<Waker>,
}

impl<S> Side<S> {
    fn new(stream: S) -> Mutex<Self> {
        Mutex::new(Self { stream: Some(stream), waker: None })
    }
}

fn lock<S>(side: &Mutex<Side<S>>) -> MutexGuard<'_, Side<S>> {
    side.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Core {
    send: Mutex<Side<SendStream>>,
    recv: Mutex<Side<RecvStream>>,
    ended: OnceLock<StreamError>,
    /// Counts whatever moves, so that a stream is known to be idle when it stands still.
    moved: AtomicU64,
    peer: IdentityId,
    /// Dropped with the last half: tells the node that the stream is over.
    _guard: Box<dyn Send + Sync>,
}

impl Core {
    fn poll<S, T, E: Into<StreamError>>(
        &self,
        side: &Mutex<Side<S>>,
        cx: &mut Context<'_>,
        step: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<Result<T, E>>,
    ) -> Poll<Result<T, StreamError>> {
        let mut side = lock(side);
        if let Some(reason) = self.ended.get() {
            return Poll::Ready(Err(reason.clone()));
        }
        let Some(stream) = &mut side.stream else { return Poll::Ready(Err(StreamError::Closed)) };
        match step(stream, cx) {
            Poll::Ready(result) => {
                self.moved.fetch_add(1, Relaxed);
                Poll::Ready(result.map_err(Into::into))
            }
            Poll::Pending => {
                if !side.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    side.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn end(&self, reason: StreamError) {
        let code = match reason {
            StreamError::Revoked => code::REVOKED,
            StreamError::Expired => code::EXPIRED,
            StreamError::Idle => code::IDLE,
            _ => code::ABORTED,
        };
        if self.ended.set(reason).is_err() {
            return;
        }
        let wakers = {
            let (mut send, mut recv) = (lock(&self.send), lock(&self.recv));
            if let Some(mut s) = send.stream.take() {
                let _ = s.reset(code);
            }
            if let Some(mut r) = recv.stream.take() {
                let _ = r.stop(code);
            }
            [send.waker.take(), recv.waker.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Ends a stream from outside; does not keep it alive.
#[derive(Clone)]
pub struct StreamHandle(Weak<Core>);

impl StreamHandle {
    /// Ends both directions: reads and writes on this side fail with `reason`, those on the other side with the like.
    pub fn end(&self, reason: StreamError) {
        if let Some(core) = self.0.upgrade() {
            core.end(reason);
        }
    }

    /// A number that changes whenever something moves, in either direction. Streams that are gone stand still.
    pub fn moved(&self) -> u64 {
        self.0.upgrade().map_or(0, |core| core.moved.load(Relaxed))
    }

    /// Is the stream gone?
    pub fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamHandle").field("over", &self.is_over()).finish()
    }
}

/// A stream between this node and one identity: [`AsyncRead`] and [`AsyncWrite`], closed one direction at a time.
///
/// `shutdown` (of [`AsyncWrite`]) tells the other side that nothing more comes; reading goes on. Dropping the stream does the same
/// and tells the other side to stop writing; to the other side that is an ordinary end, so use [`Stream::abort`] for a broken one.
pub struct Stream {
    recv: RecvHalf,
    send: SendHalf,
    flow: Option<Flow>,
}

/// The reading half of a [`Stream`].
pub struct RecvHalf(Arc<Core>);

/// The writing half of a [`Stream`].
pub struct SendHalf(Arc<Core>);

impl Stream {
    /// A stream over the halves of one of any QUIC connection, without a grant behind it: for measuring what the mesh adds.
    pub fn of_quic(send: SendStream, recv: RecvStream, peer: IdentityId) -> Self {
        Self::new(send, recv, peer, Box::new(()))
    }

    pub(crate) fn new(
        send: SendStream,
        recv: RecvStream,
        peer: IdentityId,
        guard: Box<dyn Send + Sync>,
    ) -> Self {
        let core = Arc::new(Core {
            send: Side::new(send),
            recv: Side::new(recv),
            ended: OnceLock::new(),
            moved: AtomicU64::new(0),
            peer,
            _guard: guard,
        });
        Self { recv: RecvHalf(core.clone()), send: SendHalf(core), flow: None }
    }

    pub(crate) fn with_flow(self, flow: Option<Flow>) -> Self {
        Self { flow, ..self }
    }

    /// Was it dialed for datagrams? Then the stream itself stays silent.
    pub fn is_datagrams(&self) -> bool {
        self.flow.is_some()
    }

    /// The flow of datagrams that it was dialed for.
    ///
    /// # Errors
    /// It was dialed as a stream.
    pub fn into_datagrams(mut self) -> Result<DatagramFlow, Self> {
        match self.flow.take() {
            Some(flow) => Ok(DatagramFlow::new(self, flow)),
            None => Err(self),
        }
    }

    /// Why it was ended from this side.
    pub(crate) fn ended(&self) -> Option<StreamError> {
        self.recv.0.ended.get().cloned()
    }

    pub(crate) fn touch(&self) {
        self.recv.0.moved.fetch_add(1, Relaxed);
    }

    /// Waits for the end of a stream that stays silent. Cancel-safe.
    pub(crate) async fn end(&mut self) -> Result<(), StreamError> {
        match self.recv.read_chunks(&mut [Bytes::new()]).await? {
            None => Ok(()),
            Some(_) => {
                self.recv.abort();
                Err(StreamError::Aborted)
            }
        }
    }

    /// A handle that ends the stream from outside.
    pub fn handle(&self) -> StreamHandle {
        StreamHandle(Arc::downgrade(&self.recv.0))
    }

    /// The identity on the other side, as its certificate proved it.
    pub fn peer(&self) -> &IdentityId {
        &self.recv.0.peer
    }

    /// The two halves, for use in two tasks.
    pub fn into_parts(self) -> (SendHalf, RecvHalf) {
        (self.send, self.recv)
    }

    /// Gives up both directions at once: the other side's reads and writes fail.
    pub fn abort(self) {
        self.recv.0.end(StreamError::Aborted);
    }
}

impl RecvHalf {
    /// Waits for data and takes what is there, at most `bufs.len()` pieces, without copying. Returns their number, `None` at the end.
    /// Cancel-safe.
    pub async fn read_chunks(&mut self, bufs: &mut [Bytes]) -> Result<Option<usize>, StreamError> {
        poll_fn(|cx| self.0.poll(&self.0.recv, cx, |s, cx| pin!(s.read_chunks(bufs)).poll(cx))).await
    }

    /// Gives up both directions at once: the other side's reads and writes fail.
    pub fn abort(&mut self) {
        self.0.end(StreamError::Aborted);
    }
}

impl SendHalf {
    /// Writes the whole of `chunk` without copying it.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), StreamError> {
        let mut rest = [chunk];
        while !rest[0].is_empty() {
            poll_fn(|cx| self.0.poll(&self.0.send, cx, |s, cx| pin!(s.write_chunks(&mut rest)).poll(cx)))
                .await?;
        }
        Ok(())
    }

    /// Waits until the other side takes nothing more: all that was written and finished has arrived, it has stopped reading, or the stream
    /// has ended otherwise.
    pub fn stopped(&self) -> impl Future<Output = ()> + 'static {
        let stopped = lock(&self.0.send).stream.as_ref().map(SendStream::stopped);
        async move {
            if let Some(stopped) = stopped {
                // However it ended, it takes nothing more.
                let _ = stopped.await;
            }
        }
    }

    /// Says that nothing more will be written.
    pub fn finish(&mut self) {
        if let Some(s) = &mut lock(&self.0.send).stream {
            let _ = s.finish();
        }
    }

    /// Gives up both directions at once: the other side's reads and writes fail.
    pub fn abort(&mut self) {
        self.0.end(StreamError::Aborted);
    }

    fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let step = |s: &mut SendStream, cx: &mut Context<'_>| Pin::new(s).poll_write(cx, buf);
        self.0.poll(&self.0.send, cx, step).map_err(Into::into)
    }

    fn poll_shutdown(&mut self) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(match self.0.ended.get() {
            Some(reason) => Err(reason.clone().into()),
            None => Ok(()),
        })
    }
}

impl RecvHalf {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll(&self.0.recv, cx, |s, cx| s.poll_read_buf(cx, buf)).map_err(Into::into)
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        lock(&self.0.recv).stream.take();
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        lock(&self.0.send).stream.take();
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(&self, cx, buf)
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(&self, cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self.get_mut())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.recv.poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.send.poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().send.poll_shutdown()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.recv.0.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvHalf").field("peer", &self.0.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendHalf").field("peer", &self.0.peer).finish_non_exhaustive()
    }
}
