//! Those who must get nothing: a forger of certificates, and senders of stray packets.

use super::network::{CLIENT, Network};
use crate::{api_client::Client, edge::requests, first_contact};
use anyhow::{Context as _, Result, bail, ensure};
use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest},
    credentials::{Credentials, SharedCredentials},
    key, tls,
};
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::{net::UdpSocket, time::timeout};

const DEADLINE: Duration = Duration::from_secs(5);
/// How long a stray packet is given to be answered. Over loopback an answer takes well under a millisecond.
const SILENCE: Duration = Duration::from_millis(150);
/// A QUIC server answers a long header of an unknown version by Version Negotiation, if the packet is this long (RFC 9000,
/// section 5.2.2 and 14.1).
const INITIAL_LEN: usize = 1200;

/// Claims to be the client, with a certificate from an authority of its own; and asks the management API without a login.
pub(super) async fn forger(network: &Network) -> Result<((), String)> {
    let real = network.identity(CLIENT)?.credentials()?;
    let now = OffsetDateTime::now_utc();
    let authority = CertificateAuthority::create(&real.id.trust_domain, now)?;
    let key = key::generate()?;
    let request = IssueRequest {
        subject: real.id.clone(),
        spki_der: key.spki_der().to_vec(),
        validity: Duration::from_secs(3600),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
    };
    let forged = authority.issue(&request, now)?;
    let forged = Credentials::from_pem(&forged.chain_pem, &key.to_pem(), &real.ca_pem)?;
    let url = network.url()?;
    let refusal = first_contact::certificate_refusal(&url, SharedCredentials::new(forged)).await?;
    let refusal = refusal.context("the controller accepted the forged certificate")?;
    let anonymous = Client::new(&url, tls::ca_client(&real.ca_pem)?, DEADLINE)?.with_token(String::new());
    match requests::get(&anonymous, "identities").await {
        Ok(_) => bail!("the management API answered without a login"),
        Err(e) => {
            ensure!(e.to_string().contains("401"), "the management API failed for another reason: {e:#}")
        }
    }
    Ok(((), format!("the controller ended the handshake: {refusal}")))
}

/// Sends a port what an open QUIC server would answer, and waits in vain.
pub(super) async fn probe(port: SocketAddr) -> Result<()> {
    let (here, there) = if port.is_ipv4() {
        (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv4Addr::LOCALHOST, port.port())))
    } else {
        (SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, port.port())))
    };
    let socket = UdpSocket::bind(here).await?;
    socket.connect(there).await?;
    for packet in [unknown_version(), short_header()] {
        socket.send(&packet).await?;
    }
    let mut answer = [0; 2048];
    match timeout(SILENCE, socket.recv(&mut answer)).await {
        Err(_) => Ok(()),
        Ok(Ok(len)) => bail!("{port} answered a stranger with {len} bytes"),
        Ok(Err(e)) => bail!("{port} is not there: {e}"),
    }
}

fn unknown_version() -> Vec<u8> {
    let mut packet = vec![0xc0, 0x0a, 0x0a, 0x0a, 0x0a, 20];
    packet.extend([7; 20]);
    packet.push(8);
    packet.resize(INITIAL_LEN, 0);
    packet
}

/// What draws a stateless reset from an open endpoint.
fn short_header() -> Vec<u8> {
    let mut packet = vec![0x40];
    packet.resize(100, 9);
    packet
}
