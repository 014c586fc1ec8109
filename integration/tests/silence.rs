//! A million datagrams of strangers, from noise to replays of what was captured: not one byte of an answer, from router or node, and
//! the traffic of those who may goes on.

use hesper_integration::{
    Lan, Netns, Oracle, Packet, Place, Plan, Process, Stack, StackOptions, Transfer, Way,
    sockets::{self, Protocol},
    wait_until,
};
use hesper_model::id::Tag;
use hesper_overlay::{cid, knock, transport};
use quinn_proto::{ConnectionId, Endpoint};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13};
use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Datagrams that the router has to read, in all.
const MILLION: u64 = 1_000_000;
/// Datagrams to each port of a node.
const TO_NODES: u64 = 50_000;
/// After the last datagram was read, nothing may come for so long: an open server answers at once.
const SILENCE: Duration = Duration::from_secs(1);
/// Unread bytes in the router's socket at which the flood pauses, so that the router reads everything.
const ENOUGH_UNREAD: u64 = 1 << 20;

/// Everything random is from one seed.
fn rng() -> StdRng {
    StdRng::seed_from_u64(42)
}

fn noise(rng: &mut StdRng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// What any QUIC client of ours sends first, with this destination: well formed, padded and encrypted.
fn initial(dcid: &[u8], own: Tag) -> Vec<u8> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let tls = tls.with_protocol_versions(&[&TLS13]).expect("TLS 1.3");
    let mut tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    tls.alpn_protocols = vec![b"hq".to_vec()];
    let dcid = ConnectionId::new(dcid);
    let config = transport::client_config(tls, transport::attach_transport(), move || dcid);
    let mut endpoint = Endpoint::new(Arc::new(transport::endpoint_config(own)), None, true, None);
    let (now, there) = (Instant::now(), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let connection = endpoint.connect(now, config.expect("a QUIC suite"), there, "hesper");
    let mut packet = Vec::new();
    let transmit = connection.expect("a connection").1.poll_transmit(now, 1, &mut packet).expect("a packet");
    packet.truncate(transmit.size);
    assert!(packet.len() >= 1_200 && packet[1..5] == [0, 0, 0, 1]);
    packet
}

/// The destination of an Initial.
fn destination(packet: &[u8]) -> Option<&[u8]> {
    (packet.first()? & 0xf0 == 0xc0).then_some(())?;
    packet.get(6..6 + usize::from(*packet.get(5)?))
}

/// Well-formed Initials to destinations that open nothing. `knocks` are genuine ones that were captured, `tags` are in use.
fn initials(rng: &mut StdRng, knocks: &[[u8; cid::KNOCK_LEN]], tags: &[Tag]) -> Vec<Vec<u8>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let (mut key, mut key_id, mut own) = ([0; 32], [0; 8], Tag([0; 8]));
    let mut packets = Vec::new();
    for n in 0..40u16 {
        rng.fill_bytes(&mut key);
        rng.fill_bytes(&mut key_id);
        rng.fill_bytes(&mut own.0);
        let known = knocks[usize::from(n) % knocks.len()];
        let mut known_id = [0; 8];
        known_id.copy_from_slice(&known[..8]);
        let mut altered = known;
        altered[rng.random_range(0..altered.len())] ^= 1 << (n % 8);
        let tag = tags[usize::from(n) % tags.len()];
        packets.extend([
            initial(&noise(rng, cid::KNOCK_LEN), own),
            initial(&knock::make(key_id, &key, now, n), own),
            // A key id that the router derives keys for, as it does for any, but another key.
            initial(&knock::make(known_id, &key, now, n), own),
            initial(&altered, own),
            initial(&cid::fresh_dcid(tag), own),
            initial(&cid::fresh_dcid(own), tag),
            initial(&noise(rng, 8), own),
        ]);
    }
    packets
}

/// Versions that a server must answer with the list of its own (RFC 9000, 6), short headers that draw a stateless reset (10.3), noise.
fn probes(rng: &mut StdRng, tags: &[Tag]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for n in 0..200 {
        let mut version = vec![0x80 | rng.random::<u8>()];
        version.extend(if n % 4 == 0 { [0; 4] } else { rng.random::<[u8; 4]>() });
        for len in [8, 8] {
            version.push(len);
            version.extend(noise(rng, usize::from(len)));
        }
        version.extend(noise(rng, 1_200));
        let tag = tags[n % tags.len()];
        let to_tag = [&[0x40 | rng.random_range(0..0x40)][..], &tag.0, &noise(rng, 100)].concat();
        let len = rng.random_range(0..1_400);
        packets.extend([version, to_tag, noise(rng, len), noise(rng, 1), Vec::new()]);
    }
    packets
}

/// Everything that arrived in a network by UDP or ICMP, for a socket or not.
fn heard(netns: &Netns, protocols: &[&str]) -> u64 {
    let snmp = netns.inside(|| fs::read_to_string("/proc/thread-self/net/snmp").expect("counters"));
    let mut sum = 0;
    for protocol in protocols {
        let mut lines = snmp.lines().filter_map(|line| line.strip_prefix(&format!("{protocol}: ")));
        let names = lines.next().expect("names").split_whitespace();
        let values = lines.next().expect("values").split_whitespace();
        let arrived = names
            .zip(values)
            .filter(|(name, _)| ["InDatagrams", "NoPorts", "InErrors", "InMsgs"].contains(name));
        sum += arrived.filter_map(|(_, value)| value.parse::<u64>().ok()).sum::<u64>();
    }
    sum
}

/// Of a socket: bytes that wait to be read, and datagrams that found no room (proc_net(5)).
fn backlog(netns: &Netns, port: u16) -> (u64, u64) {
    let table = netns.inside(|| fs::read_to_string("/proc/thread-self/net/udp").expect("sockets"));
    let of_port =
        |line: &&str| line.split_whitespace().nth(1).is_some_and(|a| a.ends_with(&format!(":{port:04X}")));
    let lines = table.lines().filter(of_port).map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let unread = words[4].split_once(':').and_then(|(_, hex)| u64::from_str_radix(hex, 16).ok());
        (unread.unwrap_or_default(), words.last().and_then(|drops| drops.parse().ok()).unwrap_or_default())
    });
    lines.fold((0, 0), |sum: (u64, u64), socket: (u64, u64)| (sum.0 + socket.0, sum.1 + socket.1))
}

/// Two nodes that talk, each in a network of its own, and a stranger who can reach them and the router.
struct Mesh {
    transfer: Option<Transfer>,
    nodes: [(Process, Netns, Ipv4Addr); 2],
    stack: Stack,
    router: Netns,
    stranger: Netns,
    _oracle: Oracle,
    _lan: Lan,
}

impl Mesh {
    fn start() -> Self {
        let lan = Lan::new();
        let [(router, router_at), (stranger, _), (host, host_at), (client, client_at)] =
            ["router", "stranger", "host", "client"].map(|name| lan.host(name));
        let stack = StackOptions::default().at(Place::namespace(&router, router_at)).linked().start();
        stack.link().capture();
        let oracle = Oracle::start_in(&host);
        let files = ["host", "client"].map(|name| stack.enroll(name, &[]));
        stack.publish("oracle", oracle.address(), "@host");
        stack.allow("Dial", "oracle", "@client");
        let (on_host, on_client) = (Place::namespace(&host, host_at), Place::namespace(&client, client_at));
        let mut hosting = stack.tunnel_at(&on_host, "host", &["host", "-i", &files[0]]);
        hosting.wait_for_line("it hosts", Stack::PATIENCE, |l| l.contains("service bound").then_some(()));
        let proxy = stack.tunnel_at(&on_client, "client", &["proxy", "-i", &files[1], "oracle:0"]);
        let plan = Plan::until_stopped().rate(1 << 20);
        let transfer = Some(oracle.transfer_from(&on_client, proxy.told("oracle"), plan));
        let nodes = [(hosting, host, host_at), (proxy, client, client_at)];
        let mesh = Self { transfer, nodes, stack, router, stranger, _oracle: oracle, _lan: lan };
        mesh.moves();
        mesh
    }

    /// Bytes flow both ways.
    #[track_caller]
    fn moves(&self) {
        let transfer = self.transfer.as_ref().expect("a transfer");
        let before = transfer.received();
        wait_until("the nodes' own traffic goes on", Stack::PATIENCE, || {
            let now = transfer.received();
            transfer.is_over() || (now.0 > before.0 + 100_000 && now.1 > before.1 + 100_000)
        });
        assert_eq!(transfer.fault(), None);
    }

    fn router_address(&self) -> SocketAddr {
        self.stack.router_address_of(0)
    }

    /// Sends these packets, round and round, each with other last bytes, until the router has read `count`; returns how many it read.
    fn flood(&self, packets: &[Vec<u8>], count: u64) -> u64 {
        let (router, sent, full) = (self.router_address(), AtomicU64::new(0), AtomicBool::new(false));
        let before = backlog(&self.router, router.port()).1;
        let read = || {
            let (unread, lost) = backlog(&self.router, router.port());
            full.store(unread > ENOUGH_UNREAD, Relaxed);
            (sent.load(Relaxed).saturating_sub(lost - before), unread)
        };
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let socket = self.stranger.inside(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
                let mut number = 0u32;
                for packet in packets.iter().cycle() {
                    while full.load(Relaxed) && !done.load(Relaxed) {
                        thread::sleep(Duration::from_millis(1));
                    }
                    if done.load(Relaxed) {
                        break;
                    }
                    let mut packet = packet.clone();
                    let len = packet.len();
                    if len > 1_000 && number as usize > packets.len() {
                        packet[len - 4..].copy_from_slice(&number.to_be_bytes());
                    }
                    number = number.wrapping_add(1);
                    socket.send_to(&packet, router).expect("sent");
                    sent.fetch_add(1, Relaxed);
                }
                assert_unanswered(&socket);
            });
            wait_until("the router has read them all", 2 * Stack::PATIENCE, || {
                let (read, unread) = read();
                done.store(read >= count, Relaxed);
                read >= count && unread == 0
            });
        });
        read().0
    }
}

/// Nothing comes back, for a while.
#[track_caller]
fn assert_unanswered(socket: &UdpSocket) {
    socket.set_read_timeout(Some(SILENCE)).expect("an option");
    match socket.recv_from(&mut [0; 2048]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        other => panic!("a stranger was answered: {other:?}"),
    }
}

#[test]
fn a_million_datagrams_of_strangers_draw_no_byte() {
    let mut mesh = Mesh::start();
    let captured = mesh.stack.link().captured();
    let to_router: Vec<_> =
        captured.iter().filter(|p| p.way == Way::ToRouter).map(|p| p.bytes.clone()).collect();
    let knocks: Vec<[u8; cid::KNOCK_LEN]> =
        to_router.iter().filter_map(|p| destination(p)?.try_into().ok()).collect();
    let tags: Vec<_> = (0..2).flat_map(|client| mesh.stack.link().tags(client)).collect();
    assert!(knocks.len() >= 2 && tags.len() >= 2, "{} knocks, {} tags", knocks.len(), tags.len());
    println!("captured {} datagrams, {} with a knock", captured.len(), knocks.len());

    let mut rng = rng();
    let before = heard(&mesh.stranger, &["Udp", "Icmp"]);
    let mut read = 0;
    let all: Vec<_> = captured.into_iter().map(|Packet { bytes, .. }| bytes).collect();
    let kinds = [
        ("version probes, stateless reset probes, noise", probes(&mut rng, &tags), MILLION * 5 / 10),
        ("Initials that open nothing", initials(&mut rng, &knocks, &tags), MILLION * 2 / 10),
        ("replays of what nodes said", to_router, MILLION * 2 / 10),
        ("replays of everything", all.clone(), MILLION / 10),
    ];
    for (kind, packets, count) in &kinds {
        let begun = Instant::now();
        read += mesh.flood(packets, *count);
        println!("{count} × {kind} in {:.1?}", begun.elapsed());
        mesh.moves();
    }
    assert!(read >= MILLION, "{read}");
    assert_eq!(heard(&mesh.stranger, &["Udp", "Icmp"]) - before, 0, "the router's machine said something");

    for (node, netns, address) in &mesh.nodes {
        let udp = sockets::of_process(node.pid()).into_iter().filter(|s| s.protocol == Protocol::Udp);
        let ports: Vec<_> = udp.map(|socket| SocketAddr::from((*address, socket.local.port()))).collect();
        assert!(!ports.is_empty(), "it has no way to the router");
        for port in ports {
            let (before, arrived) = (heard(&mesh.stranger, &["Udp"]), heard(netns, &["Udp"]));
            let socket = mesh.stranger.inside(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
            let packets = kinds.iter().flat_map(|(_, packets, _)| packets).cycle().take(TO_NODES as usize);
            for packet in packets {
                socket.send_to(packet, port).expect("sent");
            }
            wait_until("they have arrived", Stack::PATIENCE, || heard(netns, &["Udp"]) >= arrived + TO_NODES);
            assert_unanswered(&socket);
            assert_eq!(heard(&mesh.stranger, &["Udp"]) - before, 0, "a node's machine said something");
        }
    }
    mesh.moves();
    let transfer = mesh.transfer.take().expect("a transfer");
    println!("meanwhile: {}", transfer.finish(Stack::PATIENCE));
}
