//! Names of hosts as addresses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::lookup_host, time::timeout};

/// A resolver that has not answered by then does not answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// All addresses of a host, in the order in which they are to be tried; at least one.
///
/// `localhost` is never looked up: it is this machine in both families (RFC 6761 §6.3), in a container without `/etc/hosts` too.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        let loopbacks: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopbacks.map(|ip| SocketAddr::new(ip, port)).into());
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = timeout(DEADLINE, lookup_host((host, port))).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("the name '{host}' was not resolved in {DEADLINE:?}"))
    })?;
    let found: Vec<SocketAddr> = found
        .map_err(|e| io::Error::new(e.kind(), format!("the name '{host}' cannot be resolved: {e}")))?
        .collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("the name '{host}' has no addresses")));
    }
    Ok(found)
}

/// The families in turn, so that one that does not work costs one attempt only (RFC 8305 §4). The first stays the first.
pub(super) fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_v6);
    let longest = first.len().max(second.len());
    let turn = |i: usize| [first.get(i), second.get(i)].into_iter().flatten().copied();
    (0..longest).flat_map(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|a| a.parse().expect(a)).collect()
    }

    #[test]
    fn families_take_turns() {
        for (given, expected) in [
            ("", ""),
            ("1.1.1.1:1", "1.1.1.1:1"),
            ("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1", "[::1]:1 1.1.1.1:1 [::2]:1 [::3]:1"),
            ("1.1.1.1:1 2.2.2.2:1 [::1]:1 [::2]:1", "1.1.1.1:1 [::1]:1 2.2.2.2:1 [::2]:1"),
        ] {
            assert_eq!(interleave(&list(given)), list(expected), "{given}");
        }
    }

    #[tokio::test]
    async fn this_machine_needs_no_resolver() {
        assert_eq!(resolve("LocalHost", 7).await.expect("loopback"), list("127.0.0.1:7 [::1]:7"));
        assert_eq!(resolve("::1", 7).await.expect("an address"), list("[::1]:7"));
        let error = resolve("does-not-exist.invalid", 7).await.expect_err("no such name").to_string();
        assert!(error.contains("does-not-exist.invalid"), "{error}");
    }
}
