use super::*;
use crate::standing::Key32;
use hesper_model::id::EdgeRouterId;
use hesper_overlay::{knock, transport::client_config};
use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest},
    credentials::Credentials,
    key,
    spiffe::SpiffeId,
};
use quinn::{
    Connection, ConnectionId, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use std::{
    io::IoSliceMut,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
};
use time::OffsetDateTime;

#[test]
fn nodes_are_given_addresses_that_they_can_use() {
    let (real, wildcard) = ("192.0.2.1:3022".parse().unwrap(), "0.0.0.0:3022".parse().unwrap());
    assert_eq!(addresses(vec![], real).unwrap(), ["192.0.2.1:3022"]);
    assert_eq!(addresses(vec!["r.example:3022".into()], wildcard).unwrap(), ["r.example:3022"]);
    assert!(matches!(addresses(vec![], wildcard), Err(StartError::Advertise(_))));
    for wrong in ["r.example", ":3022", "r.example:0", "r.example:port", ""] {
        let error = addresses(vec![wrong.into()], real).unwrap_err().to_string();
        assert!(error.contains(&format!("{wrong:?}")), "{error}");
    }
}

/// A router's socket of which a read fails once, which ends the endpoint that reads.
#[derive(Debug)]
struct Fragile {
    socket: Arc<dyn AsyncUdpSocket>,
    broken: AtomicBool,
}

impl AsyncUdpSocket for Fragile {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.broken.swap(false, Ordering::SeqCst) {
            return Poll::Ready(Err(io::Error::other("broken")));
        }
        self.socket.poll_recv(cx, bufs, meta)
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }
    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

const SECRET: [u8; 32] = [4; 32];

fn credentials(ca: &CertificateAuthority, role: SpiffeRole) -> SharedCredentials {
    let key = key::generate().unwrap();
    let request = IssueRequest {
        subject: SpiffeId::new("test", role, "it").unwrap(),
        spki_der: key.spki_der().to_vec(),
        validity: Duration::from_secs(3_600),
        dns_names: vec![],
        ip_addresses: vec![],
    };
    let issued = ca.issue(&request, OffsetDateTime::now_utc()).unwrap();
    SharedCredentials::new(Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &ca.ca_pem()).unwrap())
}

async fn connect(own: &SharedCredentials, to: SocketAddr) -> (Endpoint, Connection) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::new(endpoint_config(Tag([1; 8])), None, socket, Arc::new(TokioRuntime)).unwrap();
    let knock = || {
        ConnectionId::new(&knock::make([1; 8], &knock::derive(&SECRET, [1; 8]), now_unix(), rand::random()))
    };
    let tls = tls::peer_client(own.clone(), own.current().id.router("it").unwrap());
    let config = client_config(tls, attach_transport(), knock).unwrap();
    let connection = endpoint.connect_with(config, to, "router").unwrap().await.unwrap();
    (endpoint, connection)
}

#[tokio::test]
async fn an_endpoint_that_ends_by_itself_is_replaced_on_the_same_port() {
    let ca = CertificateAuthority::create("test", OffsetDateTime::now_utc()).unwrap();
    let metrics = Metrics::new(&Registry::new());
    let sessions = Arc::new(Sessions::new(metrics, Duration::ZERO, SessionRate::default()));
    sessions.tell(&Standing {
        router_id: EdgeRouterId::new("it"),
        tag: Tag(*b"a-router"),
        knock_secret: Key32(SECRET),
        token_keys: vec![],
        peers: vec![],
        last_contact: 0,
    });
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut port = Port::open(listen, sessions, credentials(&ca, SpiffeRole::Router)).unwrap();
    let fragile = Arc::new(Fragile { socket: port.socket.clone(), broken: AtomicBool::new(false) });
    port.socket = fragile.clone();
    let to = port.local_addr;
    let endpoint = Arc::new(Mutex::new(port.endpoint().unwrap()));
    let serving = tokio::spawn(port.keep_serving(endpoint));

    let node = credentials(&ca, SpiffeRole::Identity);
    let (_first, before) = connect(&node, to).await;
    fragile.broken.store(true, Ordering::SeqCst);
    // Whatever arrives makes it read, and fail.
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"anything", to).unwrap();
    let (_second, after) = connect(&node, to).await;
    assert!(after.close_reason().is_none());
    assert!(!fragile.broken.load(Ordering::SeqCst), "the first endpoint has ended");
    drop(before);
    serving.abort();
}
