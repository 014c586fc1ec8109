//! The decision: may this identity do that?

use crate::{
    Model,
    rule::{PolicyRef, Rule},
};
use hesper_model::{
    entity::{Identity, PolicyType, Service},
    id::{EdgeRouterId, IdentityId, ServiceId},
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// To open a stream to the service.
    Dial {
        /// The dialer.
        identity: &'a IdentityId,
        /// The service.
        service: &'a ServiceId,
    },
    /// To host the service.
    Bind {
        /// The host.
        identity: &'a IdentityId,
        /// The service.
        service: &'a ServiceId,
    },
    /// To attach to the router or, with a service, to carry that service's streams through it.
    UseRouter {
        /// Who attaches.
        identity: &'a IdentityId,
        /// The service carried; none = only to attach.
        service: Option<&'a ServiceId>,
        /// The router.
        router: &'a EdgeRouterId,
    },
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No.
    Deny,
}

/// A verdict and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no.
    pub verdict: Verdict,
    /// The policies that allow, or what is missing. Of several policies that allow, the one with the lowest id.
    pub rule: Rule,
}

impl Decision {
    /// True when the verdict is Allow.
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// Decides one request. Costs the number of policies that name the identity, or the service if they are fewer.
///
/// Whatever the model does not know, or knows as disabled, is denied.
pub fn decide(model: &Model, request: &Request<'_>) -> Decision {
    match try_decide(model, request) {
        Ok(rule) => Decision { verdict: Verdict::Allow, rule },
        Err(rule) => Decision { verdict: Verdict::Deny, rule },
    }
}

fn try_decide(model: &Model, request: &Request<'_>) -> Result<Rule, Rule> {
    match *request {
        Request::Dial { identity, service } => service_access(model, PolicyType::Dial, identity, service),
        Request::Bind { identity, service } => service_access(model, PolicyType::Bind, identity, service),
        Request::UseRouter { identity, service, router } => router_access(model, identity, service, router),
    }
}

fn service_access(
    model: &Model,
    type_: PolicyType,
    identity: &IdentityId,
    service: &ServiceId,
) -> Result<Rule, Rule> {
    let identity = known_identity(model, identity)?;
    let service = known_service(model, service)?;
    let allowing =
        model.service_access().first(identity, service, |p| p.type_ == type_).ok_or_else(|| {
            Rule::NoServicePolicy { type_, identity: identity.name.clone(), service: service.name.clone() }
        })?;
    Ok(Rule::ServicePolicy(type_, PolicyRef { id: allowing.id.to_string(), name: allowing.name.clone() }))
}

fn router_access(
    model: &Model,
    identity: &IdentityId,
    service: Option<&ServiceId>,
    router: &EdgeRouterId,
) -> Result<Rule, Rule> {
    let identity = known_identity(model, identity)?;
    let service = service.map(|s| known_service(model, s)).transpose()?;
    let router = model.edge_router(router).ok_or_else(|| Rule::UnknownEdgeRouter(router.to_string()))?;
    if router.disabled {
        return Err(Rule::EdgeRouterDisabled(router.name.clone()));
    }
    let erp = model
        .router_access()
        .first(identity, router, |_| true)
        .map(|p| PolicyRef { id: p.id.to_string(), name: p.name.clone() })
        .ok_or_else(|| Rule::NoEdgeRouterPolicy {
            identity: identity.name.clone(),
            router: Some(router.name.clone()),
        })?;
    let Some(service) = service else { return Ok(Rule::Routers(erp, None)) };
    let serp = model
        .service_routers()
        .first(service, router, |_| true)
        .map(|p| PolicyRef { id: p.id.to_string(), name: p.name.clone() })
        .ok_or_else(|| Rule::NoServiceEdgeRouterPolicy {
            service: service.name.clone(),
            router: Some(router.name.clone()),
        })?;
    Ok(Rule::Routers(erp, Some(serp)))
}

/// The identity, if it exists and is enabled.
pub(crate) fn known_identity<'a>(model: &'a Model, id: &IdentityId) -> Result<&'a Identity, Rule> {
    let identity = model.identity(id).ok_or_else(|| Rule::UnknownIdentity(id.to_string()))?;
    if identity.disabled { Err(Rule::IdentityDisabled(identity.name.clone())) } else { Ok(identity) }
}

/// The service, if it exists.
pub(crate) fn known_service<'a>(model: &'a Model, id: &ServiceId) -> Result<&'a Service, Rule> {
    model.service(id).map(AsRef::as_ref).ok_or_else(|| Rule::UnknownService(id.to_string()))
}
