//! Where a receiver listens.

use crate::{Address, Auth, Endpoint, remark::Topic, section::Section};

/// Reads `endpoint` and `transport` of a listener. Loopback unless something else is written.
pub(crate) fn listen(s: &Section<'_>, default: Address) -> Endpoint {
    const NEXT: &str = "write HOST:PORT, or hesper://SERVICE";
    let words = [("tcp", false), ("tcp4", false), ("tcp6", false), ("unix", true)];
    let unix = s.one_of("transport", &words, false);
    s.section("dialer", |s| s.idle("timeout", "a listener dials nobody"));
    let Some(scalar) = s.scalar("endpoint") else {
        if unix {
            s.refuse("transport", "a Unix socket needs a path", "write it as endpoint");
        }
        return Endpoint::Underlay(default);
    };
    let text = &scalar.text.text;
    if unix {
        return Endpoint::Underlay(Address::unix(text.strip_prefix("unix://").unwrap_or(text)));
    }
    let endpoint = match Endpoint::parse(text) {
        Ok(endpoint) => endpoint,
        Err((reason, next)) => {
            s.refuse("endpoint", reason, next);
            return Endpoint::Underlay(default);
        }
    };
    match &endpoint {
        Endpoint::Mesh { .. } if endpoint.has_path() => {
            s.refuse("endpoint", "a service that is bound has no path", "leave the path out");
        }
        Endpoint::Mesh { .. } => {}
        Endpoint::Underlay(address) => check(s, address, NEXT),
    }
    endpoint
}

fn check(s: &Section<'_>, address: &Address, next: &str) {
    if address.scheme.is_some()
        || !address.path.is_empty()
        || address.user_info.is_some()
        || address.query.is_some()
    {
        s.refuse("endpoint", "a listener has a host and a port, no URL", next);
    } else if address.port.is_none() {
        s.refuse("endpoint", "the port is missing", next);
    } else if address.is_wildcard() {
        let reason = format!("{} listens on every address of this machine", s.what);
        let next = "write the address that is meant, or hesper://SERVICE, which opens no port";
        s.remark(Topic::Reach, "endpoint", reason, next);
    }
}

/// Tells of passwords in the clear, and of a door with a lock that only this machine can reach.
pub(crate) fn check_auth(s: &Section<'_>, endpoint: &Endpoint, tls: bool, auth: Option<&Auth>) {
    let (Endpoint::Underlay(address), Some(_)) = (endpoint, auth) else { return };
    if !s.is_set("endpoint") {
        let reason = format!("{} asks who calls, but without an endpoint only this machine can call", s.what);
        let next = "write `endpoint:` with the address that is meant, or with hesper://SERVICE";
        s.remark(Topic::Reach, "auth", reason, next);
    } else if !tls && !address.is_loopback() {
        let reason =
            format!("{}: credentials of callers can be read by anybody on the way, there is no TLS", s.what);
        s.remark(Topic::Insecure, "auth", reason, "add tls, or listen on hesper://SERVICE");
    }
}
