//! Addresses in configs: hostnames, `*.domain`, IP addresses, CIDR ranges.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, net::IpAddr, str::FromStr};

/// What is none of the forms that were asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not {1}")]
pub struct InvalidAddress(String, &'static str);

/// A set of addresses: what a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AddressPattern {
    /// One hostname, compared without regard to case.
    Hostname(String),
    /// `*.domain`: every hostname below that domain, not the domain itself.
    Wildcard(String),
    /// One IP address.
    Ip(IpAddr),
    /// Every IP address that shares the first `prefix_length` bits.
    Cidr {
        /// The base address.
        base: IpAddr,
        /// How many bits count.
        prefix_length: u8,
    },
}

impl AddressPattern {
    /// Does the hostname or IP address (`[::1]` or `::1`) belong to the set?
    pub fn matches(&self, host: &str) -> bool {
        let host = unbracketed(host);
        match self {
            Self::Hostname(name) => same_name(name, host),
            Self::Wildcard(domain) => host
                .len()
                .checked_sub(domain.len() + 1)
                .filter(|&dot| dot > 0 && host.is_char_boundary(dot))
                .is_some_and(|dot| host[dot..].starts_with('.') && same_name(domain, &host[dot + 1..])),
            Self::Ip(ip) => host.parse() == Ok(*ip),
            Self::Cidr { base, prefix_length } => {
                host.parse().is_ok_and(|ip: IpAddr| shares_prefix(*base, ip, *prefix_length))
            }
        }
    }
}

/// Do the first `prefix_length` bits agree? Never across IPv4 and IPv6.
fn shares_prefix(a: IpAddr, b: IpAddr, prefix_length: u8) -> bool {
    let shift = |bits: u32| u32::from(prefix_length).min(bits).abs_diff(bits);
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl FromStr for AddressPattern {
    type Err = InvalidAddress;
    fn from_str(s: &str) -> Result<Self, InvalidAddress> {
        let invalid = || {
            InvalidAddress(s.to_owned(), "a hostname, *.domain, IP address or CIDR range such as 10.0.0.0/8")
        };
        if let Some((base, length)) = s.split_once('/') {
            let base: IpAddr = base.parse().map_err(|_| invalid())?;
            let bits = if base.is_ipv4() { 32 } else { 128 };
            let digits = length.bytes().all(|c| c.is_ascii_digit());
            let prefix_length = length.parse().ok().filter(|n| digits && *n <= bits).ok_or_else(invalid)?;
            return Ok(Self::Cidr { base, prefix_length });
        }
        if let Some(domain) = s.strip_prefix("*.") {
            return if is_hostname(domain) { Ok(Self::Wildcard(domain.to_owned())) } else { Err(invalid()) };
        }
        match HostAddress::from_str(s).map_err(|_| invalid())? {
            HostAddress::Hostname(name) => Ok(Self::Hostname(name)),
            HostAddress::Ip(ip) => Ok(Self::Ip(ip)),
        }
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname(name) => f.write_str(name),
            Self::Wildcard(domain) => write!(f, "*.{domain}"),
            Self::Ip(ip) => ip.fmt(f),
            Self::Cidr { base, prefix_length } => write!(f, "{base}/{prefix_length}"),
        }
    }
}

/// One host to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostAddress {
    /// A hostname, resolved when it is connected to.
    Hostname(String),
    /// An IP address.
    Ip(IpAddr),
}

impl FromStr for HostAddress {
    type Err = InvalidAddress;
    fn from_str(s: &str) -> Result<Self, InvalidAddress> {
        if let Ok(ip) = unbracketed(s).parse() {
            return Ok(Self::Ip(ip));
        }
        if is_hostname(s) {
            return Ok(Self::Hostname(s.to_owned()));
        }
        Err(InvalidAddress(s.to_owned(), "a hostname or IP address"))
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// `::1` from `[::1]`.
fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// Labels of letters (of any script), digits, `-` and `_`, at most 63 bytes each, separated by dots; a dot at the end is fine.
/// Only digits and dots is no hostname but a wrong IPv4 address.
fn is_hostname(s: &str) -> bool {
    let s = s.strip_suffix('.').unwrap_or(s);
    s.len() <= 253
        && s.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        })
        && !s.bytes().all(|c| c.is_ascii_digit() || c == b'.')
}

fn same_name(a: &str, b: &str) -> bool {
    a.trim_end_matches('.').eq_ignore_ascii_case(b.trim_end_matches('.'))
}

macro_rules! as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}
as_text!(AddressPattern, HostAddress);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn match_table() {
        for (pattern, host, expected) in [
            ("kubeA.reflect.svc.ziti", "KUBEa.reflect.svc.ziti", true),
            ("a.dom", "a.dom.", true),
            ("*.dom", "a.dom", true),
            ("*.dom", "a.b.dom", true),
            ("*.dom", "dom", false),
            ("*.dom", ".dom", false),
            ("*.dom", "adom", false),
            ("*.dom", "é.dom", true),
            ("*.dom", "édom", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("fd00::/8", "[fd00::1]", true),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("10.0.0.1/32", "10.0.0.2", false),
            ("::1", "[::1]", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "localhost", false),
        ] {
            let parsed: AddressPattern = pattern.parse().expect(pattern);
            assert_eq!(parsed.matches(host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "a b",
            "*",
            "*.",
            "**.a",
            "a.*.b",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "a/8",
            "1.2.3",
            "a..b",
            "http://a",
            "-é\u{0}",
        ] {
            assert!(bad.parse::<AddressPattern>().is_err(), "{bad}");
        }
        assert!("*.a".parse::<HostAddress>().is_err());
        assert!("10.0.0.0/8".parse::<HostAddress>().is_err());
    }
}
