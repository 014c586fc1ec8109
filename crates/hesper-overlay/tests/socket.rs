//! The node's socket over loopback: routers in, everybody else out, and never an error.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use hesper_model::id::Tag;
use hesper_overlay::{
    cid::fresh_dcid,
    paths::Slot,
    socket::{NodeSocket, resolve},
    transport::VIRTUAL_ADDR,
};
use quinn::{
    AsyncUdpSocket,
    udp::{RecvMeta, Transmit},
};
use std::{
    future::poll_fn,
    io::IoSliceMut,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{net::UdpSocket, sync::Notify, time::timeout};

const R: Slot = Slot(0);
const LONG: Duration = Duration::from_secs(20);

fn tag(n: u8) -> Tag {
    Tag([n; 8])
}

fn short(to: Tag) -> Vec<u8> {
    [&[0x41][..], &fresh_dcid(to), b"payload"].concat()
}

fn long(to: Tag, from: Tag) -> Vec<u8> {
    [&[0xc3, 0, 0, 0, 1, 16][..], &fresh_dcid(to), &[16], &fresh_dcid(from), b"payload"].concat()
}

/// As QUIC does it: what would block is tried again when the poller says so; any other error would be the end.
async fn send(socket: &Arc<NodeSocket>, packet: &[u8]) {
    let transmit =
        Transmit { destination: VIRTUAL_ADDR, ecn: None, contents: packet, segment_size: None, src_ip: None };
    let mut poller = socket.clone().create_io_poller();
    while let Err(error) = socket.try_send(&transmit) {
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        timeout(LONG, poll_fn(|cx| poller.as_mut().poll_writable(cx))).await.expect("room in time").unwrap();
    }
}

async fn receive(socket: &NodeSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = vec![0; 65_536];
    let mut meta = [RecvMeta::default()];
    let receive = poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buf)], &mut meta));
    timeout(LONG, receive).await.expect("a packet in time").unwrap();
    (buf[..meta[0].len].to_vec(), meta[0].addr)
}

/// A socket with one leg, and the router's side of it: its UDP socket, and the node's address as seen there.
async fn with_router() -> (Arc<NodeSocket>, UdpSocket, SocketAddr) {
    let router = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let socket = NodeSocket::new().unwrap();
    socket.update(|t| t.set_router(R, tag(200), [1; 8]));
    socket.set_leg(R, router.local_addr().unwrap(), Arc::new(Notify::new())).unwrap();
    send(&socket, &short(tag(1))).await;
    let mut buf = [0; 100];
    let (len, node) = timeout(LONG, router.recv_from(&mut buf)).await.unwrap().unwrap();
    assert_eq!(&buf[1..9], &tag(1).0);
    assert_eq!(&buf[17..len], b"payload");
    (socket, router, node)
}

#[tokio::test]
async fn only_the_router_is_heard_and_everything_comes_from_one_address() {
    let (socket, router, node) = with_router().await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // To a stranger the port is closed: the kernel says so.
    stranger.connect(node).await.unwrap();
    stranger.send(&short(tag(9))).await.unwrap();
    let refused = timeout(LONG, stranger.recv(&mut [0; 10])).await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let packet = short(tag(9));
    router.send_to(&packet, node).await.unwrap();
    assert_eq!(receive(&socket).await, (packet, VIRTUAL_ADDR));
    assert!(!socket.may_fragment(), "packets carry Don't Fragment, or MTU discovery is off");
}

#[tokio::test]
async fn handshakes_teach_the_way_back() {
    let (socket, router, node) = with_router().await;
    socket.update(|t| t.set_router(Slot(1), tag(201), [2; 8]));
    assert!(!socket.update(|t| t.knows(tag(7), R)));
    router.send_to(&long(tag(9), tag(7)), node).await.unwrap();
    receive(&socket).await;
    assert!(socket.update(|t| t.knows(tag(7), R)));
    // Short headers teach nothing; a packet that passes for the router's own teaches nothing either.
    router.send_to(&long(tag(9), tag(201)), node).await.unwrap();
    receive(&socket).await;
    assert!(!socket.update(|t| t.knows(tag(201), R)));
}

#[tokio::test]
async fn only_the_first_packet_to_a_peer_after_a_quiet_time_stirs() {
    let (socket, _router, _) = with_router().await;
    let stir = socket.stir(R).unwrap();
    let stirs = || async { timeout(Duration::ZERO, stir.notified()).await.is_ok() };
    send(&socket, &short(tag(1))).await;
    assert!(!stirs().await, "nobody has called it quiet");
    socket.set_quiet(R);
    send(&socket, &short(tag(200))).await;
    assert!(!stirs().await, "that was for the router itself");
    send(&socket, &short(tag(1))).await;
    assert!(stirs().await);
    send(&socket, &short(tag(1))).await;
    assert!(!stirs().await);
}

#[tokio::test]
async fn what_cannot_be_sent_is_counted_and_no_error() {
    let socket = NodeSocket::new().unwrap();
    send(&socket, &short(tag(1))).await;
    send(&socket, b"").await;
    assert_eq!(socket.counters().no_route.load(Relaxed), 2);
    // A router that is not there: the kernel reports it, the attachment is told, QUIC sees nothing.
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let trouble = Arc::new(Notify::new());
    socket.update(|t| t.set_router(R, tag(200), [1; 8]));
    socket.set_leg(R, gone, trouble.clone()).unwrap();
    assert_eq!(socket.leg(R), Some(gone));
    let reported = async {
        loop {
            send(&socket, &short(tag(1))).await;
            if timeout(Duration::from_millis(10), trouble.notified()).await.is_ok() {
                return;
            }
        }
    };
    timeout(LONG, reported).await.expect("the kernel's report in time");
    assert!(socket.counters().send_errors.load(Relaxed) > 0);
    // One byte more than UDP can carry.
    let errors = socket.counters().send_errors.load(Relaxed);
    send(&socket, &[short(tag(1)), vec![0; 65_536]].concat()).await;
    assert!(socket.counters().send_errors.load(Relaxed) > errors);
    socket.remove_leg(R);
    send(&socket, &short(tag(1))).await;
    assert_eq!(socket.counters().no_route.load(Relaxed), 3);
}

#[tokio::test]
async fn a_leg_that_comes_later_is_read_too() {
    let socket = NodeSocket::new().unwrap();
    let reading = tokio::spawn({
        let socket = socket.clone();
        async move { receive(&socket).await }
    });
    tokio::task::yield_now().await;
    let router = UdpSocket::bind("[::1]:0").await.unwrap();
    socket.update(|t| t.set_router(R, tag(200), [1; 8]));
    socket.set_leg(R, router.local_addr().unwrap(), Arc::new(Notify::new())).unwrap();
    send(&socket, &short(tag(200))).await;
    let mut buf = [0; 100];
    let (len, node) = timeout(LONG, router.recv_from(&mut buf)).await.unwrap().unwrap();
    router.send_to(&buf[..len], node).await.unwrap();
    assert_eq!(reading.await.unwrap(), (buf[..len].to_vec(), VIRTUAL_ADDR));
}

#[tokio::test]
async fn addresses_are_resolved_and_useless_ones_left_out() {
    let addresses =
        ["127.0.0.1:3022", "[::1]:3022", "0.0.0.0:3022", "127.0.0.1:0", "nonsense", "no-such.invalid:1"];
    let found = resolve(&addresses.map(str::to_owned)).await;
    assert_eq!(found, ["127.0.0.1:3022".parse().unwrap(), "[::1]:3022".parse().unwrap()]);
}
