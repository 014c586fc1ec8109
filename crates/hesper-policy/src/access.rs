//! Who has access to what: the lists behind a node's view of its services and behind the sub-lists of the management API.

use crate::{Model, decide, index::Policy as _};
use hesper_model::{
    entity::{Identity, PolicyType},
    id::{IdentityId, ServiceId},
};
use std::{collections::BTreeMap, sync::Arc};

/// Every service that the identity may dial or bind, as (id, may dial, may bind), in the order of the ids.
///
/// None for an unknown or disabled identity.
pub fn services_for(model: &Model, identity: &IdentityId) -> Vec<(ServiceId, bool, bool)> {
    let Ok(identity) = decide::known_identity(model, identity) else { return Vec::new() };
    let index = model.service_access();
    let mut services: BTreeMap<_, (bool, bool)> = BTreeMap::new();
    for policy in index.of(identity) {
        for service in index.members(policy) {
            let (dial, bind) = services.entry(&service.id).or_default();
            match policy.type_ {
                PolicyType::Dial => *dial = true,
                PolicyType::Bind => *bind = true,
            }
        }
    }
    services.into_iter().map(|(id, (dial, bind))| (id.clone(), dial, bind)).collect()
}

/// Every enabled identity that may dial (or bind) the service, in the order of their ids.
pub fn identities_for<'a>(
    model: &'a Model,
    service: &ServiceId,
    type_: PolicyType,
) -> Vec<&'a Arc<Identity>> {
    let Some(service) = model.service(service) else { return Vec::new() };
    let policies: Vec<_> =
        model.service_policies().filter(|p| p.type_ == type_ && p.has_right(service)).collect();
    if policies.is_empty() {
        return Vec::new();
    }
    model.identities().filter(|i| !i.disabled && policies.iter().any(|p| p.has_left(i))).collect()
}
