//! One TCP connection to a target, straight or through an HTTP proxy.

use crate::target::Target;
use bytes::Bytes;
use hesper_model::config::HostAddress;
use http::{Method, Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::{
    net::{TcpStream, UdpSocket, lookup_host},
    time::timeout,
};

/// A connection, and what was read from it already.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) tcp: TcpStream,
    pub(super) head: Bytes,
}

/// Why a target was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The target itself.
    #[error("cannot connect to the target {target}")]
    Target {
        /// The target.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The proxy in between.
    #[error("cannot connect to the target {target} through the proxy {proxy}")]
    Proxy {
        /// The target.
        target: String,
        /// The proxy's address.
        proxy: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `connectTimeout`.
    #[error("the target {target} did not answer within {after:?}")]
    Timeout {
        /// The target.
        target: String,
        /// The config's timeout.
        after: std::time::Duration,
    },
}

impl ConnectError {
    /// The whole chain in one line, for the dialer.
    pub(super) fn explain(&self) -> String {
        match self.source() {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// Connects within the target's timeout.
pub(super) async fn connect(target: &Target) -> Result<Connected, ConnectError> {
    let attempt = async {
        match &target.proxy {
            None => {
                let tcp = straight(&target.address, target.port).await;
                tcp.map(|tcp| Connected { tcp, head: Bytes::new() })
                    .map_err(|source| ConnectError::Target { target: target.to_string(), source })
            }
            Some(proxy) => through(proxy, target).await.map_err(|source| ConnectError::Proxy {
                target: target.to_string(),
                proxy: proxy.clone(),
                source,
            }),
        }
    };
    timeout(target.connect_timeout, attempt).await.unwrap_or_else(|_| {
        Err(ConnectError::Timeout { target: target.to_string(), after: target.connect_timeout })
    })
}

/// A UDP socket that sends to the target and hears nobody else.
pub(super) async fn connect_udp(target: &Target) -> Result<UdpSocket, ConnectError> {
    let attempt = async {
        let addresses = match &target.address {
            HostAddress::Ip(ip) => vec![SocketAddr::new(*ip, target.port)],
            HostAddress::Hostname(name) => lookup_host((name.as_str(), target.port)).await?.collect(),
        };
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0)).await?;
            match socket.connect(address).await {
                Ok(()) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    };
    match timeout(target.connect_timeout, attempt).await {
        Ok(socket) => socket.map_err(|source| ConnectError::Target { target: target.to_string(), source }),
        Err(_) => Err(ConnectError::Timeout { target: target.to_string(), after: target.connect_timeout }),
    }
}

async fn straight(address: &HostAddress, port: u16) -> io::Result<TcpStream> {
    match address {
        HostAddress::Ip(ip) => TcpStream::connect((*ip, port)).await,
        HostAddress::Hostname(name) => TcpStream::connect((name.as_str(), port)).await,
    }
}

/// HTTP CONNECT. (RFC 9110 §9.3.6)
async fn through(proxy: &str, target: &Target) -> io::Result<Connected> {
    let tcp = TcpStream::connect(proxy).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection.with_upgrades());
    let authority = target.to_string();
    let authority = authority.strip_prefix("tcp:").unwrap_or(&authority);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(authority)
        .header(header::HOST, authority)
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    if !answer.status().is_success() {
        connection.abort();
        return Err(io::Error::other(format!("the proxy answered {}", answer.status())));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| io::Error::other("the connection to the proxy is no TCP connection"))?;
    Ok(Connected { tcp: parts.io.into_inner(), head: parts.read_buf })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_model::config::Protocol;
    use std::time::Duration;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    fn target(port: u16, proxy: Option<String>) -> Target {
        let address = HostAddress::Ip([127, 0, 0, 1].into());
        let protocol = Protocol::Tcp;
        Target { address, port, protocol, connect_timeout: Duration::from_secs(5), proxy }
    }

    #[tokio::test]
    async fn a_target_that_is_down_is_said_with_the_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        drop(listener);
        let error = connect(&target(port, None)).await.expect_err("closed").explain();
        assert!(
            error.starts_with(&format!(
                "cannot connect to the target tcp:127.0.0.1:{port}: Connection refused"
            )),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_target_that_is_too_slow_is_given_up() {
        // It takes the connection into its backlog and never answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let proxy = listener.local_addr().expect("address").to_string();
        let slow = Target { connect_timeout: Duration::from_millis(50), ..target(9, Some(proxy)) };
        assert!(matches!(connect(&slow).await, Err(ConnectError::Timeout { .. })));
    }

    #[tokio::test]
    async fn a_proxy_in_between_is_asked_for_the_target() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let proxy = listener.local_addr().expect("address").to_string();
        let server = tokio::spawn(async move {
            for answer in
                ["HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"]
            {
                let (mut tcp, _) = listener.accept().await.expect("accept");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tcp.read_u8().await.expect("read"));
                }
                assert!(head.starts_with(b"CONNECT 127.0.0.1:9 HTTP/1.1\r\n"), "{head:?}");
                tcp.write_all(answer.as_bytes()).await.expect("write");
            }
        });
        let mut connected = connect(&target(9, Some(proxy.clone()))).await.expect("connected");
        let mut rest = Vec::from(&connected.head[..]);
        connected.tcp.read_to_end(&mut rest).await.expect("read");
        assert_eq!(rest, b"hello");
        let error = connect(&target(9, Some(proxy))).await.expect_err("refused").explain();
        assert!(error.ends_with("the proxy answered 403 Forbidden"), "{error}");
        server.await.expect("server");
    }
}
