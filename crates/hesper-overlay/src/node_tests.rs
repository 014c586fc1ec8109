use super::*;
use crate::{attach::AttachTarget, frame};
use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest},
    credentials::Credentials,
    key,
    spiffe::{SpiffeId, SpiffeRole},
};
use hesper_proto::overlay::{AttachAccepted, FromNode, FromRouter, from_router};

const LONG: Duration = Duration::from_secs(40);

fn credentials(ca: &CertificateAuthority, role: SpiffeRole, id: &str) -> SharedCredentials {
    let key = key::generate().unwrap();
    let request = IssueRequest {
        subject: SpiffeId::new("test.hesper", role, id).unwrap(),
        spki_der: key.spki_der().to_vec(),
        validity: Duration::from_secs(3600),
        dns_names: vec![],
        ip_addresses: vec![],
    };
    let issued = ca.issue(&request, time::OffsetDateTime::now_utc()).unwrap();
    let credentials = Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &ca.ca_pem());
    SharedCredentials::new(credentials.unwrap())
}

/// A router that takes everybody and says nothing more.
fn router(ca: &CertificateAuthority) -> (Endpoint, AttachTarget) {
    let tag = Tag([9; 8]);
    let tls = tls::peer_server(credentials(ca, SpiffeRole::Router, "r1"));
    let server = transport::server_config(tls, transport::attach_transport(), true).unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let config = transport::endpoint_config(tag);
    let endpoint = Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime)).unwrap();
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(async move {
                let connection = incoming.await.unwrap();
                let (mut send, mut recv) = connection.accept_bi().await.unwrap();
                frame::read_message::<FromNode>(&mut recv, 10_000).await.unwrap();
                let accepted = from_router::Message::Accepted(AttachAccepted { router_id: "r1".into() });
                frame::write_message(&mut send, &FromRouter { message: Some(accepted) }).await.unwrap();
                // Pings are acknowledged, which is answer enough.
                connection.closed().await;
            });
        }
    });
    let target = AttachTarget {
        router_id: "r1".into(),
        name: "r1".into(),
        addresses: vec![address.to_string()],
        tag,
        knock_key_id: [1; 8],
        knock_key: [2; 32],
    };
    (endpoint, target)
}

#[tokio::test]
async fn a_dead_endpoint_is_replaced_and_attachments_come_back() {
    let ca = CertificateAuthority::create("test.hesper", time::OffsetDateTime::now_utc()).unwrap();
    let (_router, target) = router(&ca);
    let node = Node::new(NodeOptions {
        credentials: credentials(&ca, SpiffeRole::Identity, "alice"),
        tag: Tag([1; 8]),
        session_token: "token".into(),
        outage_grace: Duration::ZERO,
    })
    .unwrap();
    node.set_routers(vec![target]);
    let mut states = node.attached();
    let attached = |s: &Vec<AttachState>| s.iter().any(|a| a.attached);
    timeout(LONG, states.wait_for(attached)).await.expect("attached in time").unwrap();
    let dead = node.inner.endpoint();
    dead.close(close::GONE, b"");
    timeout(LONG, states.wait_for(|s| !attached(s))).await.expect("noticed in time").unwrap();
    timeout(LONG, states.wait_for(attached)).await.expect("attached again in time").unwrap();
    assert_ne!(Arc::as_ptr(&dead), Arc::as_ptr(&node.inner.endpoint()));
}
