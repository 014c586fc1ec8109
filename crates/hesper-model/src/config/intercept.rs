//! `intercept.v1`: the addresses and ports at which clients reach a service.

use super::{AddressPattern, PortRange, Protocol, lenient, part};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The data of a config of type `intercept.v1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InterceptV1 {
    /// Protocols.
    pub protocols: Vec<Protocol>,
    /// What clients ask for.
    pub addresses: Vec<AddressPattern>,
    /// On which ports.
    pub port_ranges: Vec<PortRange>,
    /// How the service is then dialed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_options: Option<DialOptions>,
    /// Source address of the connection at the far end; a template. Kept, not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<String>,
    /// Addresses from which clients may connect. Kept, not used: Hesper's listeners are on loopback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_source_addresses: Vec<AddressPattern>,
}

impl InterceptV1 {
    /// The name of the config type.
    pub const NAME: &str = "intercept.v1";

    /// How long a dial may take: what the config says, else OpenZiti's 15 s with `dialOptions` and 5 s without.
    pub fn connect_timeout(&self) -> Duration {
        let seconds = match &self.dial_options {
            None => 5,
            Some(options) => options.connect_timeout_seconds.unwrap_or(15),
        };
        Duration::from_secs(seconds.into())
    }
}

/// How an intercepted connection dials its service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DialOptions {
    /// The instance to dial; a template with `$dst_protocol`, `$dst_ip`, `$dst_port`, `$dst_hostname`, `$src_ip`, `$src_port`,
    /// `$tunneler_id.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Seconds that a dial may take.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::some_u32")]
    pub connect_timeout_seconds: Option<u32>,
}

pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "protocols": part::list(part::protocol()),
            "addresses": part::list(part::address_pattern()),
            "portRanges": part::list(part::port_range()),
            "dialOptions": {
                "type": "object",
                "properties": {
                    "identity": {"type": "string"},
                    "connectTimeoutSeconds": {"type": "integer", "minimum": 0, "maximum": 2_147_483_647}
                },
                "additionalProperties": false
            },
            "sourceIp": {"type": "string"},
            "allowedSourceAddresses": part::list(part::address_pattern())
        },
        "required": ["protocols", "addresses", "portRanges"],
        "additionalProperties": false
    })
}
