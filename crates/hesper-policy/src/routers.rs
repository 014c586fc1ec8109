//! Which routers an identity, a service, and each end of a dial may use. Disabled routers are used by nobody.

use crate::{Model, Rule, decide};
use hesper_model::{
    entity::{EdgeRouter, Identity, Service},
    id::{EdgeRouterId, IdentityId, ServiceId},
};
use std::sync::Arc;

/// The routers that edge-router policies give to the identity, in the order of their ids; none for an unknown or disabled identity.
pub fn routers_for(model: &Model, identity: &IdentityId) -> Vec<EdgeRouterId> {
    decide::known_identity(model, identity).map_or_else(|_| Vec::new(), |i| ids(&of_identity(model, i)))
}

/// The routers that service-edge-router policies give to the service, in the order of their ids.
pub fn routers_for_service(model: &Model, service: &ServiceId) -> Vec<EdgeRouterId> {
    model.service(service).map_or_else(Vec::new, |s| ids(&of_service(model, s)))
}

/// The routers that both the identity and the service may use, in the order of their ids.
pub fn common_routers(model: &Model, identity: &IdentityId, service: &ServiceId) -> Vec<EdgeRouterId> {
    let service = routers_for_service(model, service);
    let mut common = routers_for(model, identity);
    common.retain(|id| service.contains(id));
    common
}

/// The routers that may carry the two ends of a dial, each in the order of their ids and none empty. The ends need not share one:
/// two routers that are linked carry a dial together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Those that policy gives to both dialer and service.
    pub dialer: Vec<EdgeRouterId>,
    /// Those that policy gives to both host and service.
    pub host: Vec<EdgeRouterId>,
}

/// The routers that may carry a dial of the service from the dialer to the host.
///
/// # Errors
/// The rule that is missing: of the service, else of the first end that has no router.
pub fn ends(
    model: &Model,
    dialer: &IdentityId,
    host: &IdentityId,
    service: &ServiceId,
) -> Result<Ends, Rule> {
    let (dialer, host) = (decide::known_identity(model, dialer)?, decide::known_identity(model, host)?);
    let service = decide::known_service(model, service)?;
    let of_service = of_service(model, service);
    if of_service.is_empty() {
        return Err(Rule::NoServiceEdgeRouterPolicy { service: service.name.clone(), router: None });
    }
    let end = |identity: &Identity| {
        let own = of_identity(model, identity);
        if own.is_empty() {
            return Err(Rule::NoEdgeRouterPolicy { identity: identity.name.clone(), router: None });
        }
        let common: Vec<_> =
            own.iter().filter(|r| of_service.iter().any(|s| s.id == r.id)).map(|r| r.id.clone()).collect();
        if common.is_empty() {
            let (identity, service) = (identity.name.clone(), service.name.clone());
            return Err(Rule::NoCommonEdgeRouter { identity, service });
        }
        Ok(common)
    };
    Ok(Ends { dialer: end(dialer)?, host: end(host)? })
}

/// The enabled routers of one identity.
pub(crate) fn of_identity<'a>(model: &'a Model, identity: &Identity) -> Vec<&'a EdgeRouter> {
    enabled(model.router_access().given(identity))
}

/// The enabled routers of one service.
pub(crate) fn of_service<'a>(model: &'a Model, service: &Service) -> Vec<&'a EdgeRouter> {
    enabled(model.service_routers().given(service))
}

fn enabled(routers: Vec<&Arc<EdgeRouter>>) -> Vec<&EdgeRouter> {
    routers.into_iter().map(AsRef::as_ref).filter(|r| !r.disabled).collect()
}

fn ids(routers: &[&EdgeRouter]) -> Vec<EdgeRouterId> {
    routers.iter().map(|r| r.id.clone()).collect()
}
