//! Two routers: a dialer at one, a binder at the other.

use crate::{
    forward::echo,
    world::{Node, OTHER, ROUTER, World, issue, within},
};
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_pki::{spiffe::SpiffeRole, token::PassClaims};
use hesper_proto::{
    control::RouterRevoked,
    overlay::{Ping, from_node, from_router},
};
use std::time::Duration;
use tokio::time::sleep;

const A: &[u8; 8] = b"dialer-a";
const B: &[u8; 8] = b"binder-b";

/// A pass from `a` to `b` along one path of both routers.
fn pass(world: &World, a: &Node, b: &Node) -> String {
    let paths = vec![vec![EdgeRouterId::new(ROUTER), EdgeRouterId::new(OTHER)]];
    world.sign(&PassClaims { paths, ..world.pass("p", a, b) })
}

/// A at the first router, B at the second, and the pair open.
async fn apart() -> (World, World, Node, Node) {
    let (one, two) = World::two().await;
    let mut a = one.attached("a", A).await;
    let b = two.attached("b", B).await;
    let pass = pass(&one, &a, &b);
    let result = a.present(&pass).await;
    assert!(result.error.is_empty() && result.peer_attached, "{result:?}");
    (one, two, a, b)
}

#[tokio::test]
async fn a_dialer_at_one_router_and_a_binder_at_the_other_talk_end_to_end() {
    let (mut one, two, mut a, mut b) = apart().await;
    a.send(&b, "hello").await;
    assert_eq!(b.receive().await, "hello");
    b.send(&a, "hello yourself").await;
    assert_eq!(a.receive().await, "hello yourself");
    let b = echo(&a, b).await;
    for world in [&one, &two] {
        assert!(world.metric("hesper_router_bytes_forwarded_total").await > 4_000_000, "{}", world.id);
    }
    let linked = |s: &hesper_proto::control::RouterStatus| {
        s.links.len() == 1 && s.links[0].router_id == OTHER && s.links[0].rtt_micros > 0
    };
    within("the report", one.controller().wait_for_status(linked)).await;
    drop(b);
}

#[tokio::test]
async fn nonsense_in_place_of_a_trace_opens_the_pair_all_the_same() {
    let (one, two, mut a, b) = apart().await;
    let pass = pass(&one, &a, &b);
    let (long, good) = ("x".repeat(4000), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    for (parent, state) in [("nonsense", "="), (&long, &long), ("00-🦀-", "🦀"), (good, &long), (good, "a=1")]
    {
        let result = a.present_in(&pass, parent, state).await;
        assert!(result.error.is_empty() && result.peer_attached, "{parent} {state}: {result:?}");
    }
    drop(two);
}

#[tokio::test]
async fn the_dialer_hears_whether_its_binder_is_attached_at_the_other_router() {
    let (one, two) = World::two().await;
    let mut a = one.attached("a", A).await;
    let b = two.node("b", B);
    let pass = pass(&one, &a, &b);
    let early = a.present(&pass).await;
    assert!(early.error.is_empty() && !early.peer_attached, "{early:?}");
    let b = two.attached("b", B).await;
    assert!(a.present(&pass).await.peer_attached);
    b.attach.as_ref().unwrap().connection.close(0u8.into(), b"");
    let gone = a.attach_mut().hear().await;
    assert!(matches!(gone, Ok(from_router::Message::PeerGone(ref g)) if g.tag == B), "{gone:?}");
}

#[tokio::test]
async fn a_router_that_is_killed_and_back_finds_its_link_and_its_passes_also_without_a_controller() {
    let (mut one, mut two, mut a, b) = apart().await;
    one.controller = None;
    two.controller = None;
    two.router = None;
    drop(b);
    one.linked(0).await;
    a.tap.send(one.addr, &[Node::datagram(Tag(*B), "lost")]).await;
    one.wait_for_drops("destination_not_attached", 1).await;

    two.start_router().await;
    let mut b = two.attached("b", B).await;
    one.linked(1).await;
    two.wait_for("the pass, handed over again", "hesper_router_open_pairs", |n| n == 1).await;
    a.send(&b, "here again").await;
    assert_eq!(b.receive().await, "here again");
    // A dead link is no sign that its peers are dead: the first that the dialer hears is the answer to this.
    a.attach_mut().say(from_node::Message::Ping(Ping { nonce: 9 })).await;
    let heard = a.attach_mut().hear().await;
    assert!(matches!(heard, Ok(from_router::Message::Pong(_))), "{heard:?}");

    // And the one that connects: from what it kept.
    one.router = None;
    one.start_router().await;
    one.linked(1).await;
    let mut a = one.attached("a", A).await;
    let pass = pass(&one, &a, &b);
    assert!(a.present(&pass).await.peer_attached);
    b.send(&a, "and back").await;
    assert_eq!(a.receive().await, "and back");
}

#[tokio::test]
async fn a_router_that_stops_says_so_and_its_link_ends() {
    let (mut one, mut two, a, b) = apart().await;
    let stopping = tokio::spawn(two.router.take().unwrap().shutdown());
    two.controller().wait_for_status(|s| s.draining).await;
    b.attach.as_ref().unwrap().connection.close(0u8.into(), b"gone elsewhere");
    assert_eq!(within("the stop", stopping).await.unwrap(), 0, "nobody was waited for in vain");
    within("the report", one.controller().wait_for_status(|s| s.links.is_empty())).await;
    assert!(a.attach.unwrap().connection.close_reason().is_none());
}

#[tokio::test]
async fn a_revocation_ends_what_came_over_the_link_too() {
    let (mut one, mut two, a, mut b) = apart().await;
    let revoked = RouterRevoked { pass_ids: vec!["p".into()], reason: "policy".into(), ..Default::default() };
    two.controller().revocations.send(revoked.clone()).unwrap();
    two.wait_for("the end", "hesper_router_open_pairs", |n| n == 0).await;
    a.send(&b, "too late").await;
    two.wait_for_drops("link_pair_closed", 1).await;
    assert!(b.received_nothing());
    one.controller().revocations.send(revoked).unwrap();
    one.wait_for("the end", "hesper_router_open_pairs", |n| n == 0).await;
    a.send(&b, "too late here too").await;
    one.wait_for_drops("unknown_tag", 1).await;
}

#[tokio::test]
async fn peers_of_a_session_that_died_hear_it_when_its_identity_attaches_as_another_one() {
    let (one, two, mut a, b) = apart().await;
    let mut c = two.attached("c", b"dialer-c").await;
    let local = PassClaims { paths: vec![vec![EdgeRouterId::new(OTHER)]], ..two.pass("q", &c, &b) };
    assert!(c.present(&two.sign(&local)).await.peer_attached);
    b.tap.kill();
    let _restarted = two.attached("b", b"binder-2").await;
    let _and_again = two.attached("b", b"binder-3").await;
    for (who, node) in [("over the link", &mut a), ("at the same router", &mut c)] {
        let heard = node.attach_mut().hear().await;
        assert!(
            matches!(heard, Ok(from_router::Message::PeerRestarted(ref r)) if r.tag == B),
            "{who}: {heard:?}"
        );
        let heard = node.attach_mut().hear().await;
        assert!(
            matches!(heard, Ok(from_router::Message::PeerGone(ref g)) if g.tag == B),
            "{who}, a restart is told once: {heard:?}"
        );
    }
    drop((one, b));
}

#[tokio::test]
async fn a_router_that_is_no_longer_named_keeps_its_link_for_a_while() {
    let (mut one, two, a, mut b) = apart().await;
    one.name_peers(vec![]);
    let kept = one.home.path().join("state.json");
    within("the controller's word", async {
        while std::fs::read_to_string(&kept).unwrap().contains(OTHER) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    one.linked(1).await;
    a.send(&b, "still here").await;
    assert_eq!(b.receive().await, "still here");
    let stranger = issue(&one.ca, SpiffeRole::Router, "router-3");
    let node = Node::new(stranger, Tag(*b"router-3"), (OTHER, two.addr));
    assert!(node.connect(node.knock()).await.is_ok(), "its certificate is good");
}
