//! Peers that mean harm, each with a good identity and a policy that lets it dial: one that takes everything and reads nothing, one that
//! floods, one that dies half-way in every handshake; strangers who hold connections open; somebody who tries passwords. Each time memory
//! stays bounded, what was refused is counted, another pair's stream misses no byte, and new dials of others succeed.

use hesper_integration::{
    Oracle, Plan, Process, Stack, StackOptions, Transfer, free_port,
    hostile::{Ask, HostileNode, open_within, renew},
    http, wait_until,
};
use hesper_model::id::Tag;
use hesper_overlay::{cid, knock, transport};
use hesper_proto::control::AttachPoint;
use quinn_proto::{ConnectionId, Endpoint};
use rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::{io::AsyncWriteExt, runtime::Runtime, task::JoinSet};

const PATIENCE: Duration = Stack::PATIENCE;
const MIB: u64 = 1 << 20;
/// What one hostile identity may cost a hosting node: windows of 160 MiB, and what its thousands of streams and handshakes take beside.
const BINDER_BOUND: u64 = 384 * MIB;
/// What it may cost a router, which holds nobody's data: a thousand handshakes, and what one node says.
const ROUTER_BOUND: u64 = 128 * MIB;
/// What strangers may cost a controller or an HTTP proxy: two thousand connections that never become one, and logins beside them, each of
/// which hashes a password in 19 MiB.
const CONTROLLER_BOUND: u64 = 192 * MIB;
/// How long each does its worst.
const WORST: Duration = Duration::from_secs(6);

/// Sessions of the one that reads nothing, and streams that each tries to open.
const SESSIONS: usize = 3;
const STREAMS: usize = 1_500;
/// How long it waits for each: its own connection is soon so full that no answer gets through.
const STREAM_PATIENCE: Duration = Duration::from_secs(5);

/// A pair whose stream must not suffer, and those who would make it.
struct Ground {
    transfer: Option<Transfer>,
    proxy: Process,
    host: Process,
    host_metrics: String,
    mallory: String,
    oracle: Oracle,
    stack: Stack,
}

impl Ground {
    fn new(runtime: &Runtime) -> Self {
        let stack = StackOptions::default().start();
        let oracle = Oracle::start();
        let [host, client, mallory] = ["host", "client", "mallory"].map(|name| stack.enroll(name, &[]));
        stack.publish("oracle", oracle.address(), "@host");
        stack.allow("Dial", "oracle", "@client");
        stack.publish("source", source(runtime), "@host");
        stack.allow("Dial", "source", "@mallory");
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())).to_string();
        let mut host = stack.tunnel("host", &["host", "-i", &host, "--metrics", &metrics]);
        for service in ["oracle", "source"] {
            host.wait_for_line("it hosts", PATIENCE, |l| {
                (l.contains("service bound") && l.contains(service)).then_some(())
            });
        }
        let proxy = stack.tunnel("client", &["proxy", "-i", &client, "oracle:0"]);
        let plan = Plan::until_stopped().rate(MIB);
        let transfer = Some(oracle.transfer(proxy.told("oracle"), plan));
        let host_metrics = format!("http://{metrics}/metrics");
        Self { transfer, proxy, host, host_metrics, mallory, oracle, stack }
    }

    fn memory(&self) -> [u64; 3] {
        [&self.host, self.stack.router_of(0), self.stack.controller()].map(Process::memory)
    }

    /// Bytes flow between the others, and they dial anew.
    #[track_caller]
    fn others_go_on(&self) {
        let transfer = self.transfer.as_ref().expect("a transfer");
        let before = transfer.received();
        wait_until("the others' stream goes on", PATIENCE, || {
            let now = transfer.received();
            transfer.is_over() || (now.0 > before.0 + 100_000 && now.1 > before.1 + 100_000)
        });
        assert_eq!(transfer.fault(), None);
        let via = self.proxy.told("oracle");
        self.oracle.transfer(via, Plan::bytes(100_000)).finish(PATIENCE);
    }

    /// As [`others_go_on`](Self::others_go_on), and memory has not grown beyond its bounds.
    #[track_caller]
    fn unharmed(&self, case: &str, before: [u64; 3]) {
        self.others_go_on();
        let now = self.memory();
        let bounds = [BINDER_BOUND, ROUTER_BOUND, CONTROLLER_BOUND];
        let more = [0, 1, 2].map(|i| now[i].saturating_sub(before[i]));
        println!("{case}: binder, router, controller grew by {:?} MiB", more.map(|bytes| bytes / MIB));
        assert!((0..3).all(|i| more[i] <= bounds[i]), "{case}: {before:?} became {now:?}");
    }

    fn refused(&self, what: &str) -> f64 {
        let page = http::get(&self.host_metrics).expect("metrics").body;
        http::sum(&page, "hesper_node_refused_total", &format!("what=\"{what}\""))
    }
}

/// A server that gives bytes without end to everybody.
fn source(runtime: &Runtime) -> SocketAddr {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let zeros = [0; 16 << 10];
                while stream.write_all(&zeros).await.is_ok() {}
            });
        }
    });
    address
}

#[test]
fn hostile_dialers_hurt_nobody_else() {
    let runtime = Runtime::new().expect("a runtime");
    let mut ground = Ground::new(&runtime);
    ground.others_go_on();
    let before = ground.memory();
    reads_nothing(&runtime, &ground, before);
    floods(&runtime, &ground, before);
    shakes_half_hands(&runtime, &ground, before);
    let report = ground.transfer.take().expect("a transfer").finish(PATIENCE);
    println!("meanwhile: {report}");
}

fn reads_nothing(runtime: &Runtime, ground: &Ground, before: [u64; 3]) {
    let mut held = Vec::new();
    for _ in 0..SESSIONS {
        let (node, streams) = runtime.block_on(async {
            let node = HostileNode::start(&ground.mallory).await;
            let honest = node.grant("source").await;
            let peer = node.connect_by(&honest).await;
            let mut opening = JoinSet::new();
            for _ in 0..STREAMS {
                let (peer, ask) = (peer.clone(), Ask::from(&honest));
                opening.spawn(async move { open_within(&peer, &ask, STREAM_PATIENCE).await });
            }
            let opened = opening.join_all().await;
            (node, opened.into_iter().filter_map(Result::ok).collect::<Vec<_>>())
        });
        println!("a session that reads nothing has {} streams", streams.len());
        assert!(!streams.is_empty());
        held.push((node, streams));
        ground.unharmed("reads nothing", before);
    }
    let _entered = runtime.enter();
    drop(held);
}

fn floods(runtime: &Runtime, ground: &Ground, before: [u64; 3]) {
    let router = ground.stack.router_address_of(0);
    let flood = runtime.block_on(async {
        let node = Arc::new(HostileNode::start(&ground.mallory).await);
        let honest = node.grant("source").await;
        let peer = node.connect_by(&honest).await;
        let mut bad = Ask::from(&honest);
        bad.grant.replace_range(bad.grant.len() - 8.., "AAAAAAAA");
        let mut flood = JoinSet::new();
        for _ in 0..8 {
            let (peer, ask) = (peer.clone(), bad.clone());
            flood.spawn(async move {
                loop {
                    let _ = open_within(&peer, &ask, STREAM_PATIENCE).await;
                    (0..50).for_each(|_| renew(&peer, &ask));
                    // On a lost connection nothing waits, and a task that never gives way cannot be ended.
                    tokio::task::yield_now().await;
                }
            });
            let (node, honest) = (node.clone(), honest.clone());
            flood.spawn(async move {
                loop {
                    let _ = node.show_pass(&honest).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        flood.spawn_blocking(move || {
            let (socket, until) = (UdpSocket::bind("127.0.0.1:0").expect("a port"), Instant::now() + WORST);
            let junk = [0x40; 1_200];
            while Instant::now() < until {
                let _ = socket.send_to(&junk, router);
            }
        });
        flood
    });
    let until = Instant::now() + WORST;
    while Instant::now() < until {
        ground.unharmed("floods", before);
    }
    let [dials, renewals] = ["dial", "renewal"].map(|what| ground.refused(what));
    let junk = ground.stack.router_of(0).metric("hesper_router_packets_dropped_total", "").expect("metrics");
    println!("flooded: {dials} dials, {renewals} renewals, {junk} packets were refused");
    runtime.block_on(async move { { flood }.shutdown().await });
    wait_until("what was refused is counted", PATIENCE, || {
        ground.refused("dial") > 10.0 && ground.refused("renewal") > 10.0
    });
    assert!(junk > 1_000.0, "{junk}");
    // For each of them a line would fill the disk.
    let lines = ground.host.lines().iter().filter(|line| line.contains(" rejected")).count();
    assert!(lines < 200, "{lines} lines about what was rejected");
}

/// The first packet of a handshake with a router that nobody will go on with.
fn first_packet(router: &AttachPoint, own: Tag, nonce: u16) -> Vec<u8> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let (key_id, key) = (&router.knock_key_id[..], &router.knock_key[..]);
    let knock = knock::make(key_id.try_into().expect("an id"), key.try_into().expect("a key"), now, nonce);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let tls = tls.with_protocol_versions(&[&TLS13]).expect("TLS 1.3");
    let mut tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    tls.alpn_protocols = vec![b"hq".to_vec()];
    assert_eq!(knock.len(), cid::KNOCK_LEN);
    let config =
        transport::client_config(tls, transport::attach_transport(), move || ConnectionId::new(&knock));
    let mut endpoint = Endpoint::new(Arc::new(transport::endpoint_config(own)), None, true, None);
    let (now, there) = (Instant::now(), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let connection = endpoint.connect(now, config.expect("a QUIC suite"), there, "hesper");
    let mut packet = Vec::new();
    let transmit = connection.expect("a connection").1.poll_transmit(now, 1, &mut packet).expect("a packet");
    packet.truncate(transmit.size);
    packet
}

fn shakes_half_hands(runtime: &Runtime, ground: &Ground, before: [u64; 3]) {
    let (node, honest, mut peers) = runtime.block_on(async {
        let node = Arc::new(HostileNode::start(&ground.mallory).await);
        let honest = node.grant("source").await;
        node.show_pass(&honest).await.expect("an open pair");
        (node, honest, JoinSet::new())
    });
    // With the hosting node: begun in the belief to speak with somebody else, and given up for that reason, again and again.
    let binder = Tag::from_slice(&honest.binder_tag).expect("a tag");
    for n in 0..8 {
        let node = node.clone();
        peers.spawn_on(
            async move {
                while node.connect(&format!("nobody-{n}"), binder).await.is_err() {
                    tokio::task::yield_now().await;
                }
                panic!("the hosting node is not who it is");
            },
            runtime.handle(),
        );
    }
    let (done, point, own, to) =
        (AtomicBool::new(false), &node.routers()[0], node.tag(), ground.stack.router_address_of(0));
    let begun = thread::scope(|scope| {
        // With the router: a good knock, a good first packet, and then not another word.
        let shaking = scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            let mut count = 0u16;
            while !done.load(Relaxed) {
                socket.send_to(&first_packet(point, own, count), to).expect("sent");
                count = count.wrapping_add(1);
            }
            count
        });
        let until = Instant::now() + 2 * WORST;
        while Instant::now() < until {
            ground.unharmed("half handshakes", before);
        }
        // Somebody who was not there before finds the doors open.
        let newcomer = ground.stack.enroll("newcomer", &[]);
        ground.stack.cli(["update", "service-policy", "oracle.dial", "--identity-roles", "#all"]).ok();
        let proxy = ground.stack.tunnel("newcomer", &["proxy", "-i", &newcomer, "oracle:0"]);
        ground.oracle.transfer(proxy.told("oracle"), Plan::bytes(100_000)).finish(PATIENCE);
        done.store(true, Relaxed);
        shaking.join().expect("handshakes")
    });
    let router = ground.stack.router_of(0);
    let count = |name, labels| router.metric(name, labels).expect("metrics");
    let late = count("hesper_router_attaches_total", "outcome=\"timeout\"");
    let unheard = count("hesper_router_packets_dropped_total", "reason=\"knock_too_many\"");
    let with_node = ground.refused("unfinished_handshake");
    println!("{begun} half handshakes with the router: {late} begun, {unheard} beyond what a session may");
    println!("{with_node} half handshakes with the hosting node");
    assert!(late > 10.0 && unheard > 100.0 && with_node > 10.0);
    runtime.block_on(peers.shutdown());
}

/// Connections that begin to say something and never get on with it. Those that the other side ends are made again until dropped.
struct SlowLoris {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl SlowLoris {
    fn start(to: SocketAddr, connections: usize, words: &'static [u8]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut open: Vec<TcpStream> = Vec::new();
            while !stopped.load(Relaxed) {
                open.retain(|mut stream| {
                    !matches!(stream.read(&mut [0; 64]), Ok(0))
                        && !matches!(stream.take_error(), Ok(Some(_)) | Err(_))
                });
                while open.len() < connections && !stopped.load(Relaxed) {
                    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) else {
                        break;
                    };
                    let _ = stream.write_all(words);
                    stream.set_nonblocking(true).expect("an option");
                    open.push(stream);
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for SlowLoris {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// A web server with one page.
fn page() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nhi\n");
        }
    });
    address
}

#[test]
fn those_who_hold_connections_open_shut_nobody_out() {
    let stack = StackOptions::default().start();
    let [host, run] = ["host", "run"].map(|name| stack.enroll(name, &[]));
    stack.publish("page", page(), "@host");
    stack.allow("Dial", "page", "@run");
    let _host = stack.tunnel("host", &["host", "-i", &host]);
    let run = stack.tunnel("run", &["run", "-i", &run, "--proxy", "127.0.0.1:0"]);
    let proxy = format!("http://{}", run.told("proxy"));
    let reads = || http::curl(None, &["-x", &proxy, "http://page/"]).is_ok_and(|page| page.body == "hi\n");
    wait_until("the page is read", PATIENCE, reads);
    let (controller, tunneler) = (stack.controller().memory(), run.memory());

    let at_proxy = SlowLoris::start(run.told("proxy"), 2_000, b"GET http://page/ HTTP/1.1\r\nHost: pa");
    let address: SocketAddr = stack.controller_address().parse().expect("an address");
    // The first bytes of a ClientHello, more of them than handshakes at once; and of those who say nothing at all.
    let at_controller = SlowLoris::start(address, 1_500, &[0x16, 3, 1, 2, 0, 1, 0]);
    let until = Instant::now() + WORST;
    let mut logins = 0;
    while Instant::now() < until || logins < 2 {
        stack.login();
        logins += 1;
        assert!(reads(), "through the proxy");
    }
    let newcomer = stack.enroll("newcomer", &[]);
    let _newcomer = stack.tunnel("newcomer", &["host", "-i", &newcomer]);
    let more = [stack.controller().memory() - controller, run.memory().saturating_sub(tunneler)];
    println!("slow loris: controller and tunneler grew by {:?} MiB; {logins} logins", more.map(|b| b / MIB));
    assert!(more.iter().all(|bytes| *bytes <= CONTROLLER_BOUND), "{more:?}");
    let page = http::curl(None, &["-k", &format!("https://{address}/metrics")]).expect("metrics").body;
    let given_up = http::sum(&page, "hesper_controller_connections_refused_total", "handshake");
    assert!(given_up > 100.0, "{given_up} handshakes given up:\n{page}");
    drop((at_proxy, at_controller));
}

#[test]
fn passwords_are_tried_slowly_and_only_by_who_tries_them() {
    let stack = StackOptions::default().start();
    let login = |from: &str, user: &str, password: &str| {
        let url =
            format!("https://{}/edge/management/v1/authenticate?method=password", stack.controller_address());
        let body = format!(r#"{{"username":"{user}","password":"{password}"}}"#);
        let arguments =
            ["-k", "--interface", from, "-H", "content-type: application/json", "-d", &body, &url];
        http::curl(None, &arguments).expect("an answer")
    };
    let (here, there) = ("127.0.0.1", "127.0.0.2");
    let mut refused = 0;
    let throttled = loop {
        let answer = login(there, "admin", "guess");
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 401, "{}", answer.body);
        refused += 1;
        assert!(refused < 20, "nobody slows it down");
    };
    let wait: u64 = throttled.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    // Not even the right password helps who tries too fast.
    assert_eq!(login(there, "admin", Stack::PASSWORD).status, 429);
    // The same user elsewhere, and another user there, are not kept waiting.
    assert_eq!(login(here, "admin", Stack::PASSWORD).status, 200);
    assert_eq!(login(there, "somebody", "guess").status, 401);
    wait_until("the wait is over", PATIENCE, || login(there, "admin", Stack::PASSWORD).status == 200);
    // All names together: there is an end to the guesses of one address, and other addresses do not notice.
    let last = (0..40).map(|n| login(there, &format!("user{n}"), "guess").status).find(|s| *s == 429);
    assert_eq!(last, Some(429));
    assert_eq!(login(here, "admin", Stack::PASSWORD).status, 200);
}
