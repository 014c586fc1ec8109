//! Who has access to what: the lists behind a node's view of its services and behind the sub-lists of the management API.

use crate::{Model, decide};
use hesper_model::{
    entity::{Identity, PolicyType, Service, ServicePolicy},
    id::{IdentityId, ServiceId},
};
use std::sync::Arc;

/// Every service that the identity may dial or bind, as (id, may dial, may bind), in the order of the ids.
///
/// None for an unknown or disabled identity.
pub fn services_for(model: &Model, identity: &IdentityId) -> Vec<(ServiceId, bool, bool)> {
    let Ok(identity) = decide::known_identity(model, identity) else { return Vec::new() };
    let policies: Vec<_> = model.service_policies().filter(|p| decide::has_identity(p, identity)).collect();
    if policies.is_empty() {
        return Vec::new();
    }
    model
        .services()
        .map(|s| (s.id.clone(), may(&policies, PolicyType::Dial, s), may(&policies, PolicyType::Bind, s)))
        .filter(|(_, dial, bind)| *dial || *bind)
        .collect()
}

fn may(policies: &[&Arc<ServicePolicy>], type_: PolicyType, service: &Service) -> bool {
    policies.iter().any(|p| p.type_ == type_ && decide::has_service(p, service))
}

/// Every enabled identity that may dial (or bind) the service, in the order of their ids.
pub fn identities_for<'a>(
    model: &'a Model,
    service: &ServiceId,
    type_: PolicyType,
) -> Vec<&'a Arc<Identity>> {
    let Some(service) = model.service(service) else { return Vec::new() };
    let policies: Vec<_> =
        model.service_policies().filter(|p| p.type_ == type_ && decide::has_service(p, service)).collect();
    if policies.is_empty() {
        return Vec::new();
    }
    model
        .identities()
        .filter(|i| !i.disabled && policies.iter().any(|p| decide::has_identity(p, i)))
        .collect()
}

/// Service policies that differ between two models, where nothing else differs that the services and routers of identities depend on
/// but the identities themselves.
#[derive(Clone, Debug)]
pub struct ChangedPolicies(pub(crate) Vec<Arc<ServicePolicy>>);

impl ChangedPolicies {
    /// What differs; none when more does: then everybody may be concerned.
    pub fn between(before: &Model, after: &Model) -> Option<Self> {
        before.changed_policies(after).map(Self)
    }

    /// May they open or close anything to this identity?
    pub fn concern(&self, identity: &Identity) -> bool {
        self.0.iter().any(|policy| decide::has_identity(policy, identity))
    }
}
