//! The router's one UDP port: shared by its own QUIC endpoint and by everything it forwards.
//!
//! quinn polls this socket. What is for the router is left in quinn's buffers; everything else is sent on within the same call,
//! without a task or a queue in between. A full send buffer drops, and no ordinary fault is ever returned as an error:
//! an `Err` from `poll_recv` would end the endpoint, one from `try_send` a connection.

use crate::{
    drops::DropReason,
    issued::IssuedIds,
    join::Joined,
    judge::{Judge, Verdict},
    plane::Plane,
    replay::ReplayFilter,
    send::{Batch, Sender},
    sessions::now_unix,
    split::{self, Run},
    table::Table,
};
use hesper_overlay::socket::read_batch;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{io::Interest, net::UdpSocket};

/// Kernel buffers: bursts of a few milliseconds at 10 Gbit/s.
const BUFFER_BYTES: usize = 4 << 20;
/// Receive calls that are forwarded before quinn gets a turn even though nothing was for it: at most 32 buffers each.
const BATCHES_PER_POLL: usize = 8;
/// Failed reads in a row after which the socket rests, so that a broken one does not keep a sessions busy.
const MAX_FAULTS_IN_A_ROW: usize = 8;
/// How long it rests.
const FAULT_PAUSE: Duration = Duration::from_millis(50);

/// See the module.
pub(crate) struct RouterSocket {
    io: UdpSocket,
    state: UdpSocketState,
    plane: Arc<Plane>,
    issued: IssuedIds,
    knocks: Mutex<ReplayFilter>,
}

impl fmt::Debug for RouterSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouterSocket").field(&self.io).finish()
    }
}

impl RouterSocket {
    /// Binds the port. Must be called inside a tokio runtime.
    pub(crate) fn bind(listen: SocketAddr, plane: Arc<Plane>, issued: IssuedIds) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(listen)?;
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        for set in [UdpSocketState::set_recv_buffer_size, UdpSocketState::set_send_buffer_size] {
            if let Err(error) = set(&state, (&socket).into(), BUFFER_BYTES) {
                tracing::info!(%error, "the UDP socket keeps its default buffer size");
            }
        }
        Ok(Self { io: UdpSocket::from_std(socket)?, state, plane, issued, knocks: Mutex::default() })
    }

    fn receive(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        read_batch(&self.io, &self.state, bufs, meta)
    }

    /// Forwards what is for others and leaves what is for quinn. True if something is.
    fn sort(&self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> bool {
        let told = self.plane.told();
        let table = self.plane.table();
        let mut knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut judge = Judge {
            table: &table,
            knock_secret: told.as_ref().map(|t| &t.knock_secret),
            knocks: &mut knocks,
            issued: &self.issued,
            now: now_unix(),
        };
        let sender = Sender {
            metrics: &self.plane.metrics,
            max_segments: self.state.max_gso_segments(),
            send: |transmit: &Transmit<'_>| {
                self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), transmit))
            },
        };
        let (mut any, mut runs, mut open) = (false, Vec::new(), None::<Joined>);
        for (index, meta) in metas.iter_mut().enumerate() {
            let (before, rest) = bufs.split_at_mut(index);
            let buf = &mut rest[0];
            let batch = Batch { bytes: &buf[..meta.len], stride: meta.stride, ecn: meta.ecn };
            runs.clear();
            runs.extend(split::runs(batch.bytes, batch.stride, judge.of(meta.addr)));
            if let [Run { key: Verdict::To(place), .. }] = runs[..] {
                let bytes = self.within_rate(&runs[0], batch.stride, meta.addr, &table);
                meta.len = 0;
                let next = Joined::new(index, &Batch { bytes: &batch.bytes[bytes], ..batch }, place);
                match &mut open {
                    Some(open) if open.takes(&next, before[open.buffer].len(), sender.max_segments) => {
                        before[open.buffer][open.len..][..next.len].copy_from_slice(&buf[..next.len]);
                        open.len += next.len;
                    }
                    _ => send_joined(&sender, open.replace(next), before),
                }
                continue;
            }
            // In order: what is joined came first.
            send_joined(&sender, open.take(), before);
            let mine = self.forward(&sender, &batch, &runs, meta.addr, &table);
            meta.len = keep(buf, &mine);
            any |= meta.len > 0;
        }
        send_joined(&sender, open, bufs);
        any
    }

    /// Sends on one buffer's runs and returns those that are for the router itself.
    fn forward<S: Fn(&Transmit<'_>) -> io::Result<()>>(
        &self,
        sender: &Sender<'_, S>,
        batch: &Batch<'_>,
        runs: &[Run<Verdict>],
        source: SocketAddr,
        table: &Table,
    ) -> Vec<Range<usize>> {
        let mut mine = Vec::new();
        for run in runs {
            match run.key {
                Verdict::To(place) => {
                    let bytes = self.within_rate(run, batch.stride, source, table);
                    sender.run(&Batch { bytes: &batch.bytes[bytes], ..*batch }, place);
                }
                Verdict::Mine => mine.push(run.bytes.clone()),
                Verdict::Drop(reason) => self.plane.metrics.dropped(reason, run.datagrams),
            }
        }
        mine
    }

    /// The part of a run that the sending session's rate lets through; the rest is dropped.
    fn within_rate(
        &self,
        run: &Run<Verdict>,
        stride: usize,
        source: SocketAddr,
        table: &Table,
    ) -> Range<usize> {
        let Some(mut quotas) = self.plane.quotas() else { return run.bytes.clone() };
        // What comes over a link was counted at the first router.
        let Some(from) = table.session_at(source) else { return run.bytes.clone() };
        let admitted = quotas.admit(from, run.datagrams, stride, run.bytes.len(), Instant::now());
        if admitted == run.datagrams {
            return run.bytes.clone();
        }
        self.plane.metrics.dropped(DropReason::RateLimited, run.datagrams - admitted);
        run.bytes.start..run.bytes.start + admitted * stride
    }
}

fn send_joined<S: Fn(&Transmit<'_>) -> io::Result<()>>(
    sender: &Sender<'_, S>,
    joined: Option<Joined>,
    bufs: &[IoSliceMut<'_>],
) {
    if let Some(joined) = joined {
        sender.run(&joined.batch(&bufs[joined.buffer]), joined.to);
    }
}

/// Moves `ranges` to the front of the buffer; returns their length. The shape (all of one length but the last) stays.
fn keep(buf: &mut [u8], ranges: &[Range<usize>]) -> usize {
    let mut end = 0;
    for range in ranges {
        buf.copy_within(range.clone(), end);
        end += range.len();
    }
    end
}

impl AsyncUdpSocket for RouterSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    /// quinn's own packets. A full buffer is quinn's to wait for; any other fault is a lost packet.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (mut batches, mut faults) = (0, 0);
        loop {
            // Fails only when the runtime is shutting down.
            ready!(self.io.poll_recv_ready(cx))?;
            match self.receive(bufs, meta) {
                Ok(n) => {
                    batches += 1;
                    let mine = self.sort(&mut bufs[..n], &mut meta[..n]);
                    if mine || batches == BATCHES_PER_POLL {
                        // Buffers without anything for quinn are empty; they still count as work done.
                        return Poll::Ready(Ok(n));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.plane.metrics.receive_faults.inc();
                    faults += 1;
                    if faults == MAX_FAULTS_IN_A_ROW {
                        tracing::warn!(%error, "the UDP socket cannot be read; trying again");
                        let waker = cx.waker().clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(FAULT_PAUSE).await;
                            waker.wake();
                        });
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// quinn sizes a buffer for this many datagrams of [`MAX_DATAGRAM`] bytes; one such buffer holds whatever the kernel merges.
    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Longest UDP payload over IPv4 and IPv6: what is forwarded may be larger than what our own endpoint sends.
pub(crate) const MAX_DATAGRAM: u16 = 65_527;

/// One connection's wait for room in the send buffer. Each has a future of its own: the socket itself remembers one waker only,
/// and the others would sleep for ever.
struct Writable {
    socket: Arc<RouterSocket>,
    waiting: Option<Waiting>,
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writable").field(&self.socket).finish()
    }
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.clone();
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { socket.io.writable().await }));
        let done = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_moves_to_the_front() {
        let mut buf = *b"aabbccddee";
        assert_eq!(keep(&mut buf, &[2..4, 6..9]), 5);
        assert_eq!(&buf[..5], b"bbdde");
        assert_eq!(keep(&mut buf, &[]), 0);
    }
}
