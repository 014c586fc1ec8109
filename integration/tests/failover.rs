//! Two routers, killed, drained, frozen and turned bad in every way while streams are in the middle of something: a stream sees a pause,
//! never a lost byte and never a reset, and whoever dials meanwhile gets through.
//!
//! `HESPER_FAILOVER_BYTES=1000000000` moves 1 GB instead of what an unoptimised build moves in a minute.

use hesper_integration::{Oracle, Plan, Process, Report, Stack, StackOptions, Tamper, Transfer, wait_until};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Bytes moved while routers are killed, both directions together.
const BYTES: u64 = 256 << 20;
/// Pause between two kills.
const PACE: Duration = Duration::from_secs(3);
/// How long both nodes are without any router: more than one question about the peer goes unanswered meanwhile.
const OUTAGE: Duration = Duration::from_secs(5);
/// Kills at least, however fast the bytes are moved: each router twice, one of them without a controller.
const KILLS: usize = 4;
/// What the transfer that measures stalls moves.
const RATE: u64 = 1 << 20;
/// What one exchange says.
const WORD: [u8; 64] = *b"a question as long as its own answer is, and nothing may be lost";
/// An exchange that takes longer has failed.
const TOO_LONG: Duration = Duration::from_secs(30);

/// Two routers, a hosting and a dialing node, an oracle and a server that sends back what it gets.
struct Mesh {
    oracle: Oracle,
    nodes: [Process; 2],
    stack: Stack,
}

impl Mesh {
    fn start(options: StackOptions) -> Self {
        let (stack, oracle) = (options.routers(2).start(), Oracle::start());
        let files = ["host", "client"].map(|name| stack.enroll(name, &[]));
        for (service, target) in [("oracle", oracle.address()), ("echo", start_echo())] {
            stack.publish(service, target, "@host");
            stack.allow("Dial", service, "@client");
        }
        let host = stack.tunnel("host", &["host", "-i", &files[0]]);
        let client = stack.tunnel("client", &["proxy", "-i", &files[1], "oracle:0", "echo:0"]);
        let mesh = Self { oracle, nodes: [host, client], stack };
        wait_until("both services are hosted", Stack::PATIENCE, || mesh.said(0, "service bound") >= 2);
        for router in 0..2 {
            mesh.attached(router, [0, 0]);
        }
        mesh
    }

    /// How many lines of a node contain this.
    fn said(&self, node: usize, part: &str) -> usize {
        self.nodes[node].lines().iter().filter(|line| line.contains(part)).count()
    }

    /// How often each node has attached to this router.
    fn attachments(&self, router: usize) -> [usize; 2] {
        let name = format!(" attached router={}", self.stack.router_name(router));
        [0, 1].map(|node| self.nodes[node].lines().iter().filter(|line| plain(line).ends_with(&name)).count())
    }

    /// Waits until both nodes have attached to this router once more.
    #[track_caller]
    fn attached(&self, router: usize, before: [usize; 2]) {
        wait_until("both nodes are attached", Stack::PATIENCE, || {
            let now = self.attachments(router);
            now[0] > before[0] && now[1] > before[1]
        });
    }

    fn transfer(&self, plan: Plan) -> Transfer {
        self.oracle.transfer(self.nodes[1].told("oracle"), plan)
    }

    fn chatter(&self) -> Chatter {
        Chatter::start(self.nodes[1].told("echo"))
    }
}

/// Without colours.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// Waits until a transfer has moved so many more bytes both ways.
#[track_caller]
fn moves(transfer: &Transfer, bytes: u64) {
    let before = transfer.received();
    wait_until("bytes flow both ways", Stack::PATIENCE, || {
        let now = transfer.received();
        transfer.is_over() || (now.0 > before.0 + bytes && now.1 > before.1 + bytes)
    });
    assert_eq!(transfer.fault(), None);
}

fn start_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut buf = [0; WORD.len()];
                while let Ok(count @ 1..) = stream.read(&mut buf) {
                    if stream.write_all(&buf[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Questions and answers over one open stream, and streams that are opened for one question each. None may fail.
struct Chatter {
    stop: Arc<AtomicBool>,
    threads: [thread::JoinHandle<Result<Said, String>>; 2],
}

#[derive(Debug, Default)]
struct Said {
    exchanges: u32,
    longest: Duration,
}

impl Chatter {
    fn start(echo: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [false, true].map(|anew| {
            let stop = stop.clone();
            thread::spawn(move || chat(echo, anew, &stop))
        });
        Self { stop, threads }
    }

    /// What was said; fails the test when a question had no answer.
    #[track_caller]
    fn finish(self) {
        self.stop.store(true, Relaxed);
        let [open, new] =
            self.threads.map(|t| t.join().expect("it ends").expect("every question is answered"));
        assert!(open.exchanges > 0 && new.exchanges > 0);
        println!(
            "  {} exchanges on an open stream, the longest {:.2?}; {} on a new stream each, the longest {:.2?}",
            open.exchanges, open.longest, new.exchanges, new.longest
        );
    }
}

fn chat(echo: SocketAddr, anew: bool, stop: &AtomicBool) -> Result<Said, String> {
    let begun = Instant::now();
    let mut said = Said::default();
    let mut stream = connect(echo)?;
    while !stop.load(Relaxed) {
        let asked = Instant::now();
        if anew {
            stream = connect(echo)?;
        }
        let mut answer = [0; WORD.len()];
        let outcome = stream.write_all(&WORD).and_then(|()| stream.read_exact(&mut answer));
        let number = said.exchanges;
        outcome.map_err(|e| {
            format!(
                "exchange {number} (new stream: {anew}), asked at {:.2?}, failed after {:.2?}: {e}",
                asked - begun,
                asked.elapsed()
            )
        })?;
        if answer != WORD {
            return Err(format!("exchange {number} (new stream: {anew}) has a wrong answer"));
        }
        said.exchanges += 1;
        said.longest = said.longest.max(asked.elapsed());
        // A pace at which the machine's cores are left to what is tested.
        thread::sleep(Duration::from_millis(20));
    }
    Ok(said)
}

fn connect(echo: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(echo).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(TOO_LONG)).map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}

fn tell(what: &str, report: &Report) {
    let rate = (report.up.bytes + report.down.bytes) as f64 / report.took.as_secs_f64() / 1e6;
    println!("  {what}: {report}; {rate:.1} MB/s");
}

#[test]
fn routers_killed_in_turn_cost_no_byte_and_no_dial() {
    let mut mesh = Mesh::start(StackOptions::default());
    let bulk = mesh.transfer(Plan::bytes_or_asked(BYTES).seed(1));
    let light = mesh.transfer(Plan::until_stopped().rate(RATE).seed(2));
    let chatter = mesh.chatter();
    let (begun, mut kills) = (Instant::now(), 0);
    while kills < KILLS || !bulk.is_over() {
        let router = kills % 2;
        // As long as the controller is away, a router that comes back learns nothing: then it stays away for as long.
        let alone = kills == 2;
        if alone {
            mesh.stack.kill_controller();
        }
        let attachments = mesh.attachments(router);
        mesh.stack.kill_router_of(router);
        let next = Instant::now() + PACE;
        if alone {
            moves(&light, RATE);
            mesh.stack.start_controller();
        }
        mesh.stack.start_router_of(router);
        mesh.attached(router, attachments);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        kills += 1;
        assert_eq!((bulk.fault(), light.fault()), (None, None), "after {kills} kills");
    }
    println!("{kills} kills in {:.1?}, the third without a controller", begun.elapsed());
    chatter.finish();
    tell("bulk", &bulk.finish(Stack::PATIENCE));
    tell("light", &light.finish(Stack::PATIENCE));
}

#[test]
fn a_drained_router_is_left_without_a_stall() {
    let mut mesh = Mesh::start(StackOptions::default());
    let light = mesh.transfer(Plan::until_stopped().rate(4 * RATE));
    let chatter = mesh.chatter();
    for router in [0, 1, 0, 1] {
        moves(&light, RATE);
        let (attachments, begun) = (mesh.attachments(router), Instant::now());
        let status = mesh.stack.terminate_router_of(router);
        println!("router {router} drained in {:.2?}", begun.elapsed());
        assert_eq!(status.code(), Some(0));
        mesh.stack.start_router_of(router);
        mesh.attached(router, attachments);
    }
    chatter.finish();
    tell("4 drains", &light.finish(Stack::PATIENCE));
}

#[test]
fn routers_that_swallow_or_stand_still_are_left() {
    let mesh = Mesh::start(StackOptions::default().linked());
    let chatter = mesh.chatter();
    // The router by which most goes.
    let carrying = |transfer: &Transfer| {
        let count = |r| mesh.stack.link_of(r).counters().to_router.delivered_bytes;
        let before = [0, 1].map(count);
        moves(transfer, RATE);
        usize::from(count(1) - before[1] > count(0) - before[0])
    };
    for kind in ["swallows data and answers pings", "stands still", "swallows data and answers pings"] {
        let transfer = mesh.transfer(Plan::until_stopped().rate(2 * RATE));
        let router = carrying(&transfer);
        if kind == "stands still" {
            mesh.stack.router_of(router).freeze();
        } else {
            mesh.stack.link_of(router).tamper(Tamper::black_hole_data());
        }
        moves(&transfer, 4 * RATE);
        if kind == "stands still" {
            mesh.stack.router_of(router).thaw();
        } else {
            assert_ne!(carrying(&transfer), router, "it is left");
            mesh.stack.link_of(router).honest();
        }
        moves(&transfer, RATE);
        tell(&format!("router {router} {kind}"), &transfer.finish(Stack::PATIENCE));
    }
    chatter.finish();
}

#[test]
fn without_any_router_streams_wait_and_go_on() {
    let mut mesh = Mesh::start(StackOptions::default());
    let (bulk, light) =
        (mesh.transfer(Plan::until_stopped()), mesh.transfer(Plan::until_stopped().rate(RATE)));
    moves(&bulk, RATE);
    let attachments = [0, 1].map(|router| mesh.attachments(router));
    let detached = [0, 1].map(|node| mesh.said(node, " detached"));
    (0..2).for_each(|router| mesh.stack.kill_router_of(router));
    wait_until("both nodes are without any router", Stack::PATIENCE, || {
        (0..2).all(|node| mesh.said(node, " detached") >= detached[node] + 2)
    });
    // Not a wait for anything: the streams' patience is what is tested.
    thread::sleep(OUTAGE);
    let back = Instant::now();
    (0..2).for_each(|router| mesh.stack.start_router_of(router));
    moves(&light, RATE / 8);
    println!("bytes flow {:.2?} after the first router was started", back.elapsed());
    (0..2).for_each(|router| mesh.attached(router, attachments[router]));
    moves(&bulk, RATE);
    tell("bulk", &bulk.finish(Stack::PATIENCE));
    tell("light", &light.finish(Stack::PATIENCE));
}
