//! The three kinds of policy. A dial needs all three: Dial and Bind on the service, and a router that both sides and the service may use.

use super::{Tags, entity};
use crate::{
    id::{EdgeRouterPolicyId, ServiceEdgeRouterPolicyId, ServicePolicyId},
    role::{Roles, Semantic},
};
use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;

/// What a service policy permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyType {
    /// To open streams to the service.
    Dial,
    /// To host the service.
    Bind,
}

impl fmt::Display for PolicyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which identities may dial or bind which services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePolicy {
    /// Its id.
    pub id: ServicePolicyId,
    /// Its unique name.
    pub name: String,
    /// Dial or Bind.
    #[serde(rename = "type")]
    pub type_: PolicyType,
    /// How attribute entries combine.
    #[serde(default)]
    pub semantic: Semantic,
    /// The identities.
    #[serde(default)]
    pub identity_roles: Roles,
    /// The services.
    #[serde(default)]
    pub service_roles: Roles,
    /// Free-form tags.
    #[serde(default)]
    pub tags: Tags,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last written.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}
entity!(ServicePolicy, ServicePolicy, named);

/// Which identities may attach to which edge routers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRouterPolicy {
    /// Its id.
    pub id: EdgeRouterPolicyId,
    /// Its unique name.
    pub name: String,
    /// How attribute entries combine.
    #[serde(default)]
    pub semantic: Semantic,
    /// The identities.
    #[serde(default)]
    pub identity_roles: Roles,
    /// The edge routers.
    #[serde(default)]
    pub edge_router_roles: Roles,
    /// Free-form tags.
    #[serde(default)]
    pub tags: Tags,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last written.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}
entity!(EdgeRouterPolicy, EdgeRouterPolicy, named);

/// Which services may be carried by which edge routers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEdgeRouterPolicy {
    /// Its id.
    pub id: ServiceEdgeRouterPolicyId,
    /// Its unique name.
    pub name: String,
    /// How attribute entries combine.
    #[serde(default)]
    pub semantic: Semantic,
    /// The services.
    #[serde(default)]
    pub service_roles: Roles,
    /// The edge routers.
    #[serde(default)]
    pub edge_router_roles: Roles,
    /// Free-form tags.
    #[serde(default)]
    pub tags: Tags,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last written.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}
entity!(ServiceEdgeRouterPolicy, ServiceEdgeRouterPolicy, named);
