//! Who is here: sessions and terminators across restarts, identities that are disabled or deleted, certificates, a thousand nodes.

use super::{
    ask,
    world::{DEADLINE, KEY, TRUST_DOMAIN, World, call, certify, open},
};
use crate::{
    control::{
        Settings,
        testing::{identity, policy, roles},
    },
    state::{CERTIFICATE, Certificate, Changes},
};
use hesper_model::entity::{PolicyType, ServicePolicy, Terminator};
use hesper_pki::{credentials::PeerIdentity, csr, key, spiffe::SpiffeRole};
use hesper_proto::control::{
    RenewRequest, UnbindRequest, UpdateTerminatorRequest, node_control_client::NodeControlClient,
};
use std::{collections::BTreeSet, time::Duration};
use time::OffsetDateTime;
use tokio::time::timeout;
use tonic::{Code, Request, metadata::MetadataValue};

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
    let all = ServicePolicy { identity_roles: roles("#all"), ..policy(PolicyType::Dial, "everybody") };
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

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gets_no_session_is_told_the_limit_and_what_to_do() {
    let world = World::new().await;
    let mut nodes = Vec::new();
    for _ in 0..64 {
        nodes.push(world.node("dialer").await);
    }
    let refused = world.resume("dialer", "").await.err().expect("one too many");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    for words in ["identity 'dialer-name'", "64 at a time", "stop a program", "enroll another identity"] {
        assert!(refused.message().contains(words), "{refused}");
    }
    world.node("binder").await;
    // One that was stopped makes room at once.
    nodes.pop();
    let again = async { while world.resume("dialer", "").await.is_err() {} };
    timeout(DEADLINE, again).await.expect("a session");
}
