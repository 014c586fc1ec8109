//! The rule that decided.

use hesper_model::entity::PolicyType;
use std::fmt;

/// A policy, as named in a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRef {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' ({})", self.name, self.id)
    }
}

/// What decided: the policies that allow, or what is missing. Its text is the one in logs, audit events and errors.
///
/// Identities, services and routers are named as people know them where the model has them, else by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Allowed by this service policy.
    ServicePolicy(PolicyType, PolicyRef),
    /// The router is given by this edge-router policy and, where a service was asked for, this service-edge-router policy.
    Routers(PolicyRef, Option<PolicyRef>),
    /// No such identity.
    UnknownIdentity(String),
    /// The identity is disabled.
    IdentityDisabled(String),
    /// No such service.
    UnknownService(String),
    /// No such router.
    UnknownEdgeRouter(String),
    /// The router is disabled.
    EdgeRouterDisabled(String),
    /// No service policy of this type has both.
    NoServicePolicy {
        /// Dial or Bind.
        type_: PolicyType,
        /// Name of the identity.
        identity: String,
        /// Name of the service.
        service: String,
    },
    /// No edge-router policy gives the identity this router, or any.
    NoEdgeRouterPolicy {
        /// Name of the identity.
        identity: String,
        /// Name of the router; none = not one router.
        router: Option<String>,
    },
    /// No service-edge-router policy gives the service this router, or any.
    NoServiceEdgeRouterPolicy {
        /// Name of the service.
        service: String,
        /// Name of the router; none = not one router.
        router: Option<String>,
    },
    /// Identity and service each have routers, but none in common.
    NoCommonEdgeRouter {
        /// Name of the identity.
        identity: String,
        /// Name of the service.
        service: String,
    },
    /// The `otlp.v1` config of the service cannot be put into a grant for the identity.
    UnusableSenderTerms {
        /// Name of the config.
        config: String,
        /// Name of the service.
        service: String,
        /// Name of the identity.
        identity: String,
        /// Why not.
        reason: String,
    },
}

impl Rule {
    /// A stable word for metrics and JSON: `service-policy`, `unknown-identity`, ….
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ServicePolicy(..) => "service-policy",
            Self::Routers(..) => "edge-router-policy",
            Self::UnknownIdentity(_) => "unknown-identity",
            Self::IdentityDisabled(_) => "identity-disabled",
            Self::UnknownService(_) => "unknown-service",
            Self::UnknownEdgeRouter(_) => "unknown-edge-router",
            Self::EdgeRouterDisabled(_) => "edge-router-disabled",
            Self::NoServicePolicy { type_: PolicyType::Dial, .. } => "no-dial-policy",
            Self::NoServicePolicy { type_: PolicyType::Bind, .. } => "no-bind-policy",
            Self::NoEdgeRouterPolicy { .. } => "no-edge-router-policy",
            Self::NoServiceEdgeRouterPolicy { .. } => "no-service-edge-router-policy",
            Self::NoCommonEdgeRouter { .. } => "no-common-edge-router",
            Self::UnusableSenderTerms { .. } => "unusable-sender-terms",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServicePolicy(type_, policy) => write!(f, "allowed by {type_} service-policy {policy}"),
            Self::Routers(erp, None) => write!(f, "allowed by edge-router-policy {erp}"),
            Self::Routers(erp, Some(serp)) => {
                write!(f, "allowed by edge-router-policy {erp} and service-edge-router-policy {serp}")
            }
            Self::UnknownIdentity(id) => write!(f, "there is no identity '{id}'"),
            Self::IdentityDisabled(name) => write!(f, "identity '{name}' is disabled"),
            Self::UnknownService(name) => write!(f, "there is no service '{name}'"),
            Self::UnknownEdgeRouter(id) => write!(f, "there is no edge router '{id}'"),
            Self::EdgeRouterDisabled(name) => write!(f, "edge router '{name}' is disabled"),
            Self::NoServicePolicy { type_, identity, service } => {
                write!(f, "no {type_} service-policy has both identity '{identity}' and service '{service}'")
            }
            Self::NoEdgeRouterPolicy { identity, router: Some(router) } => {
                write!(f, "no edge-router-policy has both identity '{identity}' and edge router '{router}'")
            }
            Self::NoEdgeRouterPolicy { identity, router: None } => {
                write!(f, "no edge-router-policy gives identity '{identity}' an edge router")
            }
            Self::NoServiceEdgeRouterPolicy { service, router: Some(router) } => {
                write!(
                    f,
                    "no service-edge-router-policy has both service '{service}' and edge router '{router}'"
                )
            }
            Self::NoServiceEdgeRouterPolicy { service, router: None } => {
                write!(f, "no service-edge-router-policy gives service '{service}' an edge router")
            }
            Self::NoCommonEdgeRouter { identity, service } => write!(
                f,
                "identity '{identity}' and service '{service}' have no edge routers in common: adjust \
                 edge-router-policies or service-edge-router-policies"
            ),
            Self::UnusableSenderTerms { config, service, identity, reason } => write!(
                f,
                "the otlp.v1 config '{config}' of service '{service}' cannot be granted to identity '{identity}': {reason}"
            ),
        }
    }
}
