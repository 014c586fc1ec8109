//! What is still missing before a service can be dialed, in one line.

use crate::{Model, access, index::Policy as _, routers};
use hesper_model::{
    entity::{PolicyType, Service},
    id::{ServiceId, ServicePolicyId, TerminatorId},
};

/// The line after `create service`; none when an identity may dial it, another host it, over a common router.
pub fn after_create_service(model: &Model, service: &ServiceId) -> Option<String> {
    let service = model.service(service)?;
    line(service, &missing(model, service))
}

/// The line after `create service-policy`: about the first service of the policy that cannot be dialed yet, or about the
/// policy itself when it matches no service or no identity.
pub fn after_create_service_policy(model: &Model, policy: &ServicePolicyId) -> Option<String> {
    let policy = model.service_policy(policy)?;
    let mut services: Vec<_> = model.services().filter(|s| policy.has_right(s)).collect();
    if services.is_empty() {
        return Some(format!(
            "service-policy '{}' matches no service yet: check its --service-roles",
            policy.name
        ));
    }
    if !model.identities().any(|i| policy.has_left(i)) {
        return Some(format!(
            "service-policy '{}' matches no identity yet: check its --identity-roles",
            policy.name
        ));
    }
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services.into_iter().find_map(|service| line(service, &missing(model, service)))
}

/// The line after `create terminator`: a terminator without the session of a node that hosts it is never online. In OpenZiti a
/// router connects to its address; a Hesper router reads nothing and connects to nothing. None for one that a node has bound.
pub fn after_create_terminator(model: &Model, terminator: &TerminatorId) -> Option<String> {
    let terminator = model.terminator(terminator).filter(|t| t.session.is_none())?;
    let host = model.identity(&terminator.host_id).map_or(terminator.host_id.as_str(), |i| &i.name);
    let service = model.service(&terminator.service_id).map_or(terminator.service_id.as_str(), |s| &s.name);
    let address = if terminator.address.is_empty() { "its address" } else { &terminator.address };
    Some(format!(
        "this terminator stays offline: routers connect to nothing, only a node that binds makes a terminator that works; give \
         '{service}' a host.v1 config for {address} and run 'hesper tunnel host' as '{host}'"
    ))
}

fn line(service: &Service, missing: &[String]) -> Option<String> {
    let (last, rest) = missing.split_last()?;
    let list = if rest.is_empty() { last.clone() } else { format!("{} and {last}", rest.join(", ")) };
    Some(format!("before '{}' can be dialed it still needs {list}", service.name))
}

fn missing(model: &Model, service: &Service) -> Vec<String> {
    let name = &service.name;
    let dialers = access::identities_for(model, &service.id, PolicyType::Dial);
    let hosts = access::identities_for(model, &service.id, PolicyType::Bind);
    let mut missing = Vec::new();
    for (type_, identities, who) in [(PolicyType::Bind, &hosts, "host"), (PolicyType::Dial, &dialers, "dial")]
    {
        if identities.is_empty() {
            missing.push(format!(
                "a {type_} policy for whoever shall {who} it (create service-policy {name}.{} {type_} --service-roles \
                 '@{name}' --identity-roles '#…')",
                type_.to_string().to_lowercase()
            ));
        }
    }
    if routers::of_service(model, service).is_empty() {
        missing.push(format!(
            "a service-edge-router-policy (create service-edge-router-policy {name}.routers --service-roles '@{name}' \
             --edge-router-roles '#all')"
        ));
        return missing;
    }
    for (identities, who) in [(&hosts, "host"), (&dialers, "dialer")] {
        let reached = |id| !routers::common_routers(model, id, &service.id).is_empty();
        if let Some(first) = identities.first()
            && !identities.iter().any(|i| reached(&i.id))
        {
            missing.push(format!(
                "an edge-router-policy that gives its {who} '{}' one of the service's edge routers",
                first.name
            ));
        }
    }
    missing
}
