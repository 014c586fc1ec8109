//! What the dialing side tells the hosting side about a connection, and the variables of OpenZiti's templates.

use hesper_model::config::Protocol;
use serde::{Deserialize, Deserializer, Serialize};
use std::net::{IpAddr, SocketAddr};

/// OpenZiti's `appData` of a dial: JSON, everything optional, everything text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppData {
    /// `tcp` or `udp`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dst_protocol: String,
    /// The address that the client asked for, if it asked for one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dst_ip: String,
    /// The port that the client asked for.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "text_or_number")]
    pub dst_port: String,
    /// The hostname that the client asked for, if it asked for one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dst_hostname: String,
    /// The client's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src_ip: String,
    /// The client's port.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "text_or_number")]
    pub src_port: String,
    /// The source address that the hosting side is asked to connect from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_addr: String,
}

impl AppData {
    /// A TCP connection of `client` to a host (name or IP address, `[…]` allowed) and port.
    pub fn tcp(host: &str, port: u16, client: Option<SocketAddr>) -> Self {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let is_ip = host.parse::<IpAddr>().is_ok();
        Self {
            dst_protocol: "tcp".into(),
            dst_ip: if is_ip { host.to_owned() } else { String::new() },
            dst_port: port.to_string(),
            dst_hostname: if is_ip { String::new() } else { host.to_owned() },
            src_ip: client.map(|c| c.ip().to_string()).unwrap_or_default(),
            src_port: client.map(|c| c.port().to_string()).unwrap_or_default(),
            source_addr: String::new(),
        }
    }

    /// The same over another protocol.
    #[must_use]
    pub fn over(self, protocol: Protocol) -> Self {
        Self { dst_protocol: protocol.to_string(), ..self }
    }

    /// Reads what a dialer sent; nothing at all is as good as `{}`.
    ///
    /// # Errors
    /// It is not JSON of this shape.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        if text.is_empty() { Ok(Self::default()) } else { serde_json::from_str(text) }
    }

    /// As JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Replaces `$dst_protocol`, `$dst_ip`, `$dst_port`, `$dst_hostname`, `$src_ip`, `$src_port` and `$tunneler_id.name` in a
    /// template. Anything else stays as it is.
    pub fn expand(&self, template: &str, identity_name: &str) -> String {
        let variables = [
            ("$tunneler_id.name", identity_name),
            ("$dst_hostname", &self.dst_hostname),
            ("$dst_protocol", &self.dst_protocol),
            ("$dst_port", &self.dst_port),
            ("$dst_ip", &self.dst_ip),
            ("$src_port", &self.src_port),
            ("$src_ip", &self.src_ip),
        ];
        let mut expanded = String::new();
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at..];
            let (name, value) =
                variables.iter().find(|(name, _)| rest.starts_with(name)).copied().unwrap_or(("$", "$"));
            expanded.push_str(value);
            rest = &rest[name.len()..];
        }
        expanded + rest
    }
}

fn text_or_number<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(u64),
    }
    Ok(match Either::deserialize(d)? {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openziti_sends_is_read() {
        let text = r#"{"dst_protocol":"tcp","dst_ip":"10.0.0.1","dst_port":"80","src_port":4,"other":1}"#;
        let data = AppData::parse(text).expect("valid");
        assert_eq!((data.dst_port.as_str(), data.src_port.as_str()), ("80", "4"));
        assert_eq!(AppData::parse("").expect("empty"), AppData::default());
        assert!(AppData::parse("[1]").is_err());
        assert_eq!(AppData::parse(&data.to_json()).expect("own"), data);
    }

    #[test]
    fn templates_are_expanded_once() {
        let data = AppData::tcp("$dst_port.dom", 80, Some(([10, 0, 0, 1], 99).into()));
        for (template, expected) in [
            ("kubeA.reflect.id", "kubeA.reflect.id"),
            ("$tunneler_id.name", "me"),
            ("$dst_hostname:$dst_port/$dst_protocol", "$dst_port.dom:80/tcp"),
            ("$src_ip,$src_port,$dst_ip", "10.0.0.1,99,"),
            ("a$b$", "a$b$"),
            ("$", "$"),
        ] {
            assert_eq!(data.expand(template, "me"), expected);
        }
    }
}
