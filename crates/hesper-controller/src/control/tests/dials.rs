//! Dials over one router and over two, other ways when one is lost, and what a no says.

use super::{
    ask,
    world::{DEADLINE, World},
};
use crate::control::{WAITING_MAX, unix_now};
use hesper_model::{
    entity::Service,
    id::{EdgeRouterId, IdentityId, TerminatorId},
};
use hesper_pki::token::PassClaims;
use hesper_proto::control::{DialRequest, NodeState};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn routers_learn_of_each_other_and_their_link_carries_a_dial() {
    let world = World::new().await;
    world.separate().await;
    let (mut r1, mut r2) = (world.router("r1").await, world.router("r2").await);
    let peers = r1.state_where(|s| !s.peers.is_empty()).await.peers;
    assert_eq!(
        (peers[0].router_id.as_str(), &peers[0].addresses[..]),
        ("r2", &["r2.test:3022".to_owned()][..])
    );
    let tag_of_r2 = world.state.records().router_secret("r2").unwrap().tag;
    assert_eq!(peers[0].tag, tag_of_r2.0);
    r2.state_where(|s| s.peers.iter().any(|p| p.router_id == "r1")).await;
    let (mut dialer, mut binder) = (world.node("dialer").await, world.node("binder").await);
    dialer.attach(&["r1"]).await;
    binder.attach(&["r2"]).await;
    binder.bind("s", "").await.unwrap();
    // The link comes up while the dial waits for it.
    let dial = async { dialer.dial(ask("s")).await };
    let link = async {
        r1.report(false, &[("r2", 400)]).await;
        r2.report(false, &[("r1", 400)]).await;
    };
    let (dialed, ()) = tokio::join!(dial, link);
    let answer = dialed.unwrap();
    let pass: PassClaims = world.state.verifier().verify(&answer.pass, unix_now()).unwrap();
    assert_eq!(answer.paths[0].router_ids, ["r1", "r2"]);
    assert_eq!(pass.paths, [["r1", "r2"].map(EdgeRouterId::new)]);
    drop(r2);
    assert_eq!(r1.state_where(|s| s.peers.is_empty()).await.peers, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialer_is_sent_for_other_ways_when_its_own_is_lost() {
    let world = World::new().await;
    let (r1, _r2) = (world.router("r1").await, world.router("r2").await);
    let (mut dialer, mut binder) = (world.node("dialer").await, world.node("binder").await);
    dialer.attach(&["r1", "r2"]).await;
    binder.attach(&["r1", "r2"]).await;
    binder.bind("s", "").await.unwrap();
    let answer = dialer.dial(ask("s")).await.unwrap();
    assert_eq!(answer.paths[0].router_ids, ["r1"]);
    r1.report(true, &[]).await;
    assert_eq!(dialer.reroute().await, std::slice::from_ref(&answer.grant_id));
    let renewal = DialRequest { terminator_id: answer.terminator_id.clone(), ..ask("s") };
    let renewed = dialer.dial(renewal.clone()).await.unwrap();
    assert_eq!(renewed.paths[0].router_ids, ["r2"]);
    // The new grant is for the other way; that one is lost with the binder's attachment.
    r1.report(false, &[]).await;
    binder.attach(&["r1"]).await;
    assert_eq!(dialer.reroute().await, std::slice::from_ref(&renewed.grant_id));
    assert_eq!(dialer.dial(renewal).await.unwrap().paths[0].router_ids, ["r1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_waits_for_a_binder_that_is_about_to_attach() {
    let world = World::new().await;
    let _router = world.router("r1").await;
    let (mut dialer, mut binder) = (world.node("dialer").await, world.node("binder").await);
    binder.bind("s", "").await.unwrap();
    let dial = async { dialer.dial(ask("s")).await };
    let attach = async {
        world.until_here("it waits", |c| c.waiting.available_permits() < WAITING_MAX).await;
        binder.attach(&["r1"]).await;
    };
    let (dialed, ()) = tokio::join!(dial, attach);
    assert_eq!(dialed.unwrap().paths[0].router_ids, ["r1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminator_that_failed_costs_more_and_an_identity_that_calls_too_often_is_refused() {
    let world = World::new().await;
    let (mut dialer, _binder, _router) = world.hosted().await;
    let id = TerminatorId::new(&*world.terminators()[0]);
    dialer.dial(ask("s")).await.unwrap();
    assert_eq!(world.state.control.dynamic_cost(&id), 2);
    let avoiding = DialRequest { avoid_terminator_ids: vec![id.to_string()], ..ask("s") };
    assert!(dialer.dial(avoiding.clone()).await.unwrap_err().message().contains("just failed"));
    assert_eq!(world.state.control.dynamic_cost(&id), 22);
    let mut stranger = world.node("stranger").await;
    assert_eq!(stranger.dial(avoiding).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(world.state.control.dynamic_cost(&id), 22, "whom it may not dial");
    let renewal = DialRequest { terminator_id: id.to_string(), ..ask("s") };
    // Empty until long after this test, however slow it runs.
    let later = std::time::Instant::now() + DEADLINE;
    let who = IdentityId::new("stranger");
    while world.state.control.lock().calls.take(&who, later).is_ok() {}
    let limited = stranger.dial(renewal.clone()).await.unwrap_err();
    assert_eq!(limited.code(), Code::ResourceExhausted);
    assert!(
        limited
            .message()
            .contains("'stranger-name' makes too many calls: at most 200 a second, 1000 at once"),
        "{limited}"
    );
    dialer.dial(renewal).await.expect("nobody else is");
    assert_eq!(world.state.control.dynamic_cost(&id), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn dialers_choose_anew_when_a_terminator_became_decisively_dearer_and_not_before() {
    let world = World::new().await;
    let (mut dialer, _binder, _router) = world.hosted().await;
    let id = world.terminators()[0].clone();
    let choice = |state: &NodeState| state.services.iter().find(|s| s.id == "s").map(|s| s.choice);
    let fails = |who: &'static str| {
        let (terminator, control) = (TerminatorId::new(&*id), &world.state.control);
        control.change(|shared| shared.failed(std::slice::from_ref(&terminator), &IdentityId::new(who)));
    };
    dialer.state_where(|s| choice(s).is_some_and(|c| c != 0)).await;
    let told = |world: &World| {
        let picture = world.state.control.picture(&world.state);
        let (identity, tag) = (IdentityId::new("dialer"), hesper_model::id::Tag([0; 8]));
        choice(
            &picture
                .node_state(&crate::control::view::Told { identity: &identity, tag, token: "" }, &[])
                .unwrap(),
        )
    };
    let before = told(&world);
    fails("another");
    assert_eq!(told(&world), before, "one failure, and everybody goes on as before");
    fails("a third one");
    let after = told(&world);
    assert_ne!(after, before);
    dialer.state_where(|s| choice(s) == after).await;
    fails("another");
    assert_eq!(told(&world), after, "the same failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_forbidden_services_answer_byte_for_byte_alike() {
    let world = World::new().await;
    let (_dialer, _binder, _router) = world.hosted().await;
    let mut stranger = world.node("stranger").await;
    let forbidden = stranger.dial(ask("s-name")).await.unwrap_err();
    let unbindable = stranger.bind("s-name", "").await.unwrap_err();
    assert!(world.state.delete::<Service>("s").await.unwrap());
    let unknown = stranger.dial(ask("s-name")).await.unwrap_err();
    let missing = stranger.bind("s-name", "").await.unwrap_err();
    for (a, b) in [(forbidden, unknown), (unbindable, missing)] {
        assert_eq!((a.code(), a.message(), a.details()), (b.code(), b.message(), b.details()));
        assert!(a.code() == Code::NotFound && a.message().contains("ask for a"), "{a}");
    }
}
