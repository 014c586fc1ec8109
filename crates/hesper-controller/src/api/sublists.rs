//! What belongs to one entity: `GET /services/{id}/configs` and its like.

use super::{
    call::{Call, Reply},
    entities::page,
    error::ApiError,
    fields::{self, exists},
    kinds::{Managed, Shown, render},
};
use crate::state::State;
use hesper_model::{
    entity::{
        Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Enrollment, Identity, Kind, PolicyType, Service,
        ServiceEdgeRouterPolicy, ServicePolicy, Terminator,
    },
    id::{IdentityId, ServiceId},
    role::{Roles, Semantic},
};
use hesper_policy::{Model, access, routers};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

/// One sub-list.
pub(crate) struct SubList {
    /// Whose.
    pub(crate) parent: Kind,
    /// Of what.
    pub(crate) child: Kind,
    /// The handler.
    pub(crate) handler: fn(Arc<State>, Call) -> Reply,
}

/// Which entities of a kind belong to another, by its id.
trait Belongs<P>: Managed {
    fn of(model: &Model, parent: &str) -> Vec<Arc<Self>>;
}

fn handler<P: Managed, C: Belongs<P>>(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let (model, id) = (state.model(), call.param("id"));
        if !exists(&model, P::KIND, id) {
            return Err(ApiError::not_found(P::KIND, id));
        }
        let context = Shown::new(&model, &state);
        let items: Vec<Value> = C::of(&model, id).iter().map(|e| render(e.as_ref(), &context)).collect();
        page(&call, items, &fields::filterable(C::FIELDS))
    })
}

const fn sub<P: Managed, C: Belongs<P>>() -> SubList {
    SubList { parent: P::KIND, child: C::KIND, handler: handler::<P, C> }
}

/// Every sub-list.
pub(crate) const ALL: [SubList; 26] = [
    sub::<Service, Config>(),
    sub::<Service, ServicePolicy>(),
    sub::<Service, ServiceEdgeRouterPolicy>(),
    sub::<Service, Terminator>(),
    sub::<Service, Identity>(),
    sub::<Service, EdgeRouter>(),
    sub::<Identity, Service>(),
    sub::<Identity, ServicePolicy>(),
    sub::<Identity, EdgeRouterPolicy>(),
    sub::<Identity, EdgeRouter>(),
    sub::<Identity, Enrollment>(),
    sub::<Identity, Terminator>(),
    sub::<EdgeRouter, Identity>(),
    sub::<EdgeRouter, Service>(),
    sub::<EdgeRouter, EdgeRouterPolicy>(),
    sub::<EdgeRouter, ServiceEdgeRouterPolicy>(),
    sub::<EdgeRouter, Enrollment>(),
    sub::<EdgeRouter, Terminator>(),
    sub::<ServicePolicy, Identity>(),
    sub::<ServicePolicy, Service>(),
    sub::<EdgeRouterPolicy, Identity>(),
    sub::<EdgeRouterPolicy, EdgeRouter>(),
    sub::<ServiceEdgeRouterPolicy, Service>(),
    sub::<ServiceEdgeRouterPolicy, EdgeRouter>(),
    sub::<Config, Service>(),
    sub::<ConfigType, Config>(),
];

macro_rules! belongs {
    ($($parent:ty { $($child:ty: |$model:ident, $p:ident| $test:expr;)+ })+) => {$($(
        impl Belongs<$parent> for $child {
            fn of(model: &Model, id: &str) -> Vec<Arc<Self>> {
                let Some($p) = model.table::<$parent>().get(id) else { return Vec::new() };
                let $model = model;
                let belongs = $test;
                model.table::<$child>().iter().filter(|c| belongs(c)).cloned().collect()
            }
        }
    )+)+};
}

/// A test for one type of entity.
fn of<C: Managed>(test: impl Fn(&C) -> bool) -> impl Fn(&C) -> bool {
    test
}

fn has(roles: &Roles, semantic: Semantic, id: &impl AsRef<str>, attributes: &BTreeSet<String>) -> bool {
    roles.matches(semantic, id.as_ref(), attributes)
}

belongs! {
    Service {
        Config: |_m, s| of::<Config>(|c| s.configs.contains(&c.id));
        ServicePolicy: |_m, s| of::<ServicePolicy>(|p| has(&p.service_roles, p.semantic, &s.id, &s.role_attributes));
        ServiceEdgeRouterPolicy: |_m, s| of::<ServiceEdgeRouterPolicy>(|p| has(&p.service_roles, p.semantic, &s.id, &s.role_attributes));
        Terminator: |_m, s| of::<Terminator>(|t| t.service_id == s.id);
        Identity: |m, s| { let ids = identities_of(m, &s.id); of::<Identity>(move |i| ids.contains(&i.id)) };
        EdgeRouter: |m, s| { let ids = routers::routers_for_service(m, &s.id); of::<EdgeRouter>(move |r| ids.contains(&r.id)) };
    }
    Identity {
        Service: |m, i| { let ids = services_of(m, &i.id); of::<Service>(move |s| ids.contains(&s.id)) };
        ServicePolicy: |_m, i| of::<ServicePolicy>(|p| has(&p.identity_roles, p.semantic, &i.id, &i.role_attributes));
        EdgeRouterPolicy: |_m, i| of::<EdgeRouterPolicy>(|p| has(&p.identity_roles, p.semantic, &i.id, &i.role_attributes));
        EdgeRouter: |m, i| { let ids = routers::routers_for(m, &i.id); of::<EdgeRouter>(move |r| ids.contains(&r.id)) };
        Enrollment: |_m, i| of::<Enrollment>(|e| e.identity_id.as_ref() == Some(&i.id));
        Terminator: |_m, i| of::<Terminator>(|t| t.host_id == i.id);
    }
    EdgeRouter {
        Identity: |m, r| of::<Identity>(|i| routers::routers_for(m, &i.id).contains(&r.id));
        Service: |m, r| of::<Service>(|s| routers::routers_for_service(m, &s.id).contains(&r.id));
        EdgeRouterPolicy: |_m, r| of::<EdgeRouterPolicy>(|p| has(&p.edge_router_roles, p.semantic, &r.id, &r.role_attributes));
        ServiceEdgeRouterPolicy: |_m, r| of::<ServiceEdgeRouterPolicy>(|p| has(&p.edge_router_roles, p.semantic, &r.id, &r.role_attributes));
        Enrollment: |_m, r| of::<Enrollment>(|e| e.edge_router_id.as_ref() == Some(&r.id));
        Terminator: |_m, r| of::<Terminator>(|t| t.router_id.as_ref() == Some(&r.id));
    }
    ServicePolicy {
        Identity: |_m, p| of::<Identity>(|i| has(&p.identity_roles, p.semantic, &i.id, &i.role_attributes));
        Service: |_m, p| of::<Service>(|s| has(&p.service_roles, p.semantic, &s.id, &s.role_attributes));
    }
    EdgeRouterPolicy {
        Identity: |_m, p| of::<Identity>(|i| has(&p.identity_roles, p.semantic, &i.id, &i.role_attributes));
        EdgeRouter: |_m, p| of::<EdgeRouter>(|r| has(&p.edge_router_roles, p.semantic, &r.id, &r.role_attributes));
    }
    ServiceEdgeRouterPolicy {
        Service: |_m, p| of::<Service>(|s| has(&p.service_roles, p.semantic, &s.id, &s.role_attributes));
        EdgeRouter: |_m, p| of::<EdgeRouter>(|r| has(&p.edge_router_roles, p.semantic, &r.id, &r.role_attributes));
    }
    Config {
        Service: |_m, c| of::<Service>(|s| s.configs.contains(&c.id));
    }
    ConfigType {
        Config: |_m, t| of::<Config>(|c| c.config_type_id == t.id);
    }
}

/// Identities that may dial or bind the service.
fn identities_of(model: &Model, service: &ServiceId) -> BTreeSet<IdentityId> {
    let of_type = |type_| access::identities_for(model, service, type_).into_iter().map(|i| i.id.clone());
    of_type(PolicyType::Dial).chain(of_type(PolicyType::Bind)).collect()
}

/// Services that the identity may dial or bind.
fn services_of(model: &Model, identity: &IdentityId) -> BTreeSet<ServiceId> {
    access::services_for(model, identity).into_iter().map(|(id, _, _)| id).collect()
}
