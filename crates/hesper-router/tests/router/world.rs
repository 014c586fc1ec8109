//! A network in one process: authority, controller, router, and nodes that attach to it.

use crate::{
    controller::Controller,
    tap::{RAW, Tap},
};
use hesper_model::id::{EdgeRouterId, IdentityId, Tag};
use hesper_observe::metrics::{Serving, serve_loopback};
use hesper_overlay::{
    frame::{read_message, write_message},
    knock,
    transport::{attach_transport, client_config, endpoint_config, peer_transport, server_config},
};
use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest},
    credentials::{Credentials, SharedCredentials},
    identity_file::IdentityFile,
    key,
    spiffe::{SpiffeId, SpiffeRole},
    tls,
    token::{Claims, PassClaims, SessionClaims, Signer},
};
use hesper_proto::{
    control::{RouterPeer, RouterState, TokenKey},
    overlay::{AttachHello, FromNode, FromRouter, PassResult, PresentPass, from_node, from_router},
};
use hesper_router::{Router, RunOptions, Running, SessionRate, StartError};
use quinn::{Connection, ConnectionId, Endpoint, RecvStream, SendStream, TokioRuntime};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    sync::mpsc::UnboundedReceiver,
    time::{sleep, timeout},
};

pub(crate) const TRUST_DOMAIN: &str = "router.test";
pub(crate) const ROUTER: &str = "router-1";
pub(crate) const ROUTER_TAG: Tag = Tag(*b"router-1");
/// The second router, where there are two.
pub(crate) const OTHER: &str = "router-2";
pub(crate) const OTHER_TAG: Tag = Tag(*b"router-2");
pub(crate) const SECRET: [u8; 32] = [0x5e; 32];
/// Everything that is waited for must come within this time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Waits for what a task must do sooner or later.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

pub(crate) struct World {
    pub(crate) id: &'static str,
    pub(crate) tag: Tag,
    pub(crate) ca: Arc<CertificateAuthority>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) rate: SessionRate,
    pub(crate) controller: Option<Controller>,
    pub(crate) router: Option<RouterProcess>,
    pub(crate) home: TempDir,
    pub(crate) addr: SocketAddr,
    metrics: SocketAddr,
    controller_credentials: SharedCredentials,
    controller_addr: SocketAddr,
    peers: Vec<RouterPeer>,
}

/// A router in a runtime of its own: dropping it is `kill -9`.
pub(crate) struct RouterProcess {
    running: Option<Running>,
    runtime: Option<Runtime>,
    _metrics: Serving,
}

impl RouterProcess {
    /// Stops it in order; the number of sessions that had not left.
    pub(crate) async fn shutdown(mut self) -> usize {
        let runtime = self.runtime.as_ref().unwrap();
        runtime.spawn(self.running.take().unwrap().shutdown()).await.unwrap()
    }
}

impl Drop for RouterProcess {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn issue(ca: &CertificateAuthority, role: SpiffeRole, id: &str) -> Credentials {
    let key = key::generate().unwrap();
    let request = IssueRequest {
        subject: SpiffeId::new(TRUST_DOMAIN, role, id).unwrap(),
        spki_der: key.spki_der().to_vec(),
        validity: Duration::from_secs(86_400),
        dns_names: vec![],
        ip_addresses: if role == SpiffeRole::Controller { vec![ANY.ip()] } else { vec![] },
    };
    let issued = ca.issue(&request, OffsetDateTime::now_utc()).unwrap();
    Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &ca.ca_pem()).unwrap()
}

impl World {
    /// Everything runs and the router has heard from its controller.
    pub(crate) async fn new() -> Self {
        Self::limited(SessionRate::default()).await
    }

    /// The same with this limit on each session's rate.
    pub(crate) async fn limited(rate: SessionRate) -> Self {
        let ca = CertificateAuthority::create(TRUST_DOMAIN, OffsetDateTime::now_utc()).unwrap();
        Self::of(ROUTER, ROUTER_TAG, Arc::new(ca), Arc::new(Signer::generate().unwrap()), rate).await
    }

    /// Two routers of one network, each with its controller's side, that know each other and are linked.
    pub(crate) async fn two() -> (Self, Self) {
        let mut one = Self::new().await;
        let (ca, signer) = (one.ca.clone(), one.signer.clone());
        let mut two = Self::of(OTHER, OTHER_TAG, ca, signer, SessionRate::default()).await;
        let (first, second) = (one.as_peer(), two.as_peer());
        two.name_peers(vec![first]);
        one.name_peers(vec![second]);
        one.linked(1).await;
        two.linked(1).await;
        (one, two)
    }

    pub(crate) async fn linked(&self, links: u64) {
        self.wait_for("the link", "hesper_router_links", |n| n == links).await;
    }

    /// This router as others are told of it.
    pub(crate) fn as_peer(&self) -> RouterPeer {
        peer(self.id, self.tag, self.addr)
    }

    /// The router hears that these are the others.
    pub(crate) fn name_peers(&mut self, peers: Vec<RouterPeer>) {
        self.peers.clone_from(&peers);
        self.controller().state.send_modify(|state| state.peers = peers);
    }

    async fn of(
        id: &'static str,
        tag: Tag,
        ca: Arc<CertificateAuthority>,
        signer: Arc<Signer>,
        rate: SessionRate,
    ) -> Self {
        let credentials = SharedCredentials::new(issue(&ca, SpiffeRole::Controller, "ctrl"));
        let controller = Controller::start(ANY, credentials.clone(), state(id, tag, &signer));
        let home = tempfile::tempdir().unwrap();
        let router = issue(&ca, SpiffeRole::Router, id);
        let url = format!("https://{}", controller.addr);
        IdentityFile::new(&[url], &router.chain_pem(), &router.key, &ca.ca_pem())
            .write_new(&home.path().join("router.json"))
            .unwrap();
        let mut world = Self {
            id,
            tag,
            rate,
            peers: vec![],
            controller_addr: controller.addr,
            controller: Some(controller),
            router: None,
            addr: ANY,
            metrics: ANY,
            ca,
            signer,
            home,
            controller_credentials: credentials,
        };
        world.start_router().await;
        world.wait_for("the controller", "hesper_router_controller_connected", |n| n == 1).await;
        world
    }

    /// Starts the router, on its old port if it had one.
    pub(crate) async fn start_router(&mut self) {
        let options = RunOptions { max_session_rate: self.rate, ..RunOptions::new(self.addr) };
        let runtime = Runtime::new().unwrap();
        let home = self.home.path().to_owned();
        // The runtime of the one before may still be letting go of the port.
        let start = async move {
            loop {
                match Router::start(&home, options.clone()).await {
                    Err(StartError::Listen(..)) => sleep(Duration::from_millis(5)).await,
                    other => return other.unwrap(),
                }
            }
        };
        let running = within("the port", runtime.spawn(start)).await.unwrap();
        let serving = serve_loopback(ANY, running.registry().clone(), running.health()).await.unwrap();
        (self.addr, self.metrics) = (running.local_addr(), serving.local_addr);
        self.router =
            Some(RouterProcess { running: Some(running), runtime: Some(runtime), _metrics: serving });
    }

    pub(crate) fn start_controller(&mut self) {
        let credentials = self.controller_credentials.clone();
        let state = RouterState { peers: self.peers.clone(), ..state(self.id, self.tag, &self.signer) };
        self.controller = Some(Controller::start(self.controller_addr, credentials, state));
    }

    pub(crate) fn controller(&mut self) -> &mut Controller {
        self.controller.as_mut().unwrap()
    }

    /// A metric of the router; 0 if it is not there.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |n| n.parse().unwrap())
    }

    pub(crate) async fn wait_for(&self, what: &str, name: &str, mut wanted: impl FnMut(u64) -> bool) {
        within(what, async {
            while !wanted(self.metric(name).await) {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub(crate) async fn drops(&self, reason: &str) -> u64 {
        self.metric(&drop_metric(reason)).await
    }

    pub(crate) async fn wait_for_drops(&self, reason: &str, at_least: u64) {
        self.wait_for(reason, &drop_metric(reason), |n| n >= at_least).await;
    }

    pub(crate) fn sign(&self, claims: &impl Claims) -> String {
        self.signer.sign(claims).unwrap()
    }

    /// A node that is not attached.
    pub(crate) fn node(&self, id: &str, tag: &[u8; 8]) -> Node {
        Node::new(issue(&self.ca, SpiffeRole::Identity, id), Tag(*tag), (self.id, self.addr))
    }

    /// An attached node.
    pub(crate) async fn attached(&self, id: &str, tag: &[u8; 8]) -> Node {
        let mut node = self.node(id, tag);
        let token = self.sign(&node.claims);
        node.attach(&token).await.unwrap();
        node
    }

    /// A pass from `a` to `b`.
    pub(crate) fn pass(&self, id: &str, a: &Node, b: &Node) -> PassClaims {
        PassClaims {
            jti: id.into(),
            a: a.claims.tag,
            b: b.claims.tag,
            paths: vec![vec![EdgeRouterId::new(ROUTER)]],
            cnf: a.claims.cnf.clone(),
            iat: now(),
            exp: now() + 300,
        }
    }
}

fn drop_metric(reason: &str) -> String {
    format!("hesper_router_packets_dropped_total{{reason=\"{reason}\"}}")
}

fn state(id: &str, tag: Tag, signer: &Signer) -> RouterState {
    RouterState {
        revision: 1,
        router_id: id.into(),
        tag: tag.0.to_vec(),
        knock_secret: SECRET.to_vec(),
        token_keys: vec![TokenKey { kid: signer.kid().into(), ed25519: signer.public_key().to_vec() }],
        peers: Vec::new(),
        trust: None,
    }
}

/// A router as others are told of it.
pub(crate) fn peer(id: &str, tag: Tag, address: SocketAddr) -> RouterPeer {
    let key_id = *b"the-link";
    RouterPeer {
        router_id: id.into(),
        name: id.into(),
        addresses: vec![address.to_string()],
        tag: tag.0.to_vec(),
        knock_key_id: key_id.to_vec(),
        knock_key: knock::derive(&SECRET, key_id).to_vec(),
    }
}

/// A node: one socket, one endpoint, its attach connection.
pub(crate) struct Node {
    pub(crate) credentials: SharedCredentials,
    pub(crate) claims: SessionClaims,
    pub(crate) endpoint: Endpoint,
    pub(crate) tap: Arc<Tap>,
    pub(crate) raw: UnboundedReceiver<Vec<u8>>,
    pub(crate) attach: Option<Attach>,
    router: (&'static str, SocketAddr),
}

pub(crate) struct Attach {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

impl Node {
    pub(crate) fn new(credentials: Credentials, tag: Tag, router: (&'static str, SocketAddr)) -> Self {
        let claims = SessionClaims {
            sub: IdentityId::new(&credentials.id.id),
            tag,
            cnf: credentials.spki_sha256.clone(),
            iat: now(),
            exp: now() + 3_600,
        };
        let credentials = SharedCredentials::new(credentials);
        let (tap, raw) = Tap::new();
        let server = server_config(tls::peer_server(credentials.clone()), peer_transport(), false).unwrap();
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint_config(tag),
            Some(server),
            tap.clone(),
            Arc::new(TokioRuntime),
        )
        .unwrap();
        Self { credentials, claims, endpoint, tap, raw, attach: None, router }
    }

    /// The attach connection, with this first destination, before anything is said on it.
    pub(crate) async fn connect(&self, knock: [u8; 20]) -> Result<Connection, quinn::ConnectionError> {
        let router = SpiffeId::new(TRUST_DOMAIN, SpiffeRole::Router, self.router.0).unwrap();
        let tls = tls::peer_client(self.credentials.clone(), router);
        let config = client_config(tls, attach_transport(), move || ConnectionId::new(&knock)).unwrap();
        self.endpoint.connect_with(config, self.router.1, "router").unwrap().await
    }

    /// A knock that no other node and no earlier attempt of this one has used.
    pub(crate) fn knock(&self) -> [u8; 20] {
        let key_id = self.claims.tag.0;
        knock::make(key_id, &knock::derive(&SECRET, key_id), now(), rand::random())
    }

    /// Attaches with this session token; the error is the router's reason, or how the connection ended.
    pub(crate) async fn attach(&mut self, token: &str) -> Result<(), String> {
        let connection = within("handshake", self.connect(self.knock())).await.map_err(|e| e.to_string())?;
        let (send, recv) = connection.open_bi().await.map_err(|e| e.to_string())?;
        let mut attach = Attach { connection, send, recv };
        attach.say(from_node::Message::Hello(AttachHello { session_token: token.into() })).await;
        match attach.hear().await? {
            from_router::Message::Accepted(accepted) => assert_eq!(accepted.router_id, self.router.0),
            from_router::Message::Refused(refused) => return Err(refused.reason),
            other => panic!("{other:?}"),
        }
        self.attach = Some(attach);
        Ok(())
    }

    /// Its router's address.
    pub(crate) fn router(&self) -> SocketAddr {
        self.router.1
    }

    pub(crate) fn attach_mut(&mut self) -> &mut Attach {
        self.attach.as_mut().unwrap()
    }

    pub(crate) async fn present(&mut self, pass: &str) -> PassResult {
        self.present_in(pass, "", "").await
    }

    /// As of a dial in a trace.
    pub(crate) async fn present_in(&mut self, pass: &str, parent: &str, state: &str) -> PassResult {
        let request_id = rand::random();
        let attach = self.attach_mut();
        let (traceparent, tracestate) = (parent.into(), state.into());
        let pass = PresentPass { request_id, pass: pass.into(), traceparent, tracestate };
        attach.say(from_node::Message::Pass(pass)).await;
        loop {
            match attach.hear().await.unwrap() {
                from_router::Message::PassResult(result) if result.request_id == request_id => return result,
                // A notice may come in between.
                from_router::Message::PeerGone(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// A datagram to `tag` that [`Tap`] recognises: a short header, the raw mark, `text`.
    pub(crate) fn datagram(tag: Tag, text: &str) -> Vec<u8> {
        [&[0x41], &tag.0[..], b"random!!", RAW, text.as_bytes()].concat()
    }

    pub(crate) async fn send(&self, to: &Node, text: &str) {
        self.tap.send(self.router.1, &[Self::datagram(to.claims.tag, text)]).await;
    }

    pub(crate) async fn receive(&mut self) -> String {
        let datagram = within("a datagram", self.raw.recv()).await.unwrap();
        String::from_utf8(datagram[17 + RAW.len()..].to_vec()).unwrap()
    }

    /// Nothing has arrived, now that whatever was sent before has.
    pub(crate) fn received_nothing(&mut self) -> bool {
        self.raw.try_recv().is_err()
    }
}

impl Attach {
    pub(crate) async fn say(&mut self, message: from_node::Message) {
        // A router that has just closed the connection says so when it is heard.
        let _ = write_message(&mut self.send, &FromNode { message: Some(message) }).await;
    }

    pub(crate) async fn hear(&mut self) -> Result<from_router::Message, String> {
        let message = within("the router", read_message::<FromRouter>(&mut self.recv, 64 << 10)).await;
        Ok(message.map_err(|e| format!("{e:?}"))?.message.unwrap())
    }
}
