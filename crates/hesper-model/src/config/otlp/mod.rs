//! `otlp.v1`: who may send which telemetry to a service that takes OTLP. Hesper's own type.
//!
//! The config is for all who may dial the service ([`OtlpV1`]); what it says for one of them is [`SenderTerms`], which the
//! controller resolves at the moment of the grant and signs into it.

mod pattern;
mod terms;
#[cfg(test)]
mod tests;

pub use pattern::{InvalidPattern, ServiceNamePattern};
pub use terms::{
    Allowed, Charge, Denied, DeniedReason, Limits, RULES_PER_SENDER_MAX, Rate, SERVICE_NAMES_MAX, SenderRule,
    SenderTerms, TERMS_LEN_MAX, TermsError,
};

use super::{lenient, part};
use crate::{entity::Identity, role::Roles, role::Semantic, signal::Signal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Rules of one config.
const RULES_MAX: usize = 1_024;
/// Roles in one list.
const ROLES_MAX: usize = 256;
/// Patterns of one rule: the longest still fit into a grant.
const PATTERNS_MAX: usize = 16;
/// Largest number of items or bytes that a limit may have: beyond, there is none.
const LIMIT_MAX: u64 = 1_000_000_000_000;

/// The data of a config of type `otlp.v1`. Everything has a default: `{}` limits nobody.
///
/// A role is `#attribute`, `@identity` (its name or its id) or `#all`; any of a list is enough. A role that fits nobody lets
/// nobody in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpV1 {
    /// Gateways: what they tell of the senders and gateways before them is believed. From others it is not. The rules hold for
    /// gateways like for everybody, for what they send themselves and for others.
    #[serde(skip_serializing_if = "Roles::is_empty")]
    pub gateways: Roles,
    /// Who may send what. None: whoever may dial the service may send everything. Otherwise an identity may send what one of the
    /// rules that are for it allows, and an identity that no rule is for may send nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

/// What some identities may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Whom it is for.
    pub identities: Roles,
    /// The signals that they may send; none given: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signal>,
    /// Patterns for the `service.name` of what they send; none given: any, or none at all. Where there are patterns, each resource must
    /// have a name, and one of them must fit it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_names: Vec<ServiceNamePattern>,
    /// Spans, data points, log records and profiles that each of the identities may send per second under this rule.
    #[serde(default, deserialize_with = "lenient::some_u64", skip_serializing_if = "Option::is_none")]
    pub items_per_second: Option<u64>,
    /// How many of them at once after a pause; as many as per second unless given. A single batch may be larger: it passes when nothing
    /// was sent for long enough, and what comes after it waits the longer.
    #[serde(default, deserialize_with = "lenient::some_u64", skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// The same in bytes of uncompressed OTLP.
    #[serde(default, deserialize_with = "lenient::some_u64", skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// How many bytes at once after a pause; as many as per second unless given.
    #[serde(default, deserialize_with = "lenient::some_u64", skip_serializing_if = "Option::is_none")]
    pub burst_bytes: Option<u64>,
}

impl OtlpV1 {
    /// The name of the config type.
    pub const NAME: &str = "otlp.v1";
}

impl Rule {
    fn limits(&self) -> Limits {
        let rate = |per_second: Option<u64>, burst: Option<u64>| {
            per_second.map(|per_second| Rate { per_second, burst: burst.unwrap_or(per_second) })
        };
        Limits {
            items: rate(self.items_per_second, self.burst),
            bytes: rate(self.bytes_per_second, self.burst_bytes),
        }
    }
}

/// Is the identity one of these?
fn has(roles: &Roles, identity: &Identity) -> bool {
    let called = |id_or_name: &str| roles.matches(Semantic::AnyOf, id_or_name, &identity.role_attributes);
    called(identity.id.as_str()) || called(&identity.name)
}

pub(super) fn schema() -> Value {
    let roles = || {
        let mut roles = part::list(json!({"type": "string", "format": "identity-role", "maxLength": 512}));
        roles["maxItems"] = ROLES_MAX.into();
        roles["allStandsAlone"] = true.into();
        roles
    };
    let mut service_names = part::list(json!({"type": "string", "format": "service-name-pattern"}));
    service_names["maxItems"] = PATTERNS_MAX.into();
    let limit = || json!({"type": "integer", "minimum": 1, "maximum": LIMIT_MAX});
    json!({
        "type": "object",
        "properties": {
            "gateways": roles(),
            "rules": {"type": "array", "maxItems": RULES_MAX, "items": {
                "type": "object",
                "properties": {
                    "identities": roles(),
                    "signals": part::list(json!({"type": "string", "enum": Signal::ALL})),
                    "serviceNames": service_names,
                    "itemsPerSecond": limit(),
                    "burst": limit(),
                    "bytesPerSecond": limit(),
                    "burstBytes": limit()
                },
                "required": ["identities"],
                "dependentRequired": {"burst": ["itemsPerSecond"], "burstBytes": ["bytesPerSecond"]},
                "additionalProperties": false
            }}
        },
        "additionalProperties": false
    })
}
