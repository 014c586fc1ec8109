//! The node's half as it ships (hesper-overlay) against the router.

use crate::world::{OTHER, ROUTER, SECRET, World, issue, now, within};
use hesper_model::id::{EdgeRouterId, IdentityId, Tag};
use hesper_overlay::{
    attach::AttachTarget,
    knock,
    node::{Node, NodeOptions, PassError},
    passes::Pass,
};
use hesper_pki::{
    credentials::SharedCredentials,
    spiffe::SpiffeRole,
    token::{PassClaims, SessionClaims, Verifier},
};
use std::time::Duration;

fn target(world: &World, session: Tag) -> AttachTarget {
    AttachTarget {
        router_id: world.id.into(),
        name: world.id.into(),
        addresses: vec![world.addr.to_string()],
        tag: world.tag,
        knock_key_id: session.0,
        knock_key: knock::derive(&SECRET, session.0),
    }
}

fn node(world: &World, id: &str, tag: Tag) -> (Node, SharedCredentials) {
    let credentials = SharedCredentials::new(issue(&world.ca, SpiffeRole::Identity, id));
    let cnf = credentials.current().spki_sha256.clone();
    let claims = SessionClaims { sub: IdentityId::new(id), tag, cnf, iat: now(), exp: now() + 3_600 };
    let session_token = world.sign(&claims);
    let outage_grace = Duration::from_secs(3_600);
    let node = Node::new(NodeOptions { credentials: credentials.clone(), tag, session_token, outage_grace });
    let node = node.unwrap();
    node.set_verifier(Verifier::new([(world.signer.kid().to_owned(), world.signer.public_key())]));
    node.set_routers(vec![target(world, tag)]);
    (node, credentials)
}

async fn wait_attached(node: &Node, wanted: bool) {
    let mut states = node.attached();
    within("the attachment", states.wait_for(|s| s.iter().any(|a| a.attached) == wanted)).await.unwrap();
}

fn pass(world: &World, id: &str, a: Tag, b: Tag, cnf: &str, path: &[&str]) -> Pass {
    let paths = vec![path.iter().map(|r| EdgeRouterId::new(*r)).collect()];
    let (iat, exp) = (now(), now() + 300);
    let claims = PassClaims { jti: id.into(), a, b, paths, cnf: cnf.into(), iat, exp };
    let paths = vec![path.iter().map(|r| (*r).into()).collect()];
    Pass { peer: b, purpose: "t".into(), token: world.sign(&claims), paths, exp }
}

#[tokio::test]
async fn nodes_attach_open_their_pair_and_reach_each_other_also_after_a_restart_of_the_router() {
    let mut world = World::new().await;
    let (a, b) = (Tag(*b"dialer-a"), Tag(*b"binder-b"));
    let (dialer, credentials) = node(&world, "a", a);
    let cnf = credentials.current().spki_sha256.clone();
    wait_attached(&dialer, true).await;
    let early = dialer.present(pass(&world, "p", a, b, &cnf, &[ROUTER])).await;
    assert_eq!(early, Err(PassError::PeerNotAttached));
    let (binder, _) = node(&world, "b", b);
    wait_attached(&binder, true).await;
    dialer.present(pass(&world, "q", a, b, &cnf, &[ROUTER])).await.unwrap();
    let id = IdentityId::new("b");
    let peer = within("the peer", dialer.connect_peer(&id, b)).await.unwrap();
    assert!(peer.is_usable());
    let stranger = within("nobody", dialer.connect_peer(&IdentityId::new("c"), b)).await;
    assert!(stranger.is_err(), "the tag is another identity's");

    world.router = None;
    wait_attached(&dialer, false).await;
    world.start_router().await;
    for node in [&dialer, &binder] {
        wait_attached(node, true).await;
    }
    world.wait_for("the pair, opened again", "hesper_router_open_pairs", |n| n == 1).await;
    world.wait_for("its traffic", "hesper_router_packets_forwarded_total", |n| n > 0).await;
    assert!(peer.is_usable(), "the end-to-end connection has not noticed");
}

#[tokio::test]
async fn nodes_at_two_routers_reach_each_other_over_the_link_also_after_either_router_was_killed() {
    let (mut one, mut two) = World::two().await;
    let (a, b) = (Tag(*b"dialer-a"), Tag(*b"binder-b"));
    let (dialer, credentials) = node(&one, "a", a);
    let cnf = credentials.current().spki_sha256.clone();
    let (binder, _) = node(&two, "b", b);
    for node in [&dialer, &binder] {
        wait_attached(node, true).await;
    }
    dialer.present(pass(&one, "p", a, b, &cnf, &[ROUTER, OTHER])).await.unwrap();
    let peer = within("the peer", dialer.connect_peer(&IdentityId::new("b"), b)).await.unwrap();
    assert!(peer.is_usable());
    for world in [&one, &two] {
        assert!(world.metric("hesper_router_packets_forwarded_total").await > 0, "{}", world.id);
    }
    for (which, node) in [(&mut one, &dialer), (&mut two, &binder)] {
        which.router = None;
        wait_attached(node, false).await;
        which.start_router().await;
        wait_attached(node, true).await;
        which.linked(1).await;
        which.wait_for("the pair, opened again", "hesper_router_open_pairs", |n| n == 1).await;
        which.wait_for("its traffic", "hesper_router_packets_forwarded_total", |n| n > 0).await;
        assert!(peer.is_usable(), "the end-to-end connection has not noticed {}'s death", which.id);
    }
}
