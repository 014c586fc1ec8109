//! What listens on a host, from the kernel's own tables.

use crate::{netns::Netns, process::run};
use std::{net::IpAddr, process::Command};

/// One listening or unconnected socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its local address.
    pub address: IpAddr,
    /// Its local port.
    pub port: u16,
}

/// TCP sockets in state LISTEN and UDP sockets in state UNCONN on a host; `None` is the machine itself.
///
/// An outbound UDP socket that was never connected is UNCONN too: tell it from a server by what answers on it.
///
/// # Panics
/// When `ss` (iproute2) cannot be read.
pub fn open(host: Option<&Netns>) -> Vec<Listening> {
    let mut command = host.map_or_else(|| Command::new("ss"), |host| host.command("ss"));
    run(command.args(["-H", "-l", "-n", "-t", "-u"])).ok().lines().filter_map(parse).collect()
}

/// TCP listeners outside loopback.
pub fn exposed_tcp(host: Option<&Netns>) -> Vec<Listening> {
    open(host).into_iter().filter(|s| s.protocol == "tcp" && !s.address.is_loopback()).collect()
}

/// `tcp LISTEN 0 128 127.0.0.1:1280 0.0.0.0:*`
fn parse(line: &str) -> Option<Listening> {
    let mut fields = line.split_whitespace();
    let protocol = fields.next()?.to_owned();
    let local = fields.nth(3)?;
    let (address, port) = local.rsplit_once(':')?;
    let address = address.split('%').next().unwrap_or(address).trim_matches(['[', ']']);
    let address = if address == "*" { "::" } else { address };
    Some(Listening {
        protocol,
        address: address.parse().unwrap_or_else(|_| panic!("ss printed {line:?}")),
        port: port.parse().unwrap_or_else(|_| panic!("ss printed {line:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ss_are_read() {
        let read = parse("tcp   LISTEN 0      128        127.0.0.1:1280      0.0.0.0:*").expect("tcp");
        assert_eq!((read.protocol.as_str(), read.port, read.address.is_loopback()), ("tcp", 1280, true));
        let read = parse("udp   UNCONN 0      0      [::]%lo:53      [::]:*").expect("udp");
        assert_eq!((read.protocol.as_str(), read.port, read.address.is_loopback()), ("udp", 53, false));
        assert_eq!(parse("tcp LISTEN 0 4096 *:9100 *:*").map(|l| l.address.is_unspecified()), Some(true));
    }
}
