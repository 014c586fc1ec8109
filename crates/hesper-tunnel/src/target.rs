//! Where a stream goes: from `host.v1` and what the dialer asked for to an address and port, or a reason why not.

use crate::app_data::AppData;
use hesper_model::config::{AddressTranslation, HostAddress, HostV1, Protocol};
use std::{fmt, net::IpAddr, time::Duration};

/// What a stream is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host.
    pub address: HostAddress,
    /// Port.
    pub port: u16,
    /// TCP, or UDP.
    pub protocol: Protocol,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The HTTP proxy (`host:port`) to connect through.
    pub proxy: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            HostAddress::Ip(IpAddr::V6(ip)) => write!(f, "{}:[{ip}]:{}", self.protocol, self.port),
            other => write!(f, "{}:{other}:{}", self.protocol, self.port),
        }
    }
}

/// Why a stream goes nowhere. The text is what the dialer is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The config wants to know something that the dialer did not tell.
    #[error("the service forwards the dialer's {0}, but the dialer named none")]
    NotTold(&'static str),
    /// What the dialer asked for is not in the config's `allowed…` list.
    #[error("{what} '{value}' is not allowed by the service")]
    NotAllowed {
        /// protocol, address, port.
        what: &'static str,
        /// What was asked for.
        value: String,
    },
    /// It is no protocol, address or port at all.
    #[error("'{value}' is no {what}")]
    Malformed {
        /// protocol, address, port.
        what: &'static str,
        /// What was asked for.
        value: String,
    },
    /// A TCP target was dialed for datagrams, or the other way round.
    #[error("the service carries {target} here, not {dialed}")]
    Protocol {
        /// What the config says.
        target: Protocol,
        /// What was dialed.
        dialed: Protocol,
    },
    /// A proxy speaks TCP only.
    #[error("the service's host config sends its connections through a proxy, which carries no UDP")]
    Proxy,
    /// The config has neither form; its schema does not allow that.
    #[error("the service's host config has no {0}")]
    Incomplete(&'static str),
}

/// The target of one stream (TCP) or flow of datagrams (UDP).
///
/// `allowedSourceAddresses` is not used: connecting from a foreign address takes rights that a tunneler without root does not have.
///
/// # Errors
/// [`Refusal`]: the config does not allow what the dialer asked for.
pub fn target(config: &HostV1, asked: &AppData, dialed: Protocol) -> Result<Target, Refusal> {
    let target = protocol(config, asked)?;
    if target != dialed {
        return Err(Refusal::Protocol { target, dialed });
    }
    if target == Protocol::Udp && config.proxy.is_some() {
        return Err(Refusal::Proxy);
    }
    Ok(Target {
        protocol: target,
        address: address(config, asked)?,
        port: port(config, asked)?,
        connect_timeout: config.connect_timeout(),
        proxy: config.proxy.as_ref().map(|p| p.address.clone()),
    })
}

/// The target in one word, for operators: `tcp:127.0.0.1:9100`, or `forward` where the dialer chooses.
pub fn describe(config: &HostV1) -> String {
    let address = config.address.as_ref().filter(|_| !config.forward_address);
    let port = config.port.filter(|_| !config.forward_port);
    let protocols = match (config.forward_protocol, config.protocol, &config.allowed_protocols[..]) {
        (false, Some(protocol), _) | (true, _, &[protocol]) => protocol.to_string(),
        (true, _, [_, ..]) => "tcp+udp".to_owned(),
        _ => "tcp".to_owned(),
    };
    match (address, port) {
        (Some(HostAddress::Ip(IpAddr::V6(ip))), Some(port)) => format!("{protocols}:[{ip}]:{port}"),
        (Some(address), Some(port)) => format!("{protocols}:{address}:{port}"),
        (Some(address), None) => format!("{protocols}:{address}:forward"),
        (None, Some(port)) => format!("{protocols}:forward:{port}"),
        (None, None) => format!("{protocols}:forward"),
    }
}

fn protocol(config: &HostV1, asked: &AppData) -> Result<Protocol, Refusal> {
    if !config.forward_protocol {
        return config.protocol.ok_or(Refusal::Incomplete("protocol"));
    }
    let value = &asked.dst_protocol;
    let wanted = match value.as_str() {
        "" => return Err(Refusal::NotTold("protocol")),
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(Refusal::Malformed { what: "protocol", value: value.clone() }),
    };
    if config.allowed_protocols.contains(&wanted) {
        Ok(wanted)
    } else {
        Err(Refusal::NotAllowed { what: "protocol", value: value.clone() })
    }
}

/// The hostname that was asked for, if it is allowed; else the address that was asked for, if that is.
fn address(config: &HostV1, asked: &AppData) -> Result<HostAddress, Refusal> {
    if !config.forward_address {
        return config.address.clone().ok_or(Refusal::Incomplete("address"));
    }
    let told: Vec<_> = [&asked.dst_hostname, &asked.dst_ip].into_iter().filter(|a| !a.is_empty()).collect();
    let first = *told.first().ok_or(Refusal::NotTold("address"))?;
    let Some(allowed) = told.into_iter().find(|a| config.allowed_addresses.iter().any(|p| p.matches(a)))
    else {
        return Err(Refusal::NotAllowed { what: "address", value: first.clone() });
    };
    let address: HostAddress =
        allowed.parse().map_err(|_| Refusal::Malformed { what: "address", value: allowed.clone() })?;
    Ok(match address {
        HostAddress::Ip(ip) => HostAddress::Ip(translate(&config.forward_address_translations, ip)),
        name @ HostAddress::Hostname(_) => name,
    })
}

fn port(config: &HostV1, asked: &AppData) -> Result<u16, Refusal> {
    if !config.forward_port {
        return config.port.ok_or(Refusal::Incomplete("port"));
    }
    let value = &asked.dst_port;
    if value.is_empty() {
        return Err(Refusal::NotTold("port"));
    }
    let port: u16 = value.parse().map_err(|_| Refusal::Malformed { what: "port", value: value.clone() })?;
    if config.allowed_port_ranges.iter().any(|r| r.contains(port)) {
        Ok(port)
    } else {
        Err(Refusal::NotAllowed { what: "port", value: value.clone() })
    }
}

/// The address in the network that the first matching translation maps its network to; itself when none matches.
fn translate(translations: &[AddressTranslation], ip: IpAddr) -> IpAddr {
    translations.iter().find_map(|t| translated(t, ip)).unwrap_or(ip)
}

fn translated(translation: &AddressTranslation, ip: IpAddr) -> Option<IpAddr> {
    let length = u32::from(translation.prefix_length);
    match (translation.from, translation.to, ip) {
        (IpAddr::V4(from), IpAddr::V4(to), IpAddr::V4(ip)) if length <= 32 => {
            let network = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            let same = (from.to_bits() ^ ip.to_bits()) & network == 0;
            same.then(|| IpAddr::V4(((to.to_bits() & network) | (ip.to_bits() & !network)).into()))
        }
        (IpAddr::V6(from), IpAddr::V6(to), IpAddr::V6(ip)) if length <= 128 => {
            let network = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            let same = (from.to_bits() ^ ip.to_bits()) & network == 0;
            same.then(|| IpAddr::V6(((to.to_bits() & network) | (ip.to_bits() & !network)).into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn decide(config: Value, asked: Value) -> String {
        decide_for(Protocol::Tcp, config, asked)
    }

    fn decide_for(dialed: Protocol, config: Value, asked: Value) -> String {
        let config: HostV1 = serde_json::from_value(config).expect("a host.v1");
        let asked: AppData = serde_json::from_value(asked).expect("app data");
        match target(&config, &asked, dialed) {
            Ok(target) => target.to_string(),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn fixed_targets_ignore_what_was_asked_for() {
        let config = json!({"protocol": "tcp", "address": "127.0.0.1", "port": 9100, "allowedSourceAddresses": ["10.0.0.0/8"]});
        assert_eq!(decide(config.clone(), json!({})), "tcp:127.0.0.1:9100");
        assert_eq!(
            decide(config, json!({"dst_ip": "1.2.3.4", "dst_port": "1", "dst_protocol": "udp"})),
            "tcp:127.0.0.1:9100"
        );
        assert_eq!(decide(json!({"protocol": "tcp", "address": "::1", "port": 1}), json!({})), "tcp:[::1]:1");
        assert_eq!(
            decide(json!({"protocol": "udp", "address": "::1", "port": 1}), json!({})),
            "the service carries udp here, not tcp"
        );
        assert_eq!(
            decide(json!({"address": "::1", "port": 1}), json!({})),
            "the service's host config has no protocol"
        );
    }

    #[test]
    fn datagrams_go_to_udp_targets_only() {
        let udp = || json!({"protocol": "udp", "address": "::1", "port": 53});
        let forward =
            json!({"forwardProtocol": true, "allowedProtocols": ["udp"], "address": "ns", "port": 53});
        let mut proxied = udp();
        proxied["proxy"] = json!({"type": "http", "address": "p:1"});
        for (config, asked, expected) in [
            (udp(), json!({"dst_protocol": "tcp"}), "udp:[::1]:53"),
            (forward.clone(), json!({"dst_protocol": "udp"}), "udp:ns:53"),
            (forward, json!({"dst_protocol": "tcp"}), "protocol 'tcp' is not allowed by the service"),
            (
                json!({"protocol": "tcp", "address": "::1", "port": 1}),
                json!({"dst_protocol": "udp"}),
                "the service carries tcp here, not udp",
            ),
            (
                proxied,
                json!({}),
                "the service's host config sends its connections through a proxy, which carries no UDP",
            ),
        ] {
            assert_eq!(decide_for(Protocol::Udp, config.clone(), asked), expected, "{config}");
        }
        // Allowed for both, and dialed the other way than told.
        let both =
            json!({"forwardProtocol": true, "allowedProtocols": ["tcp", "udp"], "address": "ns", "port": 53});
        assert_eq!(
            decide_for(Protocol::Udp, both, json!({"dst_protocol": "tcp"})),
            "the service carries tcp here, not udp"
        );
    }

    #[test]
    fn forwarding_table() {
        let config = || {
            json!({"forwardProtocol": true, "allowedProtocols": ["tcp"], "forwardAddress": true,
            "allowedAddresses": ["*.example", "10.0.0.0/8", "fd00::/16"], "forwardPort": true,
            "allowedPortRanges": [{"low": 80, "high": 90}],
            "forwardAddressTranslations": [
                {"from": "10.1.0.0", "to": "192.168.7.7", "prefixLength": 16},
                {"from": "fd00::", "to": "fd01::", "prefixLength": 16}]})
        };
        for (asked, expected) in [
            (
                json!({"dst_protocol": "tcp", "dst_hostname": "a.example", "dst_port": "80"}),
                "tcp:a.example:80",
            ),
            (json!({"dst_protocol": "tcp", "dst_ip": "10.2.3.4", "dst_port": 90}), "tcp:10.2.3.4:90"),
            (json!({"dst_protocol": "tcp", "dst_ip": "10.1.3.4", "dst_port": 90}), "tcp:192.168.3.4:90"),
            (json!({"dst_protocol": "tcp", "dst_ip": "fd00::5", "dst_port": 90}), "tcp:[fd01::5]:90"),
            (
                json!({"dst_protocol": "tcp", "dst_hostname": "evil", "dst_ip": "10.2.3.4", "dst_port": 90}),
                "tcp:10.2.3.4:90",
            ),
            (json!({"dst_protocol": "tcp", "dst_hostname": "10.2.3.4", "dst_port": 90}), "tcp:10.2.3.4:90"),
            (
                json!({"dst_protocol": "tcp", "dst_hostname": "evil", "dst_port": 90}),
                "address 'evil' is not allowed by the service",
            ),
            (
                json!({"dst_protocol": "tcp", "dst_ip": "11.0.0.1", "dst_port": 90}),
                "address '11.0.0.1' is not allowed by the service",
            ),
            (
                json!({"dst_protocol": "tcp", "dst_port": 90}),
                "the service forwards the dialer's address, but the dialer named none",
            ),
            (
                json!({"dst_protocol": "tcp", "dst_hostname": "a.example"}),
                "the service forwards the dialer's port, but the dialer named none",
            ),
            (
                json!({"dst_protocol": "tcp", "dst_hostname": "a.example", "dst_port": "22"}),
                "port '22' is not allowed by the service",
            ),
            (
                json!({"dst_protocol": "tcp", "dst_hostname": "a.example", "dst_port": "http"}),
                "'http' is no port",
            ),
            (
                json!({"dst_protocol": "udp", "dst_hostname": "a.example", "dst_port": "80"}),
                "protocol 'udp' is not allowed by the service",
            ),
            (json!({"dst_protocol": "sctp"}), "'sctp' is no protocol"),
            (json!({}), "the service forwards the dialer's protocol, but the dialer named none"),
            (
                json!({"dst_protocol": "tcp", "dst_hostname": "a b.example", "dst_port": "80"}),
                "'a b.example' is no address",
            ),
        ] {
            assert_eq!(decide(config(), asked.clone()), expected, "{asked}");
        }
    }

    #[test]
    fn descriptions_say_what_the_dialer_chooses() {
        let of = |config| describe(&serde_json::from_value(config).expect("a host.v1"));
        assert_eq!(of(json!({"protocol": "tcp", "address": "localhost", "port": 80})), "tcp:localhost:80");
        assert_eq!(
            of(json!({"protocol": "tcp", "forwardAddress": true, "allowedAddresses": ["a"], "port": 80})),
            "tcp:forward:80"
        );
        assert_eq!(of(json!({"protocol": "tcp", "address": "::1", "forwardPort": true})), "tcp:::1:forward");
        assert_eq!(of(json!({"forwardAddress": true, "forwardPort": true})), "tcp:forward");
        assert_eq!(of(json!({"protocol": "udp", "address": "::1", "port": 53})), "udp:[::1]:53");
        let both =
            json!({"forwardProtocol": true, "allowedProtocols": ["tcp", "udp"], "address": "a", "port": 5});
        assert_eq!(of(both), "tcp+udp:a:5");
    }
}
