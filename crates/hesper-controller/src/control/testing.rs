//! A small mesh for tests: dialer, binder and a stranger, service `s`, routers `r1` and `r2`, and the policies between them.

use hesper_model::{
    entity::{
        Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Identity, PolicyType, Precedence, Service,
        ServiceEdgeRouterPolicy, ServicePolicy, Terminator,
    },
    id::{
        ConfigId, ConfigTypeId, EdgeRouterId, EdgeRouterPolicyId, IdentityId, ServiceEdgeRouterPolicyId,
        ServiceId, ServicePolicyId, Tag, TerminatorId,
    },
    role::{Roles, Semantic},
};
use hesper_policy::{Entities, Model};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// Entities to build a model from.
pub(crate) struct Mesh(pub(crate) Entities);

/// The mesh in which everything is allowed to dialer and binder and nothing to the stranger.
pub(crate) fn mesh() -> Mesh {
    Mesh(Entities {
        identities: ["dialer", "binder", "stranger"].map(identity).into(),
        services: vec![service("s"), service("other")],
        configs: vec![config(
            "s-host",
            "host.v1",
            json!({ "protocol": "tcp", "address": "localhost", "port": 9100 }),
        )],
        config_types: vec![config_type("host.v1"), config_type("otlp.v1")],
        service_policies: vec![policy(PolicyType::Dial, "dialer"), policy(PolicyType::Bind, "binder")],
        edge_routers: vec![router("r1"), router("r2")],
        edge_router_policies: vec![EdgeRouterPolicy {
            id: EdgeRouterPolicyId::new("erp"),
            name: "erp".into(),
            semantic: Semantic::AnyOf,
            identity_roles: roles("#all"),
            edge_router_roles: roles("#all"),
            tags: BTreeMap::new(),
            created_at: AT,
            updated_at: AT,
        }],
        service_edge_router_policies: vec![ServiceEdgeRouterPolicy {
            id: ServiceEdgeRouterPolicyId::new("serp"),
            name: "serp".into(),
            semantic: Semantic::AnyOf,
            service_roles: roles("#all"),
            edge_router_roles: roles("#all"),
            tags: BTreeMap::new(),
            created_at: AT,
            updated_at: AT,
        }],
        ..Entities::default()
    })
}

impl Mesh {
    pub(crate) fn model(self, revision: u64) -> Model {
        Model::build(revision, self.0)
    }
    pub(crate) fn without_dial(mut self) -> Self {
        self.0.service_policies.retain(|p| p.type_ != PolicyType::Dial);
        self
    }
    pub(crate) fn without_bind(mut self) -> Self {
        self.0.service_policies.retain(|p| p.type_ != PolicyType::Bind);
        self
    }
    pub(crate) fn without_serp(mut self) -> Self {
        self.0.service_edge_router_policies.clear();
        self
    }
    pub(crate) fn without_erp(mut self) -> Self {
        self.0.edge_router_policies.clear();
        self
    }
    /// Gives the identity these routers and no others. The mesh's one edge-router policy, which is for all, goes.
    pub(crate) fn routers_of(mut self, identity: &str, routers: &str) -> Self {
        let policies = &mut self.0.edge_router_policies;
        policies.retain(|p| p.id.as_str() != "erp");
        policies.push(EdgeRouterPolicy {
            id: EdgeRouterPolicyId::new(format!("erp-{identity}")),
            name: format!("erp-{identity}"),
            semantic: Semantic::AnyOf,
            identity_roles: roles(&format!("@{identity}")),
            edge_router_roles: roles(routers),
            tags: BTreeMap::new(),
            created_at: AT,
            updated_at: AT,
        });
        self
    }
    pub(crate) fn disabled(mut self, id: &str) -> Self {
        self.0.identities.iter_mut().filter(|i| i.id.as_str() == id).for_each(|i| i.disabled = true);
        self
    }
    pub(crate) fn router_disabled(mut self, id: &str) -> Self {
        self.0.edge_routers.iter_mut().filter(|r| r.id.as_str() == id).for_each(|r| r.disabled = true);
        self
    }
    /// Service `s` has the `otlp.v1` config `s-otlp`.
    pub(crate) fn sending(mut self, data: Value) -> Self {
        self.0.configs.push(config("s-otlp", "otlp.v1", data));
        self.0.services[0].configs.insert(ConfigId::new("s-otlp"));
        self
    }
    pub(crate) fn hosted(mut self, id: &str, instance: &str, session: Option<Tag>) -> Self {
        self.0.terminators.push(terminator(id, instance, session));
        self
    }
}

pub(crate) fn roles(role: &str) -> Roles {
    Roles::parse([role]).expect("a valid role")
}

pub(crate) fn identity(id: &str) -> Identity {
    Identity {
        id: IdentityId::new(id),
        name: format!("{id}-name"),
        type_: Default::default(),
        is_admin: false,
        permissions: Default::default(),
        role_attributes: BTreeSet::from([format!("{id}s")]),
        disabled: false,
        default_hosting_cost: 0,
        default_hosting_precedence: Precedence::Default,
        external_id: None,
        tags: BTreeMap::new(),
        created_at: AT,
        updated_at: AT,
    }
}

pub(crate) fn service(id: &str) -> Service {
    Service {
        id: ServiceId::new(id),
        name: format!("{id}-name"),
        configs: if id == "s" { BTreeSet::from([ConfigId::new("s-host")]) } else { BTreeSet::new() },
        role_attributes: BTreeSet::new(),
        terminator_strategy: Default::default(),
        encryption_required: true,
        max_idle_time_millis: 0,
        tags: BTreeMap::new(),
        created_at: AT,
        updated_at: AT,
    }
}

pub(crate) fn config(id: &str, type_: &str, data: Value) -> Config {
    Config {
        id: ConfigId::new(id),
        name: id.into(),
        config_type_id: ConfigTypeId::new(type_),
        data,
        tags: BTreeMap::new(),
        created_at: AT,
        updated_at: AT,
    }
}

fn config_type(id: &str) -> ConfigType {
    ConfigType {
        id: ConfigTypeId::new(id),
        name: id.into(),
        schema: None,
        target: None,
        tags: BTreeMap::new(),
        created_at: AT,
        updated_at: AT,
    }
}

pub(crate) fn policy(type_: PolicyType, identity: &str) -> ServicePolicy {
    ServicePolicy {
        id: ServicePolicyId::new(format!("{identity}-{type_}")),
        name: format!("{identity}-{type_}"),
        type_,
        semantic: Semantic::AnyOf,
        identity_roles: roles(&format!("@{identity}")),
        service_roles: roles("@s"),
        tags: BTreeMap::new(),
        created_at: AT,
        updated_at: AT,
    }
}

pub(crate) fn router(id: &str) -> EdgeRouter {
    EdgeRouter {
        id: EdgeRouterId::new(id),
        name: format!("{id}-name"),
        role_attributes: BTreeSet::new(),
        disabled: false,
        is_verified: true,
        cost: 0,
        no_traversal: false,
        is_tunneler_enabled: false,
        addresses: vec!["192.0.2.1:3022".into()],
        tags: BTreeMap::new(),
        created_at: AT,
        updated_at: AT,
    }
}

pub(crate) fn terminator(id: &str, instance: &str, session: Option<Tag>) -> Terminator {
    Terminator {
        id: TerminatorId::new(id),
        service_id: ServiceId::new("s"),
        host_id: IdentityId::new("binder"),
        router_id: None,
        binding: "hesper".into(),
        address: String::new(),
        instance: instance.into(),
        cost: 0,
        precedence: Precedence::Default,
        session,
        tags: BTreeMap::new(),
        created_at: AT,
        updated_at: AT,
    }
}
