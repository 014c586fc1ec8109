//! Entities for tests, by short names. An entity's id is its name with `-id` behind it.

use crate::{Entities, Model};
use hesper_model::{
    entity::{
        EdgeRouter, EdgeRouterPolicy, Identity, IdentityType, PolicyType, Precedence, Service,
        ServiceEdgeRouterPolicy, ServicePolicy, Terminator, TerminatorStrategy,
    },
    id::{
        EdgeRouterId, EdgeRouterPolicyId, IdentityId, ServiceEdgeRouterPolicyId, ServiceId, ServicePolicyId,
        TerminatorId,
    },
    role::{Roles, Semantic},
};
use std::collections::BTreeSet;
use time::OffsetDateTime;

const T: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

pub(crate) fn attributes(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|a| (*a).to_owned()).collect()
}

pub(crate) fn id(name: &str) -> String {
    format!("{name}-id")
}

pub(crate) fn identity_id(name: &str) -> IdentityId {
    IdentityId::new(id(name))
}

pub(crate) fn service_id(name: &str) -> ServiceId {
    ServiceId::new(id(name))
}

pub(crate) fn router_id(name: &str) -> EdgeRouterId {
    EdgeRouterId::new(id(name))
}

pub(crate) fn identity(name: &str, attrs: &[&str]) -> Identity {
    Identity {
        id: identity_id(name),
        name: name.into(),
        type_: IdentityType::Default,
        is_admin: false,
        permissions: Default::default(),
        role_attributes: attributes(attrs),
        disabled: false,
        default_hosting_cost: 0,
        default_hosting_precedence: Precedence::Default,
        external_id: None,
        tags: Default::default(),
        created_at: T,
        updated_at: T,
    }
}

pub(crate) fn service(name: &str, attrs: &[&str]) -> Service {
    Service {
        id: service_id(name),
        name: name.into(),
        configs: Default::default(),
        role_attributes: attributes(attrs),
        terminator_strategy: TerminatorStrategy::Smartrouting,
        encryption_required: true,
        max_idle_time_millis: 0,
        tags: Default::default(),
        created_at: T,
        updated_at: T,
    }
}

pub(crate) fn router(name: &str, attrs: &[&str]) -> EdgeRouter {
    EdgeRouter {
        id: router_id(name),
        name: name.into(),
        role_attributes: attributes(attrs),
        disabled: false,
        is_verified: true,
        cost: 0,
        no_traversal: false,
        is_tunneler_enabled: false,
        addresses: Vec::new(),
        tags: Default::default(),
        created_at: T,
        updated_at: T,
    }
}

fn roles(list: &[&str]) -> Roles {
    Roles::parse(list).expect("valid roles")
}

pub(crate) fn service_policy(
    name: &str,
    type_: PolicyType,
    services: &[&str],
    identities: &[&str],
) -> ServicePolicy {
    ServicePolicy {
        id: ServicePolicyId::new(id(name)),
        name: name.into(),
        type_,
        semantic: Semantic::AnyOf,
        identity_roles: roles(identities),
        service_roles: roles(services),
        tags: Default::default(),
        created_at: T,
        updated_at: T,
    }
}

pub(crate) fn erp(name: &str, routers: &[&str], identities: &[&str]) -> EdgeRouterPolicy {
    EdgeRouterPolicy {
        id: EdgeRouterPolicyId::new(id(name)),
        name: name.into(),
        semantic: Semantic::AnyOf,
        identity_roles: roles(identities),
        edge_router_roles: roles(routers),
        tags: Default::default(),
        created_at: T,
        updated_at: T,
    }
}

pub(crate) fn serp(name: &str, routers: &[&str], services: &[&str]) -> ServiceEdgeRouterPolicy {
    ServiceEdgeRouterPolicy {
        id: ServiceEdgeRouterPolicyId::new(id(name)),
        name: name.into(),
        semantic: Semantic::AnyOf,
        service_roles: roles(services),
        edge_router_roles: roles(routers),
        tags: Default::default(),
        created_at: T,
        updated_at: T,
    }
}

/// Of `svc`, hosted by `host`.
pub(crate) fn terminator(name: &str) -> Terminator {
    Terminator {
        id: TerminatorId::new(id(name)),
        service_id: service_id("svc"),
        host_id: identity_id("host"),
        router_id: None,
        binding: "edge_transport".into(),
        address: "tcp:localhost:80".into(),
        instance: String::new(),
        cost: 0,
        precedence: Precedence::Default,
        session: None,
        tags: Default::default(),
        created_at: T,
        updated_at: T,
    }
}

/// A client and a host, both with access to `svc` over router `r`.
pub(crate) fn working() -> Entities {
    Entities {
        identities: vec![
            identity("client", &["clients"]),
            identity("host", &["hosts"]),
            identity("stranger", &[]),
        ],
        services: vec![service("svc", &["web"]), service("other", &[])],
        edge_routers: vec![router("r", &["public"]), router("spare", &[])],
        service_policies: vec![
            service_policy("dial", PolicyType::Dial, &["#web"], &["#clients"]),
            service_policy("bind", PolicyType::Bind, &["@svc-id"], &["@host-id"]),
        ],
        edge_router_policies: vec![erp("erp", &["#public"], &["#clients", "#hosts"])],
        service_edge_router_policies: vec![serp("serp", &["#all"], &["#all"])],
        ..Entities::default()
    }
}

pub(crate) fn model(change: impl FnOnce(&mut Entities)) -> Model {
    let mut entities = working();
    change(&mut entities);
    Model::build(1, entities)
}
