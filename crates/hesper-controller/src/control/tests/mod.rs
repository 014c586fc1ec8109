//! The gRPC services over loopback, with a store on disk; only TLS is left out: a layer puts the caller in.

mod scale;
mod world;

use super::{
    Settings,
    dial::{Dialer, route},
    issue::{Recipient, issue},
    testing::{identity, policy},
};
use crate::state::{CERTIFICATE, Certificate, Changes};
use hesper_model::{
    entity::{PolicyType, Service, ServicePolicy, Terminator},
    id::{EdgeRouterId, IdentityId, TerminatorId},
};
use hesper_pki::{
    credentials::PeerIdentity,
    csr, key,
    spiffe::SpiffeRole,
    token::{GrantClaims, PassClaims},
};
use hesper_proto::control::{
    DialRequest, Hosted, NodeReport, RenewRequest, UnbindRequest, UpdateTerminatorRequest,
    node_control_client::NodeControlClient, node_report,
};
use std::{collections::BTreeSet, time::Duration};
use time::OffsetDateTime;
use tokio::time::timeout;
use tonic::{Code, Request, metadata::MetadataValue};
use world::{DEADLINE, KEY, TRUST_DOMAIN, World, call, certify, from_session, open};

fn ask(service: &str) -> DialRequest {
    DialRequest { service: service.into(), ..DialRequest::default() }
}

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
    let now = super::unix_now();
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
    let pass: PassClaims = world.state.verifier().verify(&answer.pass, super::unix_now()).unwrap();
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
async fn who_was_deleted_while_the_controller_was_down_is_ended_at_the_routers() {
    let world = World::new().await;
    let mut tags = Vec::new();
    for who in ["stranger", "dialer", "binder"] {
        tags.push(world.node(who).await.tag());
    }
    // One is deleted while the controller is down, one disabled later, when its node talks to it no more.
    let world = world.restart_after(|store| async move {
        let key = "identity/stranger".to_owned();
        store
            .commit(hesper_store::Txn { compares: vec![], writes: vec![hesper_store::Write::Delete(key)] })
            .await
            .unwrap();
    });
    let world = world.await;
    world.disable("dialer").await;
    let mut told = BTreeSet::new();
    let mut router = world.router("r1").await;
    while told.len() < 2 {
        told.extend(router.revoked().await.session_tags);
    }
    assert_eq!(told, tags[..2].iter().map(|tag| tag.0.to_vec()).collect(), "and nobody else");
    // It stays ended, whatever becomes of the identity.
    let world = world.restart().await;
    world.enable("dialer").await;
    let told = world.router("r1").await.revoked().await.session_tags;
    assert!(told.contains(&tags[1].0.to_vec()), "{told:?}");
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
    while !world.state.control.lock().ledger.is_live(&answer.grant_id) {
        tokio::task::yield_now().await;
    }
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
async fn a_restart_of_the_controller_loses_no_session_and_no_terminator() {
    let world = World::new().await;
    let (dialer, mut binder, _router) = world.hosted().await;
    let terminator = binder.bind("s", "").await.unwrap();
    assert_eq!(world.terminators(), std::slice::from_ref(&terminator), "bound twice, stored once");
    let (tag, token) = (binder.tag(), binder.token().to_owned());
    drop((dialer, binder));
    let world = world.restart().await;
    let _router = world.router("r1").await;
    assert_eq!(world.terminators(), std::slice::from_ref(&terminator));
    let mut dialer = world.node("dialer").await;
    let offline = dialer.dial(ask("s")).await.unwrap_err();
    assert!(
        offline.code() == Code::Unavailable && offline.message().contains("no online terminators"),
        "{offline}"
    );
    // Somebody else with the token gets a session of its own.
    assert_ne!(world.resume("stranger", &token).await.unwrap().tag(), tag);
    let mut binder = world.resume("binder", &token).await.unwrap();
    assert_eq!(binder.tag(), tag);
    binder.attach(&["r1"]).await;
    assert_eq!(binder.bind("s", "").await.unwrap(), terminator);
    assert_eq!(dialer.dial(ask("s")).await.unwrap().binder_tag, tag.0);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_identity_loses_everything_at_once_and_nobody_else_does() {
    let world = World::new().await;
    let (mut dialer, mut binder, mut router) = world.hosted().await;
    let answer = dialer.dial(ask("s")).await.unwrap();
    let tag = binder.tag();
    world.disable("binder").await;
    let end = binder.end().await;
    assert!(
        end.code() == Code::PermissionDenied && end.message().contains("binder-name' is disabled"),
        "{end}"
    );
    assert_eq!(dialer.revoked().await.grant_ids, std::slice::from_ref(&answer.grant_id));
    let (mut passes, mut sessions) = (Vec::new(), Vec::new());
    while passes.is_empty() || sessions.is_empty() {
        let told = router.revoked().await;
        passes.extend(told.pass_ids);
        sessions.extend(told.session_tags);
    }
    assert_eq!((passes, sessions), (vec![answer.grant_id], vec![tag.0.to_vec()]));
    world.until("its terminators go", |w| w.terminators().is_empty()).await;
    let refused = world.resume("binder", binder.token()).await.err().expect("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    dialer.state_where(|s| s.services.iter().all(|s| s.hosts.is_empty())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_or_missing_certificate_is_nobody() {
    let world = World::new().await;
    let mut stranger = world.node("stranger").await;
    let old = world.state.records().certificate("serial-of-stranger").unwrap().clone();
    let mut changes = Changes::default();
    let revoked = Certificate { revoked: true, ..old.entity };
    changes.update_record(format!("{CERTIFICATE}serial-of-stranger"), old.mod_revision, &revoked);
    world.state.commit(changes).await.unwrap();
    let end = stranger.end().await;
    assert!(end.code() == Code::Unauthenticated && end.message().contains("was revoked"), "{end}");
    for (who, code) in [
        ("stranger", Code::Unauthenticated),
        ("nobody", Code::Unauthenticated),
        ("r1", Code::PermissionDenied),
    ] {
        assert_eq!(world.resume(who, "").await.err().map(|s| s.code()), Some(code), "{who}");
    }
    let mut client = NodeControlClient::new(world.channel());
    let anonymous = client.dial(Request::new(ask("s"))).await.unwrap_err();
    assert!(anonymous.code() == Code::Unauthenticated && anonymous.message().contains("client certificate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_waits_for_a_binder_that_is_about_to_attach() {
    let world = World::new().await;
    let _router = world.router("r1").await;
    let (mut dialer, mut binder) = (world.node("dialer").await, world.node("binder").await);
    binder.bind("s", "").await.unwrap();
    let dial = async { dialer.dial(ask("s")).await };
    let attach = async {
        while world.state.control.waiting.available_permits() == super::WAITING_MAX {
            tokio::task::yield_now().await;
        }
        binder.attach(&["r1"]).await;
    };
    let (dialed, ()) = tokio::join!(dial, attach);
    assert_eq!(dialed.unwrap().paths[0].router_ids, ["r1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_policy_removed_takes_the_terminators_and_unbind_its_own_only() {
    let world = World::new().await;
    let (mut dialer, mut binder, _router) = world.hosted().await;
    let second = binder.bind("s", "i").await.unwrap();
    let unbind = |who: &str, id: &str| call(who, UnbindRequest { terminator_id: id.into() });
    assert_eq!(dialer.client.unbind(unbind("dialer", &second)).await.unwrap_err().code(), Code::NotFound);
    binder.client.unbind(unbind("binder", &second)).await.unwrap();
    assert_eq!(world.terminators().len(), 1);
    let update = UpdateTerminatorRequest {
        terminator_id: world.terminators()[0].clone(),
        cost: Some(9),
        precedence: "failed".into(),
        address: None,
    };
    binder.client.update_terminator(call("binder", update)).await.unwrap();
    assert_eq!(world.state.get::<Terminator>(&world.terminators()[0]).unwrap().entity.cost, 9);
    world.delete_policy("binder-Bind").await;
    world.until("its terminators go", |w| w.terminators().is_empty()).await;
    binder.state_where(|s| s.services.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stays_away_loses_its_terminators_also_across_a_restart() {
    let brief = Settings { linger: Duration::from_millis(50), ..Settings::default() };
    let world = World::with(brief).await;
    let (_dialer, binder, _router) = world.hosted().await;
    drop(binder);
    world.until("its terminators go", |w| w.terminators().is_empty()).await;
    let mut binder = world.node("binder").await;
    binder.bind("s", "").await.unwrap();
    // The restart counts as an end of its watch, too.
    let world = world.restart().await;
    drop(binder);
    world.until("its terminators go after the restart", |w| w.terminators().is_empty()).await;
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
        while world.state.control.lock().ledger.len() < known + 20 {
            tokio::task::yield_now().await;
        }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_keeps_the_key() {
    let world = World::new().await;
    let (own, other) = (key::generate().unwrap(), key::generate().unwrap());
    let mut changes = Changes::default();
    let record = Certificate {
        subject: format!("spiffe://{TRUST_DOMAIN}/identity/dialer"),
        spki_sha256: own.spki_sha256(),
        issuer: String::new(),
        not_before: None,
        not_after: OffsetDateTime::now_utc() + Duration::from_secs(60),
        revoked: false,
    };
    changes.create_record(format!("{CERTIFICATE}own"), &record);
    world.state.commit(changes).await.unwrap();
    let mut client = NodeControlClient::new(world.channel());
    let request = |key: &key::PrivateKey| {
        let mut request = call("dialer", RenewRequest { csr_der: csr::make(key).unwrap() });
        request.metadata_mut().insert(KEY, MetadataValue::try_from(own.spki_sha256()).unwrap());
        request
    };
    let renewed = client.renew(request(&own)).await.unwrap().into_inner();
    let chain = hesper_pki::pem::certificates(&renewed.chain_pem).unwrap();
    let leaf = PeerIdentity::of(&chain[0]).unwrap();
    assert_eq!((leaf.id.id.as_str(), leaf.spki_sha256.clone()), ("dialer", own.spki_sha256()));
    assert!(
        leaf.not_after < OffsetDateTime::now_utc() + Duration::from_secs(3700),
        "as long as the settings say"
    );
    assert!(world.state.records().certificate(&leaf.serial).is_some());
    let refused = client.renew(request(&other)).await.unwrap_err();
    assert!(refused.message().contains("another key"), "{refused}");
    assert!(world.audit().contains("KEY_CHANGED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_nodes_get_one_update_each() {
    const NODES: usize = 1000;
    /// Streams on one connection: below the 200 that a server takes.
    const SHARED_BY: usize = 100;
    let world = World::new().await;
    let names: Vec<String> = (0..NODES).map(|n| format!("node{n}")).collect();
    for some in names.chunks(SHARED_BY) {
        let mut changes = Changes::default();
        for name in some {
            changes.create(&identity(name));
            certify(&mut changes, SpiffeRole::Identity, name);
        }
        world.state.commit(changes).await.unwrap();
    }
    let mut nodes = Vec::new();
    for some in names.chunks(SHARED_BY) {
        let channel = world.channel();
        let opened = some.iter().map(|name| open(channel.clone(), name, ""));
        nodes.extend(futures::future::join_all(opened).await.into_iter().map(Result::unwrap));
    }
    assert_eq!(world.state.control.lock().sessions.count().0, NODES);
    // Whatever the opening stirred up has been told: a change that concerns nobody here says nothing new.
    let all = ServicePolicy {
        identity_roles: super::testing::roles("#all"),
        ..policy(PolicyType::Dial, "everybody")
    };
    let mut changes = Changes::default();
    changes.create(&all);
    let revision = world.state.commit(changes).await.unwrap();
    let updates = nodes.iter_mut().map(|node| async move {
        let state = node.next_state().await.unwrap();
        (state.revision, state.services.len())
    });
    for (told, services) in futures::future::join_all(updates).await {
        assert!(told >= revision && services == 1, "{told} {services}");
    }
    // And not a second one: the next thing that each is told is the next change.
    world.delete_policy("everybody-Dial").await;
    let updates = nodes.iter_mut().map(|node| async move { node.next_state().await.unwrap().services.len() });
    assert!(futures::future::join_all(updates).await.into_iter().all(|services| services == 0));
}
