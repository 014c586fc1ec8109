//! TCP and TLS to one controller.

use hesper_pki::tls;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{fmt, io, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

/// Name look-up, TCP and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After so long without an answer TCP is tried once more, beside the first attempt: the system's own pauses between its packets grow, so
/// that a network that is whole again would be noticed late.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Where a controller listens: scheme `https`, a host, a port (443 when the URL names none). A path is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerUrl {
    host: Host<String>,
    port: u16,
}

/// Text that is not the URL of a controller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the URL of a controller, such as https://ctrl.example.com:1280")]
pub struct InvalidControllerUrl(pub String);

impl FromStr for ControllerUrl {
    type Err = InvalidControllerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidControllerUrl> {
        let invalid = || InvalidControllerUrl(text.to_owned());
        let url = Url::parse(text).map_err(|_| invalid())?;
        let plain = url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
        match (plain, url.host(), url.port_or_known_default()) {
            (true, Some(host), Some(port)) => Ok(Self { host: host.to_owned(), port }),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for ControllerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

impl ControllerUrl {
    /// Host and port as in the `Host` header; IPv6 in brackets.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host; IPv6 in brackets.
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn server_name(&self) -> Result<ServerName<'static>, ConnectError> {
        match &self.host {
            Host::Domain(name) => {
                ServerName::try_from(name.clone()).map_err(|_| ConnectError::Name { host: name.clone() })
            }
            Host::Ipv4(ip) => Ok(ServerName::IpAddress((*ip).into())),
            Host::Ipv6(ip) => Ok(ServerName::IpAddress((*ip).into())),
        }
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let name = match &self.host {
            Host::Ipv4(ip) => return Ok(vec![(*ip, self.port).into()]),
            Host::Ipv6(ip) => return Ok(vec![(*ip, self.port).into()]),
            Host::Domain(name) => name,
        };
        let unknown = |source| ConnectError::Lookup { host: name.clone(), source };
        let found: Vec<SocketAddr> =
            lookup_host((name.as_str(), self.port)).await.map_err(unknown)?.collect();
        if found.is_empty() { Err(unknown(io::ErrorKind::NotFound.into())) } else { Ok(found) }
    }
}

/// Which step to a controller failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host cannot be in a certificate.
    #[error("{host:?} is not a host name")]
    Name {
        /// The host.
        host: String,
    },
    /// No address for the name.
    #[error("no address found for {host:?}; check the name and this machine's DNS")]
    Lookup {
        /// The host.
        host: String,
        /// What the resolver says.
        #[source]
        source: io::Error,
    },
    /// No TCP connection.
    #[error(
        "no TCP connection to {address}; check that the controller runs there and that no firewall is between"
    )]
    Tcp {
        /// The address tried last.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Silence.
    #[error("no answer from {authority} within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// Host and port.
        authority: String,
    },
    /// The party at that address is not the controller that was expected, or does not want us.
    #[error("the TLS handshake with {authority} failed")]
    Tls {
        /// Host and port.
        authority: String,
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
    /// The connection broke during the handshake.
    #[error("the TLS handshake with {authority} was cut off; check that a controller listens there")]
    Cut {
        /// Host and port.
        authority: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl ConnectError {
    /// True when the server shows another CA than the pinned one.
    pub fn is_other_ca(&self) -> bool {
        let Self::Tls { source, .. } = self else { return false };
        matches!(tls::refusal(source), Some(tls::VerifyError::Pin(_)))
    }
}

impl ConnectError {
    /// What it has against the time, if that is the reason.
    pub fn time_fault(&self) -> Option<tls::TimeFault> {
        let Self::Tls { source, .. } = self else { return None };
        tls::time_fault(source)
    }
}

/// Connects within [`CONNECT_TIMEOUT`].
pub async fn connect(
    url: &ControllerUrl,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let late = || ConnectError::Timeout { authority: url.authority() };
    let name = url.server_name()?;
    let addresses = timeout_at(deadline, url.addresses()).await.map_err(|_| late())??;
    let tcp = timeout_at(deadline, tcp(&addresses, deadline)).await.map_err(|_| late())??;
    let handshake = TlsConnector::from(config).connect(name, tcp);
    timeout_at(deadline, handshake).await.map_err(|_| late())?.map_err(|e| handshake_error(url, e))
}

/// The first address that answers; each gets an even share of the time left, so that a dead one does not eat it all.
async fn tcp(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ConnectError> {
    let mut failure = None;
    for (i, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        let result = timeout(share, first_of_many(*address)).await;
        match result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(tcp) => {
                // Small control messages: no reason to hold them back. Failure costs only latency.
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Err(source) => failure = Some(ConnectError::Tcp { address: *address, source }),
        }
    }
    Err(failure.unwrap_or_else(|| ConnectError::Lookup {
        host: String::new(),
        source: io::ErrorKind::NotFound.into(),
    }))
}

/// The first of several attempts, each begun a moment after the one before.
async fn first_of_many(address: SocketAddr) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    loop {
        attempts.spawn(TcpStream::connect(address));
        tokio::select! {
            Some(done) = attempts.join_next() => return done.unwrap_or_else(|e| Err(io::Error::other(e))),
            () = sleep(TRY_AGAIN) => {}
        }
    }
}

fn handshake_error(url: &ControllerUrl, error: io::Error) -> ConnectError {
    let authority = url.authority();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(source) => ConnectError::Tls { authority, source: source.clone() },
        None => ConnectError::Cut { authority, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controller_urls() {
        for (text, shown) in [
            ("https://ctrl.example.com:1280/edge/client/v1", "https://ctrl.example.com:1280"),
            ("https://127.0.0.1:1280", "https://127.0.0.1:1280"),
            ("https://[::1]:1280/", "https://[::1]:1280"),
            ("https://ctrl", "https://ctrl:443"),
        ] {
            assert_eq!(text.parse::<ControllerUrl>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "ctrl:1280",
            "http://ctrl:1280",
            "https://",
            "https://u@ctrl",
            "https://:p@ctrl",
            "https://ctrl:99999",
        ] {
            assert_eq!(bad.parse::<ControllerUrl>(), Err(InvalidControllerUrl(bad.into())));
        }
    }
}
