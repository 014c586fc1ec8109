//! Where something listens or is reached: in the mesh (`hesper://`), or on the network under it.

use crate::Secret;
use hesper_model::id::MAX_NAME_LEN;
use std::fmt;

/// Why a text is no endpoint, and what to write.
type Refusal = (String, &'static str);

/// Where a receiver listens or an exporter sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `hesper://SERVICE` or `hesper://INSTANCE@SERVICE`, perhaps with a path behind it: a service of the mesh. A receiver
    /// binds it and opens no port; an exporter dials it, and the mesh counts as transport security. Both names are
    /// percent-decoded, so that a name may contain `/` or `@`.
    Mesh {
        /// The service.
        service: String,
        /// The instance: of the binding for receivers, the wanted one for exporters.
        instance: Option<String>,
        /// The path for HTTP, with its `/`; empty when there is none.
        path: String,
        /// What stands behind the `?`.
        query: Option<Secret>,
    },
    /// Everything else.
    Underlay(Address),
}

/// An address of the network under the mesh: `host:port`, a URL, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Address {
    /// What stands before `://`, in lower case; none for `host:port`. `unix` for sockets.
    pub scheme: Option<String>,
    /// `user:password` of a URL.
    pub user_info: Option<Secret>,
    /// The host without the brackets of IPv6; empty means every address, as Go has it (`:4317`).
    pub host: String,
    /// The port, when it is written.
    pub port: Option<u16>,
    /// The path of a URL with the leading `/`, or that of a Unix socket; empty when there is none.
    pub path: String,
    /// What stands behind the `?` of a URL; tokens travel there too.
    pub query: Option<Secret>,
}

impl Endpoint {
    /// Reads an endpoint.
    ///
    /// # Errors
    /// Why it is none, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("hesper") => mesh(rest),
            _ => Address::parse(text).map(Self::Underlay),
        }
    }

    /// Is it in the mesh?
    pub const fn is_mesh(&self) -> bool {
        matches!(self, Self::Mesh { .. })
    }

    /// The same with a path behind its own.
    pub fn join(&self, path: &str) -> Self {
        let mut joined = self.clone();
        let (Self::Mesh { path: own, .. } | Self::Underlay(Address { path: own, .. })) = &mut joined;
        *own = format!("{}{path}", own.trim_end_matches('/'));
        joined
    }

    /// Is there a path other than `/`, or a query?
    pub(crate) fn has_path(&self) -> bool {
        let (Self::Mesh { path, query, .. } | Self::Underlay(Address { path, query, .. })) = self;
        !["", "/"].contains(&&**path) || query.is_some()
    }

    /// The address when it is on the network under the mesh.
    pub const fn underlay(&self) -> Option<&Address> {
        match self {
            Self::Underlay(address) => Some(address),
            Self::Mesh { .. } => None,
        }
    }
}

fn mesh(rest: &str) -> Result<Endpoint, Refusal> {
    const NEXT: &str = "write hesper://SERVICE or hesper://INSTANCE@SERVICE";
    let (rest, query) = split_query(rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (instance, service) = match authority.split_once('@') {
        Some((instance, service)) => (Some(instance), service),
        None => (None, authority),
    };
    let name = |text: &str, what: &str| match decode(text) {
        Some(name) if name.is_empty() => Err((format!("the endpoint names no {what}"), NEXT)),
        Some(name) if name.len() > MAX_NAME_LEN || name.chars().any(char::is_control) => {
            Err((format!("the {what} in the endpoint is no name"), NEXT))
        }
        Some(name) => Ok(name),
        None => {
            let reason = format!("the {what} in the endpoint has a % that is no percent-encoding");
            Err((reason, "write %25 for %"))
        }
    };
    let service = name(service, "service")?;
    let instance = instance.map(|text| name(text, "instance")).transpose()?;
    let path = if path == "/" { "" } else { path };
    Ok(Endpoint::Mesh { service, instance, path: path.into(), query })
}

/// What stands before the `?`, and what behind it.
fn split_query(text: &str) -> (&str, Option<Secret>) {
    match text.split_once('?') {
        Some((before, query)) => (before, Some(Secret::new(query))),
        None => (text, None),
    }
}

/// Undoes percent-encoding (RFC 3986, 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

impl Address {
    /// A host and a port.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port: Some(port), ..Self::default() }
    }

    /// The path of a Unix socket.
    pub fn unix(path: &str) -> Self {
        Self { scheme: Some("unix".into()), path: path.into(), ..Self::default() }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(("the endpoint is empty or has spaces in it".into(), "write HOST:PORT"));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::unix(path.strip_prefix("//").unwrap_or(path)));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        // `dns:///host:port` of gRPC: the authority before the third slash is the resolver's.
        let rest = if matches!(scheme.as_deref(), Some("dns" | "passthrough")) {
            rest.split_once('/').map_or(rest, |(_, target)| target)
        } else {
            rest
        };
        let (rest, query) = split_query(rest);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user, host_port)) => (Some(Secret::new(user)), host_port),
            None => (None, authority),
        };
        let (host, port) = host_and_port(host_port)?;
        Ok(Self { scheme, user_info, host: host.into(), port, path: path.into(), query })
    }

    /// Does it name this machine only?
    pub fn is_loopback(&self) -> bool {
        let ip = self.host.parse::<std::net::IpAddr>();
        self.is_unix() || self.host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// Does it name every address of this machine?
    pub fn is_wildcard(&self) -> bool {
        let ip = self.host.parse::<std::net::IpAddr>();
        !self.is_unix() && (self.host.is_empty() || ip.is_ok_and(|ip| ip.is_unspecified()))
    }

    /// Is it the path of a Unix socket?
    pub fn is_unix(&self) -> bool {
        self.scheme.as_deref() == Some("unix")
    }

    /// `host:port` for the resolver, the `Host` header and messages; IPv6 in brackets, the port as it is written.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }
}

fn host_and_port(text: &str) -> Result<(&str, Option<u16>), Refusal> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let closed =
            rest.split_once(']').ok_or(("the [ of an IPv6 address has no ]".to_owned(), "add it"))?;
        match closed {
            (host, "") => (host, None),
            (host, port) => match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return Err(("something stands behind the ]".into(), "write [ADDRESS]:PORT")),
            },
        }
    } else {
        match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                let reason = "this looks like an IPv6 address without brackets";
                return Err((reason.into(), "write [ADDRESS]:PORT"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let number = port.map(|port| {
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let number = port.parse::<u16>().ok().filter(|_| digits);
        number.ok_or(("the port of the endpoint is no number from 0 to 65535".to_owned(), "write HOST:PORT"))
    });
    Ok((host, number.transpose()?))
}

impl fmt::Display for Address {
    /// As a URL or `host:port`, without password and query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme.as_deref() {
            Some("unix") => write!(f, "unix://{}", self.path),
            Some(scheme) => write!(f, "{scheme}://{}{}", self.authority(), self.path),
            None => write!(f, "{}{}", self.authority(), self.path),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mesh { service, instance, path, .. } => {
                let at = instance.as_ref().map(|instance| format!("{instance}@")).unwrap_or_default();
                write!(f, "hesper://{at}{service}{path}")
            }
            Self::Underlay(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_the_mesh() {
        for (text, service, instance, path) in [
            ("hesper://traces", "traces", None, ""),
            ("hesper://eu-1@traces/", "traces", Some("eu-1"), ""),
            ("hesper://traces/v1/traces", "traces", None, "/v1/traces"),
            ("hesper://a%40b@c%2Fd", "c/d", Some("a@b"), ""),
        ] {
            let expected = Endpoint::Mesh {
                service: service.into(),
                instance: instance.map(str::to_owned),
                path: path.into(),
                query: None,
            };
            assert_eq!(Endpoint::parse(text), Ok(expected), "{text}");
        }
        for bad in
            ["hesper://", "hesper:///x", "hesper://@x", "hesper://x@", "hesper://a%zz", "hesper://a%0a"]
        {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_under_the_mesh() {
        for (text, scheme, host, port, path) in [
            ("localhost:4317", None, "localhost", Some(4317), ""),
            (":4317", None, "", Some(4317), ""),
            ("[::1]:4317", None, "::1", Some(4317), ""),
            ("HTTPS://x.example/p?q=1", Some("https"), "x.example", None, "/p"),
            ("dns:///x:1", Some("dns"), "x", Some(1), ""),
            ("unix:///run/x.sock", Some("unix"), "", None, "/run/x.sock"),
        ] {
            let address = Address::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            let got = (address.scheme.as_deref(), &*address.host, address.port, &*address.path);
            assert_eq!(got, (scheme, host, port, path), "{text}");
        }
        for bad in ["", "a b:1", "x:y", "x:70000", "x:", "::1", "::1:4317", "[::1", "[::1]4317", "x:+1"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_kept_and_not_shown() {
        let address = Address::parse("http://me:hunter2@proxy:3128/x?token=swordfish").expect("a URL");
        assert_eq!(address.user_info.as_ref().map(Secret::expose), Some("me:hunter2"));
        assert_eq!(address.query.as_ref().map(Secret::expose), Some("token=swordfish"));
        let shown = format!("{address:?} {address}");
        assert!(!shown.contains("hunter2") && !shown.contains("swordfish"));
        let joined = Endpoint::Underlay(address).join("/v1/logs").to_string();
        assert_eq!(joined, "http://proxy:3128/x/v1/logs");
    }

    #[test]
    fn reach_is_told_by_the_host() {
        let address = |text| Address::parse(text).expect(text);
        for text in ["localhost:1", "127.0.0.2:1", "[::1]:1", "unix:/x"] {
            assert!(address(text).is_loopback() && !address(text).is_wildcard(), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", ":1"] {
            assert!(address(text).is_wildcard() && !address(text).is_loopback(), "{text}");
        }
    }
}
