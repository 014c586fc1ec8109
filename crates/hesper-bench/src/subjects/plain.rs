//! A QUIC tunnel without a router: what the mesh would cost if it were only two ends.
//!
//! The same certificates, TLS, transport settings and copying as Hesper's, over quinn's own socket.

use super::Subject;
use crate::process::{Program, role};
use anyhow::{Context, Result};
use hesper_model::id::IdentityId;
use hesper_overlay::{
    cid,
    stream::Stream,
    transport::{client_config, dialer_transport, endpoint_config, peer_transport, server_config},
};
use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest},
    credentials::{Credentials, SharedCredentials},
    key,
    spiffe::{SpiffeId, SpiffeRole},
    tls,
};
use quinn::{Endpoint, EndpointConfig, MtuDiscoveryConfig, TokioRuntime, TransportConfig};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};

/// As the mesh's own sockets.
const SOCKET_BUFFER: usize = 4 << 20;
const DOMAIN: &str = "bench";
/// quinn sends up to ten datagrams as one batch, which the kernel takes up to 64 KiB. The mesh's own socket cuts longer ones; quinn's
/// does not.
const MAX_DATAGRAM: u16 = 6_500;
/// The two ends.
const HOST: &str = "host";
const PROXY: &str = "proxy";
/// First byte of a stream, in place of the mesh's dial header.
const HELLO: u8 = 1;

/// Both ends as processes.
pub(super) async fn start(target: SocketAddr) -> Result<Subject> {
    let directory = tempfile::Builder::new().prefix("hesper-bench-quinn-").tempdir()?;
    make_credentials(directory.path())?;
    let mut command = role("__quinn-host")?;
    command.arg(directory.path()).arg(target.to_string());
    let mut host = Program::start("binder", command)?;
    let at: SocketAddr = host.line(address).await?;
    let mut command = role("__quinn-proxy")?;
    command.arg(directory.path()).arg(at.to_string());
    let mut proxy = Program::start("dialer", command)?;
    let listen = proxy.line(address).await?;
    Ok(Subject::new("quinn", listen, vec![proxy, host]).with(directory))
}

fn address(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("ready ")?.trim().parse().ok()
}

fn make_credentials(directory: &Path) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    let authority = CertificateAuthority::create(DOMAIN, now)?;
    std::fs::write(directory.join("ca.pem"), authority.ca_pem())?;
    for name in [HOST, PROXY] {
        let key = key::generate()?;
        let request = IssueRequest {
            subject: SpiffeId::new(DOMAIN, SpiffeRole::Identity, name)?,
            spki_der: key.spki_der().to_vec(),
            validity: Duration::from_secs(86_400),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
        };
        let issued = authority.issue(&request, now)?;
        std::fs::write(directory.join(format!("{name}.pem")), issued.chain_pem)?;
        std::fs::write(directory.join(format!("{name}.key")), key.to_pem().as_bytes())?;
    }
    Ok(())
}

fn credentials(directory: &Path, name: &str) -> Result<SharedCredentials> {
    let read = |file: String| std::fs::read_to_string(directory.join(file));
    let (chain, key, ca) =
        (read(format!("{name}.pem"))?, read(format!("{name}.key"))?, read("ca.pem".into())?);
    Ok(SharedCredentials::new(Credentials::from_pem(&chain, &key, &ca)?))
}

fn udp() -> Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    Ok(socket.into())
}

/// The mesh's own, but for the datagrams that quinn's socket can send.
fn own(mut transport: TransportConfig) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MAX_DATAGRAM);
    transport.mtu_discovery_config(Some(discovery));
    transport
}

fn config() -> EndpointConfig {
    endpoint_config(hesper_model::id::Tag::random(&mut rand::rng()))
}

/// The hosting end: `__quinn-host DIRECTORY TARGET`.
pub(crate) async fn host(directory: &Path, target: SocketAddr) -> Result<()> {
    let tls = tls::peer_server(credentials(directory, HOST)?);
    let server = server_config(tls, own(peer_transport()), false)?;
    let endpoint = Endpoint::new(config(), Some(server), udp()?, Arc::new(TokioRuntime))?;
    println!("ready {}", endpoint.local_addr()?);
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            loop {
                let (send, mut recv) = connection.accept_bi().await?;
                tokio::spawn(async move {
                    let mut hello = [0];
                    recv.read_exact(&mut hello).await?;
                    let tcp = TcpStream::connect(target).await?;
                    Stream::of_quic(send, recv, IdentityId::new(PROXY)).splice_tcp(tcp).await?;
                    anyhow::Ok(())
                });
            }
            #[expect(unreachable_code, reason = "names the type of the error")]
            anyhow::Ok(())
        });
    }
    Ok(())
}

/// The dialing end: `__quinn-proxy DIRECTORY HOST`.
pub(crate) async fn proxy(directory: &Path, host: SocketAddr) -> Result<()> {
    let expected = SpiffeId::new(DOMAIN, SpiffeRole::Identity, HOST)?;
    let tls = tls::peer_client(credentials(directory, PROXY)?, expected);
    let first = || cid::fresh_dcid(hesper_model::id::Tag([0; 8]));
    let client = client_config(tls, own(dialer_transport()), first)?;
    let endpoint = Endpoint::new(config(), None, udp()?, Arc::new(TokioRuntime))?;
    let connection =
        endpoint.connect_with(client, host, "bench")?.await.context("no connection to the host")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("ready {}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        let connection = connection.clone();
        tokio::spawn(async move {
            let (mut send, recv) = connection.open_bi().await?;
            send.write_all(&[HELLO]).await?;
            Stream::of_quic(send, recv, IdentityId::new(HOST)).splice_tcp(tcp).await?;
            anyhow::Ok(())
        });
    }
}
