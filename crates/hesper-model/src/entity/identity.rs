//! Identities: who can enroll, dial and bind.

use super::{Precedence, Tags, entity};
use crate::id::IdentityId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};
use time::OffsetDateTime;

/// The type of an identity. OpenZiti's `user`, `device` and `service` are accepted on creation and mean [`IdentityType::Default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityType {
    /// Anything that is not a router.
    #[default]
    #[serde(
        alias = "User",
        alias = "Device",
        alias = "Service",
        alias = "default",
        alias = "user",
        alias = "device",
        alias = "service"
    )]
    Default,
    /// The identity of an edge router.
    Router,
}

/// What an identity may ask of the controller beyond dialing and binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// Send OpenTelemetry data by way of the controller, which forwards it.
    #[serde(rename = "telemetry.forward")]
    TelemetryForward,
}

impl Permission {
    /// The words for all of them.
    pub const WORDS: &[&str] = &[Self::TelemetryForward.word()];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::TelemetryForward => "telemetry.forward",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Somebody who may enroll, and then dial or bind what policies allow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its id: the subject of its certificate's SPIFFE URI.
    pub id: IdentityId,
    /// Its unique name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type", default)]
    pub type_: IdentityType,
    /// May it use the management API?
    #[serde(default)]
    pub is_admin: bool,
    /// What else it may ask of the controller. An administrator may ask for everything.
    #[serde(default)]
    pub permissions: BTreeSet<Permission>,
    /// Role attributes, without `#`.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
    /// A disabled identity is refused everywhere, and its streams end.
    #[serde(default)]
    pub disabled: bool,
    /// Static cost of the terminators it creates.
    #[serde(default)]
    pub default_hosting_cost: u16,
    /// Precedence of the terminators it creates.
    #[serde(default)]
    pub default_hosting_precedence: Precedence,
    /// An id in somebody else's system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
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

impl Identity {
    /// May it ask for that? Whether it is disabled is another question.
    pub fn has(&self, permission: Permission) -> bool {
        self.is_admin || self.permissions.contains(&permission)
    }
}
entity!(Identity, Identity, named);
