//! Running the long-lived roles: what they print when they serve, and how they end.
//!
//! Each prints one line on standard output, `ready NAME=HOST:PORT …`, once it serves; everything else is a log line on
//! standard error. SIGINT and SIGTERM end them in an orderly way, exit code 0.

pub(crate) mod controller;
pub(crate) mod quickstart;
pub(crate) mod router;

use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::signal::unix::{SignalKind, signal};

/// SIGINT and SIGTERM, caught from the moment this exists.
pub(crate) struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    /// Starts catching.
    ///
    /// # Errors
    /// The signals cannot be caught.
    pub(crate) fn catch() -> Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// Waits for one.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        tracing::info!("asked to stop");
    }
}

/// Where to listen for those who are told `address:port`: loopback addresses and `localhost` on loopback only, any other on
/// every interface.
pub(crate) fn listen_address(address: &str, port: u16) -> SocketAddr {
    let ip = match address.parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() => ip,
        Ok(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) if address.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        Ok(IpAddr::V4(_)) | Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, port)
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_to_nobody_else_listens_on_loopback() {
        for (address, listen) in [
            ("127.0.0.1", "127.0.0.1:7"),
            ("localhost", "127.0.0.1:7"),
            ("::1", "[::1]:7"),
            ("10.0.0.1", "0.0.0.0:7"),
            ("ctrl.example", "0.0.0.0:7"),
            ("fd00::1", "[::]:7"),
        ] {
            assert_eq!(listen_address(address, 7).to_string(), listen);
        }
        assert_eq!(host_port("::1", 7), "[::1]:7");
    }
}
