//! The policy advisor: what stands between an identity and a service.

use crate::{Model, access, routers};
use hesper_model::{
    entity::{Identity, PolicyType, Service},
    id::{EdgeRouterId, IdentityId, ServiceId},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An entity by id and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A router that identity and service have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommonRouter {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Is it online now?
    pub is_online: bool,
}

/// What keeps an identity from a service. The text is the advisor's, as scripts for OpenZiti expect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Neither dial nor bind.
    NoAccess,
    /// The identity is disabled.
    IdentityDisabled,
    /// The identity has no router.
    IdentityHasNoRouters,
    /// The service has no router.
    ServiceHasNoRouters,
    /// Both have routers, but none in common.
    NoCommonRouters,
    /// The common routers are all offline.
    CommonRoutersOffline,
    /// The identity has no service at all.
    IdentityHasNoServices,
    /// The service has no identity at all.
    ServiceHasNoIdentities,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAccess => "No access to service. Adjust service policies.",
            Self::IdentityDisabled => "Identity is disabled. Enable it.",
            Self::IdentityHasNoRouters => "Identity has no edge routers assigned. Adjust edge router policies.",
            Self::ServiceHasNoRouters => {
                "Service has no edge routers assigned. Adjust service edge router policies."
            }
            Self::NoCommonRouters => {
                "Identity and services have no edge routers in common. Adjust edge router policies and/or service edge \
                 router policies."
            }
            Self::CommonRoutersOffline => {
                "Common edge routers are all off-line. Bring routers back on-line or adjust edge router policies and/or \
                 service edge router policies to increase common router pool."
            }
            Self::IdentityHasNoServices => "Identity does not have access to any services. Adjust service policies.",
            Self::ServiceHasNoIdentities => "Service is not accessible by any identities. Adjust service policies.",
        })
    }
}

/// The advisor's finding for one pair, or for an identity or service that has no counterpart at all.
///
/// `Display` is the advisor's line: `OKAY : client (1) -> svc (1) Common Routers: (1/1) Dial: Y Bind: N ` and one indented
/// line per fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// The identity; none when the service has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Named>,
    /// The service; none when the identity has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Named>,
    /// How many routers the identity may use.
    pub identity_router_count: usize,
    /// How many routers the service may use.
    pub service_router_count: usize,
    /// The routers that both may use.
    #[serde(rename = "commonRouters")]
    pub common: Vec<CommonRouter>,
    /// How many of them are online.
    pub common_online: usize,
    /// May the identity dial the service?
    #[serde(rename = "isDialAllowed")]
    pub dial: bool,
    /// May it bind the service?
    #[serde(rename = "isBindAllowed")]
    pub bind: bool,
    /// What is wrong; empty = all is well.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.faults.is_empty() { "OKAY " } else { "ERROR" })?;
        match (&self.identity, &self.service) {
            (Some(identity), Some(service)) => write!(
                f,
                ": {} ({}) -> {} ({}) Common Routers: ({}/{}) Dial: {} Bind: {} ",
                identity.name,
                self.identity_router_count,
                service.name,
                self.service_router_count,
                self.common_online,
                self.common.len(),
                yes_no(self.dial),
                yes_no(self.bind)
            )?,
            (Some(only), None) | (None, Some(only)) => write!(f, ": {} ", only.name)?,
            (None, None) => {}
        }
        self.faults.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
    }
}

const fn yes_no(yes: bool) -> char {
    if yes { 'Y' } else { 'N' }
}

/// The finding for one identity and one service; none when either does not exist.
pub fn advise(
    model: &Model,
    online: &dyn Fn(&EdgeRouterId) -> bool,
    identity: &IdentityId,
    service: &ServiceId,
) -> Option<Advice> {
    Some(pair(model, online, model.identity(identity)?, model.service(service)?))
}

/// The findings for one identity and each service it has access to; one finding without a service when it has none.
pub fn advise_identity(
    model: &Model,
    online: &dyn Fn(&EdgeRouterId) -> bool,
    identity: &IdentityId,
) -> Vec<Advice> {
    let Some(identity) = model.identity(identity) else { return Vec::new() };
    let services = access::services_for(model, &identity.id);
    if services.is_empty() {
        let fault = if identity.disabled { Fault::IdentityDisabled } else { Fault::IdentityHasNoServices };
        return vec![alone(Some(named(identity.id.as_str(), &identity.name)), None, fault)];
    }
    services.iter().filter_map(|(service, _, _)| advise(model, online, &identity.id, service)).collect()
}

/// The findings for one service and each identity that has access to it; one finding without an identity when none has.
pub fn advise_service(
    model: &Model,
    online: &dyn Fn(&EdgeRouterId) -> bool,
    service: &ServiceId,
) -> Vec<Advice> {
    let Some(service) = model.service(service) else { return Vec::new() };
    let mut identities = access::identities_for(model, &service.id, PolicyType::Dial);
    identities.extend(access::identities_for(model, &service.id, PolicyType::Bind));
    identities.sort_by(|a, b| a.id.cmp(&b.id));
    identities.dedup_by(|a, b| a.id == b.id);
    if identities.is_empty() {
        return vec![alone(
            None,
            Some(named(service.id.as_str(), &service.name)),
            Fault::ServiceHasNoIdentities,
        )];
    }
    identities.into_iter().map(|identity| pair(model, online, identity, service)).collect()
}

fn pair(
    model: &Model,
    online: &dyn Fn(&EdgeRouterId) -> bool,
    identity: &Identity,
    service: &Service,
) -> Advice {
    let of_identity = routers::of_identity(model, identity);
    let of_service = routers::of_service(model, service);
    let common: Vec<_> = of_identity
        .iter()
        .filter(|r| of_service.iter().any(|s| s.id == r.id))
        .map(|r| CommonRouter { id: r.id.to_string(), name: r.name.clone(), is_online: online(&r.id) })
        .collect();
    let common_online = common.iter().filter(|r| r.is_online).count();
    let may = |type_| model.service_access().first(identity, service, |p| p.type_ == type_).is_some();
    let (dial, bind) = (may(PolicyType::Dial), may(PolicyType::Bind));
    let both_have_routers = !of_identity.is_empty() && !of_service.is_empty();
    let faults = [
        (!dial && !bind, Fault::NoAccess),
        (identity.disabled, Fault::IdentityDisabled),
        (of_identity.is_empty(), Fault::IdentityHasNoRouters),
        (of_service.is_empty(), Fault::ServiceHasNoRouters),
        (both_have_routers && common.is_empty(), Fault::NoCommonRouters),
        (!common.is_empty() && common_online == 0, Fault::CommonRoutersOffline),
    ];
    Advice {
        identity: Some(named(identity.id.as_str(), &identity.name)),
        service: Some(named(service.id.as_str(), &service.name)),
        identity_router_count: of_identity.len(),
        service_router_count: of_service.len(),
        common,
        common_online,
        dial,
        bind,
        faults: faults.into_iter().filter_map(|(wrong, fault)| wrong.then_some(fault)).collect(),
    }
}

fn named(id: &str, name: &str) -> Named {
    Named { id: id.to_owned(), name: name.to_owned() }
}

fn alone(identity: Option<Named>, service: Option<Named>, fault: Fault) -> Advice {
    Advice {
        identity,
        service,
        identity_router_count: 0,
        service_router_count: 0,
        common: Vec::new(),
        common_online: 0,
        dial: false,
        bind: false,
        faults: vec![fault],
    }
}
