//! Grants that end before their time, and who is told.

use super::{
    ask,
    world::{DEADLINE, World, from_session},
};
use crate::{
    control::{
        dial::{Dialer, route},
        issue::{Recipient, issue},
        testing::policy,
        unix_now,
    },
    state::Changes,
};
use hesper_model::{entity::PolicyType, id::IdentityId};
use hesper_pki::token::{GrantClaims, PassClaims};
use hesper_proto::control::{DialRequest, Hosted, NodeReport, node_report};
use std::collections::BTreeSet;
use tokio::time::timeout;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_removed_ends_the_grant_at_binder_dialer_and_router() {
    let world = World::new().await;
    let (mut dialer, mut binder, mut router) = world.hosted().await;
    dialer.state_where(|s| s.services.iter().any(|s| !s.hosts.is_empty())).await;
    assert_eq!(dialer.state.routers[0].addresses, ["r1.test:3022"]);
    let answer = dialer.dial(ask("s-name")).await.unwrap();
    assert_eq!(
        (answer.binder_id.as_str(), &answer.paths[0].router_ids[..]),
        ("binder", &["r1".to_owned()][..])
    );
    let now = unix_now();
    let grant: GrantClaims = world.state.verifier().verify(&answer.grant, now).unwrap();
    assert_eq!(
        (grant.jti.as_str(), grant.sub.as_str(), grant.aud.as_str()),
        (&*answer.grant_id, "dialer", "binder")
    );
    assert_eq!((grant.cnf.as_str(), grant.exp), ("key-of-dialer", answer.expires_at));
    let pass: PassClaims = world.state.verifier().verify(&answer.pass, now).unwrap();
    assert_eq!((pass.a, pass.b, pass.jti), (dialer.tag(), binder.tag(), answer.grant_id.clone()));

    world.delete_policy("dialer-Dial").await;
    for revoked in [binder.revoked().await, dialer.revoked().await] {
        assert_eq!(revoked.grant_ids, std::slice::from_ref(&answer.grant_id));
        assert!(revoked.reason.contains("no Dial service-policy"), "{}", revoked.reason);
    }
    let told = router.revoked().await;
    assert_eq!(told.pass_ids, std::slice::from_ref(&answer.grant_id));
    assert!(!told.reason.contains("name"), "a router learns no names: {}", told.reason);
    dialer.state_where(|s| s.services.is_empty()).await;
    assert_eq!(dialer.dial(ask("s")).await.unwrap_err().code(), Code::NotFound);
    let renewal = DialRequest { terminator_id: answer.terminator_id, ..ask("s") };
    assert_eq!(dialer.dial(renewal).await.unwrap_err().code(), Code::NotFound);
    // A router that was away is told when it is back.
    assert_eq!(world.router("r1").await.revoked().await.pass_ids, std::slice::from_ref(&answer.grant_id));
    let audit = world.audit();
    assert!(audit.contains("dialer-Dial") && audit.contains("no Dial service-policy has both"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_is_told_what_was_revoked_meanwhile() {
    let world = World::new().await;
    let (mut dialer, binder, _router) = world.hosted().await;
    let answer = dialer.dial(ask("s")).await.unwrap();
    let token = binder.token().to_owned();
    drop(binder);
    let mut presence = world.state.control.view.subscribe();
    while world.state.control.identity_is_online(&IdentityId::new("binder")) {
        timeout(DEADLINE, presence.changed()).await.expect("binder offline").unwrap();
    }
    world.delete_policy("dialer-Dial").await;
    dialer.revoked().await;
    let mut binder = world.resume("binder", &token).await.unwrap();
    assert_eq!(binder.revoked().await.grant_ids, [answer.grant_id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_of_before_a_restart_are_revoked_when_their_binder_reports_them() {
    let world = World::new().await;
    let (mut dialer, binder, _router) = world.hosted().await;
    let answer = dialer.dial(ask("s")).await.unwrap();
    let token = binder.token().to_owned();
    drop((dialer, binder));
    let world = world.restart().await;
    let mut binder = world.resume("binder", &token).await.unwrap();
    let foreign = world.resume("stranger", "").await.unwrap();
    for (node, grants) in
        [(&foreign, vec![answer.grant.clone()]), (&binder, vec!["x.y.z".into(), answer.grant.clone()])]
    {
        let hosted = node_report::Report::Hosted(Hosted { grants });
        node.reports.send(NodeReport { report: Some(hosted) }).await.unwrap();
    }
    world.until_here("it is known again", |c| c.lock().ledger.is_live(&answer.grant_id)).await;
    world.delete_policy("dialer-Dial").await;
    let revoked = binder.revoked().await;
    assert_eq!(revoked.grant_ids, std::slice::from_ref(&answer.grant_id));
    assert!(revoked.reason.contains("no Dial service-policy"), "{}", revoked.reason);
    // The routers know the pass, if they do, from before as well.
    let mut router = world.router("r1").await;
    assert_eq!(router.revoked().await.pass_ids, std::slice::from_ref(&answer.grant_id));
    assert_eq!(world.state.control.lock().ledger.len(), 1, "nobody else's report counts");
    drop(binder);
    // What was withdrawn while the controller was away is told as soon as it is reported.
    let world = world.restart().await;
    let mut binder = world.resume("binder", &token).await.unwrap();
    let hosted = node_report::Report::Hosted(Hosted { grants: vec![answer.grant] });
    binder.reports.send(NodeReport { report: Some(hosted) }).await.unwrap();
    assert_eq!(binder.revoked().await.grant_ids, [answer.grant_id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_was_away_is_told_of_revocations_of_before_a_restart() {
    let world = World::new().await;
    let (mut dialer, mut binder, router) = world.hosted().await;
    let answer = dialer.dial(ask("s")).await.unwrap();
    drop(router);
    world.delete_policy("dialer-Dial").await;
    for revoked in [binder.revoked().await, dialer.revoked().await] {
        assert_eq!(revoked.grant_ids, std::slice::from_ref(&answer.grant_id));
    }
    drop((dialer, binder));
    // Neither node reports a grant that has ended for it.
    let world = world.restart().await;
    let mut router = world.router("r1").await;
    assert_eq!(router.revoked().await.pass_ids, std::slice::from_ref(&answer.grant_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grant_slips_through_while_its_policy_is_removed() {
    let world = World::new().await;
    let (mut dialer, mut binder, _router) = world.hosted().await;
    for round in 0..10 {
        let tag = dialer.tag();
        let dials = (0..8).map(|_| {
            let mut client = dialer.client.clone();
            async move {
                let mut granted = Vec::new();
                while let Ok(answer) = client.dial(from_session("dialer", tag, ask("s"))).await {
                    granted.push(answer.into_inner().grant_id);
                }
                granted
            }
        });
        let dials = tokio::spawn(futures::future::join_all(dials));
        let known = world.state.control.lock().ledger.len();
        world.until_here("grants are given", |c| c.lock().ledger.len() >= known + 20).await;
        world.delete_policy("dialer-Dial").await;
        let mut granted: BTreeSet<String> = dials.await.unwrap().into_iter().flatten().collect();
        assert!(granted.len() >= 20, "round {round}");
        while !granted.is_empty() {
            for id in binder.revoked().await.grant_ids {
                granted.remove(&id);
            }
        }
        let mut changes = Changes::default();
        changes.create(&policy(PolicyType::Dial, "dialer"));
        world.state.commit(changes).await.unwrap();
    }
    assert!(dialer.dial(ask("s")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_decided_before_a_change_is_decided_again_when_it_is_issued() {
    let world = World::new().await;
    let (dialer, _binder, _router) = world.hosted().await;
    let old = world.state.model();
    let to = Recipient { tag: dialer.tag(), spki_sha256: "key-of-dialer", name: "dialer-name" };
    let route = {
        let shared = world.state.control.lock();
        let identity = old.identity(&IdentityId::new("dialer")).unwrap();
        let who = Dialer { identity, tag: dialer.tag() };
        // The binder may not have said yet where it is attached; a renewal does not ask.
        let renewal = DialRequest { terminator_id: world.terminators()[0].clone(), ..ask("s") };
        route(&old, &shared.sessions, &who, &renewal, &|_| 0, &mut rand::rng()).unwrap()
    };
    issue(&world.state, &old, &route, to).unwrap();
    world.disable("stranger").await;
    issue(&world.state, &old, &route, to).expect("a change that does not concern it");
    world.delete_policy("dialer-Dial").await;
    let refused = issue(&world.state, &old, &route, to).unwrap_err();
    assert_eq!((refused.code, refused.status), ("INVALID_SERVICE", Code::NotFound));
    assert_eq!(world.state.control.lock().ledger.len(), 2, "what is not given out is not kept");
}
