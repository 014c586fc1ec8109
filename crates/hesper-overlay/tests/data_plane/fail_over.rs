//! Two routers: what a stream sees of their death, their restart, their lies and their leaving.

use super::*;
use hesper_model::id::Tag;
use hesper_overlay::cid::fresh_dcid;
use hesper_proto::overlay::{Draining, PeerRestarted, from_router};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Instant,
};
use tokio::task::JoinHandle;

const ROUTERS: [&str; 2] = ["r1", "r2"];

/// Two nodes, both attached to two relays.
struct Duo {
    world: World,
    relays: [Option<Relay>; 2],
    a: TestNode,
    b: TestNode,
    arrivals: mpsc::Receiver<Arrival>,
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(40), wait).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(40), future).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

impl Duo {
    async fn new() -> Self {
        let world = World::new();
        let relays = ROUTERS.map(|id| Relay::start(&world, id, any_port()));
        let (a, b) = (world.node("alice"), world.node("bob"));
        a.attach(&[&relays[0], &relays[1]]).await;
        b.attach(&[&relays[0], &relays[1]]).await;
        let (tx, arrivals) = mpsc::channel(64);
        b.node.bind(TerminatorId::new(T), ServiceId::new("svc"), tx);
        Self { world, relays: relays.map(Some), a, b, arrivals }
    }

    fn relay(&self, n: usize) -> &Relay {
        self.relays[n].as_ref().unwrap()
    }

    async fn peer(&self) -> Peer {
        let pass = self.world.pass(&self.a, &self.b, &[self.relay(0), self.relay(1)]);
        self.a.node.present(pass).await.unwrap();
        in_time("a connection", self.a.node.connect_peer(&self.b.id, self.b.tag)).await.unwrap()
    }

    async fn stream(&mut self) -> (Peer, Stream, Stream) {
        let peer = self.peer().await;
        let (grant, _) = self.world.grant(&self.a, &self.b, T, 300);
        let header =
            DialHeader { service_id: "svc".into(), terminator_id: T.into(), grant, ..DialHeader::default() };
        let accept = async { self.arrivals.recv().await.unwrap().accept().await.unwrap() };
        let (dialed, accepted) = tokio::join!(peer.open(header, Box::new(()), LONG), accept);
        (peer, dialed.unwrap(), accepted)
    }

    /// Ends a relay without a word, waits for `gap`, and starts it again at the same address.
    async fn restart(&mut self, n: usize, gap: impl Future<Output = ()>) {
        let relay = self.relays[n].take().unwrap();
        let tag = relay.tag;
        let address = relay.kill().await;
        gap.await;
        self.relays[n] = Some(Relay::start_as(&self.world, ROUTERS[n], address, tag));
    }

    fn forwarded(&self, n: usize) -> u64 {
        self.relay(n).table.forwarded.load(Relaxed)
    }

    /// The relay that carries the traffic of the nodes.
    async fn active(&self) -> usize {
        let before = [self.forwarded(0), self.forwarded(1)];
        let moved = |n: usize| self.forwarded(n) > before[n] + 20;
        eventually("traffic", || moved(0) || moved(1)).await;
        usize::from(!moved(0))
    }
}

/// Traffic both ways until it is told to stop; then the digests must agree.
struct Traffic {
    stop: Arc<AtomicBool>,
    moved: [Arc<AtomicU64>; 2],
    tasks: Vec<JoinHandle<(Vec<u8>, u64)>>,
}

impl Traffic {
    fn start(a: Stream, b: Stream) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let moved = [Arc::new(AtomicU64::new(0)), Arc::default()];
        let ((a_send, a_recv), (b_send, b_recv)) = (a.into_parts(), b.into_parts());
        let tasks = vec![
            tokio::spawn(produce(a_send, 1, stop.clone())),
            tokio::spawn(consume(b_recv, moved[0].clone())),
            tokio::spawn(produce(b_send, 2, stop.clone())),
            tokio::spawn(consume(a_recv, moved[1].clone())),
        ];
        Self { stop, moved, tasks }
    }

    /// Waits until some more has arrived, each way.
    async fn flows(&self) {
        let before = self.moved.each_ref().map(|m| m.load(Relaxed));
        let begun = Instant::now();
        eventually("bytes both ways", || {
            self.moved.iter().zip(before).all(|(m, b)| m.load(Relaxed) > b + (1 << 20))
        })
        .await;
        println!("1 MiB each way after {:?}", begun.elapsed());
    }

    /// Everything that was sent has arrived.
    async fn finish(self) {
        self.stop.store(true, Relaxed);
        let mut ends = Vec::new();
        for task in self.tasks {
            ends.push(in_time("the rest", task).await.unwrap());
        }
        assert_eq!(ends[0], ends[1]);
        assert_eq!(ends[2], ends[3]);
        println!("{} and {} bytes", ends[0].1, ends[2].1);
    }
}

async fn produce(mut send: impl AsyncWriteExt + Unpin, seed: u64, stop: Arc<AtomicBool>) -> (Vec<u8>, u64) {
    let (mut digest, mut total, mut state) = (Digest::new(&SHA256), 0, seed);
    let mut block = vec![0u8; 32 << 10];
    while !stop.load(Relaxed) {
        for word in block.chunks_mut(8) {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            word.copy_from_slice(&state.to_be_bytes());
        }
        send.write_all(&block).await.unwrap();
        digest.update(&block);
        total += block.len() as u64;
    }
    send.shutdown().await.unwrap();
    (digest.finish().as_ref().to_vec(), total)
}

async fn consume(mut recv: impl AsyncReadExt + Unpin, moved: Arc<AtomicU64>) -> (Vec<u8>, u64) {
    let (mut digest, mut block) = (Digest::new(&SHA256), vec![0u8; 64 << 10]);
    loop {
        let n = recv.read(&mut block).await.unwrap();
        if n == 0 {
            return (digest.finish().as_ref().to_vec(), moved.load(Relaxed));
        }
        digest.update(&block[..n]);
        moved.fetch_add(n as u64, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_die_and_come_back_in_turn_and_no_byte_is_lost() {
    let mut duo = Duo::new().await;
    let (peer, a, b) = duo.stream().await;
    let traffic = Traffic::start(a, b);
    for n in [0, 1, 0, 1] {
        traffic.flows().await;
        duo.restart(n, traffic.flows()).await;
        duo.a.attached(2).await;
        duo.b.attached(2).await;
    }
    traffic.flows().await;
    traffic.finish().await;
    assert!(peer.is_usable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_answers_pings_and_forwards_nothing_is_left() {
    let mut duo = Duo::new().await;
    let (peer, a, b) = duo.stream().await;
    let traffic = Traffic::start(a, b);
    traffic.flows().await;
    let active = duo.active().await;
    duo.relay(active).table.mute.store(true, Relaxed);
    traffic.flows().await;
    // What had arrived before it was muted may be as much.
    eventually("traffic by the other one", || duo.forwarded(1 - active) > 0).await;
    // Attached all the while: its own answers say nothing.
    assert_eq!(duo.a.node.attached().borrow().iter().filter(|s| s.attached).count(), 2);
    traffic.finish().await;
    assert!(peer.is_usable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_forwards_one_way_only_is_left() {
    let mut duo = Duo::new().await;
    let (peer, a, b) = duo.stream().await;
    let traffic = Traffic::start(a, b);
    for deaf in [duo.a.tag, duo.b.tag] {
        traffic.flows().await;
        let active = duo.active().await;
        duo.relay(active).table.mute_to.lock().unwrap().insert(deaf);
        traffic.flows().await;
        duo.relay(active).table.mute_to.lock().unwrap().clear();
    }
    traffic.finish().await;
    assert!(peer.is_usable());
}

#[tokio::test]
async fn a_dial_goes_by_another_router_when_the_first_forwards_nothing() {
    let mut duo = Duo::new().await;
    duo.relay(0).table.mute.store(true, Relaxed);
    let (_, mut a, mut b) = in_time("a stream", duo.stream()).await;
    a.write_all(b"hello").await.unwrap();
    let mut buf = [0; 5];
    in_time("bytes", b.read_exact(&mut buf)).await.unwrap();
    assert_eq!(duo.forwarded(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_router_is_left_by_all_without_a_pause() {
    let mut duo = Duo::new().await;
    let (peer, a, b) = duo.stream().await;
    let traffic = Traffic::start(a, b);
    traffic.flows().await;
    let active = duo.active().await;
    for node in [duo.a.tag, duo.b.tag] {
        duo.relay(active).say(node, from_router::Message::Draining(Draining {}));
    }
    traffic.flows().await;
    // It could be attached to again at once, being a relay that only said so; what matters is that it was left.
    let left = |node: &TestNode| node.node.attached().borrow().iter().all(|s| s.attached);
    eventually("left, and attached anew", || left(&duo.a) && left(&duo.b)).await;
    traffic.flows().await;
    traffic.finish().await;
    assert!(peer.is_usable());
}

async fn both_lost(a: &mut Stream, b: &mut Stream) {
    for stream in [a, b] {
        let lost = in_time("the end", stream.read(&mut [0; 1])).await.unwrap_err();
        assert!(matches!(typed(&lost), StreamError::PeerLost(_)), "{lost}");
    }
}

#[tokio::test]
async fn a_frozen_peer_ends_streams_on_the_other_side_of_either_kind() {
    let mut duo = Duo::new().await;
    let (_, mut a, mut b) = duo.stream().await;
    for n in [0, 1] {
        duo.relay(n).table.mute.store(true, Relaxed);
    }
    both_lost(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_restarted_peer_is_closed_on_a_routers_hint_and_a_healthy_one_is_not() {
    let mut duo = Duo::new().await;
    let (peer, mut a, mut b) = duo.stream().await;
    let hint = |duo: &Duo| {
        for n in [0, 1] {
            let restarted =
                |tag: Tag| from_router::Message::PeerRestarted(PeerRestarted { tag: tag.0.to_vec() });
            duo.relay(n).say(duo.a.tag, restarted(duo.b.tag));
            duo.relay(n).say(duo.b.tag, restarted(duo.a.tag));
        }
    };
    hint(&duo);
    let mut buf = [0; 5];
    for _ in 0..20 {
        a.write_all(b"alive").await.unwrap();
        in_time("bytes", b.read_exact(&mut buf)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eventually("trust", || peer.is_usable()).await;
    for n in [0, 1] {
        duo.relay(n).table.mute.store(true, Relaxed);
    }
    hint(&duo);
    let begun = Instant::now();
    both_lost(&mut a, &mut b).await;
    println!("closed after {:?}", begun.elapsed());
}

/// Everything that a hostile router can send without a key: old packets, invented ones, handshakes that seem to come from the peer.
fn junk(relay: &Relay, to: Tag, from: Tag) {
    let long = [&[0xc3, 0, 0, 0, 1, 16][..], &fresh_dcid(to), &[16], &fresh_dcid(from), &[0; 1200]].concat();
    let short = [&[0x41][..], &fresh_dcid(to), &[7; 100]].concat();
    let old = relay.table.captured.lock().unwrap().get(&to).cloned().unwrap_or_default();
    for packet in old.iter().chain([&long, &short]) {
        relay.inject(to, packet);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_and_invented_packets_steer_nobody() {
    let mut duo = Duo::new().await;
    for n in [0, 1] {
        duo.relay(n).table.capture.store(true, Relaxed);
    }
    let (_, a, b) = duo.stream().await;
    let traffic = Traffic::start(a, b);
    traffic.flows().await;
    let active = duo.active().await;
    let idle = 1 - active;
    *duo.relay(idle).table.captured.lock().unwrap() =
        duo.relay(active).table.captured.lock().unwrap().clone();
    // The idle router cannot draw the traffic to itself (a flip because this machine is slow passes).
    let settled = async {
        loop {
            let before = [duo.forwarded(active), duo.forwarded(idle)];
            while duo.forwarded(active) < before[0] + 200 && duo.forwarded(idle) == before[1] {
                junk(duo.relay(idle), duo.a.tag, duo.b.tag);
                junk(duo.relay(idle), duo.b.tag, duo.a.tag);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if duo.forwarded(idle) == before[1] {
                return;
            }
        }
    };
    in_time("traffic by the active router alone", settled).await;
    traffic.flows().await;
    // The active one cannot hide that it forwards nothing.
    duo.relay(active).table.mute.store(true, Relaxed);
    let replaying = async {
        loop {
            junk(duo.relay(active), duo.a.tag, duo.b.tag);
            junk(duo.relay(active), duo.b.tag, duo.a.tag);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = traffic.flows() => {}
        () = replaying => {}
    }
    traffic.finish().await;
}

#[tokio::test]
async fn two_of_three_routers_are_attached_to_and_the_third_stands_in() {
    let world = World::new();
    let relays = ["r1", "r2", "r3"].map(|id| Relay::start(&world, id, any_port()));
    let a = world.node("alice");
    a.node.set_routers(relays.iter().map(Relay::target).collect());
    a.attached(2).await;
    let ids = |a: &TestNode| {
        let states = a.node.attached().borrow().clone();
        states.into_iter().filter(|s| s.attached).map(|s| s.router_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&a), ["r1", "r2"]);
    assert!(a.node.attached().borrow().iter().all(|s| s.rtt > Duration::ZERO));
    let [r1, r2, r3] = relays;
    r1.kill().await;
    eventually("the stand-in", || ids(&a) == ["r2", "r3"]).await;
    drop((r2, r3));
}

#[tokio::test]
async fn a_newer_session_token_is_shown_on_the_live_attachment() {
    let world = World::new();
    let relay = Relay::start(&world, "r1", any_port());
    let a = world.node("alice");
    a.attach(&[&relay]).await;
    a.node.set_session_token(&world.session_token(&a, 7200));
    eventually("the renewal", || relay.table.renewals.load(Relaxed) == 1).await;
    assert!(a.node.attached().borrow()[0].attached);
}

#[tokio::test]
async fn peers_without_a_path_are_named_until_one_works() {
    let mut duo = Duo::new().await;
    let (_, mut a, mut b) = duo.stream().await;
    let mut without = duo.a.node.without_path();
    assert!(without.borrow().is_empty());
    for n in [0, 1] {
        duo.relay(n).table.mute.store(true, Relaxed);
    }
    in_time("named", without.wait_for(|tags| *tags == [duo.b.tag])).await.unwrap();
    for n in [0, 1] {
        duo.relay(n).table.mute.store(false, Relaxed);
    }
    in_time("no more", without.wait_for(|tags| tags.is_empty())).await.unwrap();
    a.write_all(b"still").await.unwrap();
    let mut buf = [0; 5];
    in_time("bytes", b.read_exact(&mut buf)).await.unwrap();
}
