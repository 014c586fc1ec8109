//! A router that has turned: it holds a good certificate and the passes that it saw, and gets nowhere with them.

use crate::{
    tap::Tap,
    world::{Node, ROUTER, World, issue, now, peer, within},
};
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_overlay::frame::{read_message, write_message};
use hesper_pki::{spiffe::SpiffeRole, token::PassClaims};
use hesper_proto::{
    control::RouterRevoked,
    overlay::{
        LinkHello, LinkMessage, PassResult, PeerGone, PeerRestarted, Ping, Pong, PresentPass, from_router,
        link_message::Message,
    },
};
use quinn::{RecvStream, SendStream};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const A: &[u8; 8] = b"dialer-a";
const B: &[u8; 8] = b"binder-b";
const C: &[u8; 8] = b"binder-c";
const HOSTILE: &str = "router-0";

struct Hostile {
    node: Node,
    send: SendStream,
    recv: RecvStream,
}

impl Hostile {
    /// Its connection, with this certificate and this first word.
    async fn hello(world: &World, id: &str, said: &str) -> (Self, Option<Message>) {
        let credentials = issue(&world.ca, SpiffeRole::Router, id);
        let node = Node::new(credentials, Tag(*b"router-0"), (ROUTER, world.addr));
        let connection = within("the handshake", node.connect(node.knock())).await.unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        let mut hostile = Self { node, send, recv };
        hostile.say(Message::Hello(LinkHello { router_id: said.into() })).await;
        let answer = hostile.try_hear().await;
        (hostile, answer)
    }

    async fn linked(world: &World) -> Self {
        let (hostile, answer) = Self::hello(world, HOSTILE, HOSTILE).await;
        assert!(matches!(answer, Some(Message::Hello(ref h)) if h.router_id == ROUTER), "{answer:?}");
        world.linked(1).await;
        hostile
    }

    async fn say(&mut self, message: Message) {
        write_message(&mut self.send, &LinkMessage { message: Some(message) }).await.unwrap();
    }

    async fn try_hear(&mut self) -> Option<Message> {
        within("the router", read_message::<LinkMessage>(&mut self.recv, 64 << 10)).await.ok()?.message
    }

    /// The answer to a pass; the router's pings in between are answered.
    async fn hand(&mut self, pass: &str) -> PassResult {
        self.say(Message::Pass(PresentPass { request_id: 7, pass: pass.into(), ..PresentPass::default() }))
            .await;
        loop {
            match self.try_hear().await.unwrap() {
                Message::PassResult(result) => return result,
                Message::Ping(ping) => self.say(Message::Pong(Pong { nonce: ping.nonce })).await,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn send(&self, world: &World, to: &[u8; 8], text: &str) {
        self.node.tap.send(world.addr, &[Node::datagram(Tag(*to), text)]).await;
    }
}

fn paths(texts: &[&str]) -> Vec<Vec<EdgeRouterId>> {
    texts.iter().map(|t| t.split_whitespace().map(EdgeRouterId::new).collect()).collect()
}

/// A router that knows the hostile one, and a router beyond that is not there.
async fn world() -> World {
    let mut world = World::new().await;
    let nowhere = "127.0.0.1:9".parse().unwrap();
    world.name_peers(vec![
        peer(HOSTILE, Tag(*b"router-0"), nowhere),
        peer("router-9", Tag(*b"router-9"), nowhere),
    ]);
    // It is written down when it has been heard.
    let kept = world.home.path().join("state.json");
    within("the controller's word", async {
        while !std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("router-9")) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    world
}

#[tokio::test]
async fn only_the_router_that_it_is_links_where_it_should() {
    let world = world().await;
    for (id, said, reason) in [
        (HOSTILE, "router-00", "names another router"),
        ("router-8", "router-8", "has not named this router"),
        ("router-9", "router-9", "the smaller id connects"),
        (ROUTER, ROUTER, "has not named this router"),
    ] {
        let (_, answer) = Hostile::hello(&world, id, said).await;
        assert!(
            matches!(answer, Some(Message::Refused(ref r)) if r.reason.contains(reason)),
            "{id}: {answer:?}"
        );
    }
    let refused = "hesper_router_attaches_total{outcome=\"refused\"}";
    world.wait_for("the count", refused, |n| n == 4).await;
    assert_eq!(world.metric("hesper_router_links").await, 0);
    Hostile::linked(&world).await;
}

#[tokio::test]
async fn a_node_is_no_router_and_a_router_no_node() {
    let world = world().await;
    let mut node =
        Node::new(issue(&world.ca, SpiffeRole::Router, HOSTILE), Tag(*b"node-one"), (ROUTER, world.addr));
    let token = world.sign(&node.claims);
    let connection = within("the handshake", node.connect(node.knock())).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let hello = hesper_proto::overlay::AttachHello { session_token: token };
    let hello = hesper_proto::overlay::from_node::Message::Hello(hello);
    write_message(&mut send, &hesper_proto::overlay::FromNode { message: Some(hello) }).await.unwrap();
    within("the end", connection.closed()).await;
    assert_eq!(world.metric("hesper_router_sessions").await, 0);

    node = world.node("one", b"node-one");
    let connection = within("the handshake", node.connect(node.knock())).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let hello = Message::Hello(LinkHello { router_id: HOSTILE.into() });
    write_message(&mut send, &LinkMessage { message: Some(hello) }).await.unwrap();
    within("the end", connection.closed()).await;
    assert_eq!(world.metric("hesper_router_links").await, 0);
}

#[tokio::test]
async fn stolen_passes_open_nothing_over_its_link() {
    let world = world().await;
    let (mut a, mut b) = (world.attached("a", A).await, world.attached("b", B).await);
    let mut hostile = Hostile::linked(&world).await;
    let claims = world.pass("p", &a, &b);
    for (texts, reason) in [
        (&["router-1"][..], "no path"),
        (&["router-1 router-0"], "no path"),
        (&["router-2 router-1"], "no path"),
        (&["router-0"], "no path"),
        (&["router-0 router-1", "router-0 router-1"], "twice"),
        (&["router-0 router-1 router-9"], "neither one router nor two"),
    ] {
        let result = hostile.hand(&world.sign(&PassClaims { paths: paths(texts), ..claims.clone() })).await;
        assert!(result.error.contains(reason) && !result.peer_attached, "{texts:?}: {result:?}");
    }
    let own_signature = hesper_pki::token::Signer::generate().unwrap();
    let good = PassClaims { paths: paths(&["router-0 router-1"]), ..claims.clone() };
    for (token, reason) in [
        (own_signature.sign(&good).unwrap(), "unknown key"),
        (world.sign(&PassClaims { iat: now() - 100, exp: now() - 1, ..good.clone() }), "expired"),
    ] {
        let result = hostile.hand(&token).await;
        assert!(result.error.contains(reason), "{result:?}");
    }
    hostile.send(&world, B, "let me in").await;
    world.wait_for_drops("link_pair_closed", 1).await;
    // What A presents itself opens nothing for the link either.
    assert!(a.present(&world.sign(&claims)).await.peer_attached);
    hostile.send(&world, B, "and now?").await;
    hostile.send(&world, A, "or you?").await;
    world.wait_for_drops("link_pair_closed", 3).await;
    assert!(a.received_nothing() && b.received_nothing());
}

#[tokio::test]
async fn what_comes_over_a_link_reaches_its_own_pairs_only_and_goes_to_no_second_link() {
    let mut world = world().await;
    let mut a = world.attached("a", A).await;
    let mut b = world.attached("b", B).await;
    let mut c = world.attached("c", C).await;
    let mut hostile = Hostile::linked(&world).await;
    let far = world.node("far", b"far-away");
    let claims = PassClaims { paths: paths(&["router-0 router-1"]), ..world.pass("p", &far, &b) };
    let result = hostile.hand(&world.sign(&claims)).await;
    assert!(result.error.is_empty() && result.peer_attached, "{result:?}");
    hostile.send(&world, B, "as it should be").await;
    assert_eq!(b.receive().await, "as it should be");
    hostile.send(&world, C, "no").await;
    hostile.send(&world, A, "no").await;
    hostile.send(&world, b"far-away", "no").await;
    world.wait_for_drops("link_pair_closed", 3).await;

    // A pass for a session behind another router: it is not here, and there is no second hop.
    let beyond = PassClaims { b: Tag(*b"beyond-9"), jti: "q".into(), ..claims.clone() };
    assert!(!hostile.hand(&world.sign(&beyond)).await.peer_attached);
    let own = PassClaims { b: Tag(*b"beyond-9"), ..world.pass("r", &a, &b) };
    let own = PassClaims { paths: paths(&["router-1 router-9"]), ..own };
    assert!(a.present(&world.sign(&own)).await.error.is_empty());
    hostile.send(&world, b"beyond-9", "further").await;
    world.wait_for_drops("destination_not_attached", 1).await;

    // Its rumours reach only who has a pair with it: C hears of nothing, A not of B, B of who is far.
    for tag in [B, C, A] {
        hostile.say(Message::PeerGone(PeerGone { tag: tag.to_vec() })).await;
        hostile.say(Message::PeerRestarted(PeerRestarted { tag: tag.to_vec() })).await;
    }
    hostile.say(Message::PeerRestarted(PeerRestarted { tag: b"far-away".to_vec() })).await;
    let heard = b.attach_mut().hear().await;
    assert!(
        matches!(heard, Ok(from_router::Message::PeerRestarted(ref r)) if r.tag == b"far-away"),
        "{heard:?}"
    );
    for node in [&mut a, &mut c] {
        node.attach_mut().say(hesper_proto::overlay::from_node::Message::Ping(Ping { nonce: 1 })).await;
        let heard = node.attach_mut().hear().await;
        assert!(matches!(heard, Ok(from_router::Message::Pong(_))), "{heard:?}");
    }

    let revoked = RouterRevoked { pass_ids: vec!["p".into()], ..Default::default() };
    world.controller().revocations.send(revoked).unwrap();
    world.wait_for("the end", "hesper_router_open_pairs", |n| n == 2).await;
    hostile.send(&world, B, "too late").await;
    world.wait_for_drops("link_pair_closed", 4).await;
    let again = hostile.hand(&world.sign(&claims)).await;
    assert!(again.error.contains("revoked"), "{again:?}");
    assert!(a.received_nothing() && b.received_nothing() && c.received_nothing());
}

/// A router whose link is up, and a pair over it: B is here, the other one there.
async fn pair() -> (World, Hostile, Node, Node) {
    let world = world().await;
    let b = world.attached("b", B).await;
    let mut there = Hostile::linked(&world).await;
    let far = world.node("far", b"far-away");
    let claims = PassClaims { paths: paths(&["router-0 router-1"]), ..world.pass("p", &far, &b) };
    assert!(there.hand(&world.sign(&claims)).await.peer_attached);
    (world, there, b, far)
}

#[tokio::test]
async fn whoever_sends_packets_of_a_link_from_elsewhere_gets_nothing_of_what_nodes_send() {
    let (_world, mut link, b, far) = pair().await;
    let thief = link.node.tap.hijack();
    // QUIC follows each of these packets, and the router looks several times meanwhile.
    for nonce in 0..100 {
        link.say(Message::Ping(Ping { nonce })).await;
        sleep(Duration::from_millis(10)).await;
    }
    for n in 0..10 {
        b.send(&far, &n.to_string()).await;
        let datagram = within("what B sends", link.node.raw.recv()).await.unwrap();
        assert_eq!(datagram, Node::datagram(far.claims.tag, &n.to_string()));
    }
    let (mut buf, mut stolen) = ([0; 2048], 0);
    while thief.recv(&mut buf).is_ok() {
        assert_ne!(buf[1..9], *b"far-away", "B has sent this");
        stolen += 1;
    }
    assert!(stolen > 0, "QUIC has not followed");
}

#[tokio::test]
async fn a_router_whose_address_changes_is_found_again() {
    let (_world, mut link, b, far) = pair().await;
    let (tap, raw) = Tap::new();
    link.node.endpoint.rebind_abstract(tap.clone()).unwrap();
    (link.node.tap, link.node.raw) = (tap, raw);
    let Hostile { mut send, mut recv, node } = link;
    let answering = tokio::spawn(async move {
        while let Ok(LinkMessage { message: Some(message) }) = read_message(&mut recv, 64 << 10).await {
            if let Message::Ping(ping) = message {
                let message = Some(Message::Pong(Pong { nonce: ping.nonce }));
                write_message(&mut send, &LinkMessage { message }).await.unwrap();
            }
        }
    });
    let mut raw = node.raw;
    within("the new address", async {
        loop {
            b.send(&far, "are you there?").await;
            if timeout(Duration::from_millis(20), raw.recv()).await.is_ok() {
                break;
            }
        }
    })
    .await;
    answering.abort();
}
