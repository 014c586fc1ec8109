//! `proxy.v1`: a listener that every tunneler which may dial the service opens.

use super::{Protocol, lenient, part};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The data of a config of type `proxy.v1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyV1 {
    /// The port to listen on.
    #[serde(deserialize_with = "lenient::u16")]
    pub port: u16,
    /// Protocols.
    pub protocols: Vec<Protocol>,
    /// The address to listen on; loopback unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<IpAddr>,
}

impl ProxyV1 {
    /// The name of the config type.
    pub const NAME: &str = "proxy.v1";
}

pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "protocols": part::list(part::protocol()),
            "binding": {"type": "string", "format": "ip-address"}
        },
        "required": ["port", "protocols"],
        "additionalProperties": false
    })
}
