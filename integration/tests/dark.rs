//! Nothing to be seen from outside: each node is alone in a network of its own, and neither it nor the router answers strangers.

use hesper_integration::{
    Lan, Netns, NodeExporter, Place, Process, Stack, http,
    sockets::{self, Protocol, Socket},
    wait_until,
};
use quinn_proto::{ClientConfig, Endpoint, EndpointConfig, crypto::rustls::QuicClientConfig};
use rustls::{ClientConfig as Tls, RootCertStore, crypto::ring, version::TLS13};
use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long nothing may come back after the last probe was read: an open QUIC server answers each at once.
const SILENCE: Duration = Duration::from_secs(1);
/// Smallest packet that a QUIC server answers to a stranger (RFC 9000, 14.1).
const INITIAL_LEN: usize = 1_200;

/// Bytes that nobody can foresee; no need for more than that.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut random = std::fs::File::open("/dev/urandom").expect("random bytes");
    std::io::Read::read_exact(&mut random, &mut bytes).expect("random bytes");
    bytes
}

/// A long header (RFC 9000, 17.2) of this version, then noise.
fn long_header(first: u8, version: u32) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(version.to_be_bytes());
    for _ in 0..2 {
        packet.push(8);
        packet.extend(noise(8));
    }
    packet.extend(noise(INITIAL_LEN - packet.len()));
    packet
}

/// What any QUIC client sends first: well formed, encrypted, with our own ALPN.
fn initial() -> Vec<u8> {
    let tls =
        Tls::builder_with_provider(Arc::new(ring::default_provider())).with_protocol_versions(&[&TLS13]);
    let mut tls = tls.expect("TLS 1.3").with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    tls.alpn_protocols = vec![b"hq".to_vec()];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a QUIC suite")));
    let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
    let (now, there) = (Instant::now(), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let (_, mut connection) = endpoint.connect(now, config, there, "hesper").expect("a connection");
    let mut packet = Vec::new();
    let transmit = connection.poll_transmit(now, 1, &mut packet).expect("a packet");
    assert!(transmit.size >= INITIAL_LEN && packet[1..5] == [0, 0, 0, 1]);
    packet
}

/// What strangers send: each draws an answer from some open server.
fn probes() -> Vec<Vec<u8>> {
    vec![
        initial(),
        long_header(0xc3, 1),
        // Draws a Version Negotiation (RFC 9000, 6).
        long_header(0xc0, 0x1a2a_3a4a),
        long_header(0x80, 0),
        // Draws a Stateless Reset (RFC 9000, 10.3).
        [&[0x40][..], &noise(99)].concat(),
        noise(INITIAL_LEN),
        noise(1),
        Vec::new(),
    ]
}

/// Datagrams that arrived in a network, read by somebody or not.
fn datagrams(netns: &Netns) -> u64 {
    let snmp = netns.run(["cat", "/proc/net/snmp"]).stdout;
    let mut udp = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let names = udp.next().expect("names").split_whitespace();
    let counted = names.zip(udp.next().expect("values").split_whitespace());
    let arrived = counted.filter(|(name, _)| ["InDatagrams", "NoPorts", "InErrors"].contains(name));
    arrived.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

/// Sends every probe from one network to a port in another: all arrive, no byte comes back.
#[track_caller]
fn assert_silent(from: &Netns, netns: &Netns, port: SocketAddr) {
    let before = datagrams(netns);
    let socket = from.inside(|| UdpSocket::bind("0.0.0.0:0").expect("bind"));
    let probes = probes();
    for probe in &probes {
        assert_eq!(socket.send_to(probe, port).expect("send"), probe.len());
    }
    wait_until("the probes have arrived", Stack::PATIENCE, || {
        datagrams(netns) >= before + probes.len() as u64
    });
    socket.set_read_timeout(Some(SILENCE)).expect("a socket option");
    match socket.recv_from(&mut [0; 2048]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        other => panic!("{port} answered a stranger: {other:?}"),
    }
}

/// A network with one node in it.
struct Machine {
    netns: Netns,
    address: Ipv4Addr,
    place: Place,
}

impl Machine {
    fn new(lan: &Lan, name: &str) -> Self {
        let (netns, address) = lan.host(name);
        let place = Place::namespace(&netns, address);
        Self { netns, address, place }
    }

    /// Nothing of the node listens for others, and its UDP ports answer none of them.
    #[track_caller]
    fn assert_dark(&self, node: &Process, router: &Netns) {
        let reachable: Vec<_> =
            sockets::of_namespace(&self.netns).into_iter().filter(Socket::listens_outside_loopback).collect();
        assert!(reachable.is_empty(), "{reachable:?}");
        let udp: Vec<_> = sockets::of_process(node.pid())
            .into_iter()
            .filter(|socket| socket.protocol == Protocol::Udp)
            .collect();
        assert!(!udp.is_empty(), "it has no way to the router");
        for socket in udp {
            assert_silent(router, &self.netns, SocketAddr::from((self.address, socket.local.port())));
        }
    }
}

fn tcp_listening(process: &Process) -> Vec<SocketAddr> {
    let all = sockets::of_process(process.pid()).into_iter();
    all.filter(|socket| socket.protocol == Protocol::Tcp && socket.open).map(|socket| socket.local).collect()
}

/// A scrape through the HTTP proxy of `tunnel run`.
fn scrape(netns: &Netns, run: &Process, host: &str) -> Result<String, String> {
    let (proxy, url) = (format!("http://{}", run.told("proxy")), format!("http://{host}/metrics"));
    let answer = http::curl(Some(netns), &["-x", &proxy, &url])?;
    if answer.status == 200 { Ok(answer.body) } else { Err(format!("{}: {}", answer.status, answer.body)) }
}

/// One line to the echo of reflectz and back.
fn echoed(netns: &Netns, proxy: &Process) -> String {
    let connection = netns.inside(|| TcpStream::connect(proxy.told("reflect@echo")).expect("connect"));
    connection.set_read_timeout(Some(Stack::PATIENCE)).expect("a socket option");
    writeln!(&connection, "hi").expect("send");
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer).expect("an answer");
    answer
}

/// Every kind of node, each in a network of its own.
struct Mesh {
    host: Process,
    run: Process,
    proxy: Process,
    reflectz: Process,
    on: [Machine; 4],
    stack: Stack,
    router: Netns,
    stranger: Netns,
    _exporter: NodeExporter,
    _lan: Lan,
}

impl Mesh {
    fn start() -> Self {
        let lan = Lan::new();
        let (router, address) = lan.host("router");
        let (stranger, _) = lan.host("stranger");
        let stack = Stack::start_at(Place::namespace(&router, address));
        let [host, run, proxy, reflect] =
            ["host", "run", "proxy", "reflect"].map(|name| stack.enroll(name, &[]));
        let on = ["host", "run", "proxy", "reflect"].map(|name| Machine::new(&lan, name));
        let exporter = NodeExporter::start_in(Some(&on[0].netns));
        stack.publish("node", exporter.address, "@host");
        stack.allow("Dial", "node", "@run");
        for (service, dialer) in [("echo", "@proxy"), ("counters", "@run")] {
            stack.cli(["create", "service", service]).ok();
            stack.allow("Bind", service, "@reflect");
            stack.allow("Dial", service, dialer);
        }
        let arguments = ["--identity", &reflect, "--service", "echo", "--prometheus-service", "counters"];
        let mut reflectz = stack.example_at(&on[3].place, "reflectz", arguments);
        reflectz.wait_for_line("it serves", Stack::PATIENCE, |line| line.contains("serves").then_some(()));
        Self {
            host: stack.tunnel_at(&on[0].place, "host", &["host", "-i", &host]),
            run: stack.tunnel_at(&on[1].place, "run", &["run", "-i", &run]),
            proxy: stack.tunnel_at(&on[2].place, "proxy", &["proxy", "-i", &proxy, "reflect@echo:0"]),
            reflectz,
            on,
            stack,
            router,
            stranger,
            _exporter: exporter,
            _lan: lan,
        }
    }

    /// Everything is used by those who may.
    fn works(&self) {
        let run = &self.on[1].netns;
        wait_until("node_exporter is scraped", Stack::PATIENCE, || {
            scrape(run, &self.run, "node").is_ok_and(|body| body.contains("node_uname_info{"))
        });
        wait_until("reflectz is scraped", Stack::PATIENCE, || {
            scrape(run, &self.run, "reflect.counters.hesper")
                .is_ok_and(|body| body.contains("reflectz_connections_total"))
        });
        assert_eq!(echoed(&self.on[2].netns, &self.proxy), "you sent me: hi\n");
    }
}

#[test]
fn no_node_listens_or_answers() {
    let mesh = Mesh::start();
    mesh.works();
    let [host, run, proxy, reflect] = &mesh.on;
    host.assert_dark(&mesh.host, &mesh.router);
    run.assert_dark(&mesh.run, &mesh.router);
    proxy.assert_dark(&mesh.proxy, &mesh.router);
    reflect.assert_dark(&mesh.reflectz, &mesh.router);
    // Only what serves programs on its own machine listens at all.
    assert_eq!(tcp_listening(&mesh.reflectz), []);
    assert_eq!(tcp_listening(&mesh.host), []);
    assert_eq!(tcp_listening(&mesh.run), [mesh.run.told("proxy")]);
    assert_eq!(tcp_listening(&mesh.proxy), [mesh.proxy.told("reflect@echo")]);
    mesh.works();
}

#[test]
fn the_router_answers_no_stranger_while_it_works() {
    let mesh = Mesh::start();
    mesh.works();
    let [controller, router]: [SocketAddr; 2] =
        [mesh.stack.controller_address(), mesh.stack.router_address()]
            .map(|a| a.parse().expect("an address"));
    // One TCP port, the controller's, and one UDP port, the router's, are there for others.
    let open = sockets::of_namespace(&mesh.router);
    let outside = |ip: IpAddr| !ip.is_loopback();
    let tcp: Vec<_> =
        open.iter().filter(|socket| socket.listens_outside_loopback()).map(|s| s.local.port()).collect();
    assert_eq!(tcp, [controller.port()]);
    let udp = open.iter().filter(|s| s.protocol == Protocol::Udp && s.open && outside(s.local.ip()));
    assert_eq!(udp.map(|socket| socket.local.port()).collect::<Vec<_>>(), [router.port()]);

    let (done, scrapes) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let scraping = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                scrape(&mesh.on[1].netns, &mesh.run, "node").expect("a scrape among probes");
                scrapes.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..3 {
            let before = scrapes.load(Ordering::Relaxed);
            assert_silent(&mesh.stranger, &mesh.router, router);
            wait_until("another scrape went through", Stack::PATIENCE, || {
                scrapes.load(Ordering::Relaxed) > before || scraping.is_finished()
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    mesh.works();
}
