//! The built-in config types: each file holds one type's JSON schema and the Rust type that its data decodes into.
//!
//! [`validate`] checks data against a schema and names every fault by its JSON path. Whatever a built-in schema accepts,
//! its Rust type decodes. The JSON names are OpenZiti's, so that published configs work unchanged.

mod address;
mod duration;
mod health;
mod host;
mod intercept;
mod lenient;
pub mod otlp;
mod proxy;
mod scrape;
mod validate;

pub use address::{AddressPattern, HostAddress, InvalidAddress};
pub use health::{Action, ActionKind, HttpCheck, HttpMethod, InvalidAction, PortCheck, Trigger};
pub use host::{AddressTranslation, HostV1, HostV2, ListenOptions, ProxyServer, ProxyType};
pub use intercept::{DialOptions, InterceptV1};
pub use otlp::OtlpV1;
pub use proxy::ProxyV1;
pub use scrape::{Scheme, ScrapeV1};
pub use validate::{ConfigFault, check_schema, validate};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A config type that every Hesper has.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltinType {
    /// Its name, also its id.
    pub name: &'static str,
    /// Its JSON schema.
    pub schema: Value,
}

/// The built-in config types, by name.
pub fn builtin() -> Vec<BuiltinType> {
    vec![
        BuiltinType { name: HostV1::NAME, schema: host::v1_schema() },
        BuiltinType { name: HostV2::NAME, schema: host::v2_schema() },
        BuiltinType { name: InterceptV1::NAME, schema: intercept::schema() },
        BuiltinType { name: OtlpV1::NAME, schema: otlp::schema() },
        BuiltinType { name: ProxyV1::NAME, schema: proxy::schema() },
        BuiltinType { name: ScrapeV1::NAME, schema: scrape::schema() },
    ]
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Ports from `low` to `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The first port.
    #[serde(deserialize_with = "lenient::u16")]
    pub low: u16,
    /// The last port.
    #[serde(deserialize_with = "lenient::u16")]
    pub high: u16,
}

impl PortRange {
    /// Is the port in the range?
    pub const fn contains(&self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }
}

/// Schema parts that several types share.
mod part {
    use serde_json::{Value, json};

    pub(super) fn port() -> Value {
        json!({"type": "integer", "minimum": 0, "maximum": 65535})
    }

    pub(super) fn protocol() -> Value {
        json!({"type": "string", "enum": ["tcp", "udp"]})
    }

    /// A list with at least one entry and none twice.
    pub(super) fn list(items: Value) -> Value {
        json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": items})
    }

    pub(super) fn port_range() -> Value {
        json!({
            "type": "object",
            "properties": {"low": port(), "high": port()},
            "required": ["low", "high"],
            "additionalProperties": false,
            "lowNotAboveHigh": true
        })
    }

    /// A hostname, `*.domain`, IP address or CIDR range.
    pub(super) fn address_pattern() -> Value {
        json!({"type": "string", "minLength": 1, "maxLength": 255, "format": "address-pattern"})
    }

    /// A hostname or IP address.
    pub(super) fn host_address() -> Value {
        json!({"type": "string", "minLength": 1, "maxLength": 255, "format": "host-address"})
    }

    pub(super) fn duration() -> Value {
        json!({"type": "string", "format": "go-duration"})
    }
}

#[cfg(test)]
mod tests;
