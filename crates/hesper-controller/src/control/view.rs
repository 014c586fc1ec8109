//! What nodes are told: model and presence in, messages out. Pure.
//!
//! A [`Picture`] holds what is the same for every node, made once per change; a node's state is then its own selection of it.
//! [`point`]: how a router is told of; [`hosted`]: how a service is.

mod hosted;
mod point;
#[cfg(test)]
mod tests;

pub(crate) use self::point::RouterKeys;

use self::{
    hosted::{Hosted, hosts, service},
    point::Point,
};
use super::{costs::Costs, sessions::Sessions};
use hesper_model::{
    entity::{Config, ConfigType, Identity},
    id::{EdgeRouterId, IdentityId, ServiceId, Tag, TerminatorId},
};
use hesper_policy::{Changed, Model, Request, decide, routers_for, services_for};
use hesper_proto::control::{AttachPoint, NodeSession, NodeState, RouterPeer, Service, TokenKey};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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
    /// See [`Costs::alarms`].
    alarms: HashMap<TerminatorId, u64>,
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
            alarms: HashMap::new(),
        }
    }

    /// And which terminators became dearer.
    pub(crate) fn with(self, costs: &Costs) -> Self {
        Self { alarms: costs.alarms().map(|(id, number)| (id.clone(), number)).collect(), ..self }
    }
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
            .filter_map(|r| {
                Some((r.id.clone(), Point::new(r, presence.routers.get(&r.id).copied(), keys(&r.id)?)))
            })
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

fn session(told: &Told<'_>, identity: &Identity) -> NodeSession {
    NodeSession {
        tag: told.tag.0.to_vec(),
        token: told.token.to_owned(),
        identity_id: identity.id.to_string(),
        identity_name: identity.name.clone(),
    }
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
