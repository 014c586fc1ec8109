//! A node's UDP socket for tests: an ordinary one for quinn, that also sends raw datagrams, keeps raw datagrams that arrive, and
//! remembers what quinn sent.

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::UdpSocket, sync::mpsc};

/// Follows the connection id of a raw datagram.
pub(crate) const RAW: &[u8] = b"\0raw datagram\0";

#[derive(Debug)]
pub(crate) struct Tap {
    io: UdpSocket,
    state: UdpSocketState,
    raw: mpsc::UnboundedSender<Vec<u8>>,
    pub(crate) received: AtomicUsize,
    pub(crate) sent: Mutex<Vec<Vec<u8>>>,
    /// Nothing of quinn's is sent or received any more.
    dead: AtomicBool,
    /// By which quinn's packets leave, if not by this one.
    detour: Mutex<Option<Arc<std::net::UdpSocket>>>,
}

impl Tap {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Vec<u8>>) {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let state = UdpSocketState::new((&socket).into()).unwrap();
        let (raw, arrived) = mpsc::unbounded_channel();
        let io = UdpSocket::from_std(socket).unwrap();
        (
            Arc::new(Self {
                io,
                state,
                raw,
                received: AtomicUsize::new(0),
                sent: Mutex::default(),
                dead: AtomicBool::new(false),
                detour: Mutex::default(),
            }),
            arrived,
        )
    }

    /// The node is killed without a word, as far as anybody can tell.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// From now on somebody takes quinn's packets away and sends them from an address of its own: its socket.
    pub(crate) fn hijack(&self) -> Arc<std::net::UdpSocket> {
        let thief = Arc::new(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        thief.set_nonblocking(true).unwrap();
        *self.detour.lock().unwrap() = Some(thief.clone());
        thief
    }

    /// Sends datagrams of one length with one call, so that they arrive merged.
    pub(crate) async fn send(&self, to: SocketAddr, datagrams: &[Vec<u8>]) {
        let contents = datagrams.concat();
        let segment_size = (datagrams.len() > 1).then_some(datagrams[0].len());
        let transmit =
            Transmit { destination: to, ecn: None, contents: &contents, segment_size, src_ip: None };
        self.io.writable().await.unwrap();
        self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit)).unwrap();
    }

    /// Takes the raw datagrams out of a buffer.
    fn divert(&self, buf: &mut [u8], meta: &mut RecvMeta) {
        if self.dead.load(Ordering::SeqCst) {
            meta.len = 0;
        }
        let mut kept = Vec::new();
        for datagram in buf[..meta.len].chunks(meta.stride.max(1)) {
            self.received.fetch_add(1, Ordering::SeqCst);
            if datagram.get(17..).is_some_and(|rest| rest.starts_with(RAW)) {
                let _ = self.raw.send(datagram.to_vec());
            } else {
                kept.extend_from_slice(datagram);
            }
        }
        buf[..kept.len()].copy_from_slice(&kept);
        meta.len = kept.len();
    }
}

impl AsyncUdpSocket for Tap {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller(self))
    }
    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            return Ok(());
        }
        let datagrams = transmit.contents.chunks(transmit.segment_size.unwrap_or(usize::MAX));
        if let Some(detour) = &*self.detour.lock().unwrap() {
            datagrams.for_each(|datagram| drop(detour.send_to(datagram, transmit.destination)));
            return Ok(());
        }
        self.sent.lock().unwrap().extend(datagrams.map(<[u8]>::to_vec));
        self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), transmit))
    }
    fn poll_recv(
        &self,
        cx: &mut Context,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received =
                self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, metas));
            if let Ok(n) = received {
                for (buf, meta) in bufs.iter_mut().zip(&mut metas[..n]) {
                    self.divert(buf, meta);
                }
                return Poll::Ready(Ok(n));
            }
        }
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }
    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

#[derive(Debug)]
struct Poller(Arc<Tap>);

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        self.0.io.poll_send_ready(cx)
    }
}
