//! Which ports this process has open, from `/proc` (proc_pid_net(5)).

use anyhow::{Context, Result};
use std::{
    collections::HashSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// A TCP socket that accepts connections.
const TCP_LISTEN: &str = "0A";
/// A UDP socket that takes packets from anybody: it is not connected.
const UDP_OPEN: &str = "07";

/// Open ports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    /// TCP ports that accept connections.
    pub(super) tcp_listening: Vec<SocketAddr>,
    /// UDP ports that take packets from anybody. (The kernel turns strangers away from a connected socket.)
    pub(super) udp_open: Vec<SocketAddr>,
}

/// The ports of this process.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn of_this_process() -> Result<Open> {
    let mut inodes = HashSet::new();
    for entry in fs::read_dir("/proc/self/fd").context("cannot read /proc/self/fd")? {
        // A descriptor may be closed between the listing and the look.
        let Some(target) = entry.ok().and_then(|e| fs::read_link(e.path()).ok()) else { continue };
        if let Some(inode) = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')) {
            inodes.insert(inode.to_owned());
        }
    }
    let table = |name: &str| fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
    let mut open = Open::default();
    for (name, ports, state) in
        [("tcp", &mut open.tcp_listening, TCP_LISTEN), ("udp", &mut open.udp_open, UDP_OPEN)]
    {
        for table in [table(name), table(&format!("{name}6"))] {
            ports.extend(table.lines().skip(1).filter_map(|line| socket(line, state, &inodes)));
        }
    }
    Ok(open)
}

/// The local address of a table's line, if the socket is one of `inodes` and in that state.
fn socket(line: &str, state: &str, inodes: &HashSet<String>) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, found, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    (inodes.contains(*inode) && state == *found).then(|| address(local))?
}

/// `0100007F:1F90`: each 32-bit word of the address in the machine's byte order, the port as it is read.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<[u8; 4]> = (0..ip.len() / 8)
        .map(|i| u32::from_str_radix(ip.get(8 * i..8 * i + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let ip: IpAddr = match words.as_slice() {
        [v4] => Ipv4Addr::from(*v4).into(),
        [a, b, c, d] => {
            let bytes: [u8; 16] = [*a, *b, *c, *d].concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_net_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let ours = HashSet::from(["4711".to_owned()]);
        let expected = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
        assert_eq!(socket(line, TCP_LISTEN, &ours), expected);
        assert_eq!(socket(line, UDP_OPEN, &ours), None);
        assert_eq!(socket(line, TCP_LISTEN, &HashSet::new()), None);
        assert_eq!(
            address("00000000000000000000000001000000:0050"),
            Some(SocketAddr::from((Ipv6Addr::LOCALHOST, 80)))
        );
        assert_eq!(address("zz:1"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let open = of_this_process().expect("read");
        assert!(open.tcp_listening.contains(&listener.local_addr().expect("an address")), "{open:?}");
    }
}
