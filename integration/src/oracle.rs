//! An oracle: a server and a client over TCP that move numbered, checksummed bytes both ways, and know at once when one is missing.
//!
//! ```no_run
//! use hesper_integration::{Oracle, Plan, Stack};
//! let (stack, oracle) = (Stack::start(), Oracle::start());
//! let (host, client) = (stack.enroll("host", &[]), stack.enroll("client", &[]));
//! stack.publish("oracle", oracle.address(), "@host");
//! stack.allow("Dial", "oracle", "@client");
//! let _host = stack.tunnel("host", &["host", "-i", &host]);
//! let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "oracle:0"]);
//! // So many bytes each way. Or `Plan::until_stopped().rate(1 << 20)` for traffic that goes on while something else is tested.
//! let transfer = oracle.transfer(proxy.told("oracle"), Plan::bytes(64 << 20).seed(7));
//! // … kill routers, lose packets …
//! let report = transfer.finish(Stack::PATIENCE); // fails the test if a byte was lost, doubled or changed, or the stream was reset
//! println!("longest stall {:?}", report.longest_stall());
//! ```
//!
//! Both directions carry blocks: number, length, whether it is the last, and bytes that only seed, direction and number decide. The receiver
//! knows what must come and compares every byte; the last block ends with the SHA-256 of all that was before. A block out of its turn is
//! told as lost or doubled. Stalls are measured and reported, never judged.

mod pump;

use crate::{Netns, Place};
use pump::{receive, send};
use std::{
    collections::HashMap,
    env, fmt,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// A transfer that brings nothing for so long is broken.
const SILENCE: Duration = Duration::from_secs(45);
/// Blocks of one open-ended transfer: more than any test moves.
const ENDLESS: u64 = u64::MAX;

/// What to move.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    up: u64,
    down: u64,
    seed: u64,
    rate: Option<u64>,
}

impl Plan {
    /// So many bytes each way, as fast as they go.
    pub fn bytes(each_way: u64) -> Self {
        Self { up: each_way, down: each_way, seed: 1, rate: None }
    }

    /// Half of `both_ways` each way, or of what `HESPER_FAILOVER_BYTES` asks for: for a long run by hand.
    pub fn bytes_or_asked(both_ways: u64) -> Self {
        let asked = env::var("HESPER_FAILOVER_BYTES").ok().and_then(|text| text.parse().ok());
        Self::bytes(asked.unwrap_or(both_ways) / 2)
    }

    /// Bytes each way until [`Transfer::stop`].
    pub fn until_stopped() -> Self {
        Self::bytes(ENDLESS)
    }

    /// Nothing from the server to the client.
    #[must_use]
    pub fn up_only(self) -> Self {
        Self { down: 0, ..self }
    }

    /// Nothing from the client to the server.
    #[must_use]
    pub fn down_only(self) -> Self {
        Self { up: 0, ..self }
    }

    /// Other bytes.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// At most so many bytes per second each way.
    #[must_use]
    pub fn rate(self, bytes_per_second: u64) -> Self {
        Self { rate: Some(bytes_per_second), ..self }
    }
}

/// What one direction brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes of payload, each of them right.
    pub bytes: u64,
    /// The longest time without any.
    pub longest_stall: Duration,
    /// When that began, after the transfer did.
    pub stalled_at: Duration,
}

/// A transfer that went well.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// From client to server.
    pub up: Received,
    /// From server to client.
    pub down: Received,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// The longest time in which one direction brought nothing.
    pub fn longest_stall(&self) -> Duration {
        self.up.longest_stall.max(self.down.longest_stall)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { up, down, took } = self;
        write!(f, "{} bytes up and {} down in {took:.2?}; ", up.bytes, down.bytes)?;
        write!(f, "longest stall {:.2?} at {:.2?} up, ", up.longest_stall, up.stalled_at)?;
        write!(f, "{:.2?} at {:.2?} down", down.longest_stall, down.stalled_at)
    }
}

/// Why a transfer is broken.
type Fault = String;

/// What both sides of one transfer share, as both are in this process.
struct Shared {
    plan: Plan,
    started: Instant,
    stop: AtomicBool,
    received: [AtomicU64; 2],
    /// One outcome for each side's receiving half, one for each sending half.
    outcomes: Mutex<HashMap<&'static str, Result<Received, Fault>>>,
    changed: Condvar,
    connections: AtomicUsize,
}

/// Outcomes of a transfer: two that send and two that receive.
const HALVES: usize = 4;

impl Shared {
    fn outcomes(&self) -> MutexGuard<'_, HashMap<&'static str, Result<Received, Fault>>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self, half: &'static str, outcome: Result<Received, Fault>) {
        self.outcomes().insert(half, outcome);
        self.changed.notify_all();
    }
}

/// The server. Serves until the test process ends.
pub struct Oracle {
    address: SocketAddr,
    transfers: Arc<Mutex<HashMap<u64, Arc<Shared>>>>,
    accepted: Arc<AtomicUsize>,
    next: AtomicU64,
}

impl Oracle {
    /// On the host's loopback.
    ///
    /// # Panics
    /// When there is no port.
    #[track_caller]
    pub fn start() -> Self {
        Self::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"))
    }

    /// On a namespace's loopback.
    ///
    /// # Panics
    /// When there is no port.
    #[track_caller]
    pub fn start_in(netns: &Netns) -> Self {
        Self::serve(netns.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")))
    }

    fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("an address");
        let transfers: Arc<Mutex<HashMap<u64, Arc<Shared>>>> = Arc::default();
        let accepted: Arc<AtomicUsize> = Arc::default();
        let (known, counted) = (transfers.clone(), accepted.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Relaxed);
                let known = known.clone();
                thread::spawn(move || answer(stream, &known));
            }
        });
        Self { address, transfers, accepted, next: AtomicU64::new(1) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that came so far, whatever they were.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }

    /// Begins a transfer over a new connection to `via`, which leads here somehow.
    ///
    /// # Panics
    /// When nobody listens at `via`.
    #[track_caller]
    pub fn transfer(&self, via: SocketAddr, plan: Plan) -> Transfer {
        let stream = TcpStream::connect(via).unwrap_or_else(|e| panic!("cannot connect to {via}: {e}"));
        self.transfer_over(stream, plan)
    }

    /// As [`transfer`](Self::transfer), from another place.
    ///
    /// # Panics
    /// When nobody listens at `via`.
    #[track_caller]
    pub fn transfer_from(&self, place: &Place, via: SocketAddr, plan: Plan) -> Transfer {
        let connect = || {
            place.enter();
            TcpStream::connect(via).unwrap_or_else(|e| panic!("cannot connect to {via}: {e}"))
        };
        let stream = thread::scope(|scope| scope.spawn(connect).join()).expect("a connection");
        self.transfer_over(stream, plan)
    }

    /// Begins a transfer over a connection that leads here, for example one on which a CONNECT was answered.
    ///
    /// # Panics
    /// When the connection is already broken.
    #[track_caller]
    pub fn transfer_over(&self, stream: TcpStream, plan: Plan) -> Transfer {
        let shared = Arc::new(Shared {
            plan,
            started: Instant::now(),
            stop: AtomicBool::new(false),
            received: Default::default(),
            outcomes: Mutex::default(),
            changed: Condvar::new(),
            connections: AtomicUsize::new(0),
        });
        let id = self.next.fetch_add(1, Relaxed);
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, shared.clone());
        (&stream).write_all(&id.to_be_bytes()).expect("the connection takes its first bytes");
        halves(stream, &shared, Side::Client);
        Transfer { shared }
    }
}

/// A transfer under way.
pub struct Transfer {
    shared: Arc<Shared>,
}

impl Transfer {
    /// Bytes that have arrived, each of them right: up and down.
    pub fn received(&self) -> (u64, u64) {
        (self.shared.received[0].load(Relaxed), self.shared.received[1].load(Relaxed))
    }

    /// An open-ended transfer sends its last blocks.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
    }

    /// Is it over, well or not?
    pub fn is_over(&self) -> bool {
        let outcomes = self.shared.outcomes();
        outcomes.len() == HALVES || outcomes.values().any(Result::is_err)
    }

    /// The first thing that went wrong, if anything did.
    pub fn fault(&self) -> Option<String> {
        let outcomes = self.shared.outcomes();
        let faults = outcomes.iter().filter_map(|(half, o)| Some(format!("{half}: {}", o.as_ref().err()?)));
        // What the receivers saw says more than that a sender could not go on.
        faults.min_by_key(|fault| !fault.contains("receives"))
    }

    /// Everything that went wrong, by half: `the server receives`, `the client sends`, ….
    pub fn faults(&self) -> HashMap<&'static str, String> {
        let outcomes = self.shared.outcomes();
        outcomes.iter().filter_map(|(half, o)| Some((*half, o.as_ref().err()?.clone()))).collect()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When a byte was lost, doubled or changed, a connection broken, or it is not over `within` that time.
    #[track_caller]
    pub fn finish(self, within: Duration) -> Report {
        match self.outcome(within) {
            Ok(report) => report,
            Err(fault) => panic!("the transfer is broken: {fault}"),
        }
    }

    /// Waits for its end, whatever it is.
    ///
    /// # Errors
    /// What went wrong.
    pub fn outcome(self, within: Duration) -> Result<Report, String> {
        self.stop();
        let until = Instant::now() + within;
        let mut outcomes = self.shared.outcomes();
        while outcomes.len() < HALVES && !outcomes.values().any(Result::is_err) {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                drop(outcomes);
                return Err(format!("not over in {within:?}; (up, down) received: {:?}", self.received()));
            };
            outcomes =
                self.shared.changed.wait_timeout(outcomes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let of = |half| outcomes.get(half).cloned().and_then(Result::ok);
        let halves = of("the server receives").zip(of("the client receives"));
        let (connections, took) = (self.shared.connections.load(Relaxed), self.shared.started.elapsed());
        drop(outcomes);
        match (self.fault(), halves) {
            (None, Some(_)) if connections != 1 => Err(format!("the server had {connections} connections")),
            (None, Some((up, down))) => Ok(Report { up, down, took }),
            (fault, _) => Err(fault.unwrap_or_default()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// The server's end of a connection: the first bytes say which transfer it is.
fn answer(mut stream: TcpStream, transfers: &Mutex<HashMap<u64, Arc<Shared>>>) {
    let mut id = [0; 8];
    let _ = stream.set_read_timeout(Some(SILENCE));
    // A connection that says nothing, as a health check opens it.
    if stream.read_exact(&mut id).is_err() {
        return;
    }
    let id = u64::from_be_bytes(id);
    let known = transfers.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    let Some(shared) = known else {
        println!("the oracle does not know transfer {id}");
        return;
    };
    shared.connections.fetch_add(1, Relaxed);
    halves(stream, &shared, Side::Server);
}

fn halves(stream: TcpStream, shared: &Arc<Shared>, side: Side) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(SILENCE));
    let _ = stream.set_write_timeout(Some(SILENCE));
    let writer = stream.try_clone().expect("a second handle");
    let (shared, again) = (shared.clone(), shared.clone());
    let (sends, receives) = match side {
        Side::Client => ("the client sends", "the client receives"),
        Side::Server => ("the server sends", "the server receives"),
    };
    thread::spawn(move || {
        let outcome = send(&writer, &again, side).map(|()| Received::default());
        again.done(sends, outcome.map_err(|e| e.to_string()));
    });
    thread::spawn(move || {
        let outcome = receive(stream, &shared, side);
        shared.done(receives, outcome);
    });
}

#[cfg(test)]
mod tests {
    use super::{
        pump::{BLOCK, HEAD},
        *,
    };
    use crate::wait_until;
    use std::net::Shutdown;

    const SOON: Duration = Duration::from_secs(30);

    /// Between client and server: what it does to the bytes of each direction.
    fn between(server: SocketAddr, change: impl Fn(&mut Vec<u8>) + Send + Copy + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (client, _) = listener.accept().expect("a client");
            let server = TcpStream::connect(server).expect("the server");
            for (mut from, mut to) in
                [(client.try_clone().expect("handle"), server.try_clone().expect("handle")), (server, client)]
            {
                thread::spawn(move || {
                    let mut bytes = Vec::new();
                    let _ = from.read_to_end(&mut bytes);
                    change(&mut bytes);
                    let _ = to.write_all(&bytes);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        });
        address
    }

    fn moved(change: impl Fn(&mut Vec<u8>) + Send + Copy + 'static) -> Result<Report, String> {
        let oracle = Oracle::start();
        oracle.transfer(between(oracle.address(), change), Plan::bytes(100_000)).outcome(SOON)
    }

    #[test]
    fn what_arrives_whole_is_reported() {
        let report = moved(|_| {}).expect("whole");
        assert_eq!((report.up.bytes, report.down.bytes), (100_000, 100_000));
        let oracle = Oracle::start();
        let direct = oracle.transfer(oracle.address(), Plan::bytes(3 << 20).up_only()).finish(SOON);
        assert_eq!((direct.up.bytes, direct.down.bytes), (3 << 20, 0));
        let open = oracle.transfer(oracle.address(), Plan::until_stopped().rate(1 << 20));
        wait_until("both directions move", SOON, || open.received().0.min(open.received().1) > 50_000);
        assert!(!open.is_over() && open.fault().is_none());
        let report = open.finish(SOON);
        assert!(report.up.bytes > 50_000 && report.longest_stall() > Duration::ZERO, "{report}");
        assert_eq!(oracle.accepted(), 2);
    }

    #[test]
    fn lost_doubled_and_altered_bytes_are_seen() {
        const MESSAGE: usize = HEAD + BLOCK;
        const UP: usize = 8;
        // The client's first eight bytes say which transfer it is; the server's bytes have no such prefix.
        let lost =
            moved(|bytes| drop(bytes.drain(UP + MESSAGE..UP + 2 * MESSAGE))).expect_err("a lost block");
        assert!(lost.contains("lost") || lost.contains("altered"), "{lost}");
        let doubled = moved(|bytes| {
            let block = bytes[UP + MESSAGE..UP + 2 * MESSAGE].to_vec();
            bytes.splice(UP + MESSAGE..UP + MESSAGE, block);
        });
        let doubled = doubled.expect_err("a doubled block");
        assert!(doubled.contains("came again") || doubled.contains("altered"), "{doubled}");
        let altered = moved(|bytes| bytes[50_000] ^= 4).expect_err("an altered byte");
        assert!(altered.contains("altered"), "{altered}");
        let cut = moved(|bytes| bytes.truncate(60_000)).expect_err("an early end");
        assert!(cut.contains("ended in block"), "{cut}");
        let longer = moved(|bytes| bytes.push(0)).expect_err("a byte too many");
        assert!(longer.contains("after the last"), "{longer}");
    }
}
