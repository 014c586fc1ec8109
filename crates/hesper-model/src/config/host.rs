//! `host.v1` and `host.v2`: where a hosting tunneler sends the streams of a service.

use super::{
    AddressPattern, HostAddress, HttpCheck, PortCheck, PortRange, Protocol, duration, health, lenient, part,
};
use crate::entity::Precedence;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{net::IpAddr, time::Duration};

/// The data of a config of type `host.v1`: one terminator.
///
/// Protocol, address and port are each either fixed or, with `forward…: true`, taken from the dialer's request if the matching
/// `allowed…` list has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostV1 {
    /// The fixed protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Take the protocol that the dialer asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_protocol: bool,
    /// Protocols that may be asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_protocols: Vec<Protocol>,
    /// The fixed address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<HostAddress>,
    /// Take the address that the dialer asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_address: bool,
    /// Addresses that may be asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_addresses: Vec<AddressPattern>,
    /// Networks that are mapped onto others before they are connected to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward_address_translations: Vec<AddressTranslation>,
    /// The fixed port.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::some_u16")]
    pub port: Option<u16>,
    /// Take the port that the dialer asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_port: bool,
    /// Ports that may be asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_port_ranges: Vec<PortRange>,
    /// Source addresses to connect from. Kept, not used: it needs rights that a tunneler without root does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_source_addresses: Vec<AddressPattern>,
    /// Connect through this proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyServer>,
    /// How the service is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_options: Option<ListenOptions>,
    /// Checks that connect to a port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_checks: Vec<PortCheck>,
    /// Checks that make an HTTP request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_checks: Vec<HttpCheck>,
}

impl HostV1 {
    /// The name of the config type.
    pub const NAME: &str = "host.v1";
    /// How long connecting to the target may take unless the config says otherwise.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// How long connecting to the target may take.
    pub fn connect_timeout(&self) -> Duration {
        let options = self.listen_options.as_ref();
        options.and_then(ListenOptions::connect_timeout).unwrap_or(Self::DEFAULT_CONNECT_TIMEOUT)
    }
}

/// The data of a config of type `host.v2`: several terminators.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostV2 {
    /// The terminators.
    pub terminators: Vec<HostV1>,
}

impl HostV2 {
    /// The name of the config type.
    pub const NAME: &str = "host.v2";
}

/// Addresses of the network `from`/`prefix_length` are connected to in the network `to`/`prefix_length`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressTranslation {
    /// An address of the network asked for.
    pub from: IpAddr,
    /// An address of the network connected to.
    pub to: IpAddr,
    /// How many bits of `to` replace those of the address asked for.
    #[serde(deserialize_with = "lenient::u16")]
    pub prefix_length: u16,
}

/// A proxy on the way to the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyServer {
    /// How it is spoken to.
    #[serde(rename = "type")]
    pub type_: ProxyType,
    /// Its `host:port`.
    pub address: String,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyType {
    /// HTTP CONNECT.
    Http,
}

/// How a service is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenOptions {
    /// How long connecting to the target may take.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    pub connect_timeout: Option<Duration>,
    /// The same in whole seconds; deprecated, `connectTimeout` wins.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::some_u32")]
    pub connect_timeout_seconds: Option<u32>,
    /// How many routers the terminator is announced on. Kept, not used: a terminator of Hesper is reached through every router.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::some_u32")]
    pub max_connections: Option<u32>,
    /// The instance id to bind under; `$tunneler_id.name` is replaced by the identity's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Bind under the identity's name as instance id. True wins over `identity`; false changes nothing, because the name is the
    /// instance id of every bind without another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_using_edge_identity: Option<bool>,
    /// Static cost.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::some_u16")]
    pub cost: Option<u16>,
    /// Precedence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precedence: Option<Precedence>,
}

impl ListenOptions {
    /// How long connecting to the target may take, if it is given.
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout.or_else(|| self.connect_timeout_seconds.map(|s| Duration::from_secs(s.into())))
    }
}

/// The `forward…`, `allowed…` and fixed forms of one property; one of them is required.
fn either(forward: &str, allowed: &str, fixed: &str) -> Value {
    json!({
        "if": {"required": [forward]},
        "then": {"required": [allowed]},
        "else": {"required": [fixed]}
    })
}

pub(super) fn v1_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "protocol": part::protocol(),
            "forwardProtocol": {"type": "boolean", "enum": [true]},
            "allowedProtocols": part::list(part::protocol()),
            "address": part::host_address(),
            "forwardAddress": {"type": "boolean", "enum": [true]},
            "allowedAddresses": part::list(part::address_pattern()),
            "forwardAddressTranslations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "from": {"type": "string", "format": "ip-address"},
                        "to": {"type": "string", "format": "ip-address"},
                        "prefixLength": {"type": "integer", "minimum": 0, "maximum": 128}
                    },
                    "required": ["from", "to", "prefixLength"],
                    "additionalProperties": false
                }
            },
            "port": part::port(),
            "forwardPort": {"type": "boolean", "enum": [true]},
            "allowedPortRanges": part::list(part::port_range()),
            "allowedSourceAddresses": part::list(part::address_pattern()),
            "proxy": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "enum": ["http"]},
                    "address": {"type": "string", "format": "host-port"}
                },
                "required": ["type", "address"],
                "additionalProperties": false
            },
            "listenOptions": {
                "type": "object",
                "properties": {
                    "connectTimeout": part::duration(),
                    "connectTimeoutSeconds": {"type": "integer", "minimum": 0, "maximum": 2_147_483_647},
                    "maxConnections": {"type": "integer", "minimum": 1, "maximum": 2_147_483_647},
                    "identity": {"type": "string"},
                    "bindUsingEdgeIdentity": {"type": "boolean"},
                    "cost": {"type": "integer", "minimum": 0, "maximum": 65535},
                    "precedence": {"type": "string", "enum": ["default", "required", "failed"]}
                },
                "additionalProperties": false
            },
            "portChecks": {"type": "array", "items": health::port_check_schema()},
            "httpChecks": {"type": "array", "items": health::http_check_schema()}
        },
        "allOf": [
            either("forwardProtocol", "allowedProtocols", "protocol"),
            either("forwardAddress", "allowedAddresses", "address"),
            either("forwardPort", "allowedPortRanges", "port")
        ],
        "additionalProperties": false
    })
}

pub(super) fn v2_schema() -> Value {
    json!({
        "type": "object",
        "properties": {"terminators": {"type": "array", "minItems": 1, "items": v1_schema()}},
        "required": ["terminators"],
        "additionalProperties": false
    })
}
