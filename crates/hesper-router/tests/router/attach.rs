//! Who gets in: only an identity of the network, with its own token, for its own tag.

use crate::world::{Node, ROUTER, World, issue, now, within};
use hesper_model::id::{IdentityId, Tag};
use hesper_pki::{
    ca::CertificateAuthority,
    spiffe::SpiffeRole,
    token::{SessionClaims, Signer},
};
use hesper_proto::{
    control::RouterRevoked,
    overlay::{AttachHello, Ping, from_node, from_router},
};
use time::OffsetDateTime;

const TAG: &[u8; 8] = b"node-one";

async fn refused(world: &World, change: impl FnOnce(&mut SessionClaims)) -> String {
    let mut node = world.node("one", TAG);
    let mut claims = node.claims.clone();
    change(&mut claims);
    let token = world.sign(&claims);
    node.attach(&token).await.expect_err("attached")
}

#[tokio::test]
async fn an_identity_attaches_with_its_token_and_the_controller_hears_of_it() {
    let mut world = World::new().await;
    let mut node = world.attached("one", TAG).await;
    world.controller().wait_for_status(|s| s.attached == [TAG.to_vec()]).await;
    node.attach_mut().say(from_node::Message::Ping(Ping { nonce: 42 })).await;
    assert!(matches!(node.attach_mut().hear().await, Ok(from_router::Message::Pong(p)) if p.nonce == 42));

    let fresher = world.sign(&SessionClaims { exp: now() + 7_200, ..node.claims.clone() });
    node.attach_mut().say(from_node::Message::Hello(AttachHello { session_token: fresher })).await;
    assert!(matches!(node.attach_mut().hear().await, Ok(from_router::Message::Accepted(_))));

    node.attach_mut().send.finish().unwrap();
    world.controller().wait_for_status(|s| s.attached.is_empty()).await;
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_with_the_reason() {
    let world = World::new().await;
    for (reason, got) in [
        ("belongs to another identity", refused(&world, |c| c.sub = IdentityId::new("two")).await),
        ("bound to another key", refused(&world, |c| c.cnf = "0".repeat(64)).await),
        ("expired", refused(&world, |c| c.exp = now()).await),
    ] {
        assert!(got.contains(reason), "{got}");
    }
    let mut node = world.node("one", TAG);
    let forged = Signer::generate().unwrap().sign(&node.claims).unwrap();
    assert!(node.attach(&forged).await.unwrap_err().contains("unknown key"));
    assert!(world.node("one", TAG).attach("junk").await.unwrap_err().contains("not a JWT"));

    let counted = "hesper_router_attaches_total{outcome=\"refused\"}";
    world.wait_for("the count", counted, |n| n == 5).await;
    assert_eq!(world.metric("hesper_router_sessions").await, 0);
}

#[tokio::test]
async fn an_identity_of_another_network_does_not_get_past_the_handshake() {
    let world = World::new().await;
    let other = CertificateAuthority::create(crate::world::TRUST_DOMAIN, OffsetDateTime::now_utc()).unwrap();
    let mut node = Node::new(issue(&other, SpiffeRole::Identity, "one"), Tag(*TAG), (ROUTER, world.addr));
    let token = world.sign(&node.claims);
    node.attach(&token).await.expect_err("attached");
    let failed = "hesper_router_attaches_total{outcome=\"handshake_failed\"}";
    // The node may give up first: it does not trust the router either.
    world.wait_for("the failed handshake", failed, |n| n == 1).await;
}

#[tokio::test]
async fn a_later_token_for_another_tag_ends_the_session() {
    let world = World::new().await;
    let mut node = world.attached("one", TAG).await;
    let token = world.sign(&SessionClaims { tag: Tag(*b"node-two"), ..node.claims.clone() });
    node.attach_mut().say(from_node::Message::Hello(AttachHello { session_token: token })).await;
    within("the end", node.attach_mut().connection.closed()).await;
    world.wait_for("the end", "hesper_router_sessions", |n| n == 0).await;
}

#[tokio::test]
async fn a_new_attach_of_the_same_session_replaces_the_old_one() {
    let mut world = World::new().await;
    let first = world.attached("one", TAG).await;
    let mut second =
        Node::new(issue(&world.ca, SpiffeRole::Identity, "one"), Tag(*TAG), (ROUTER, world.addr));
    let token = world.sign(&second.claims);
    second.attach(&token).await.unwrap();
    within("the old one's end", first.attach.unwrap().connection.closed()).await;
    second.attach_mut().say(from_node::Message::Ping(Ping { nonce: 1 })).await;
    assert!(second.attach_mut().hear().await.is_ok());
    world.controller().wait_for_status(|s| s.attached == [TAG.to_vec()]).await;
}

#[tokio::test]
async fn one_identity_has_no_more_than_its_share_of_sessions() {
    let world = World::new().await;
    let mut nodes = Vec::new();
    for i in 0..64u64 {
        nodes.push(world.attached("one", &i.to_be_bytes()).await);
    }
    let mut one_more = world.node("one", TAG);
    let token = world.sign(&one_more.claims);
    assert!(one_more.attach(&token).await.unwrap_err().contains("64 sessions"));
    world.wait_for("the count", "hesper_router_attaches_total{outcome=\"limited\"}", |n| n == 1).await;
    world.attached("two", b"node-two").await;
    nodes.pop();
    world.wait_for("room", "hesper_router_sessions", |n| n <= 64).await;
    within("a free place", async { while one_more.attach(&token).await.is_err() {} }).await;
}

#[tokio::test]
async fn who_is_killed_is_missed_before_quic_misses_it() {
    let world = World::new().await;
    let mut a = world.attached("a", b"dialer-a").await;
    let process = tokio::runtime::Runtime::new().unwrap();
    let mut b = {
        let _inside = process.enter();
        world.node("b", b"binder-b")
    };
    let token = world.sign(&b.claims);
    b.attach(&token).await.unwrap();
    let pass = world.sign(&world.pass("p", &a, &b));
    assert!(a.present(&pass).await.peer_attached);
    process.shutdown_background();
    let gone = a.attach_mut().hear().await;
    assert!(matches!(gone, Ok(from_router::Message::PeerGone(ref g)) if g.tag == b"binder-b"), "{gone:?}");
    assert_eq!(world.metric("hesper_router_sessions_silent_total").await, 1);
    assert_eq!(world.metric("hesper_router_sessions").await, 1, "the dialer, which is idle, stays");
}

#[tokio::test]
async fn sessions_of_one_identity_live_side_by_side_and_only_the_one_that_died_is_told_of() {
    let world = World::new().await;
    let mut a = world.attached("a", b"dialer-a").await;
    let mut sessions = Vec::new();
    for i in 0..8u64 {
        let b = world.attached("b", &i.to_be_bytes()).await;
        let pass = world.sign(&world.pass(&i.to_string(), &a, &b));
        assert!(a.present(&pass).await.peer_attached);
        sessions.push(b);
    }
    sessions[3].tap.kill();
    sessions.push(world.attached("b", b"another!").await);
    // The first that the dialer hears, after all those attaches.
    let heard = a.attach_mut().hear().await;
    let died = sessions[3].claims.tag.0;
    assert!(matches!(heard, Ok(from_router::Message::PeerRestarted(ref r)) if r.tag == died), "{heard:?}");
    assert_eq!(world.metric("hesper_router_sessions_restarted_total").await, 1);
    let heard = a.attach_mut().hear().await;
    assert!(matches!(heard, Ok(from_router::Message::PeerGone(ref g)) if g.tag == died), "{heard:?}");
}

#[tokio::test]
async fn a_revoked_session_goes_at_once_and_stays_out() {
    let mut world = World::new().await;
    let mut node = world.attached("one", TAG).await;
    let bystander = world.attached("two", b"node-two").await;
    let revoked = RouterRevoked { session_tags: vec![TAG.to_vec()], ..Default::default() };
    world.controller().revocations.send(revoked).unwrap();
    within("the end", node.attach_mut().connection.closed()).await;
    let token = world.sign(&node.claims);
    assert!(node.attach(&token).await.unwrap_err().contains("revoked"));
    assert!(bystander.attach.unwrap().connection.close_reason().is_none());
}
