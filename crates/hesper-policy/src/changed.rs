//! What differs between two models, as far as decisions go, and whom it may concern. Costs the number of entities in the tables that
//! a change touched, and hardly anything for the others.

use crate::{Model, Stored, Table, index::Policy, senders};
use hesper_model::{
    config::OtlpV1,
    entity::{
        Config, EdgeRouter, EdgeRouterPolicy, Identity, Service, ServiceEdgeRouterPolicy, ServicePolicy,
    },
    id::{EdgeRouterId, IdentityId, ServiceId},
};
use std::{collections::HashSet, sync::Arc};

/// Policies and routers that are worth to be looked at one by one; when more differ, everybody is concerned.
const FEW: usize = 16;

/// Policies that one model has and the other has not, or not as they are there.
#[derive(Clone, Debug, Default)]
struct Policies {
    service: Vec<Arc<ServicePolicy>>,
    edge_router: Vec<Arc<EdgeRouterPolicy>>,
    service_edge_router: Vec<Arc<ServiceEdgeRouterPolicy>>,
}

impl Policies {
    fn only_in(model: &Model, other: &Model) -> Self {
        Self {
            service: only_in(model, other),
            edge_router: only_in(model, other),
            service_edge_router: only_in(model, other),
        }
    }

    fn len(&self) -> usize {
        self.service.len() + self.edge_router.len() + self.service_edge_router.len()
    }

    /// Do they give the identity services or routers?
    fn concern(&self, identity: &Identity) -> bool {
        self.service.iter().any(|p| p.has_left(identity))
            || self.edge_router.iter().any(|p| p.has_left(identity))
    }
}

/// What differs between two models.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Those that are not what they were to any policy, or are in one model only.
    identities: HashSet<IdentityId>,
    services: HashSet<ServiceId>,
    /// Those with another name: it is said in what they may send.
    renamed: HashSet<IdentityId>,
    /// Services that say otherwise who may send what, or under another name.
    senders: HashSet<ServiceId>,
    /// Routers that may have been taken from somebody.
    routers_lost: bool,
    routers: HashSet<EdgeRouterId>,
    gone: Policies,
    come: Policies,
}

impl Changed {
    /// What differs.
    pub fn between(before: &Model, after: &Model) -> Self {
        let identities = differing::<Identity>(before, after, |a, b| {
            a.disabled == b.disabled && a.role_attributes == b.role_attributes
        });
        let services = differing::<Service>(before, after, |a, b| a.role_attributes == b.role_attributes);
        let routers = differing::<EdgeRouter>(before, after, |a, b| {
            a.disabled == b.disabled && a.role_attributes == b.role_attributes
        });
        Self {
            identities: identities.into_iter().map(IdentityId::new).collect(),
            services: services.into_iter().map(ServiceId::new).collect(),
            renamed: renamed(before, after),
            senders: other_senders(before, after),
            routers_lost: routers.iter().any(|id| before.table::<EdgeRouter>().get(id).is_some()),
            routers: routers.into_iter().map(EdgeRouterId::new).collect(),
            gone: Policies::only_in(before, after),
            come: Policies::only_in(after, before),
        }
    }

    /// May it take a dial of the service by this dialer at this host away, or a router from it, or alter what the dialer may send there?
    /// A policy or router that is added takes nothing.
    pub fn may_end(
        &self,
        after: &Model,
        dialer: &IdentityId,
        service: &ServiceId,
        host: &IdentityId,
    ) -> bool {
        if self.takes_nothing() {
            return false;
        }
        let differs = |id: &IdentityId| self.identities.contains(id);
        if self.routers_lost
            || self.gone.len() > FEW
            || self.services.contains(service)
            || differs(dialer)
            || differs(host)
        {
            return true;
        }
        // Who is not known now and was not before has nothing to lose.
        let Some(service) = after.service(service) else { return false };
        if self.senders.contains(&service.id)
            || self.renamed.contains(dialer) && senders::config_of(after, service).is_some()
        {
            return true;
        }
        let Some((dialer, host)) = after.identity(dialer).zip(after.identity(host)) else { return false };
        let either = |p: &dyn Fn(&Identity) -> bool| p(dialer) || p(host);
        self.gone.service_edge_router.iter().any(|p| p.has_left(service))
            || self.gone.service.iter().any(|p| p.has_right(service) && either(&|who| p.has_left(who)))
            || self.gone.edge_router.iter().any(|p| either(&|who| p.has_left(who)))
    }

    /// Is it sure that it ends nothing?
    pub fn takes_nothing(&self) -> bool {
        !self.routers_lost
            && self.gone.len() == 0
            && self.identities.is_empty()
            && self.services.is_empty()
            && self.renamed.is_empty()
            && self.senders.is_empty()
    }

    /// May policies that came or went open services or routers to this identity, or close them? What changed about the services and
    /// routers themselves is another question.
    pub fn policies_concern(&self, identity: &Identity) -> bool {
        self.gone.len() + self.come.len() > FEW || self.gone.concern(identity) || self.come.concern(identity)
    }

    /// Services that policies see with other eyes, or that are in one model only.
    pub fn services(&self) -> impl Iterator<Item = &ServiceId> {
        self.services.iter()
    }

    /// Routers that policies see with other eyes, or that are in one model only.
    pub fn routers(&self) -> impl Iterator<Item = &EdgeRouterId> {
        self.routers.iter()
    }
}

/// Identities that are in both with different names.
fn renamed(before: &Model, after: &Model) -> HashSet<IdentityId> {
    let mut renamed = HashSet::new();
    if !before.shares::<Identity>(after) {
        each_only_in::<Identity>(before.table(), after.table(), |identity, there| {
            if there.is_some_and(|there| there.name != identity.name) {
                renamed.insert(identity.id.clone());
            }
        });
    }
    renamed
}

/// Services whose `otlp.v1` config is not the same in both. Most changes touch neither services nor configs.
fn other_senders(before: &Model, after: &Model) -> HashSet<ServiceId> {
    if before.shares::<Service>(after) && before.shares::<Config>(after)
        || before.senders().is_empty() && after.senders().is_empty()
    {
        return HashSet::new();
    }
    let same = |service: &Service| {
        said(after, service) == before.service(&service.id).and_then(|service| said(before, service))
    };
    after.services().filter(|service| !same(service)).map(|service| service.id.clone()).collect()
}

/// All that the terms of a dialer depend on, but the dialer.
fn said<'a>(
    model: &'a Model,
    service: &'a Service,
) -> Option<(&'a str, &'a str, &'a Result<OtlpV1, String>)> {
    let (config, otlp) = senders::config_of(model, service)?;
    Some((&service.name, &config.name, otlp))
}

/// Ids of those that are not the same in both.
fn differing<T: Stored>(before: &Model, after: &Model, same: impl Fn(&T, &T) -> bool) -> HashSet<String> {
    let (before, after) = (T::table(before), T::table(after));
    if std::ptr::eq(before, after) {
        return HashSet::new();
    }
    let mut ids = HashSet::new();
    each_only_in(before, after, |e, there| {
        if !there.is_some_and(|there| same(e, there)) {
            ids.insert(e.id().to_owned());
        }
    });
    each_only_in(after, before, |e, there| {
        if there.is_none() {
            ids.insert(e.id().to_owned());
        }
    });
    ids
}

fn only_in<T: Stored>(model: &Model, other: &Model) -> Vec<Arc<T>> {
    let (table, other) = (T::table(model), T::table(other));
    let mut only = Vec::new();
    if !std::ptr::eq(table, other) {
        each_only_in(table, other, |e, _| only.push(Arc::clone(e)));
    }
    only
}

/// Every entity of the table that is not the very same in the other, with what is there instead. Both are in the order of their ids.
fn each_only_in<T: Stored>(
    table: &Table<T>,
    other: &Table<T>,
    mut each: impl FnMut(&Arc<T>, Option<&Arc<T>>),
) {
    let mut others = other.iter().peekable();
    for entity in table.iter() {
        while others.next_if(|there| there.id() < entity.id()).is_some() {}
        let there = others.next_if(|there| there.id() == entity.id());
        if !there.is_some_and(|there| Arc::ptr_eq(there, entity)) {
            each(entity, there);
        }
    }
}
