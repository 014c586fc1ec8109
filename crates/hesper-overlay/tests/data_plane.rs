//! Two nodes and a relay over loopback: everything a stream promises.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "data_plane/cuts.rs"]
mod cuts;
#[path = "data_plane/datagrams.rs"]
mod datagrams;
#[path = "data_plane/early.rs"]
mod early;
#[path = "data_plane/fail_over.rs"]
mod fail_over;
mod support;

use hesper_model::id::{ServiceId, TerminatorId};
use hesper_overlay::{
    admission::code,
    inbound::Arrival,
    node::PassError,
    peer::{OpenError, Peer},
    stream::{Stream, StreamError},
};
use hesper_proto::overlay::{DialHeader, RenewGrant};
use ring::digest::{Context as Digest, SHA256};
use std::{io, net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};
use support::{Relay, TestNode, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

const T: &str = "t1";
const LONG: Duration = Duration::from_secs(20);

/// A free port for a relay that may come back on it: none of those that the system gives to others in between.
fn any_port() -> SocketAddr {
    let free = |address: &SocketAddr| std::net::UdpSocket::bind(address).is_ok();
    let mut ports =
        (0..1_000).map(|_| SocketAddr::from(([127, 0, 0, 1], rand::random_range(10_000..30_000))));
    ports.find(free).expect("a free port")
}

struct Pair {
    world: World,
    relay: Relay,
    a: TestNode,
    b: TestNode,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Pair {
    async fn new() -> Self {
        let world = World::new();
        let relay = Relay::start(&world, "relay", any_port());
        let (a, b) = (world.node("alice"), world.node("bob"));
        a.attach(&[&relay]).await;
        b.attach(&[&relay]).await;
        let (tx, arrivals) = mpsc::channel(64);
        b.node.bind(TerminatorId::new(T), ServiceId::new("svc"), tx);
        Self { world, relay, a, b, arrivals }
    }

    async fn peer(&self) -> Peer {
        self.a.node.present(self.world.pass(&self.a, &self.b, &[&self.relay])).await.unwrap();
        self.a.node.connect_peer(&self.b.id, self.b.tag).await.unwrap()
    }

    fn header(&self, life: u64) -> (DialHeader, String) {
        let (grant, jti) = self.world.grant(&self.a, &self.b, T, life);
        let app_data = r#"{"dst_port":9100}"#.into();
        (
            DialHeader {
                service_id: "svc".into(),
                terminator_id: T.into(),
                grant,
                app_data,
                ..DialHeader::default()
            },
            jti,
        )
    }

    /// A stream, seen from both sides.
    async fn stream(&mut self) -> (Stream, Stream) {
        let peer = self.peer().await;
        let (header, _) = self.header(300);
        self.open(&peer, header).await
    }

    async fn open(&mut self, peer: &Peer, header: DialHeader) -> (Stream, Stream) {
        let accept = async { self.arrivals.recv().await.unwrap().accept().await.unwrap() };
        let (dialed, accepted) = tokio::join!(peer.open(header, Box::new(()), LONG), accept);
        (dialed.unwrap(), accepted)
    }
}

fn refusal(result: Result<Stream, OpenError>) -> (String, String) {
    match result {
        Err(OpenError::Refused { code, message }) => (code, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dial_says_in_which_trace_it_is_and_nonsense_says_nothing() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let long = "a".repeat(20_000);
    for (traceparent, tracestate, heard) in [
        (good, "vendor=1", Some((good, "vendor=1"))),
        (good, long.as_str(), Some((good, ""))),
        ("", "vendor=1", None),
        (&long, "", None),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", "", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y", "", None),
        ("00-🦀bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "🦀", None),
    ] {
        let header = DialHeader {
            traceparent: traceparent.into(),
            tracestate: tracestate.into(),
            ..pair.header(300).0
        };
        let accept = async {
            let arrival = pair.arrivals.recv().await.unwrap();
            let trace = arrival.trace_context().map(|trace| (trace.traceparent(), trace.tracestate()));
            arrival.accept().await.unwrap();
            trace
        };
        let (dialed, trace) = tokio::join!(peer.open(header, Box::new(()), LONG), accept);
        assert!(dialed.is_ok(), "{dialed:?}");
        assert_eq!(trace.as_ref().map(|(parent, state)| (parent.as_str(), state.as_str())), heard);
    }
}

fn typed(e: &io::Error) -> &StreamError {
    e.get_ref().and_then(|e| e.downcast_ref()).unwrap_or_else(|| panic!("{e:?}"))
}

#[tokio::test]
async fn bytes_flow_both_ways_and_each_direction_ends_by_itself() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (header, _) = pair.header(300);
    let accept = async {
        let arrival = pair.arrivals.recv().await.unwrap();
        assert_eq!((arrival.dialer.as_str(), arrival.app_data.as_str()), ("alice", r#"{"dst_port":9100}"#));
        arrival.accept().await.unwrap()
    };
    let (dialed, accepted) = tokio::join!(peer.open(header, Box::new(()), LONG), accept);
    let (mut a, mut b) = (dialed.unwrap(), accepted);
    assert_eq!((a.peer().as_str(), b.peer().as_str()), ("bob", "alice"));
    a.write_all(b"question").await.unwrap();
    a.shutdown().await.unwrap();
    let mut text = String::new();
    b.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    b.write_all(b"answer").await.unwrap();
    b.shutdown().await.unwrap();
    text.clear();
    a.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
    assert!(a.write_all(b"x").await.is_err(), "after shutdown");
    assert_eq!(peer.streams(), 1);
    drop(a);
    assert_eq!(peer.streams(), 0);
    assert_eq!(pair.a.node.socket_counters().foreign.load(Relaxed), 0);
}

#[tokio::test]
async fn many_streams_share_one_connection_and_do_not_mix() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let echo = tokio::spawn(async move {
        while let Some(arrival) = pair.arrivals.recv().await {
            tokio::spawn(async move {
                let (mut send, mut recv) = arrival.accept().await.unwrap().into_parts();
                tokio::io::copy(&mut recv, &mut send).await.unwrap();
                send.shutdown().await.unwrap();
            });
        }
    });
    let mut dials = tokio::task::JoinSet::new();
    for n in 0..100u32 {
        let (peer, (header, _)) = (peer.clone(), {
            let (grant, jti) = pair.world.grant(&pair.a, &pair.b, T, 300);
            (
                DialHeader {
                    service_id: "svc".into(),
                    terminator_id: T.into(),
                    grant,
                    ..DialHeader::default()
                },
                jti,
            )
        });
        dials.spawn(async move {
            let mut s = peer.open(header, Box::new(()), LONG).await.unwrap();
            let text = format!("stream {n} ").repeat(1000);
            s.write_all(text.as_bytes()).await.unwrap();
            s.shutdown().await.unwrap();
            let mut back = String::new();
            s.read_to_string(&mut back).await.unwrap();
            assert!(back == text, "stream {n}");
        });
    }
    while let Some(result) = dials.join_next().await {
        result.unwrap();
    }
    echo.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transfer_through_tcp_on_both_ends_arrives_whole() {
    const LEN: usize = 32 << 20;
    let mut pair = Pair::new().await;
    let (a, b) = pair.stream().await;
    let (client, a_tcp) = tcp_pair().await;
    let (server, b_tcp) = tcp_pair().await;
    let splices = [tokio::spawn(a.splice_tcp(a_tcp)), tokio::spawn(b.splice_tcp(b_tcp))];
    let (up, down) =
        tokio::join!(tokio::spawn(exchange(client, 1, LEN)), tokio::spawn(exchange(server, 2, LEN)),);
    let ((sent_up, got_down), (sent_down, got_up)) = (up.unwrap(), down.unwrap());
    assert_eq!(sent_up, got_up);
    assert_eq!(sent_down, got_down);
    for splice in splices {
        let copied = splice.await.unwrap().unwrap();
        assert_eq!((copied.sent, copied.received), (LEN as u64, LEN as u64));
    }
}

/// Sends `len` bytes made from a seed, half-closes, reads to the end; digests of both directions.
async fn exchange(tcp: TcpStream, seed: u8, len: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut read, mut write) = tcp.into_split();
    let send = async move {
        let mut digest = Digest::new(&SHA256);
        let mut block = vec![0u8; 64 << 10];
        let mut state = u64::from(seed);
        for _ in 0..len / block.len() {
            for b in block.chunks_mut(8) {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                b.copy_from_slice(&state.to_be_bytes());
            }
            digest.update(&block);
            write.write_all(&block).await.unwrap();
        }
        write.shutdown().await.unwrap();
        digest.finish().as_ref().to_vec()
    };
    let receive = async move {
        let mut digest = Digest::new(&SHA256);
        let mut block = vec![0u8; 64 << 10];
        loop {
            match read.read(&mut block).await.unwrap() {
                0 => break digest.finish().as_ref().to_vec(),
                n => digest.update(&block[..n]),
            }
        }
    };
    tokio::join!(send, receive)
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

#[tokio::test]
async fn a_reader_that_stops_holds_the_writer_and_nobody_else() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (header, _) = pair.header(300);
    let (mut a, b) = pair.open(&peer, header).await;
    let block = vec![1u8; 1 << 20];
    let mut written = 0;
    // Until the writer is held up; the window and what the sender may buffer bound it.
    while timeout(Duration::from_millis(500), a.write_all(&block)).await.is_ok() {
        written += block.len();
        assert!(written <= 32 << 20, "no back-pressure after {written} bytes");
    }
    assert!(written >= 7 << 20, "the window was not used: {written}");
    let (header, _) = pair.header(300);
    let (mut c, mut d) = pair.open(&peer, header).await;
    c.write_all(b"hello").await.unwrap();
    let mut buf = [0; 5];
    timeout(LONG, d.read_exact(&mut buf)).await.unwrap().unwrap();
    assert_eq!(&buf, b"hello");
    drop(b);
}

#[tokio::test]
async fn grants_are_checked_at_the_hosting_side() {
    let pair = Pair::new().await;
    let peer = pair.peer().await;
    let mallory = pair.world.node("mallory");
    let carol = pair.world.node("carol");
    let (good, _) = pair.header(300);
    let with = |grant: String, terminator: &str| DialHeader {
        grant,
        terminator_id: terminator.into(),
        ..good.clone()
    };
    for (header, code, text) in [
        (with(pair.world.grant(&mallory, &pair.b, T, 300).0, T), code::INVALID_GRANT, "another dialer"),
        (
            with(pair.world.grant(&pair.a, &carol, T, 300).0, T),
            code::INVALID_GRANT,
            "another hosting identity",
        ),
        (
            with(pair.world.grant(&pair.a, &pair.b, "t2", 300).0, T),
            code::INVALID_GRANT,
            "another service or terminator",
        ),
        (with(pair.world.grant(&pair.a, &pair.b, "t2", 300).0, "t2"), code::INVALID_TERMINATOR, "t2"),
        (with(pair.world.grant(&pair.a, &pair.b, T, 0).0, T), code::GRANT_EXPIRED, "expired"),
        (with("nonsense".into(), T), code::INVALID_GRANT, "not valid"),
        (with(World::new().grant(&pair.a, &pair.b, T, 300).0, T), code::INVALID_GRANT, "not valid"),
    ] {
        let (got, message) = refusal(peer.open(header, Box::new(()), LONG).await);
        assert_eq!(got, code, "{message}");
        assert!(message.contains(text), "{message}");
    }
    assert_eq!(pair.b.node.streams().1, 0);
}

#[tokio::test]
async fn the_program_may_refuse_and_its_reason_arrives() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (header, _) = pair.header(300);
    let refuse =
        async { pair.arrivals.recv().await.unwrap().refuse("connection refused by 127.0.0.1:9").await };
    let (result, ()) = tokio::join!(peer.open(header, Box::new(()), LONG), refuse);
    assert_eq!(refusal(result), (code::REFUSED.into(), "connection refused by 127.0.0.1:9".into()));
    // One that says nothing and goes away refuses too.
    let (header, _) = pair.header(300);
    let ignore = async { drop(pair.arrivals.recv().await.unwrap()) };
    let (result, ()) = tokio::join!(peer.open(header, Box::new(()), LONG), ignore);
    assert!(result.is_err());
}

#[tokio::test]
async fn a_revocation_ends_its_streams_on_both_sides_and_only_those() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (header, revoked) = pair.header(300);
    let (mut a, mut b) = pair.open(&peer, header.clone()).await;
    let (other, _) = pair.header(300);
    let (mut c, mut d) = pair.open(&peer, other).await;
    pair.b.node.revoke(&[revoked]);
    let mut buf = [0; 4];
    let at_b = b.read(&mut buf).await.unwrap_err();
    assert!(matches!(typed(&at_b), StreamError::Revoked), "{at_b}");
    let at_a = timeout(LONG, a.read(&mut buf)).await.unwrap().unwrap_err();
    assert!(matches!(typed(&at_a), StreamError::Revoked), "{at_a}");
    assert_eq!(at_a.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(refusal(peer.open(header, Box::new(()), LONG).await).0, code::GRANT_REVOKED);
    c.write_all(b"fine").await.unwrap();
    d.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"fine");
}

#[tokio::test]
async fn a_stream_ends_when_its_grant_lapses_unless_renewed() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (lapsing, _) = pair.header(3);
    let (mut a, _b) = pair.open(&peer, lapsing).await;
    // The same peer, another terminator: its renewal must not help the first.
    let (tx, mut arrivals) = mpsc::channel(4);
    pair.b.node.bind(TerminatorId::new("t2"), ServiceId::new("svc"), tx);
    let (grant, _) = pair.world.grant(&pair.a, &pair.b, "t2", 3);
    let header =
        DialHeader { service_id: "svc".into(), terminator_id: "t2".into(), grant, ..DialHeader::default() };
    let accept = async { arrivals.recv().await.unwrap().accept().await.unwrap() };
    let (kept, mut kept_b) = tokio::join!(peer.open(header, Box::new(()), LONG), accept);
    let mut kept = kept.unwrap();
    let (grant, _) = pair.world.grant(&pair.a, &pair.b, "t2", 300);
    assert_eq!(pair.b.node.hosted_grants().len(), 2);
    peer.renew(RenewGrant { service_id: "svc".into(), terminator_id: "t2".into(), grant: grant.clone() });
    let ended = timeout(LONG, a.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert!(matches!(typed(&ended), StreamError::Expired), "{ended}");
    kept.write_all(b"still").await.unwrap();
    let mut buf = [0; 5];
    kept_b.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"still");
    assert_eq!(pair.b.node.hosted_grants(), [grant], "what the stream that is left lives by");
}

#[tokio::test]
async fn a_restarted_router_is_found_again_and_streams_go_on() {
    let mut pair = Pair::new().await;
    let (mut a, mut b) = pair.stream().await;
    a.write_all(b"before").await.unwrap();
    let mut buf = [0; 6];
    b.read_exact(&mut buf).await.unwrap();
    let id = pair.relay.id.clone();
    let address = pair.relay.kill().await;
    pair.relay = Relay::start(&pair.world, &id, address);
    for node in [&pair.a, &pair.b] {
        node.node.set_routers(vec![pair.relay.target()]);
    }
    pair.a.attached(1).await;
    pair.b.attached(1).await;
    a.write_all(b"after!").await.unwrap();
    timeout(LONG, b.read_exact(&mut buf)).await.unwrap().unwrap();
    assert_eq!(&buf, b"after!", "the pass was shown again without being asked for");
}

#[tokio::test]
async fn with_two_routers_the_pass_decides_and_the_other_can_take_over() {
    let world = World::new();
    let (r1, r2) = (Relay::start(&world, "r1", any_port()), Relay::start(&world, "r2", any_port()));
    let (a, b) = (world.node("alice"), world.node("bob"));
    a.attach(&[&r1, &r2]).await;
    b.attach(&[&r1, &r2]).await;
    let (tx, arrivals) = mpsc::channel(4);
    b.node.bind(TerminatorId::new(T), ServiceId::new("svc"), tx);
    a.node.present(world.pass(&a, &b, &[&r2])).await.unwrap();
    let mut pair = Pair { world, relay: r2, a, b, arrivals };
    let peer = pair.a.node.connect_peer(&pair.b.id, pair.b.tag).await.unwrap();
    let (header, _) = pair.header(300);
    let (mut x, mut y) = pair.open(&peer, header).await;
    x.write_all(b"by r2").await.unwrap();
    let mut buf = [0; 5];
    y.read_exact(&mut buf).await.unwrap();
    let count = |r: &Relay| r.table.forwarded.load(Relaxed);
    assert!(count(&pair.relay) > 0);
    assert_eq!(count(&r1), 0);
}

#[tokio::test]
async fn a_pass_says_why_there_is_no_path() {
    let world = World::new();
    let relay = Relay::start(&world, "relay", any_port());
    let (a, b) = (world.node("alice"), world.node("bob"));
    assert_eq!(a.node.present(world.pass(&a, &b, &[&relay])).await, Err(PassError::NotAttached));
    a.attach(&[&relay]).await;
    assert_eq!(a.node.present(world.pass(&a, &b, &[&relay])).await, Err(PassError::PeerNotAttached));
    let stranger = World::new();
    let refused = a.node.present(stranger.pass(&a, &b, &[&relay])).await;
    assert!(matches!(refused, Err(PassError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_peer_that_the_router_calls_gone_is_given_up_unless_it_answers() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (header, _) = pair.header(300);
    let (mut a, mut b) = pair.open(&peer, header).await;
    pair.relay.peer_gone(pair.a.tag, pair.b.tag);
    // It was a mistake: the stream goes on, and so do dials.
    a.write_all(b"ok").await.unwrap();
    let mut buf = [0; 2];
    b.read_exact(&mut buf).await.unwrap();
    timeout(LONG, async {
        while !peer.is_usable() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let fresh = pair.a.node.connect_peer(&pair.b.id, pair.b.tag).await.unwrap();
    let (header, _) = pair.header(300);
    let (mut c, _d) = pair.open(&fresh, header).await;
    // Now it is true.
    pair.relay.table.mute.store(true, Relaxed);
    pair.relay.peer_gone(pair.a.tag, pair.b.tag);
    let lost = timeout(LONG, c.read(&mut buf)).await.unwrap().unwrap_err();
    assert!(matches!(typed(&lost), StreamError::PeerLost(_)), "{lost}");
}

#[tokio::test]
async fn an_impostor_of_the_hosting_node_is_not_talked_to() {
    let pair = Pair::new().await;
    pair.a.node.present(pair.world.pass(&pair.a, &pair.b, &[&pair.relay])).await.unwrap();
    let expected = hesper_model::id::IdentityId::new("carol");
    let result = pair.a.node.connect_peer(&expected, pair.b.tag).await;
    assert!(matches!(result, Err(OpenError::Lost(_))), "{result:?}");
}

#[tokio::test]
async fn a_dead_or_unresolvable_router_is_tried_for_ever_and_named() {
    let world = World::new();
    let a = world.node("alice");
    let relay = Relay::start(&world, "relay", any_port());
    let mut target = relay.target();
    target.addresses = vec!["no-such-host.invalid:3022".into()];
    a.node.set_routers(vec![target]);
    let mut states = a.node.attached();
    let failed = states
        .wait_for(|s| s.iter().any(|s| s.reason.contains("no-such-host.invalid")))
        .await
        .unwrap()
        .clone();
    assert!(!failed[0].attached);
    // The right address comes: it attaches.
    a.attach(&[&relay]).await;
}

#[tokio::test]
async fn a_dial_to_a_peer_that_has_died_fails_long_before_its_deadline() {
    let pair = Pair::new().await;
    let peer = pair.peer().await;
    pair.relay.table.mute.store(true, Relaxed);
    let (header, _) = pair.header(300);
    let result = peer.open(header, Box::new(()), Duration::from_secs(3600)).await;
    assert!(matches!(result, Err(OpenError::Silent)), "{result:?}");
    assert!(!peer.is_usable());
}
