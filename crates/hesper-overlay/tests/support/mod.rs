//! A world for tests: a CA, a token key, and a relay that does what a router must, in as few lines as it takes.

use hesper_model::id::{IdentityId, ServiceId, Tag, TerminatorId};
use hesper_overlay::{
    attach::AttachTarget,
    frame, header,
    header::Dcid,
    knock,
    node::{Node, NodeOptions},
    passes::Pass,
    transport,
};
use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest},
    credentials::{Credentials, SharedCredentials},
    key,
    spiffe::{SpiffeId, SpiffeRole},
    tls,
    token::{GrantClaims, PassClaims, SessionClaims, Signer, Verifier},
};
use hesper_proto::overlay::{
    AttachAccepted, FromNode, FromRouter, PassResult, PeerGone, Pong, from_node, from_router,
};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use std::{
    collections::{HashMap, HashSet},
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};
use tokio::{io::Interest, net::UdpSocket, sync::mpsc};

pub(crate) const DOMAIN: &str = "test.hesper";
pub(crate) const SECRET: [u8; 32] = [7; 32];

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) struct World {
    ca: CertificateAuthority,
    pub(crate) signer: Signer,
}

impl World {
    pub(crate) fn new() -> Self {
        let ca = CertificateAuthority::create(DOMAIN, time::OffsetDateTime::now_utc()).unwrap();
        Self { ca, signer: Signer::generate().unwrap() }
    }

    pub(crate) fn credentials(&self, role: SpiffeRole, id: &str) -> SharedCredentials {
        let key = key::generate().unwrap();
        let request = IssueRequest {
            subject: SpiffeId::new(DOMAIN, role, id).unwrap(),
            spki_der: key.spki_der().to_vec(),
            validity: Duration::from_secs(3600),
            dns_names: vec![],
            ip_addresses: vec![],
        };
        let issued = self.ca.issue(&request, time::OffsetDateTime::now_utc()).unwrap();
        let credentials = Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &self.ca.ca_pem());
        SharedCredentials::new(credentials.unwrap())
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new([(self.signer.kid().to_owned(), self.signer.public_key())])
    }

    pub(crate) fn node(&self, id: &str) -> TestNode {
        let credentials = self.credentials(SpiffeRole::Identity, id);
        let tag = Tag::random(&mut rand::rng());
        let cnf = credentials.current().spki_sha256.clone();
        let session_token = self.sign_session(IdentityId::new(id), tag, &cnf, 3600);
        let node = Node::new(NodeOptions {
            credentials,
            tag,
            session_token,
            outage_grace: Duration::from_secs(3600),
        })
        .unwrap();
        node.set_verifier(self.verifier());
        TestNode { node, id: IdentityId::new(id), tag, cnf }
    }

    fn sign_session(&self, sub: IdentityId, tag: Tag, cnf: &str, life: u64) -> String {
        let now = unix_now();
        let claims = SessionClaims { sub, tag, cnf: cnf.to_owned(), iat: now, exp: now + life };
        self.signer.sign(&claims).unwrap()
    }

    pub(crate) fn session_token(&self, node: &TestNode, life: u64) -> String {
        self.sign_session(node.id.clone(), node.tag, &node.cnf, life)
    }

    pub(crate) fn grant(
        &self,
        from: &TestNode,
        to: &TestNode,
        terminator: &str,
        life: u64,
    ) -> (String, String) {
        let jti = format!("{:016x}", rand::random::<u64>());
        let now = unix_now();
        let claims = GrantClaims {
            jti: jti.clone(),
            sub: from.id.clone(),
            aud: to.id.clone(),
            service: ServiceId::new("svc"),
            terminator: TerminatorId::new(terminator),
            tag: from.tag,
            cnf: from.cnf.clone(),
            dialer_name: String::new(),
            otlp: None,
            iat: now,
            exp: now + life,
        };
        (self.signer.sign(&claims).unwrap(), jti)
    }

    pub(crate) fn pass(&self, from: &TestNode, to: &TestNode, routers: &[&Relay]) -> Pass {
        let now = unix_now();
        let claims = PassClaims {
            jti: "pass".into(),
            a: from.tag,
            b: to.tag,
            paths: routers.iter().map(|r| vec![hesper_model::id::EdgeRouterId::new(&r.id)]).collect(),
            cnf: from.cnf.clone(),
            iat: now,
            exp: now + 300,
        };
        Pass {
            peer: to.tag,
            purpose: "t".into(),
            token: self.signer.sign(&claims).unwrap(),
            paths: routers.iter().map(|r| vec![r.id.clone()]).collect(),
            exp: claims.exp,
        }
    }
}

pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) id: IdentityId,
    pub(crate) tag: Tag,
    pub(crate) cnf: String,
}

impl TestNode {
    pub(crate) async fn attach(&self, relays: &[&Relay]) {
        self.node.set_routers(relays.iter().map(|r| r.target()).collect());
        self.attached(relays.len()).await;
    }

    pub(crate) async fn attached(&self, count: usize) {
        let mut states = self.node.attached();
        let all = states.wait_for(|s| s.iter().filter(|a| a.attached).count() == count);
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("attached in time").unwrap();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) nodes: Mutex<HashMap<Tag, SocketAddr>>,
    pub(crate) pairs: Mutex<HashSet<(Tag, Tag)>>,
    pub(crate) forwarded: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// Session tokens renewed on a live attachment.
    pub(crate) renewals: AtomicU64,
    /// When set, everything between nodes is dropped.
    pub(crate) mute: AtomicBool,
    /// What goes to these is dropped.
    pub(crate) mute_to: Mutex<HashSet<Tag>>,
    /// When set, nothing at all is sent: as if killed.
    pub(crate) dead: AtomicBool,
    /// When set, keeps some of the packets to each node.
    pub(crate) capture: AtomicBool,
    pub(crate) captured: Mutex<HashMap<Tag, Vec<Vec<u8>>>>,
}

/// Packets kept of each node.
const CAPTURED: usize = 200;

/// A router of one file: knock, session token, passes, forwarding. Dropped, it is as if killed.
pub(crate) struct Relay {
    pub(crate) id: String,
    pub(crate) tag: Tag,
    pub(crate) address: SocketAddr,
    pub(crate) table: Arc<Table>,
    endpoint: quinn::Endpoint,
    socket: Arc<RelaySocket>,
    say: mpsc::UnboundedSender<(Tag, from_router::Message)>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    pub(crate) fn start(world: &World, id: &str, listen: SocketAddr) -> Self {
        Self::start_as(world, id, listen, Tag::random(&mut rand::rng()))
    }

    /// With the tag that it had before.
    pub(crate) fn start_as(world: &World, id: &str, listen: SocketAddr, tag: Tag) -> Self {
        let std = std::net::UdpSocket::bind(listen).unwrap();
        std.set_nonblocking(true).unwrap();
        let state = UdpSocketState::new((&std).into()).unwrap();
        let _ = state.set_recv_buffer_size((&std).into(), 4 << 20);
        let address = std.local_addr().unwrap();
        let table = Arc::new(Table::default());
        let io = UdpSocket::from_std(std).unwrap();
        let socket = Arc::new(RelaySocket { io, state, table: table.clone(), tag });
        let server = transport::server_config(
            tls::peer_server(world.credentials(SpiffeRole::Router, id)),
            transport::attach_transport(),
            true,
        );
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            transport::endpoint_config(tag),
            Some(server.unwrap()),
            socket.clone(),
            Arc::new(quinn::TokioRuntime),
        )
        .unwrap();
        let (say, said) = mpsc::unbounded_channel();
        let task =
            tokio::spawn(serve(endpoint.clone(), world.verifier(), id.to_owned(), table.clone(), said));
        Self { id: id.into(), tag, address, table, endpoint, socket, say, task }
    }

    pub(crate) fn target(&self) -> AttachTarget {
        let knock_key_id = rand::random();
        AttachTarget {
            router_id: self.id.clone(),
            name: self.id.clone(),
            addresses: vec![self.address.to_string()],
            tag: self.tag,
            knock_key_id,
            knock_key: knock::derive(&SECRET, knock_key_id),
        }
    }

    pub(crate) fn say(&self, to: Tag, message: from_router::Message) {
        self.say.send((to, message)).unwrap();
    }

    pub(crate) fn peer_gone(&self, to: Tag, gone: Tag) {
        self.say(to, from_router::Message::PeerGone(PeerGone { tag: gone.0.to_vec() }));
    }

    /// Sends a packet to a node, as if it came from a peer.
    pub(crate) fn inject(&self, to: Tag, packet: &[u8]) {
        let address = self.table.nodes.lock().unwrap().get(&to).copied();
        if let Some(address) = address {
            self.socket.send(address, None, packet);
        }
    }

    /// Ends it without a word, and frees its port.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.table.dead.store(true, Relaxed);
        self.task.abort();
        self.endpoint.close(0u32.into(), b"");
        let address = self.address;
        drop(self);
        // The socket is closed by the endpoint's driver; wait until the port can be had again.
        for _ in 0..2000 {
            if std::net::UdpSocket::bind(address).is_ok() {
                return address;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the relay's port stays taken");
    }
}

type Writers = Arc<Mutex<HashMap<Tag, mpsc::UnboundedSender<from_router::Message>>>>;

async fn serve(
    endpoint: quinn::Endpoint,
    verifier: Verifier,
    id: String,
    table: Arc<Table>,
    mut said: mpsc::UnboundedReceiver<(Tag, from_router::Message)>,
) {
    let writers = Writers::default();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                tasks.spawn(node(incoming, verifier.clone(), id.clone(), table.clone(), writers.clone()));
            }
            Some((tag, message)) = said.recv() => {
                writers.lock().unwrap().get(&tag).map(|w| w.send(message));
            }
        }
    }
}

async fn node(
    incoming: quinn::Incoming,
    verifier: Verifier,
    id: String,
    table: Arc<Table>,
    writers: Writers,
) -> Option<()> {
    let connection = incoming.await.ok()?;
    let (mut send, mut recv) = connection.accept_bi().await.ok()?;
    let from_node::Message::Hello(hello) = hear(&mut recv).await? else { return None };
    let session: SessionClaims = verifier.verify(&hello.session_token, unix_now()).ok()?;
    table.nodes.lock().unwrap().insert(session.tag, connection.remote_address());
    let (tx, mut rx) = mpsc::unbounded_channel();
    tx.send(from_router::Message::Accepted(AttachAccepted { router_id: id.clone() })).ok()?;
    writers.lock().unwrap().insert(session.tag, tx.clone());
    let writer = async move {
        while let Some(message) = rx.recv().await {
            frame::write_message(&mut send, &FromRouter { message: Some(message) }).await.ok()?;
        }
        Some(())
    };
    let reader = async {
        loop {
            match hear(&mut recv).await? {
                from_node::Message::Ping(p) => {
                    tx.send(from_router::Message::Pong(Pong { nonce: p.nonce })).ok()?
                }
                from_node::Message::Pass(p) => {
                    let (error, peer_attached) = match verifier.verify::<PassClaims>(&p.pass, unix_now()) {
                        Ok(pass) => {
                            table.pairs.lock().unwrap().extend([(pass.a, pass.b), (pass.b, pass.a)]);
                            (String::new(), table.nodes.lock().unwrap().contains_key(&pass.b))
                        }
                        Err(e) => (e.to_string(), false),
                    };
                    let result = PassResult { request_id: p.request_id, error, peer_attached };
                    tx.send(from_router::Message::PassResult(result)).ok()?;
                }
                from_node::Message::Hello(again) => {
                    let renewed: SessionClaims = verifier.verify(&again.session_token, unix_now()).ok()?;
                    if renewed.tag != session.tag {
                        return None::<()>;
                    }
                    table.renewals.fetch_add(1, Relaxed);
                    tx.send(from_router::Message::Accepted(AttachAccepted { router_id: id.clone() })).ok()?;
                }
            }
        }
    };
    tokio::select! { _ = writer => {}, _ = reader => {}, _ = connection.closed() => {} }
    table.nodes.lock().unwrap().remove(&session.tag);
    Some(())
}

async fn hear(recv: &mut quinn::RecvStream) -> Option<from_node::Message> {
    frame::read_message::<FromNode>(recv, 10_000).await.ok()?.message
}

#[derive(Debug)]
struct RelaySocket {
    io: UdpSocket,
    state: UdpSocketState,
    table: Arc<Table>,
    tag: Tag,
}

impl RelaySocket {
    fn send(&self, to: SocketAddr, ecn: Option<quinn::udp::EcnCodepoint>, packet: &[u8]) {
        let t = Transmit { destination: to, ecn, contents: packet, segment_size: None, src_ip: None };
        if !self.table.dead.load(Relaxed) {
            let _ = self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &t));
        }
    }

    /// Is it for the relay itself? If not, it is sent on, or dropped.
    fn route(&self, from: SocketAddr, ecn: Option<quinn::udp::EcnCodepoint>, packet: &[u8]) -> bool {
        let to = match header::parse(packet).map(|h| h.dcid) {
            Some(Dcid::Knock(k)) => return knock::verify(&SECRET, &k, unix_now()),
            Some(Dcid::Tag(t)) if t == self.tag => return true,
            Some(Dcid::Tag(t)) => t,
            None => return false,
        };
        let nodes = self.table.nodes.lock().unwrap();
        let source = nodes.iter().find(|(_, a)| **a == from).map(|(t, _)| *t);
        let open = source.is_some_and(|s| self.table.pairs.lock().unwrap().contains(&(s, to)));
        let muted = self.table.mute.load(Relaxed) || self.table.mute_to.lock().unwrap().contains(&to);
        match nodes.get(&to).filter(|_| open && !muted) {
            Some(address) => {
                self.send(*address, ecn, packet);
                if self.table.capture.load(Relaxed) {
                    let mut captured = self.table.captured.lock().unwrap();
                    let kept = captured.entry(to).or_default();
                    if kept.len() < CAPTURED {
                        kept.push(packet.to_vec());
                    }
                }
                self.table.forwarded.fetch_add(1, Relaxed);
            }
            None => {
                self.table.dropped.fetch_add(1, Relaxed);
            }
        }
        false
    }
}

impl AsyncUdpSocket for RelaySocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        #[derive(Debug)]
        struct Always;
        impl UdpPoller for Always {
            fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        Box::pin(Always)
    }
    fn try_send(&self, t: &Transmit<'_>) -> io::Result<()> {
        if self.table.dead.load(Relaxed) {
            return Ok(());
        }
        let _ = self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), t));
        Ok(())
    }
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let Ok(n) = self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta))
            else {
                continue;
            };
            let mut mine = false;
            for (m, buf) in meta[..n].iter_mut().zip(&*bufs) {
                let (len, stride) = (m.len, m.stride);
                let own: Vec<bool> =
                    buf[..len].chunks(stride.max(1)).map(|p| self.route(m.addr, m.ecn, p)).collect();
                if own.contains(&true) {
                    mine = true;
                } else {
                    m.len = 0;
                }
            }
            if mine {
                return Poll::Ready(Ok(n));
            }
        }
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }
    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }
    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}
