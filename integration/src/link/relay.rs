//! The sockets of a link: one that clients send to, and one towards the router for each client.

use super::{CAPTURE_LIMIT, LinkCounters, Out, Packet, Way, tamper::Tags, wire::Wire};
use crate::Place;
use std::{
    collections::HashMap,
    future::pending,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Instant,
};
use tokio::{
    net::UdpSocket,
    sync::{Notify, mpsc as queue},
    task::JoinHandle,
    time::sleep_until,
};

/// What the kernel is asked to buffer, so that a burst is lost only where a fault says so.
const SOCKET_BUFFER: usize = 4 << 20;
/// Longest UDP payload.
const LONGEST: usize = 65_535;
/// Datagrams read in a row before others have their turn.
const BATCH: usize = 64;

pub(super) type Tamperer = Box<dyn FnMut(Packet, &mut Out<'_>) + Send>;

pub(super) enum Command {
    Rebind(mpsc::Sender<()>),
    Stop,
}

pub(super) struct Shared {
    pub(super) listener: Port,
    /// Something new is due.
    pub(super) wake: Notify,
    state: Mutex<State>,
    router: SocketAddr,
}

/// A socket: read when tokio says that there is something, written at once. tokio's own `try_send` fails until it has heard of a new socket.
pub(super) struct Port {
    reads: UdpSocket,
    pub(super) writes: std::net::UdpSocket,
}

impl Port {
    fn open(local: SocketAddr, to: Option<SocketAddr>) -> io::Result<Self> {
        let writes = std::net::UdpSocket::bind(local)?;
        to.map_or(Ok(()), |to| writes.connect(to))?;
        writes.set_nonblocking(true)?;
        let options = socket2::SockRef::from(&writes);
        options.set_recv_buffer_size(SOCKET_BUFFER)?;
        options.set_send_buffer_size(SOCKET_BUFFER)?;
        Ok(Self { reads: UdpSocket::from_std(writes.try_clone()?)?, writes })
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Client {
    pub(super) address: SocketAddr,
    upstream: Arc<Port>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
pub(super) struct Captured {
    pub(super) packets: Vec<Packet>,
    bytes: usize,
}

pub(super) struct State {
    pub(super) clients: Vec<Client>,
    pub(super) tamper: Option<Tamperer>,
    pub(super) captured: Option<Captured>,
    pub(super) counters: LinkCounters,
    pub(super) tags: Tags,
    numbers: HashMap<SocketAddr, usize>,
    wires: [Wire<Packet>; 2],
}

impl State {
    fn new(seed: u64) -> Self {
        Self {
            clients: Vec::new(),
            tamper: None,
            captured: None,
            counters: LinkCounters::default(),
            tags: Tags::default(),
            numbers: HashMap::new(),
            wires: [Wire::new(seed), Wire::new(!seed)],
        }
    }

    pub(super) fn wire(&mut self, way: Way) -> &mut Wire<Packet> {
        &mut self.wires[usize::from(way == Way::ToClient)]
    }

    fn arrive(&mut self, packet: Packet) {
        self.tags.learn(&packet);
        if let Some(captured) = &mut self.captured {
            if captured.bytes + packet.bytes.len() <= CAPTURE_LIMIT {
                captured.bytes += packet.bytes.len();
                captured.packets.push(packet.clone());
            } else {
                self.counters.not_captured += 1;
            }
        }
        let Some(tamper) = &mut self.tamper else { return self.go(packet) };
        let mut out = Vec::new();
        tamper(packet, &mut Out { packets: &mut out, tags: &self.tags });
        self.counters.tampered += 1;
        self.counters.let_through += out.len() as u64;
        out.into_iter().for_each(|packet| self.go(packet));
    }

    pub(super) fn go(&mut self, packet: Packet) {
        let len = packet.bytes.len();
        self.wire(packet.way).send(Instant::now(), packet, len);
    }

    /// Sends what is due.
    fn flush(&mut self, listener: &Port) {
        let now = Instant::now();
        for way in [Way::ToRouter, Way::ToClient] {
            while let Some(packet) = self.wire(way).poll(now) {
                let Some(client) = self.clients.get(packet.client) else { continue };
                let send = || match way {
                    Way::ToRouter => client.upstream.writes.send(&packet.bytes),
                    Way::ToClient => listener.writes.send_to(&packet.bytes, client.address),
                };
                // The first error may be the answer to an earlier datagram, at whose time nobody listened.
                let refused = send().is_err() && send().is_err();
                self.counters.refused += u64::from(refused);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.wires.iter().filter_map(Wire::next_due).min()
    }
}

/// Runs until it is told to stop; `started` gets the handles.
pub(super) fn run(
    place: &Place,
    router: SocketAddr,
    seed: u64,
    started: impl FnOnce((Arc<Shared>, queue::UnboundedSender<Command>)) -> bool,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let shared = Arc::new(Shared {
            listener: Port::open(SocketAddr::from((place.address(), 0)), None).expect("a port for the link"),
            wake: Notify::new(),
            state: Mutex::new(State::new(seed)),
            router,
        });
        let (commands, told) = queue::unbounded_channel();
        if !started((shared.clone(), commands)) {
            return;
        }
        tokio::select! {
            () = listen(shared.clone()) => {}
            () = deliver(&shared) => {}
            () = obey(&shared, told) => {}
        }
    });
}

async fn listen(shared: Arc<Shared>) {
    let mut buf = vec![0; LONGEST];
    loop {
        if shared.listener.reads.readable().await.is_err() {
            return;
        }
        let mut state = shared.state();
        for _ in 0..BATCH {
            match shared.listener.reads.try_recv_from(&mut buf) {
                Ok((len, address)) => {
                    let client = number(&shared, &mut state, address);
                    state.arrive(Packet { way: Way::ToRouter, client, bytes: buf[..len].to_vec() });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The answer of a system where nobody listens any more.
                Err(_) => state.counters.refused += 1,
            }
        }
        state.flush(&shared.listener);
        drop(state);
        shared.wake.notify_one();
    }
}

/// The number of the client at this address, a new one if need be.
fn number(shared: &Arc<Shared>, state: &mut State, address: SocketAddr) -> usize {
    if let Some(number) = state.numbers.get(&address) {
        return *number;
    }
    let number = state.clients.len();
    state.numbers.insert(address, number);
    let (upstream, reader) = upstream(shared, number);
    state.clients.push(Client { address, upstream, reader });
    number
}

fn upstream(shared: &Arc<Shared>, client: usize) -> (Arc<Port>, JoinHandle<()>) {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let socket = Arc::new(Port::open(any, Some(shared.router)).expect("a socket towards the router"));
    let reader = tokio::spawn(read(shared.clone(), socket.clone(), client));
    (socket, reader)
}

async fn read(shared: Arc<Shared>, upstream: Arc<Port>, client: usize) {
    let mut buf = vec![0; LONGEST];
    loop {
        if upstream.reads.readable().await.is_err() {
            return;
        }
        let mut state = shared.state();
        for _ in 0..BATCH {
            match upstream.reads.try_recv(&mut buf) {
                Ok(len) => state.arrive(Packet { way: Way::ToClient, client, bytes: buf[..len].to_vec() }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Nobody listens at the router's port just now. Clients are not told, as behind most NATs.
                Err(_) => state.counters.refused += 1,
            }
        }
        state.flush(&shared.listener);
        drop(state);
        shared.wake.notify_one();
    }
}

/// Sends what was under way when it is due.
async fn deliver(shared: &Shared) {
    loop {
        let due = shared.state().next_due();
        let wait = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = wait => shared.state().flush(&shared.listener),
            () = shared.wake.notified() => {}
        }
    }
}

async fn obey(shared: &Arc<Shared>, mut told: queue::UnboundedReceiver<Command>) {
    while let Some(Command::Rebind(done)) = told.recv().await {
        let mut state = shared.state();
        state.counters.rebindings += 1;
        for number in 0..state.clients.len() {
            let (upstream, reader) = upstream(shared, number);
            let client = &mut state.clients[number];
            client.upstream = upstream;
            std::mem::replace(&mut client.reader, reader).abort();
        }
        let _ = done.send(());
    }
    // The readers hold the shared state, which holds their handles.
    shared.state().clients.drain(..).for_each(|client| client.reader.abort());
}
