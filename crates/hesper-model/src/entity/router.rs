//! Edge routers.

use super::{Tags, entity};
use crate::id::EdgeRouterId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// A router that nodes attach to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRouter {
    /// Its id: the subject of its certificate's SPIFFE URI.
    pub id: EdgeRouterId,
    /// Its unique name.
    pub name: String,
    /// Role attributes, without `#`.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
    /// A disabled router is used by nobody.
    #[serde(default)]
    pub disabled: bool,
    /// Has it enrolled?
    #[serde(default)]
    pub is_verified: bool,
    /// Added to the cost of paths through it.
    #[serde(default)]
    pub cost: u16,
    /// May it carry traffic between other routers?
    #[serde(default)]
    pub no_traversal: bool,
    /// Kept for OpenZiti's scripts; a Hesper router never hosts services.
    #[serde(default)]
    pub is_tunneler_enabled: bool,
    /// UDP addresses (`host:port`) at which nodes reach it, as it advertised them last.
    #[serde(default)]
    pub addresses: Vec<String>,
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
entity!(EdgeRouter, EdgeRouter, named);
