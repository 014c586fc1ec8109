//! Whoever dies, freezes or cannot be heard any more is found out: the programs at both ends of its streams see a reset, never a clean end
//! and never silence for long. Those who had nothing to do with it miss no byte.

use hesper_integration::{
    Oracle, Packet, Plan, Process, Stack, StackOptions, Transfer, Way, sockets, wait_for, wait_until,
};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Far less than the 30 s after which QUIC itself gives up.
const RESTARTED: Duration = Duration::from_secs(8);
const FROZEN: Duration = Duration::from_secs(20);
/// QUIC's own patience, where nothing better can be known.
const SILENT: Duration = Duration::from_secs(45);

/// More than what may be under way.
const FLOWS: u64 = 512 << 10;

/// How and when a program saw its connection end: whether by a reset.
type End = (Instant, Result<(), String>);

/// Ends that programs saw, in the order of their connections.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<Option<End>>>>);

impl Ends {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<End>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection begins; where its end belongs.
    fn begin(&self) -> usize {
        let mut ends = self.lock();
        ends.push(None);
        ends.len() - 1
    }

    fn end(&self, number: usize, how: &io::Result<()>) {
        let how = match how {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(()) => Err("a clean end".to_owned()),
        };
        self.lock()[number] = Some((Instant::now(), how));
    }

    fn open(&self) -> usize {
        self.lock().iter().filter(|end| end.is_none()).count()
    }

    /// Waits until all have ended by a reset; how long after `since`, each.
    #[track_caller]
    fn all(&self, who: &str, since: Instant, within: Duration) -> Vec<Duration> {
        wait_until(&format!("all streams have ended for {who}"), within, || self.open() == 0);
        let ends: Vec<_> = self.lock().drain(..).flatten().collect();
        let faults: Vec<_> = ends.iter().filter_map(|(_, how)| how.as_ref().err()).collect();
        assert!(faults.is_empty(), "{who} saw no reset but: {faults:?}");
        ends.iter().map(|(at, _)| at.saturating_duration_since(since)).collect()
    }
}

/// A program that gives back what it is sent.
struct Target {
    address: SocketAddr,
    ends: Ends,
}

impl Target {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, ends) = (listener.local_addr().expect("an address"), Ends::default());
        let seen = ends.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, number) = (seen.clone(), seen.begin());
                thread::spawn(move || seen.end(number, &echo(stream)));
            }
        });
        Self { address, ends }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        match stream.read(&mut buf)? {
            0 => return Ok(()),
            len => stream.write_all(&buf[..len])?,
        }
    }
}

fn hello(stream: &mut TcpStream) -> io::Result<()> {
    let mut back = [0; 1024];
    stream.write_all(&back)?;
    stream.read_exact(&mut back).map_err(|error| match error.kind() {
        // Not an error of the socket: it ended.
        ErrorKind::UnexpectedEof => io::Error::other("a clean end"),
        _ => error,
    })
}

/// A pair of nodes and the programs they serve.
struct Pair {
    service: String,
    identities: [String; 2],
    host: Option<Process>,
    proxy: Option<Process>,
    target: Target,
    /// Of the dialing side's programs.
    ends: Ends,
}

impl Pair {
    fn start(stack: &Stack, service: &str) -> Self {
        let target = Target::start();
        let names = ["host", "client"].map(|role| format!("{service}-{role}"));
        let identities = names.each_ref().map(|name| stack.enroll(name, &[]));
        stack.publish(service, target.address, &format!("@{}", names[0]));
        stack.allow("Dial", service, &format!("@{}", names[1]));
        let ends = Ends::default();
        let mut pair =
            Self { service: service.to_owned(), identities, host: None, proxy: None, target, ends };
        pair.start_host(stack);
        pair.start_proxy(stack);
        pair.works();
        pair
    }

    fn start_host(&mut self, stack: &Stack) {
        self.host = Some(stack.tunnel("host", &["host", "-i", &self.identities[0]]));
    }

    fn start_proxy(&mut self, stack: &Stack) {
        let spec = format!("{}:0", self.service);
        self.proxy = Some(stack.tunnel("proxy", &["proxy", "-i", &self.identities[1], &spec]));
    }

    fn host(&self) -> &Process {
        self.host.as_ref().expect("running")
    }

    fn proxy(&self) -> &Process {
        self.proxy.as_ref().expect("running")
    }

    fn dial(&self) -> Result<TcpStream, String> {
        let dial = || {
            let mut stream = TcpStream::connect(self.proxy().told(&self.service))?;
            stream.set_read_timeout(Some(RESTARTED))?;
            hello(&mut stream)?;
            stream.set_read_timeout(None)?;
            Ok(stream)
        };
        dial().map_err(|error: io::Error| error.to_string())
    }

    /// Waits until a stream opens and carries something; then nothing of it or of attempts before is left.
    #[track_caller]
    fn works(&self) {
        drop(wait_for("a stream opens", Stack::PATIENCE, || self.dial()));
        self.forget();
    }

    /// Waits until the target has no connections any more, however they ended.
    #[track_caller]
    fn forget(&self) {
        wait_until("the target has seen the end", Stack::PATIENCE, || self.target.ends.open() == 0);
        self.target.ends.lock().clear();
        self.ends.lock().clear();
    }

    /// Opens two streams: over one nothing moves, over the other always something.
    #[track_caller]
    fn open_streams(&self) {
        for busy in [false, true] {
            let mut stream = self.dial().expect("it worked a moment ago");
            let (ends, number) = (self.ends.clone(), self.ends.begin());
            thread::spawn(move || {
                let mut talk = || {
                    if !busy {
                        return stream.read_exact(&mut [0]);
                    }
                    loop {
                        hello(&mut stream)?;
                        thread::sleep(Duration::from_millis(5));
                    }
                };
                ends.end(number, &talk());
            });
        }
    }

    /// Both sides' programs see resets.
    #[track_caller]
    fn all_end(&self, what: &str, since: Instant, within: Duration) {
        self.dialers_end(what, since, within);
        self.targets_end(what, since, within);
    }

    #[track_caller]
    fn dialers_end(&self, what: &str, since: Instant, within: Duration) {
        println!(
            "{what}: dialing programs after {:.2?} (idle, busy)",
            self.ends.all("dialers", since, within)
        );
    }

    #[track_caller]
    fn targets_end(&self, what: &str, since: Instant, within: Duration) {
        println!("{what}: targets after {:.2?} (idle, busy)", self.target.ends.all("targets", since, within));
    }
}

/// A second pair of nodes with traffic that must not notice anything.
struct Unconcerned {
    transfer: Transfer,
    nodes: [Process; 2],
    _oracle: Oracle,
}

impl Unconcerned {
    fn start(stack: &Stack) -> Self {
        let oracle = Oracle::start();
        let (host, client) = (stack.enroll("server", &[]), stack.enroll("browser", &[]));
        stack.publish("calm", oracle.address(), "@server");
        stack.allow("Dial", "calm", "@browser");
        let mut host = stack.tunnel("server", &["host", "-i", &host]);
        host.wait_for_line("it hosts", Stack::PATIENCE, |l| l.contains("service bound").then_some(()));
        let proxy = stack.tunnel("browser", &["proxy", "-i", &client, "calm:0"]);
        let transfer = oracle.transfer(proxy.told("calm"), Plan::until_stopped().rate(256 << 10));
        Self { transfer, nodes: [host, proxy], _oracle: oracle }
    }

    /// Waits until bytes flow both ways, or it is over.
    fn flows(&self) {
        let before = self.transfer.received();
        wait_until("bytes flow both ways", Stack::PATIENCE, || {
            let now = self.transfer.received();
            self.transfer.is_over() || (now.0 > before.0 + FLOWS && now.1 > before.1 + FLOWS)
        });
    }

    #[track_caller]
    fn finish(self) {
        println!("the unconcerned: {}", self.transfer.finish(Stack::PATIENCE));
    }
}

#[test]
fn a_killed_node_is_soon_missed_and_sooner_when_it_comes_back() {
    let stack = StackOptions::default().routers(2).start();
    let (mut pair, unconcerned) = (Pair::start(&stack, "echo"), Unconcerned::start(&stack));

    pair.open_streams();
    pair.host = None;
    pair.targets_end("host killed", Instant::now(), RESTARTED);
    pair.start_host(&stack);
    pair.dialers_end("host started again", Instant::now(), RESTARTED);
    pair.works();

    pair.open_streams();
    let killed = Instant::now();
    pair.host = None;
    pair.all_end("host killed for good", killed, FROZEN);
    pair.start_host(&stack);
    pair.works();

    pair.open_streams();
    let killed = Instant::now();
    pair.proxy = None;
    pair.all_end("dialer killed", killed, FROZEN);
    pair.start_proxy(&stack);
    pair.works();
    unconcerned.finish();
}

#[test]
fn a_frozen_node_is_given_up_and_welcome_again() {
    let stack = StackOptions::default().routers(2).start();
    let (pair, unconcerned) = (Pair::start(&stack, "echo"), Unconcerned::start(&stack));

    pair.open_streams();
    let frozen = Instant::now();
    pair.host().freeze();
    pair.dialers_end("host frozen", frozen, FROZEN);
    let thawed = Instant::now();
    pair.host().thaw();
    pair.targets_end("host thawed", thawed, FROZEN);
    pair.works();

    pair.open_streams();
    let frozen = Instant::now();
    pair.proxy().freeze();
    pair.targets_end("dialer frozen", frozen, FROZEN);
    let thawed = Instant::now();
    pair.proxy().thaw();
    pair.dialers_end("dialer thawed", thawed, FROZEN);
    pair.works();
    unconcerned.finish();
}

/// By which numbers a link knows this node.
fn clients_of(stack: &Stack, index: usize, node: &Process) -> Vec<usize> {
    let own: Vec<_> = sockets::of_process(node.pid()).iter().map(|socket| socket.local.port()).collect();
    let clients = stack.link_of(index).clients();
    let numbers = (0..clients.len()).filter(|number| own.contains(&clients[*number].port()));
    let numbers: Vec<_> = numbers.collect();
    assert!(!numbers.is_empty(), "the node does not use link {index}");
    numbers
}

/// Nothing of this node passes the link that way any more.
fn silence(stack: &Stack, node: &Process, silenced: Way) {
    for index in 0..stack.router_count() {
        let (concerned, known) = (clients_of(stack, index, node), stack.link_of(index).clients().len());
        stack.link_of(index).tamper(move |packet: Packet, out| {
            // It may try again from another port.
            let its = concerned.contains(&packet.client) || packet.client >= known;
            if packet.way != silenced || !its {
                out.push(packet);
            }
        });
    }
}

/// A router loses what is for this node, of all that nodes say to each other, and nothing else.
fn lose_what_is_for(stack: &Stack, index: usize, node: &Process) {
    let concerned = clients_of(stack, index, node);
    stack.link_of(index).tamper(move |packet: Packet, out| {
        let to = out.client_named_by(&packet).filter(|_| packet.way == Way::ToRouter);
        if to.is_none_or(|to| !concerned.contains(&to)) {
            out.push(packet);
        }
    });
}

#[test]
fn a_router_that_carries_one_way_only_is_left() {
    let stack = StackOptions::default().routers(2).linked().start();
    let unconcerned = Unconcerned::start(&stack);
    let [host, proxy] = &unconcerned.nodes;
    for (index, node) in [(0, host), (1, host), (0, proxy), (1, proxy)] {
        unconcerned.flows();
        lose_what_is_for(&stack, index, node);
        unconcerned.flows();
        stack.link_of(index).honest();
    }
    unconcerned.finish();
}

#[test]
fn a_node_that_hears_and_is_not_heard_is_given_up_or_the_other_way_round() {
    let stack = StackOptions::default().routers(2).linked().start();
    let (pair, unconcerned) = (Pair::start(&stack, "echo"), Unconcerned::start(&stack));
    for (what, way) in [("host is not heard", Way::ToRouter), ("host hears nothing", Way::ToClient)] {
        pair.open_streams();
        let silenced = Instant::now();
        silence(&stack, pair.host(), way);
        pair.dialers_end(what, silenced, FROZEN);
        // The host cannot know whether it is alone or all others are gone, until it is back.
        (0..stack.router_count()).for_each(|index| stack.link_of(index).honest());
        pair.targets_end(what, silenced, SILENT);
        pair.works();
    }
    unconcerned.finish();
}
