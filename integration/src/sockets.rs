//! Which sockets a process or a network namespace has, from `/proc/net` (proc_net(5)).

use crate::netns::Netns;
use std::{
    collections::HashSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// The transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6.
    Udp,
}

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Socket {
    /// The transport.
    pub protocol: Protocol,
    /// The address it is bound to.
    pub local: SocketAddr,
    /// TCP: it accepts connections. UDP: it takes packets from any sender (it is not connected).
    pub open: bool,
    inode: u64,
}

impl Socket {
    /// A TCP socket that accepts connections from other machines.
    pub fn listens_outside_loopback(&self) -> bool {
        self.protocol == Protocol::Tcp && self.open && !is_loopback(self.local.ip())
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
    }
}

const TABLES: [(&str, Protocol, &str); 4] = [
    ("tcp", Protocol::Tcp, "0A"),
    ("tcp6", Protocol::Tcp, "0A"),
    ("udp", Protocol::Udp, "07"),
    ("udp6", Protocol::Udp, "07"),
];

/// The sockets of one process, sorted.
///
/// # Panics
/// When the process is gone or may not be looked at.
#[track_caller]
pub fn of_process(pid: u32) -> Vec<Socket> {
    let directory = Path::new("/proc").join(pid.to_string());
    let open = fs::read_dir(directory.join("fd")).unwrap_or_else(|e| panic!("process {pid}: {e}"));
    // A descriptor may be closed between the listing and the look.
    let inodes: HashSet<u64> = open
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect();
    let mut sockets = tables(|name| fs::read_to_string(directory.join("net").join(name)).unwrap_or_default());
    sockets.retain(|socket| inodes.contains(&socket.inode));
    sockets
}

/// All sockets in a network namespace, whosever they are, sorted.
pub fn of_namespace(netns: &Netns) -> Vec<Socket> {
    tables(|name| netns.run(["cat", &format!("/proc/net/{name}")]).stdout)
}

fn tables(read: impl Fn(&str) -> String) -> Vec<Socket> {
    let parse = |(name, protocol, open): (&str, Protocol, &str)| {
        read(name).lines().skip(1).filter_map(|line| parse_line(line, protocol, open)).collect::<Vec<_>>()
    };
    let mut sockets: Vec<_> = TABLES.into_iter().flat_map(parse).collect();
    sockets.sort_unstable();
    sockets
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
fn parse_line(line: &str, protocol: Protocol, open: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = parse_address(fields.get(1)?)?;
    Some(Socket { protocol, local, open: *fields.get(3)? == open, inode: fields.get(9)?.parse().ok()? })
}

/// Hexadecimal, each 32-bit word of the address in the machine's byte order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words =
        ip.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> =
        words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn this_process_is_seen_as_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let listener6 = TcpListener::bind("[::]:0").expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let udp = UdpSocket::bind("0.0.0.0:0").expect("bind");
        let found = of_process(std::process::id());
        let at = |local: SocketAddr| found.iter().find(|socket| socket.local == local).expect("found");
        let loopback = at(listener.local_addr().expect("address"));
        assert!(loopback.open && !loopback.listens_outside_loopback(), "{loopback:?}");
        assert!(at(listener6.local_addr().expect("address")).listens_outside_loopback());
        assert!(!at(client.local_addr().expect("address")).open);
        let udp = at(udp.local_addr().expect("address"));
        assert!(udp.open && udp.protocol == Protocol::Udp && !udp.listens_outside_loopback());
    }
}
