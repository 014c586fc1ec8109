use super::{
    point::{NODE_KNOCK, knock_key_id},
    *,
};
use crate::control::{
    sessions::Opener,
    testing::{Mesh, identity, mesh, policy},
};
use hesper_model::entity::{Kind, PolicyType};
use hesper_overlay::knock;

const BINDER: Tag = Tag([2; 8]);
const KEYS: RouterKeys = RouterKeys { tag: Tag([9; 8]), secret: [7; 32] };

fn sessions(binder_online: bool) -> Sessions {
    let mut sessions = Sessions::default();
    let binder = IdentityId::new("binder");
    let opener = Opener { identity: &binder, spki_sha256: "k", serial: "1" };
    let opened = sessions.open(&opener, None, BINDER).expect("room");
    sessions.set_hosting(BINDER);
    if !binder_online {
        sessions.close(opened.tag, opened.epoch, std::time::Instant::now());
    }
    sessions.open_router(EdgeRouterId::new("r2"));
    sessions
}

fn told(mesh: Mesh, sessions: &Sessions, identity: &str) -> Option<NodeState> {
    let picture = Picture::new(Arc::new(mesh.model(5)), &Presence::of(sessions), |_| Some(KEYS), None);
    let identity = IdentityId::new(identity);
    picture.node_state(&Told { identity: &identity, tag: Tag([1; 8]), token: "jwt" }, &[])
}

#[test]
fn a_dialer_sees_the_service_its_configs_and_who_hosts_it_now() {
    let hosted =
        || mesh().hosted("t1", "b", Some(BINDER)).hosted("t2", "a", Some(BINDER)).hosted("t3", "", None);
    let state = told(hosted(), &sessions(true), "dialer").expect("a state");
    let [service] = &state.services[..] else { panic!("{:?}", state.services) };
    assert_eq!((service.name.as_str(), service.may_dial, service.may_bind), ("s-name", true, false));
    assert!(service.configs["host.v1"].contains("9100"));
    let sending = hosted().sending(serde_json::json!({"rules": [{"identities": ["@secret"]}]}));
    let same_service = told(sending, &sessions(true), "dialer").expect("a state").services.swap_remove(0);
    assert_eq!(same_service.configs, service.configs, "what others may send is for nobody");
    assert_eq!(service.terminator_strategy, "smartrouting");
    let instances: Vec<_> = service.hosts.iter().map(|h| h.instance.as_str()).collect();
    assert_eq!(instances, ["a", "b"], "in order; a terminator without a session is not online");
    assert_eq!(service.hosts[0].role_attributes, ["binders"]);
    assert_ne!(service.choice, 0);
    let more = told(hosted().hosted("t4", "c", Some(BINDER)), &sessions(true), "dialer").expect("a state");
    assert_ne!(more.services[0].choice, service.choice);
    let offline = told(hosted(), &sessions(false), "dialer").expect("a state");
    assert!(offline.services[0].hosts.is_empty() && !same(&state, &offline));
}

#[test]
fn only_dialers_learn_the_hosts_and_strangers_nothing() {
    let hosted = || mesh().hosted("t1", "", Some(BINDER));
    let binder = told(hosted(), &sessions(true), "binder").expect("a state");
    assert!(binder.services[0].may_bind && binder.services[0].hosts.is_empty());
    assert_eq!(binder.services[0].choice, 0);
    let stranger = told(hosted(), &sessions(true), "stranger").expect("a state");
    assert_eq!(stranger.services, []);
    assert_eq!(stranger.routers.len(), 2, "the edge-router policy has it");
    assert_eq!(told(hosted().disabled("dialer"), &sessions(true), "dialer"), None);
    assert_eq!(told(hosted(), &sessions(true), "nobody"), None);
}

#[test]
fn routers_come_online_first_with_their_own_knock_keys() {
    let state = told(mesh(), &sessions(true), "dialer").expect("a state");
    let names: Vec<_> = state.routers.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["r2-name", "r1-name"]);
    let point = &state.routers[0];
    let key_id = point.knock_key_id[..].try_into().expect("8 bytes");
    let knock = knock::make(key_id, point.knock_key[..].try_into().expect("32 bytes"), 1_000, 1);
    assert!(knock::verify(&KEYS.secret, &knock, 1_000));
    let of = |n| knock_key_id(&KEYS.secret, NODE_KNOCK, Tag([n; 8]));
    assert_ne!(of(1), of(2));
    assert_eq!(told(mesh().without_erp(), &sessions(true), "dialer").expect("a state").routers, []);
    assert_eq!(
        told(mesh().router_disabled("r1"), &sessions(true), "dialer").expect("a state").routers.len(),
        1
    );
}

#[test]
fn a_router_is_told_of_the_others_that_are_online() {
    let mut here = sessions(true);
    let r1 = EdgeRouterId::new("r1");
    let peers = |s: &Sessions| {
        let picture = Picture::new(Arc::new(mesh().model(5)), &Presence::of(s), |_| Some(KEYS), None);
        picture.router_peers(&r1, Tag([3; 8]))
    };
    let first = peers(&here);
    let [peer] = &first[..] else { panic!("{first:?}") };
    assert_eq!((peer.router_id.as_str(), &peer.addresses[..]), ("r2", &["192.0.2.1:3022".to_owned()][..]));
    let key_id = peer.knock_key_id[..].try_into().expect("8 bytes");
    let knock = knock::make(key_id, peer.knock_key[..].try_into().expect("32 bytes"), 1_000, 1);
    assert!(knock::verify(&KEYS.secret, &knock, 1_000));
    assert_ne!(key_id, knock_key_id(&KEYS.secret, NODE_KNOCK, Tag([3; 8])), "a node's is another");
    here.open_router(r1.clone());
    assert_eq!(peers(&here), first, "nobody is its own peer, and the key stays");
}

#[test]
fn who_is_sure_to_be_told_the_same_is() {
    type Change = fn(Model) -> Model;
    let hosted = mesh().hosted("t1", "b", Some(BINDER)).model(5);
    let table: [(Change, bool, &[&str]); 11] = [
        (|m| m.with(6, []), true, &["dialer", "binder", "stranger"]),
        (|m| m, false, &["binder", "stranger"]),
        (|m| m.with(6, [delete(Kind::ServicePolicy, "dialer-Dial")]), true, &["binder", "stranger"]),
        (|m| m.with(6, [policy(PolicyType::Dial, "stranger").into()]), true, &["dialer", "binder"]),
        (|m| m.with(6, [identity("stranger").into()]), true, &["dialer", "binder"]),
        (|m| m.with(6, [delete(Kind::EdgeRouterPolicy, "erp")]), true, &[]),
        (|m| m.with(6, [delete(Kind::Config, "s-host")]), true, &["stranger"]),
        (|m| m.with(6, [delete(Kind::Service, "s")]), true, &["stranger"]),
        (|m| m.with(6, [delete(Kind::Service, "other")]), true, &["dialer", "binder", "stranger"]),
        (
            |m| m.with(6, [delete(Kind::ServiceEdgeRouterPolicy, "serp")]),
            true,
            &["dialer", "binder", "stranger"],
        ),
        (|m| m.with(6, [moved()]), true, &[]),
    ];
    for (n, (change, online, expected)) in table.into_iter().enumerate() {
        let picture = |model, s: &Sessions, before: Option<&Picture>| {
            Picture::new(Arc::new(model), &Presence::of(s), |_| Some(KEYS), before)
        };
        let mut later = sessions(true);
        if !online {
            later.end(BINDER, std::time::Instant::now());
        }
        let before = picture(hosted.clone(), &sessions(true), None);
        let after = picture(change(hosted.clone()), &later, Some(&before));
        for who in ["dialer", "binder", "stranger"] {
            let id = IdentityId::new(who);
            let told = Told { identity: &id, tag: Tag([1; 8]), token: "jwt" };
            let sure = after.is_same_for(&id, before.key());
            assert_eq!((n, who, sure), (n, who, expected.contains(&who)));
            let (old, new) = (before.node_state(&told, &[]), after.node_state(&told, &[]));
            assert!(!sure || same(&old.expect("known"), &new.expect("known")), "{n} {who}");
            assert!(!after.is_same_for(&id, (1, 1)), "a picture that it does not know");
        }
    }
}

fn moved() -> hesper_policy::Change {
    let mut moved = crate::control::testing::router("r1");
    moved.addresses = vec!["elsewhere:1".into()];
    moved.into()
}

fn delete(kind: Kind, id: &str) -> hesper_policy::Change {
    hesper_policy::Change::Delete(kind, id.into())
}

#[test]
fn a_new_revision_alone_is_no_news() {
    let a = told(mesh(), &sessions(true), "dialer").expect("a state");
    let b = NodeState { revision: 6, ..a.clone() };
    assert!(a != b && same(&a, &b));
}
