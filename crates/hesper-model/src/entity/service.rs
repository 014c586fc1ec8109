//! Services, their configs, and the terminators that host them.

use super::{Tags, entity};
use crate::id::{ConfigId, ConfigTypeId, EdgeRouterId, IdentityId, ServiceId, Tag, TerminatorId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeSet, fmt};
use time::OffsetDateTime;

/// How one of several terminators is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TerminatorStrategy {
    /// Lowest cost first.
    #[default]
    Smartrouting,
    /// At random, more often the cheaper ones, among the best precedence.
    Weighted,
    /// At random among the best precedence.
    Random,
    /// The same terminator as long as it is there.
    Sticky,
}

/// The order in which terminators are tried: a lower precedence is used only when no higher one is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precedence {
    /// Preferred over every other.
    Required,
    /// The usual one.
    #[default]
    Default,
    /// Used only when nothing else is left.
    Failed,
}

impl fmt::Display for Precedence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Default => "default",
            Self::Failed => "failed",
        })
    }
}

const fn yes() -> bool {
    true
}

/// Something that can be dialed by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Its unique name.
    pub name: String,
    /// Ids of its configs, at most one of each config type.
    #[serde(default)]
    pub configs: BTreeSet<ConfigId>,
    /// Role attributes, without `#`.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
    /// How one of several terminators is chosen.
    #[serde(default)]
    pub terminator_strategy: TerminatorStrategy,
    /// Always true: every Hesper stream is encrypted end to end. Kept for OpenZiti's scripts.
    #[serde(default = "yes")]
    pub encryption_required: bool,
    /// A stream without traffic for so long is ended; 0 = never. Milliseconds.
    #[serde(default)]
    pub max_idle_time_millis: u64,
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
entity!(Service, Service, named);

/// A named piece of configuration of one config type, used by services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Its id.
    pub id: ConfigId,
    /// Its unique name.
    pub name: String,
    /// Its type; `data` satisfies that type's schema.
    pub config_type_id: ConfigTypeId,
    /// The JSON object itself.
    pub data: Value,
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
entity!(Config, Config, named);

/// A type of config: a name and a JSON schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigType {
    /// Its id. The built-in types have their name as id.
    pub id: ConfigTypeId,
    /// Its unique name.
    pub name: String,
    /// JSON schema of its configs; none accepts every object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// What it configures: `service`, `router` or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
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
entity!(ConfigType, ConfigType, named);

/// One place where a service is hosted.
///
/// Made by a node when it binds (then `session` is that node session's tag), or by an administrator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminator {
    /// Its id.
    pub id: TerminatorId,
    /// The service it hosts.
    pub service_id: ServiceId,
    /// The identity that hosts it.
    pub host_id: IdentityId,
    /// The router it was pinned to by an administrator; none = any router that its host is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<EdgeRouterId>,
    /// How it came to be: `hesper` for a bound service.
    pub binding: String,
    /// Where the binder sends its streams; free text.
    #[serde(default)]
    pub address: String,
    /// Instance id, for dials of `instance@service`: the host's name, if it was bound without one; empty = none.
    #[serde(rename = "identity", default)]
    pub instance: String,
    /// Static cost.
    #[serde(default)]
    pub cost: u16,
    /// Precedence.
    #[serde(default)]
    pub precedence: Precedence,
    /// The session that bound it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Tag>,
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
entity!(Terminator, Terminator, unnamed);
