//! What nodes are told: model and presence in, messages out. Pure.
//!
//! A [`Picture`] holds what is the same for every node, made once per change; a node's state is then its own selection of it.

use super::sessions::Sessions;
use hesper_model::{
    entity::{Config, ConfigType, EdgeRouter, Identity, Terminator, TerminatorStrategy},
    id::{EdgeRouterId, IdentityId, ServiceId, Tag},
};
use hesper_overlay::knock;
use hesper_policy::{Changed, Model, Request, decide, routers_for, services_for};
use hesper_proto::control::{
    AttachPoint, NodeSession, NodeState, RouterPeer, Service, ServiceHost, TokenKey,
};
use ring::hmac;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// Model and presence of one moment, prepared for telling nodes.
#[derive(Debug)]
pub(crate) struct Picture {
    model: Arc<Model>,
    services: Arc<HashMap<ServiceId, Service>>,
    hosts: HashMap<ServiceId, Hosted>,
    routers: BTreeMap<EdgeRouterId, Point>,
    key: Key,
    since: Option<Since>,
}

/// Which model and which presence a picture shows: revision and view version.
pub(crate) type Key = (u64, u64);

/// What differs from an earlier picture.
#[derive(Debug)]
struct Since {
    /// The earlier one.
    key: Key,
    model: Arc<Model>,
    changed: Changed,
    /// Services that differ, and those whose hosts do.
    services: BTreeSet<ServiceId>,
    hosts: BTreeSet<ServiceId>,
    /// Routers that differ.
    routers: BTreeSet<EdgeRouterId>,
}

/// Services and routers that may differ between two pictures before everybody is told anew.
const FEW: usize = 16;

/// Who is here, as far as nodes are told of it: a copy of one moment.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    version: u64,
    nodes: HashSet<Tag>,
    /// Routers whose watch is open, and whether dials may go through them.
    routers: HashMap<EdgeRouterId, bool>,
}

impl Presence {
    /// Who is here now.
    pub(crate) fn of(sessions: &Sessions) -> Self {
        let connected = sessions.iter().filter(|(_, session)| session.is_connected());
        let routers = sessions.routers();
        Self {
            version: sessions.view_version(),
            nodes: connected.map(|(tag, _)| tag).collect(),
            routers: routers.ids().map(|id| (id.clone(), routers.is_usable(id))).collect(),
        }
    }
}

/// A router that nodes may be sent to.
#[derive(Debug, PartialEq)]
struct Point {
    name: String,
    addresses: Vec<String>,
    tag: Tag,
    secret: [u8; 32],
    online: bool,
    /// Nodes prefer the lowest: usable routers first, then by cost and name.
    rank: (bool, u16, String),
}

/// What a router and the controller share.
#[derive(Clone, Copy)]
pub(crate) struct RouterKeys {
    /// The router's tag.
    pub(crate) tag: Tag,
    /// From it knock keys are derived.
    pub(crate) secret: [u8; 32],
}

/// The session that is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// Whose it is.
    pub(crate) identity: &'a IdentityId,
    /// Its tag.
    pub(crate) tag: Tag,
    /// The token that proves it.
    pub(crate) token: &'a str,
}

impl Picture {
    /// The picture of this model and those who are here. It shares what is the same in the picture before it, and knows what is not.
    pub(crate) fn new(
        model: Arc<Model>,
        presence: &Presence,
        keys: impl Fn(&EdgeRouterId) -> Option<RouterKeys>,
        before: Option<&Self>,
    ) -> Self {
        let routers = model
            .edge_routers()
            .filter(|r| !r.disabled && !r.addresses.is_empty())
            .filter_map(|r| Some((r.id.clone(), point(r, presence, keys(&r.id)?))))
            .collect();
        let same_services = |before: &&Self| {
            model.shares::<hesper_model::entity::Service>(&before.model)
                && model.shares::<Config>(&before.model)
                && model.shares::<ConfigType>(&before.model)
        };
        let services = match before.filter(same_services) {
            Some(before) => Arc::clone(&before.services),
            None => Arc::new(model.services().map(|s| (s.id.clone(), service(&model, s))).collect()),
        };
        let key = (model.revision(), presence.version);
        let mut picture = Self { services, hosts: hosts(&model, presence), routers, model, key, since: None };
        picture.since = before.and_then(|before| picture.differences(before));
        picture
    }

    fn differences(&self, before: &Self) -> Option<Since> {
        let changed = Changed::between(&before.model, &self.model);
        let hosts = before.hosts.keys().chain(self.hosts.keys());
        let hosts: BTreeSet<_> =
            hosts.filter(|id| before.hosts.get(*id) != self.hosts.get(*id)).cloned().collect();
        let mut services: BTreeSet<_> = changed.services().cloned().collect();
        if !Arc::ptr_eq(&before.services, &self.services) {
            let all = before.services.keys().chain(self.services.keys());
            services.extend(all.filter(|id| before.services.get(*id) != self.services.get(*id)).cloned());
        }
        let mut routers: BTreeSet<_> = changed.routers().cloned().collect();
        let all = before.routers.keys().chain(self.routers.keys());
        routers.extend(all.filter(|id| before.routers.get(*id) != self.routers.get(*id)).cloned());
        let few = hosts.len().max(services.len()).max(routers.len()) <= FEW;
        few.then(|| Since { key: before.key, model: before.model.clone(), changed, services, hosts, routers })
    }

    /// What it shows.
    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// Is it sure that this identity is told the same as by the picture with that key? Far cheaper than to compare the two: most
    /// changes concern few.
    pub(crate) fn is_same_for(&self, id: &IdentityId, key: Key) -> bool {
        if key == self.key {
            return true;
        }
        let Some(since) = self.since.as_ref().filter(|since| since.key == key) else { return false };
        let Some((before, now)) = since.model.identity(id).zip(self.model.identity(id)) else { return false };
        if !Arc::ptr_eq(before, now) || since.changed.policies_concern(now) {
            return false;
        }
        // What policy gives to it has changed only with the services and routers themselves, if at all.
        let may = |request| [&since.model, &self.model].into_iter().any(|m| decide(m, &request).is_allowed());
        let may_dial = |service| may(Request::Dial { identity: id, service });
        let may_bind = |service| may(Request::Bind { identity: id, service });
        let may_use = |router| may(Request::UseRouter { identity: id, service: None, router });
        !since.hosts.iter().any(may_dial)
            && !since.services.iter().any(|service| may_dial(service) || may_bind(service))
            && !since.routers.iter().any(may_use)
    }

    /// Everything that this session needs to know; none when its identity is unknown or disabled.
    pub(crate) fn node_state(&self, told: &Told<'_>, token_keys: &[TokenKey]) -> Option<NodeState> {
        let identity = self.model.identity(told.identity).filter(|i| !i.disabled)?;
        Some(NodeState {
            revision: self.model.revision(),
            session: Some(session(told, identity)),
            token_keys: token_keys.to_vec(),
            routers: self.attach_points(told),
            services: self.services_of(told.identity),
            trust: None,
        })
    }

    /// Every other router that is online, and the knock at it for the router `own` with this tag. In order of id.
    pub(crate) fn router_peers(&self, own: &EdgeRouterId, tag: Tag) -> Vec<RouterPeer> {
        let others = self.routers.iter().filter(|(id, point)| *id != own && point.online);
        others.map(|(id, point)| point.for_router(id, tag)).collect()
    }

    fn attach_points(&self, told: &Told<'_>) -> Vec<AttachPoint> {
        let mut points: Vec<_> = routers_for(&self.model, told.identity)
            .into_iter()
            .filter_map(|id| self.routers.get(&id).map(|point| (id, point)))
            .collect();
        points.sort_by(|a, b| a.1.rank.cmp(&b.1.rank));
        points.into_iter().map(|(id, point)| point.for_session(&id, told.tag)).collect()
    }

    fn services_of(&self, identity: &IdentityId) -> Vec<Service> {
        let mut services: Vec<_> = services_for(&self.model, identity)
            .into_iter()
            .filter_map(|(id, may_dial, may_bind)| {
                let hosted = self.hosts.get(&id).filter(|_| may_dial).cloned().unwrap_or_default();
                let Hosted { hosts, choice } = hosted;
                Some(Service { may_dial, may_bind, hosts, choice, ..self.services.get(&id)?.clone() })
            })
            .collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }
}

impl Point {
    fn for_session(&self, id: &EdgeRouterId, session: Tag) -> AttachPoint {
        let key_id = knock_key_id(&self.secret, NODE_KNOCK, session);
        AttachPoint {
            router_id: id.to_string(),
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            tag: self.tag.0.to_vec(),
            knock_key_id: key_id.to_vec(),
            knock_key: knock::derive(&self.secret, key_id).to_vec(),
        }
    }

    fn for_router(&self, id: &EdgeRouterId, other: Tag) -> RouterPeer {
        let key_id = knock_key_id(&self.secret, ROUTER_KNOCK, other);
        RouterPeer {
            router_id: id.to_string(),
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            tag: self.tag.0.to_vec(),
            knock_key_id: key_id.to_vec(),
            knock_key: knock::derive(&self.secret, key_id).to_vec(),
        }
    }
}

fn point(router: &EdgeRouter, presence: &Presence, keys: RouterKeys) -> Point {
    let usable = presence.routers.get(&router.id);
    Point {
        name: router.name.clone(),
        addresses: router.addresses.clone(),
        tag: keys.tag,
        secret: keys.secret,
        online: usable.is_some(),
        rank: (usable != Some(&true), router.cost, router.name.clone()),
    }
}

/// What key ids of nodes' knocks are derived with, and of routers'.
const NODE_KNOCK: &[u8] = b"hesper knock key id";
const ROUTER_KNOCK: &[u8] = b"hesper link knock key id";

/// The key id of the knock of one session or router at the router with this secret. It looks random to everybody else, differs
/// between routers, and is the same after a restart of the controller.
fn knock_key_id(secret: &[u8; 32], purpose: &[u8], of: Tag) -> [u8; 8] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(purpose);
    context.update(&of.0);
    let mut id = [0; 8];
    id.copy_from_slice(&context.sign().as_ref()[..8]);
    id
}

fn session(told: &Told<'_>, identity: &Identity) -> NodeSession {
    NodeSession {
        tag: told.tag.0.to_vec(),
        token: told.token.to_owned(),
        identity_id: identity.id.to_string(),
        identity_name: identity.name.clone(),
    }
}

/// What is the same for everybody who may know of the service.
fn service(model: &Model, service: &hesper_model::entity::Service) -> Service {
    let configs = model.configs_of(service).into_iter();
    let strategy = serde_json::to_value(service.terminator_strategy).unwrap_or_default();
    Service {
        id: service.id.to_string(),
        name: service.name.clone(),
        role_attributes: service.role_attributes.iter().cloned().collect(),
        configs: configs.map(|(of_type, config)| (of_type.name.clone(), config.data.to_string())).collect(),
        terminator_strategy: strategy.as_str().unwrap_or_default().to_owned(),
        max_idle_time_millis: service.max_idle_time_millis,
        ..Service::default()
    }
}

/// What dialers are told of a service that is hosted.
#[derive(Clone, Debug, Default, PartialEq)]
struct Hosted {
    hosts: Vec<ServiceHost>,
    /// See `Service.choice`.
    choice: u64,
}

/// What the choice of a terminator depends on. It need not be the same after an upgrade: then dialers choose again.
fn digest(terminator: &Terminator, strategy: TerminatorStrategy) -> u64 {
    let Terminator { id, instance, cost, precedence, session, .. } = terminator;
    let mut hasher = DefaultHasher::new();
    (id.as_str(), instance, cost, precedence.to_string()).hash(&mut hasher);
    (session.map(|tag| tag.0), strategy as u8).hash(&mut hasher);
    hasher.finish()
}

/// Who hosts each service now: terminators of connected sessions whose host may still bind.
fn hosts(model: &Model, presence: &Presence) -> HashMap<ServiceId, Hosted> {
    let mut hosts: HashMap<ServiceId, Hosted> = HashMap::new();
    let online = |tag: &Tag| presence.nodes.contains(tag);
    for terminator in model.terminators().filter(|t| t.session.as_ref().is_some_and(online)) {
        let bind = Request::Bind { identity: &terminator.host_id, service: &terminator.service_id };
        let Some(host) = model.identity(&terminator.host_id).filter(|_| decide(model, &bind).is_allowed())
        else {
            continue;
        };
        let of_service = hosts.entry(terminator.service_id.clone()).or_default();
        let strategy = model.service(&terminator.service_id).map(|s| s.terminator_strategy);
        // Whatever the order.
        of_service.choice = of_service.choice.wrapping_add(digest(terminator, strategy.unwrap_or_default()));
        of_service.hosts.push(ServiceHost {
            identity_id: host.id.to_string(),
            identity_name: host.name.clone(),
            instance: terminator.instance.clone(),
            role_attributes: host.role_attributes.iter().cloned().collect(),
        });
    }
    for Hosted { hosts: of_service, .. } in hosts.values_mut() {
        of_service.sort_by(|a, b| (&a.identity_name, &a.instance).cmp(&(&b.identity_name, &b.instance)));
        of_service.dedup();
    }
    hosts
}

/// Do the two say the same, whatever the revision they were computed from?
pub(crate) fn same(a: &NodeState, b: &NodeState) -> bool {
    let NodeState { revision: _, session, token_keys, routers, services, trust } = a;
    *session == b.session
        && *token_keys == b.token_keys
        && *routers == b.routers
        && *services == b.services
        && *trust == b.trust
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        sessions::Opener,
        testing::{Mesh, identity, mesh, policy},
    };
    use hesper_model::entity::{Kind, PolicyType};

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
        assert_eq!(service.terminator_strategy, "smartrouting");
        let instances: Vec<_> = service.hosts.iter().map(|h| h.instance.as_str()).collect();
        assert_eq!(instances, ["a", "b"], "in order; a terminator without a session is not online");
        assert_eq!(service.hosts[0].role_attributes, ["binders"]);
        assert_ne!(service.choice, 0);
        let more =
            told(hosted().hosted("t4", "c", Some(BINDER)), &sessions(true), "dialer").expect("a state");
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
        assert_eq!(
            (peer.router_id.as_str(), &peer.addresses[..]),
            ("r2", &["192.0.2.1:3022".to_owned()][..])
        );
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
}
