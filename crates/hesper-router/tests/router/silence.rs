//! To whoever is not enrolled, a router's port does not exist.

use crate::world::{Node, ROUTER_TAG, SECRET, World, now};
use hesper_overlay::{cid::fresh_dcid, knock};
use hesper_proto::overlay::{Ping, from_node};
use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};
use tokio::{net::UdpSocket, time::timeout};

/// Sends from a fresh socket and says whether anything came back once the router has seen it all.
struct Stranger(UdpSocket);

impl Stranger {
    async fn new(router: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(router).await.unwrap();
        Self(socket)
    }

    async fn send(&self, datagram: &[u8]) {
        self.0.send(datagram).await.unwrap();
    }

    async fn heard_nothing(&self, world: &World) -> bool {
        // The router takes datagrams in order, so an answer to an earlier one has left before the second marker is counted.
        for _ in 0..2 {
            let before = world.drops("malformed").await;
            self.send(b"marker").await;
            world.wait_for_drops("malformed", before + 1).await;
        }
        self.0.try_recv(&mut [0; 2048]).is_err()
    }
}

fn long(version: u32, dcid: &[u8], scid: &[u8]) -> Vec<u8> {
    let head = [&[0xc0], &version.to_be_bytes()[..], &[dcid.len() as u8], dcid, &[scid.len() as u8], scid];
    let mut packet = head.concat();
    packet.resize(1_200, 0x55);
    packet
}

#[tokio::test]
async fn probes_and_junk_are_not_answered() {
    let world = World::new().await;
    let stranger = Stranger::new(world.addr).await;
    let own = fresh_dcid(ROUTER_TAG);
    let wrong_knock = knock::make([1; 8], &[0; 32], now(), 0);
    let stale_knock = knock::make([1; 8], &knock::derive(&SECRET, [1; 8]), now() - 120, 0);
    for dcid in [&own[..], &wrong_knock[..], &[7; 8][..], &[7; 20][..], &[]] {
        for version in [1, 0, 0x6b33_43cf, 0xff00_001d, 0x1a2a_3a4a] {
            stranger.send(&long(version, dcid, &[9; 16])).await;
        }
    }
    stranger.send(&long(1, &stale_knock, &[9; 16])).await;
    for first in [0x00, 0x40, 0x41, 0x7f] {
        stranger.send(&[&[first][..], &own[..], &[0x33; 1_000]].concat()).await;
    }
    for len in [0, 1, 17, 1_200, 9_000] {
        stranger.send(&vec![0xff; len]).await;
    }
    assert!(stranger.heard_nothing(&world).await);
    assert!(world.drops("knock_invalid").await >= 3);
    assert!(world.drops("foreign_connection_id").await >= 4);
    assert_eq!(world.metric("hesper_router_packets_forwarded_total").await, 0);
}

#[tokio::test]
async fn a_handshake_without_a_good_knock_hears_nothing() {
    let world = World::new().await;
    let node = world.node("one", b"node-one");
    for wrong in [knock::make([1; 8], &[0; 32], now(), 0), [0; 20]] {
        let before = world.drops("knock_invalid").await;
        let connecting = timeout(Duration::from_secs(30), node.connect(wrong));
        tokio::select! {
            result = connecting => panic!("{result:?}"),
            () = world.wait_for_drops("knock_invalid", before + 2) => {}
        }
    }
    assert_eq!(node.tap.received.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_was_overheard_opens_nothing() {
    let world = World::new().await;
    let mut node: Node = world.attached("one", b"node-one").await;
    node.attach_mut().say(from_node::Message::Ping(Ping { nonce: 1 })).await;
    node.attach_mut().hear().await.unwrap();
    let overheard = node.tap.sent.lock().unwrap().clone();
    assert!(overheard.iter().any(|p| p[0] & 0x80 == 0), "a packet with a short header among them");

    let stranger = Stranger::new(world.addr).await;
    for packet in &overheard {
        stranger.send(packet).await;
    }
    assert!(stranger.heard_nothing(&world).await, "while the connection lives");
    assert!(world.drops("knock_replayed").await >= 1);

    node.attach_mut().connection.close(0u8.into(), b"");
    world.wait_for("the end", "hesper_router_sessions", |n| n == 0).await;
    for packet in &overheard {
        stranger.send(packet).await;
    }
    // An Initial towards a connection id that was the router's own: no new handshake either.
    let id = &overheard.iter().find(|p| p[0] & 0x80 == 0).unwrap()[1..17];
    stranger.send(&long(1, id, &[9; 16])).await;
    assert!(stranger.heard_nothing(&world).await, "after its end");
}
