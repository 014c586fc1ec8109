//! What gets through: only between two attached sessions, only while a pass holds them open.

use crate::{
    tap::Tap,
    world::{Node, World, now, within},
};
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_overlay::{
    cid::fresh_dcid,
    transport::{client_config, peer_transport},
};
use hesper_pki::{spiffe::SpiffeId, tls, token::PassClaims};
use hesper_proto::{
    control::RouterRevoked,
    overlay::{Ping, from_node, from_router},
};
use std::time::Duration;

const A: &[u8; 8] = b"dialer-a";
const B: &[u8; 8] = b"binder-b";
const C: &[u8; 8] = b"binder-c";

/// A and B attached, no pass yet.
async fn two(world: &World) -> (Node, Node) {
    (world.attached("a", A).await, world.attached("b", B).await)
}

/// A and B attached and open under the pass `p`.
async fn open(world: &World) -> (Node, Node) {
    let (mut a, b) = two(world).await;
    let pass = world.sign(&world.pass("p", &a, &b));
    let result = a.present(&pass).await;
    assert!(result.error.is_empty() && result.peer_attached, "{result:?}");
    (a, b)
}

/// A stream of two megabytes from `a` to `b` and back, end to end.
pub(crate) async fn echo(a: &Node, b: Node) -> Node {
    let (to, expected) =
        (b.claims.tag, SpiffeId::new(crate::world::TRUST_DOMAIN, b.credentials.current().id.role, "b"));
    let tls = tls::peer_client(a.credentials.clone(), expected.unwrap());
    let config = client_config(tls, peer_transport(), move || fresh_dcid(to)).unwrap();
    let binder = tokio::spawn(async move {
        let connection = b.endpoint.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = connection.accept_bi().await.unwrap();
        let got = recv.read_to_end(4 << 20).await.unwrap();
        send.write_all(&got).await.unwrap();
        send.finish().unwrap();
        connection.closed().await;
        b
    });
    let dialed = a.endpoint.connect_with(config, a.router(), "peer").unwrap();
    let connection = within("the peer", dialed).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let sent: Vec<u8> = (0..2_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let writing = sent.clone();
    let writer = tokio::spawn(async move {
        send.write_all(&writing).await.unwrap();
        send.finish().unwrap();
        send
    });
    let echoed = within("the echo", recv.read_to_end(4 << 20)).await.unwrap();
    assert!(echoed == sent, "{} bytes came back", echoed.len());
    writer.await.unwrap();
    connection.close(0u8.into(), b"");
    within("the binder", binder).await.unwrap()
}

#[tokio::test]
async fn two_nodes_talk_end_to_end_through_a_router_that_has_no_key_of_theirs() {
    let world = World::new().await;
    let (a, b) = open(&world).await;
    echo(&a, b).await;
    assert!(world.metric("hesper_router_bytes_forwarded_total").await > 4_000_000);
    // Jumbo frames, once the nodes have found that loopback carries them.
    assert!(world.metric("hesper_router_packets_forwarded_total").await > 400);
}

#[tokio::test]
async fn without_a_pass_nothing_gets_through() {
    let world = World::new().await;
    let (mut a, mut b) = two(&world).await;
    a.send(&b, "too early").await;
    world.wait_for_drops("pair_closed", 1).await;
    let pass = world.sign(&world.pass("p", &a, &b));
    assert!(a.present(&pass).await.error.is_empty());
    a.send(&b, "hello").await;
    assert_eq!(b.receive().await, "hello");
    b.send(&a, "hello yourself").await;
    assert_eq!(a.receive().await, "hello yourself");
    assert_eq!(world.metric("hesper_router_open_pairs").await, 1);

    let stranger = world.node("stranger", b"stranger");
    stranger.send(&b, "let me in").await;
    world.wait_for_drops("unknown_source", 1).await;
    let c = world.attached("c", C).await;
    c.send(&b, "me too").await;
    world.wait_for_drops("pair_closed", 2).await;
    a.send(&stranger, "anybody?").await;
    world.wait_for_drops("unknown_tag", 1).await;
    assert!(b.received_nothing());
}

#[tokio::test]
async fn a_pass_counts_only_from_its_dialer_at_its_routers() {
    let world = World::new().await;
    let (mut a, mut b) = two(&world).await;
    let good = world.pass("p", &a, &b);
    let other_router = PassClaims { paths: vec![vec![EdgeRouterId::new("router-2")]], ..good.clone() };
    let other_key = PassClaims { cnf: "0".repeat(64), ..good.clone() };
    for (reason, claims) in [("not for this router", other_router), ("another key", other_key)] {
        let result = a.present(&world.sign(&claims)).await;
        assert!(result.error.contains(reason), "{result:?}");
    }
    let result = b.present(&world.sign(&good)).await;
    assert!(result.error.contains("another session"), "{result:?}");
    a.send(&b, "still closed").await;
    world.wait_for_drops("pair_closed", 1).await;
    assert!(b.received_nothing());
}

#[tokio::test]
async fn a_revoked_pass_closes_its_pair_and_no_other_and_cannot_come_back() {
    let mut world = World::new().await;
    let (mut a, b) = open(&world).await;
    let mut c = world.attached("c", C).await;
    let survivor = world.sign(&world.pass("q", &a, &c));
    assert!(a.present(&survivor).await.error.is_empty());
    let revoked = RouterRevoked { pass_ids: vec!["p".into()], reason: "policy".into(), ..Default::default() };
    world.controller().revocations.send(revoked).unwrap();
    world.wait_for("the pair's end", "hesper_router_open_pairs", |n| n == 1).await;
    a.send(&b, "too late").await;
    world.wait_for_drops("pair_closed", 1).await;
    a.send(&c, "undisturbed").await;
    assert_eq!(c.receive().await, "undisturbed");
    let again = world.sign(&world.pass("p", &a, &b));
    assert!(a.present(&again).await.error.contains("revoked"));
}

#[tokio::test]
async fn a_merged_batch_reaches_every_destination_whole_and_in_order() {
    let mut world = World::new().await;
    let (mut a, mut b) = open(&world).await;
    let mut c = world.attached("c", C).await;
    let pass = world.sign(&world.pass("q", &a, &c));
    assert!(a.present(&pass).await.error.is_empty());
    let router = world.addr;
    let tags = [&b, &b, &c, &b, &c, &c, &c, &b].map(|n| n.claims.tag);
    let batch: Vec<_> = (0..40).map(|i| Node::datagram(tags[i % 8], &format!("{i:02}"))).collect();
    a.tap.send(router, &batch).await;
    for i in 0..40 {
        let to = if tags[i % 8] == b.claims.tag { &mut b } else { &mut c };
        assert_eq!(to.receive().await, format!("{i:02}"));
    }
    assert!(b.received_nothing() && c.received_nothing());
    // The attach connection, whose packets travel in the same socket, is well.
    world.controller().wait_for_status(|s| s.attached.len() == 3).await;
    a.attach_mut().say(from_node::Message::Ping(Ping { nonce: 3 })).await;
    assert!(a.attach_mut().hear().await.is_ok());
}

#[tokio::test]
async fn a_node_whose_address_changes_is_found_again() {
    let world = World::new().await;
    let (a, mut b) = open(&world).await;
    let (tap, raw) = Tap::new();
    b.endpoint.rebind_abstract(tap.clone()).unwrap();
    (b.tap, b.raw) = (tap, raw);
    b.attach_mut().say(from_node::Message::Ping(Ping { nonce: 5 })).await;
    assert!(matches!(b.attach_mut().hear().await, Ok(from_router::Message::Pong(_))));
    let mut arrived = None;
    within("the new address", async {
        while arrived.is_none() {
            a.send(&b, "are you there?").await;
            arrived = tokio::time::timeout(Duration::from_millis(20), b.raw.recv()).await.ok();
        }
    })
    .await;
    let mut a = a;
    b.send(&a, "here").await;
    assert_eq!(a.receive().await, "here");
}

#[tokio::test]
async fn a_dialer_is_told_when_its_peer_is_gone() {
    let world = World::new().await;
    let (mut a, b) = open(&world).await;
    b.attach.as_ref().unwrap().connection.close(0u8.into(), b"");
    let gone = a.attach_mut().hear().await;
    assert!(matches!(gone, Ok(from_router::Message::PeerGone(ref g)) if g.tag == B), "{gone:?}");
    a.send(&b, "hello?").await;
    world.wait_for_drops("destination_not_attached", 1).await;
}

#[tokio::test]
async fn both_are_told_when_the_last_pass_of_their_pair_lapses() {
    let world = World::new().await;
    let (mut a, mut b) = two(&world).await;
    let pass = |id: &str, life: u64| PassClaims { exp: now() + life, ..world.pass(id, &a, &b) };
    let passes = [world.sign(&pass("p", 3)), world.sign(&pass("q", 4))];
    for pass in &passes {
        assert!(a.present(pass).await.peer_attached);
    }
    for (node, other) in [(&mut a, B), (&mut b, A)] {
        let gone = node.attach_mut().hear().await;
        assert!(matches!(gone, Ok(from_router::Message::PeerGone(ref g)) if g.tag == other), "{gone:?}");
    }
    a.send(&b, "too late").await;
    world.wait_for_drops("pair_closed", 1).await;
    assert!(b.received_nothing());
    // Nothing else was said: not when the first one lapsed, and not twice.
    a.attach_mut().say(from_node::Message::Ping(Ping { nonce: 1 })).await;
    let heard = a.attach_mut().hear().await;
    assert!(matches!(heard, Ok(from_router::Message::Pong(_))), "{heard:?}");
}

#[tokio::test]
async fn a_session_over_its_rate_loses_what_is_too_much_and_nobody_else_does() {
    let world = World::limited("100pps".parse().unwrap()).await;
    let (a, mut b) = open(&world).await;
    let mut c = world.attached("c", C).await;
    let pass = world.sign(&world.pass("q", &c, &b));
    assert!(c.present(&pass).await.error.is_empty());
    let flood: Vec<_> = (0..40).map(|i| Node::datagram(b.claims.tag, &format!("flood {i:02}"))).collect();
    for _ in 0..5 {
        a.tap.send(world.addr, &flood).await;
    }
    world.wait_for_drops("rate_limited", 100).await;
    let calm: Vec<_> = (0..40).map(|i| Node::datagram(b.claims.tag, &format!("calm {i:03}"))).collect();
    c.tap.send(world.addr, &calm).await;
    let (mut flooded, mut calmed) = (0, 0);
    while calmed < 40 {
        let text = b.receive().await;
        if text.starts_with("flood") {
            flooded += 1;
        } else {
            assert_eq!(text, format!("calm {calmed:03}"));
            calmed += 1;
        }
    }
    assert!(flooded >= 64, "{flooded} of the burst got through");
    assert_eq!(flooded + world.drops("rate_limited").await, 200, "the rest is counted");
}

#[tokio::test]
async fn a_flood_does_not_keep_the_router_from_its_own_work() {
    let world = World::new().await;
    let (a, _b) = two(&world).await;
    let mut c = world.attached("c", C).await;
    let (tap, router) = (a.tap.clone(), world.addr);
    let flood = tokio::spawn(async move {
        let batch: Vec<_> = (0..40).map(|i| Node::datagram(Tag(*B), &format!("{i:02}"))).collect();
        loop {
            tap.send(router, &batch).await;
            tokio::task::yield_now().await;
        }
    });
    world.wait_for_drops("pair_closed", 10_000).await;
    for nonce in 0..20 {
        c.attach_mut().say(from_node::Message::Ping(Ping { nonce })).await;
        assert!(matches!(c.attach_mut().hear().await, Ok(from_router::Message::Pong(p)) if p.nonce == nonce));
    }
    world.attached("d", b"late-one").await;
    flood.abort();
}
