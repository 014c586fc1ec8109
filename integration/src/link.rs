//! A bad network, made to measure: a UDP relay that stands between nodes and a router.
//!
//! ```no_run
//! use hesper_integration::{Faults, Stack, StackOptions, Tamper, Way};
//! use std::time::Duration;
//! let stack = StackOptions::default().linked().start();
//! let link = stack.link();
//! link.set(Faults { delay: Duration::from_millis(20), loss: 0.02, ..Faults::default() });
//! link.set_way(Way::ToRouter, Faults { cut: true, ..Faults::default() }); // a one-way partition
//! link.rebind(); // the NAT forgets: every client has another address from now on
//! link.tamper(Tamper::black_hole_data()); // the router is still there, and nothing gets through it
//! link.capture(); // keeps every datagram from now on
//! println!("{:?}", link.counters());
//! ```
//!
//! The router is told to advertise the link's address, so that nodes and other routers send to the link. The link has one socket
//! towards the router for each client address, as a NAT has: to the router each client is an address of its own, and what comes back
//! to that address goes to that client. A link that drops, flips, replays or cross-delivers packets is also what a hostile router
//! could do at most, as it stands where the router stands.
//!
//! [`Faults`] happen in a state machine without clock or sockets (`link/wire.rs`); here are the sockets, in a thread of their own, which
//! enters the namespace of its [`Place`].

mod relay;
mod tamper;
mod wire;

pub use tamper::{Out, Tamper};
pub use wire::{Burst, Counters, Faults};

use crate::Place;
use hesper_model::id::Tag;
use relay::{Command, Shared};
use std::{
    net::SocketAddr,
    sync::{Arc, mpsc::channel},
    thread,
    time::Duration,
};
use tokio::sync::mpsc::UnboundedSender;

/// Captured bytes that are kept; beyond, datagrams are only counted.
const CAPTURE_LIMIT: usize = 512 << 20;
/// How long the link's own thread may take to do as it is told.
const PATIENCE: Duration = Duration::from_secs(30);

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From a node (or another router) to the router behind the link.
    ToRouter,
    /// From that router.
    ToClient,
}

impl Way {
    /// The other one.
    #[must_use]
    pub fn back(self) -> Self {
        match self {
            Self::ToRouter => Self::ToClient,
            Self::ToClient => Self::ToRouter,
        }
    }
}

/// A datagram on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it is going.
    pub way: Way,
    /// From or to which client: its number in [`Link::clients`].
    pub client: usize,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// Everything that a link counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Towards the router, after [`Link::tamper`].
    pub to_router: Counters,
    /// Towards the clients, after [`Link::tamper`].
    pub to_client: Counters,
    /// Datagrams that were shown to the tamperer.
    pub tampered: u64,
    /// Datagrams that the tamperer let or put on their way.
    pub let_through: u64,
    /// Datagrams that the system would not take: mostly because nobody listened at the router's port.
    pub refused: u64,
    /// Datagrams not kept because too many bytes are.
    pub not_captured: u64,
    /// Times that the clients' addresses were changed.
    pub rebindings: u64,
}

/// See the module. Gone when dropped.
pub struct Link {
    shared: Arc<Shared>,
    commands: UnboundedSender<Command>,
    address: SocketAddr,
    thread: Option<thread::JoinHandle<()>>,
}

impl Link {
    /// A perfect link to `router`, at a port of its own of `place`. `seed` decides every fate that is drawn.
    ///
    /// # Panics
    /// When it cannot open its port.
    #[track_caller]
    pub fn start(place: &Place, router: SocketAddr, seed: u64) -> Self {
        let (told, tell) = channel();
        let place = place.clone();
        let work = move || {
            place.enter();
            relay::run(&place, router, seed, |started| told.send(started).is_ok());
        };
        let thread = thread::Builder::new().name("link".into()).spawn(work).expect("a thread");
        let (shared, commands) = tell.recv_timeout(PATIENCE).expect("the link starts");
        let address = shared.listener.writes.local_addr().expect("an address");
        Self { shared, commands, address, thread: Some(thread) }
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// These faults both ways from now on.
    pub fn set(&self, faults: Faults) {
        self.set_way(Way::ToRouter, faults);
        self.set_way(Way::ToClient, faults);
    }

    /// These faults one way from now on.
    pub fn set_way(&self, way: Way, faults: Faults) {
        self.shared.state().wire(way).set(faults);
    }

    /// The faults of one way.
    pub fn faults(&self, way: Way) -> Faults {
        self.shared.state().wire(way).faults()
    }

    /// A partition: nothing comes out either way, other faults stay.
    pub fn cut(&self) {
        for way in [Way::ToRouter, Way::ToClient] {
            self.set_way(way, Faults { cut: true, ..self.faults(way) });
        }
    }

    /// No partition any more, other faults stay.
    pub fn heal(&self) {
        for way in [Way::ToRouter, Way::ToClient] {
            self.set_way(way, Faults { cut: false, ..self.faults(way) });
        }
    }

    /// Every client gets another address towards the router, at once; what comes to the old ones is lost.
    ///
    /// # Panics
    /// When the system gives no more sockets.
    #[track_caller]
    pub fn rebind(&self) {
        let (done, wait) = channel();
        let sent = self.commands.send(Command::Rebind(done));
        assert!(sent.is_ok() && wait.recv_timeout(PATIENCE).is_ok(), "the link has ended");
    }

    /// Every datagram is shown to `tamper` before the faults: what it pushes goes on, changed or not, once or often, to whatever client.
    pub fn tamper(&self, tamper: impl FnMut(Packet, &mut Out<'_>) + Send + 'static) {
        self.shared.state().tamper = Some(Box::new(tamper));
    }

    /// No tampering any more.
    pub fn honest(&self) {
        self.shared.state().tamper = None;
    }

    /// Puts a datagram on its way, as if it had come from a client or from the router. The faults apply, the tamperer does not see it.
    pub fn inject(&self, packet: Packet) {
        self.shared.state().go(packet);
        self.shared.wake.notify_one();
    }

    /// Keeps a copy of every datagram that arrives from now on, as it arrives.
    pub fn capture(&self) {
        self.shared.state().captured.get_or_insert_default();
    }

    /// What was captured so far.
    pub fn captured(&self) -> Vec<Packet> {
        self.shared.state().captured.as_ref().map(|c| c.packets.clone()).unwrap_or_default()
    }

    /// The addresses that sent something, in the order of their first datagram: nodes, and other routers if there are any.
    pub fn clients(&self) -> Vec<SocketAddr> {
        self.shared.state().clients.iter().map(|client| client.address).collect()
    }

    /// The tags that a client named as its own in its handshakes: those of one node's session, or of a router.
    pub fn tags(&self, client: usize) -> Vec<Tag> {
        self.shared.state().tags.of_client(client)
    }

    /// What was done so far.
    pub fn counters(&self) -> LinkCounters {
        let mut state = self.shared.state();
        let (to_router, to_client) =
            (state.wire(Way::ToRouter).counters(), state.wire(Way::ToClient).counters());
        LinkCounters { to_router, to_client, ..state.counters }
    }

    /// Datagrams that have not come out yet, of one way.
    pub fn under_way(&self, way: Way) -> usize {
        self.shared.state().wire(way).under_way()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        let ended = self.thread.take().map(thread::JoinHandle::join);
        if !thread::panicking() {
            assert!(ended.is_none_or(|result| result.is_ok()), "the link's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_until;
    use std::net::UdpSocket;

    const SOON: Duration = Duration::from_secs(20);

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(SOON)).expect("an option");
        socket
    }

    fn heard(socket: &UdpSocket) -> (String, SocketAddr) {
        let mut buf = [0; 2048];
        let (len, from) = socket.recv_from(&mut buf).expect("a datagram");
        (String::from_utf8_lossy(&buf[..len]).into_owned(), from)
    }

    struct Ends {
        router: UdpSocket,
        link: Link,
        clients: [UdpSocket; 2],
    }

    impl Ends {
        fn new() -> Self {
            let router = socket();
            let link = Link::start(&Place::host(), router.local_addr().expect("an address"), 1);
            let clients = [socket(), socket()];
            clients.iter().for_each(|client| client.connect(link.address()).expect("connected"));
            Self { router, link, clients }
        }

        /// A datagram of a client arrives; from where.
        fn up(&self, client: usize, text: &str) -> SocketAddr {
            self.clients[client].send(text.as_bytes()).expect("sent");
            let (got, from) = heard(&self.router);
            assert_eq!(got, text);
            from
        }
    }

    #[test]
    fn each_client_has_its_address_until_it_is_rebound() {
        let ends = Ends::new();
        let (a, b) = (ends.up(0, "from a"), ends.up(1, "from b"));
        assert_ne!(a, b);
        assert_eq!(ends.up(0, "again"), a);
        ends.router.send_to(b"to b", b).expect("sent");
        ends.router.send_to(b"to a", a).expect("sent");
        assert_eq!(
            (heard(&ends.clients[0]).0.as_str(), heard(&ends.clients[1]).0.as_str()),
            ("to a", "to b")
        );
        ends.link.rebind();
        let moved = ends.up(0, "rebound");
        assert_ne!(moved, a);
        ends.router.send_to(b"to nobody", a).expect("sent");
        ends.router.send_to(b"back", moved).expect("sent");
        assert_eq!(heard(&ends.clients[0]).0, "back");
        let addresses = ends.clients.each_ref().map(|c| c.local_addr().expect("an address"));
        assert_eq!(ends.link.clients(), addresses);
        let counters = ends.link.counters();
        assert_eq!((counters.to_router.delivered, counters.to_client.delivered), (4, 3), "{counters:?}");
    }

    #[test]
    fn a_partition_may_be_one_way() {
        let ends = Ends::new();
        let a = ends.up(0, "first");
        ends.link.set_way(Way::ToRouter, Faults { cut: true, ..Faults::default() });
        ends.clients[0].send(b"lost").expect("sent");
        wait_until("it is lost", SOON, || ends.link.counters().to_router.cut == 1);
        ends.router.send_to(b"still", a).expect("sent");
        assert_eq!(heard(&ends.clients[0]).0, "still");
        ends.link.heal();
        assert_eq!(ends.up(0, "healed"), a);
        ends.link.cut();
        ends.router.send_to(b"lost too", a).expect("sent");
        wait_until("it is lost", SOON, || ends.link.counters().to_client.cut == 1);
    }

    #[test]
    fn what_is_delayed_comes_and_what_is_captured_is_kept() {
        let ends = Ends::new();
        ends.link.capture();
        ends.link.set(Faults { delay: Duration::from_millis(30), ..Faults::default() });
        let sent = std::time::Instant::now();
        let a = ends.up(0, "later");
        assert!(sent.elapsed() >= Duration::from_millis(30));
        ends.router.send_to(b"answer", a).expect("sent");
        assert_eq!(heard(&ends.clients[0]).0, "answer");
        let packet = |way, text: &str| Packet { way, client: 0, bytes: text.into() };
        assert_eq!(ends.link.captured(), [packet(Way::ToRouter, "later"), packet(Way::ToClient, "answer")]);
    }

    #[test]
    fn a_tamperer_drops_changes_repeats_and_cross_delivers() {
        let ends = Ends::new();
        let (a, _) = (ends.up(0, "a"), ends.up(1, "b"));
        ends.link.tamper(|packet, out| match (packet.way, &packet.bytes[..]) {
            (Way::ToRouter, b"drop") => {}
            (Way::ToRouter, _) => {
                out.push(packet.clone());
                out.push(Packet { bytes: b"more".to_vec(), ..packet });
            }
            (Way::ToClient, _) => out.push(Packet { client: 1, ..packet }),
        });
        ends.clients[0].send(b"drop").expect("sent");
        assert_eq!(ends.up(0, "keep"), a);
        assert_eq!(heard(&ends.router), ("more".into(), a));
        ends.router.send_to(b"for a", a).expect("sent");
        assert_eq!(heard(&ends.clients[1]).0, "for a");
        let counters = ends.link.counters();
        assert_eq!((counters.tampered, counters.let_through), (3, 3), "{counters:?}");
        ends.link.honest();
        assert_eq!(ends.up(0, "drop"), a);
    }

    #[test]
    fn a_router_that_comes_later_is_found() {
        let router = socket();
        let address = router.local_addr().expect("an address");
        let link = Link::start(&Place::host(), address, 1);
        drop(router);
        let client = socket();
        client.connect(link.address()).expect("connected");
        for _ in 0..10 {
            client.send(b"nobody").expect("sent");
        }
        wait_until("they have gone", SOON, || link.counters().to_router.delivered == 10);
        let router = UdpSocket::bind(address).expect("the same port");
        router.set_read_timeout(Some(SOON)).expect("an option");
        client.send(b"somebody").expect("sent");
        assert_eq!(heard(&router).0, "somebody");
    }
}
