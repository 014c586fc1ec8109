//! The socket below a node's QUIC endpoint: QUIC sees one address for everybody, and here every packet finds its router.
//!
//! One UDP socket per router (a *leg*), connected to it: the kernel then takes packets from that router only, so a node has no port that
//! anyone else could reach, and tells at once when nobody listens there. Nothing here ever fails QUIC: an error from a receive would kill the
//! endpoint, one from a send the connection, so faults are counted and the packet is lost, which QUIC mends.

use crate::{
    header::{self, Dcid},
    paths::{PathTable, Slot},
    transport::{MAX_DATAGRAM, VIRTUAL_ADDR},
};
use arc_swap::ArcSwap;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState},
};
use socket2::{Domain, Protocol, Type};
use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{io::Interest, net::UdpSocket, sync::Notify};

/// What the kernel is asked to buffer each way: a burst of a whole window of several streams. It may give less.
const SOCKET_BUFFER: usize = 4 << 20;
/// What the kernel takes and gives as one batch of datagrams at most: an IP packet's length, less the headers.
const MAX_BATCH: usize = 65_535 - 40 - 8;
/// Reads in one poll that bring nothing for QUIC before the task yields.
const MAX_VAIN_READS: u32 = 32;
/// Receive errors in a row after which a leg is left alone until it is replaced.
const MAX_ERRORS_IN_A_ROW: u32 = 64;
/// Longest wait for a full socket before the send is tried again.
const MAX_SEND_WAIT: Duration = Duration::from_millis(100);

/// What was lost on this side, by reason.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets to nowhere: no router, or one without a leg.
    pub no_route: AtomicU64,
    /// Sends that the kernel refused (unreachable, no buffers, too long).
    pub send_errors: AtomicU64,
    /// Receives that the kernel failed.
    pub recv_errors: AtomicU64,
    /// Packets from an address that is not the leg's router.
    pub foreign: AtomicU64,
}

/// Reads a batch, at most `bufs.len()` of what the kernel has joined. One that is not full has emptied the socket: then the runtime is told at
/// once, and not by another read in vain.
///
/// # Errors
/// `WouldBlock`: nothing is there. Others are the kernel's.
pub fn read_batch(
    socket: &UdpSocket,
    state: &UdpSocketState,
    bufs: &mut [IoSliceMut<'_>],
    meta: &mut [RecvMeta],
) -> io::Result<usize> {
    let full = bufs.len().min(meta.len()).min(BATCH_SIZE);
    let mut some = None;
    let read = || match state.recv(socket.into(), bufs, meta)? {
        n if n < full => {
            some = Some(n);
            Err(io::ErrorKind::WouldBlock.into())
        }
        n => Ok(n),
    };
    let all = socket.try_io(Interest::READABLE, read);
    some.map_or(all, Ok)
}

struct Leg {
    slot: Slot,
    router: SocketAddr,
    io: UdpSocket,
    state: UdpSocketState,
    errors_in_a_row: AtomicU32,
    dead: AtomicBool,
    trouble: Arc<Notify>,
    /// Sends of packets to peers (not to the router itself).
    carried: AtomicU64,
    /// Nothing goes to peers; whoever looks after the leg wants to know at once when that changes.
    quiet: AtomicBool,
    stir: Arc<Notify>,
}

impl Leg {
    fn connect(slot: Slot, router: SocketAddr, trouble: Arc<Notify>) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(router), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // Before the options of quinn-udp, which ask for the address family.
        socket.connect(&router.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER);
        let _ = state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER);
        let io = UdpSocket::from_std(socket.into())?;
        Ok(Self {
            slot,
            router,
            io,
            state,
            errors_in_a_row: AtomicU32::new(0),
            dead: AtomicBool::new(false),
            trouble,
            carried: AtomicU64::new(0),
            quiet: AtomicBool::new(false),
            stir: Arc::default(),
        })
    }

    /// Sends a batch, in pieces where the kernel could not take it as one. When a later piece does not fit, the whole batch will come
    /// again: QUIC throws away what it has already.
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        for piece in transmit.contents.chunks(piece_len(transmit.contents.len(), segment)) {
            let segment_size = Some(segment).filter(|segment| *segment < piece.len());
            self.state
                .try_send((&self.io).into(), &Transmit { contents: piece, segment_size, ..*transmit })?;
        }
        Ok(())
    }

    fn carries(&self) {
        self.carried.fetch_add(1, Relaxed);
        if self.quiet.load(Relaxed) && self.quiet.swap(false, Relaxed) {
            self.stir.notify_one();
        }
    }

    fn failed(&self, error: &io::Error) {
        tracing::trace!(router = %self.router, %error, "cannot receive");
        if self.errors_in_a_row.fetch_add(1, Relaxed) >= MAX_ERRORS_IN_A_ROW {
            self.dead.store(true, Relaxed);
        }
        self.trouble.notify_one();
    }
}

/// How to cut a batch of `len` bytes in datagrams of `segment` bytes: into as few pieces of about the same length as fit in
/// [`MAX_BATCH`].
fn piece_len(len: usize, segment: usize) -> usize {
    let segment = segment.max(1);
    let segments = len.div_ceil(segment).max(1);
    let most = (MAX_BATCH / segment).max(1);
    segments.div_ceil(segments.div_ceil(most)) * segment
}

/// See the module.
pub struct NodeSocket {
    legs: ArcSwap<Vec<Arc<Leg>>>,
    table: RwLock<PathTable>,
    /// The endpoint's task, to be told of a new leg.
    receiver: Mutex<Option<Waker>>,
    turn: AtomicUsize,
    gso: usize,
    gro: usize,
    may_fragment: bool,
    counters: Counters,
}

impl fmt::Debug for NodeSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routers: Vec<_> = self.legs.load().iter().map(|l| l.router).collect();
        f.debug_struct("NodeSocket").field("routers", &routers).finish_non_exhaustive()
    }
}

impl NodeSocket {
    /// A socket without legs. Asks the kernel what its sockets can do (segmentation offload, Don't Fragment).
    pub fn new() -> io::Result<Arc<Self>> {
        let probe = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new((&probe).into())?;
        Ok(Arc::new(Self {
            legs: ArcSwap::default(),
            table: RwLock::default(),
            receiver: Mutex::default(),
            turn: AtomicUsize::new(0),
            gso: state.max_gso_segments(),
            gro: state.gro_segments(),
            may_fragment: state.may_fragment(),
            counters: Counters::default(),
        }))
    }

    /// Opens the leg to a router, in place of an earlier one of the same slot. `trouble` is notified when the kernel reports a fault (nobody
    /// listens there, the network is gone).
    pub fn set_leg(&self, slot: Slot, router: SocketAddr, trouble: Arc<Notify>) -> io::Result<()> {
        let leg = Arc::new(Leg::connect(slot, router, trouble)?);
        self.legs.rcu(|legs| {
            let others = legs.iter().filter(|l| l.slot != slot).cloned();
            others.chain([leg.clone()]).collect::<Vec<_>>()
        });
        if let Some(waker) = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
        Ok(())
    }

    /// Closes a leg.
    pub fn remove_leg(&self, slot: Slot) {
        self.legs.rcu(|legs| legs.iter().filter(|l| l.slot != slot).cloned().collect::<Vec<_>>());
    }

    /// The router address of a leg that still works.
    pub fn leg(&self, slot: Slot) -> Option<SocketAddr> {
        let legs = self.legs.load();
        legs.iter().find(|l| l.slot == slot && !l.dead.load(Relaxed)).map(|l| l.router)
    }

    /// How many sends to peers went through a leg: whether it moves says whether the leg is busy.
    pub fn carried(&self, slot: Slot) -> u64 {
        let legs = self.legs.load();
        legs.iter().find(|l| l.slot == slot).map_or(0, |l| l.carried.load(Relaxed))
    }

    /// The first packet to a peer after this notifies [`Self::stir`].
    pub fn set_quiet(&self, slot: Slot) {
        if let Some(leg) = self.legs.load().iter().find(|l| l.slot == slot) {
            leg.quiet.store(true, Relaxed);
        }
    }

    /// Notified when a leg that was quiet carries something again.
    pub fn stir(&self, slot: Slot) -> Option<Arc<Notify>> {
        self.legs.load().iter().find(|l| l.slot == slot).map(|l| l.stir.clone())
    }

    /// Changes the table of paths.
    pub fn update<T>(&self, change: impl FnOnce(&mut PathTable) -> T) -> T {
        change(&mut self.table.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the table of paths.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&PathTable) -> T) -> T {
        look(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was lost.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The leg that a packet goes by, and whether it is for a peer.
    fn route(&self, dcid: &Dcid) -> Option<(Slot, bool)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        Some((table.route(dcid)?, !table.is_router(dcid)))
    }

    fn learn(&self, peer: hesper_model::id::Tag, slot: Slot) {
        let known = self.table.read().unwrap_or_else(PoisonError::into_inner).knows(peer, slot);
        if !known {
            self.update(|t| t.learn(peer, slot));
        }
    }

    /// Takes what is for QUIC out of one read: learns paths from handshakes, empties what is not from the router. Returns whether anything
    /// is left.
    fn sift(&self, leg: &Leg, bufs: &[IoSliceMut<'_>], meta: &mut [RecvMeta]) -> bool {
        let mut any = false;
        for (m, buf) in meta.iter_mut().zip(bufs) {
            if (m.addr.ip().to_canonical(), m.addr.port())
                != (leg.router.ip().to_canonical(), leg.router.port())
            {
                self.counters.foreign.fetch_add(1, Relaxed);
                (m.len, m.stride) = (0, 0);
                continue;
            }
            m.addr = VIRTUAL_ADDR;
            m.dst_ip = None;
            any |= m.len > 0;
            // The kernel joins packets by address, not by connection: look at each.
            for packet in buf[..m.len].chunks(m.stride.max(1)) {
                if packet[0] & 0x80 != 0
                    && let Some(peer) = header::parse(packet).and_then(|h| h.scid_tag)
                {
                    self.learn(peer, leg.slot);
                }
            }
        }
        any
    }

    fn poll_leg(
        &self,
        leg: &Leg,
        vain: &mut u32,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Option<usize> {
        while *vain < MAX_VAIN_READS && !leg.dead.load(Relaxed) {
            match leg.io.poll_recv_ready(cx) {
                Poll::Pending => return None,
                // The runtime is going away.
                Poll::Ready(Err(_)) => leg.dead.store(true, Relaxed),
                Poll::Ready(Ok(())) => {
                    *vain += 1;
                    match read_batch(&leg.io, &leg.state, bufs, meta) {
                        Ok(n) => {
                            leg.errors_in_a_row.store(0, Relaxed);
                            if self.sift(leg, bufs, &mut meta[..n]) {
                                return Some(n);
                            }
                        }
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                            leg.errors_in_a_row.store(0, Relaxed);
                        }
                        Err(e) => {
                            self.counters.recv_errors.fetch_add(1, Relaxed);
                            leg.failed(&e);
                        }
                    }
                }
            }
        }
        None
    }
}

impl AsyncUdpSocket for NodeSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, wait: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let route = header::parse(transmit.contents).and_then(|h| self.route(&h.dcid));
        let legs = self.legs.load();
        let leg = route.and_then(|(slot, to_peer)| Some((legs.iter().find(|l| l.slot == slot)?, to_peer)));
        let Some((leg, to_peer)) = leg else {
            self.counters.no_route.fetch_add(1, Relaxed);
            return Ok(());
        };
        if to_peer {
            leg.carries();
        }
        let transmit = Transmit { destination: leg.router, src_ip: None, ..*transmit };
        let send = || leg.send(&transmit);
        match leg.io.try_io(Interest::WRITABLE, send) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
            Err(e) => {
                tracing::trace!(router = %leg.router, error = %e, "cannot send");
                self.counters.send_errors.fetch_add(1, Relaxed);
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::NetworkUnreachable
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkDown
                        | io::ErrorKind::AddrNotAvailable
                ) {
                    leg.trouble.notify_one();
                }
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        {
            // Before looking at the legs: a leg that comes in between finds the waker.
            let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
            if !receiver.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *receiver = Some(cx.waker().clone());
            }
        }
        let legs = self.legs.load();
        let turn = self.turn.fetch_add(1, Relaxed);
        let mut vain = 0;
        for i in 0..legs.len() {
            let leg = &legs[(turn.wrapping_add(i)) % legs.len()];
            if let Some(n) = self.poll_leg(leg, &mut vain, cx, bufs, meta) {
                return Poll::Ready(Ok(n));
            }
        }
        if vain >= MAX_VAIN_READS {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        // QUIC only asks for the address family, which is that of the virtual address.
        Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
    }

    fn max_transmit_segments(&self) -> usize {
        // A leg whose network card cannot do it has found out by trying.
        let legs = self.legs.load();
        legs.iter().map(|l| l.state.max_gso_segments()).min().unwrap_or(self.gso)
    }

    fn max_receive_segments(&self) -> usize {
        // QUIC sizes each receive buffer for so many of the longest datagrams; the kernel never joins more than 64 KiB.
        self.gro.min(MAX_BATCH.div_ceil(usize::from(MAX_DATAGRAM)))
    }

    fn may_fragment(&self) -> bool {
        self.may_fragment
    }
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Waits, for one connection, until every leg takes packets again. Each has its own future: a tokio socket wakes any number of those, but
/// only the last of those who poll it directly.
struct Poller {
    socket: Arc<NodeSocket>,
    wait: Option<Wait>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let wait = this.wait.get_or_insert_with(|| {
            let legs = this.socket.legs.load_full();
            Box::pin(async move {
                for leg in legs.iter() {
                    // Bounded: one leg whose network has died must not hold up the others.
                    let _ = tokio::time::timeout(MAX_SEND_WAIT, leg.io.writable()).await;
                }
            })
        });
        let ready = wait.as_mut().poll(cx);
        if ready.is_ready() {
            this.wait = None;
        }
        ready.map(Ok)
    }
}

/// All addresses behind `host:port` texts, names resolved anew; those that cannot be resolved are skipped.
pub async fn resolve(addresses: &[String]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for address in addresses {
        match tokio::net::lookup_host(address.as_str()).await {
            Ok(addrs) => found.extend(addrs),
            Err(error) => tracing::debug!(%address, %error, "cannot resolve a router's address"),
        }
    }
    found.retain(|a| a.port() != 0 && !is_unspecified(a.ip()));
    found.dedup();
    found
}

fn is_unspecified(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut_where_the_kernel_ends() {
        assert_eq!(piece_len(14_520, 1_452), 14_520, "as one");
        assert_eq!(piece_len(10 * 8_952, 8_952), 5 * 8_952, "ten jumbo frames are two times five");
        assert_eq!(piece_len(8 * 8_952 - 100, 8_952), 4 * 8_952, "the last one may be shorter");
        assert_eq!((piece_len(100, 100), piece_len(0, 0)), (100, 1));
        for (segments, segment) in [(1, 8_952), (7, 8_952), (64, 1_200), (10, 8_000)] {
            let len = segments * segment;
            let piece = piece_len(len, segment);
            assert!(piece <= MAX_BATCH && piece.is_multiple_of(segment), "{segments} of {segment}: {piece}");
        }
    }
}
