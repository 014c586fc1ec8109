//! Starting and stopping a router.

use crate::{
    control::Control,
    doubt,
    home::RouterHome,
    incoming,
    issued::{Generator, IssuedIds},
    link::Linker,
    metrics::Metrics,
    quota::SessionRate,
    sessions::{Sessions, now_unix},
    silence::LOOK,
    socket::{MAX_DATAGRAM, RouterSocket},
    standing::{Standing, StandingError},
};
use hesper_client::{
    channel::{ChannelError, ControlChannel},
    keeper::Keeper,
    renewal::{RenewAs, keep_renewed},
};
use hesper_model::id::Tag;
use hesper_observe::metrics::{Health, Registry};
use hesper_overlay::transport::{attach_transport, close, endpoint_config, server_config};
use hesper_pki::{credentials::SharedCredentials, identity_file::IdentityFileError, spiffe::SpiffeRole, tls};
use quinn::{
    AsyncUdpSocket, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    crypto::rustls::NoInitialCipherSuite,
};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

/// How long nodes have to leave a router that stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How long the last packets (closing the connections) may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// How often [`Running::serving`] looks.
const SERVING_POLL: Duration = Duration::from_millis(20);
/// Expired passes and sessions are swept this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How a router runs.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// UDP address and port to listen on.
    pub listen: SocketAddr,
    /// Addresses (`host:port`) that nodes are given; empty = the one it listens on.
    pub advertise: Vec<String>,
    /// Where its metrics are put; see [`Running::registry`].
    pub registry: Registry,
    /// How long lapsed passes and session tokens are honoured while no controller can be reached; zero = not at all.
    pub outage_grace: Duration,
    /// The rate at which each attached node may send; what is more is dropped.
    pub max_session_rate: SessionRate,
}

impl RunOptions {
    /// Listens on `listen`, with the defaults for the rest: a registry of its own, an outage grace of one day, no limit of rates.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            advertise: Vec::new(),
            registry: Registry::new(),
            outage_grace: Duration::from_secs(86_400),
            max_session_rate: SessionRate::default(),
        }
    }
}

/// Why a router does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No identity.
    #[error("the router has no usable identity in {}; enroll it first (hesper router enroll)", home.display())]
    Identity {
        /// Its directory.
        home: PathBuf,
        /// Why.
        #[source]
        source: IdentityFileError,
    },
    /// Somebody else's identity.
    #[error("{} is not the identity of a router (it names {})", path.display(), role.as_str())]
    NotARouter {
        /// The file.
        path: PathBuf,
        /// What it is.
        role: SpiffeRole,
    },
    /// The identity names no controller.
    #[error("the router's identity names no usable controller")]
    Controller(#[from] ChannelError),
    /// The port.
    #[error("cannot listen on UDP {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// Nodes could not find it.
    #[error("nodes need an address of this router, and {0:?} is none; give one as host:port (--advertise)")]
    Advertise(String),
    /// The TLS settings do not fit QUIC.
    #[error("the TLS settings are not usable for QUIC")]
    Tls(#[from] NoInitialCipherSuite),
    /// The QUIC endpoint.
    #[error("the QUIC endpoint does not start")]
    Endpoint(#[source] io::Error),
}

/// A router that is not running; see [`Router::start`].
#[derive(Debug)]
pub struct Router;

/// A running router. Dropping it closes every connection at once; [`Running::shutdown`] lets nodes leave first.
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    registry: Registry,
    sessions: Arc<Sessions>,
    endpoint: Arc<Mutex<Endpoint>>,
    tasks: JoinSet<()>,
}

impl Router {
    /// Starts the router whose identity is in the directory `home`. It serves as soon as its controller has told it its
    /// tag, or at once if it was told in an earlier run. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]. A controller that cannot be reached is not one: the router goes on trying.
    pub async fn start(home: &Path, options: RunOptions) -> Result<Running, StartError> {
        let home = RouterHome::new(home);
        let (controllers, keeper) = identity(&home)?;
        let credentials = keeper.credentials().clone();
        let channel = ControlChannel::new(&controllers, credentials.clone())?;
        let registry = options.registry;
        registry.add_role("router");
        let own = credentials.clone();
        registry.certificate("router", move || Some(own.current().not_after.unix_timestamp()));
        let sessions =
            Arc::new(Sessions::new(Metrics::new(&registry), options.outage_grace, options.max_session_rate));
        let standing = kept(&home);
        if let Some(standing) = &standing {
            sessions.tell(standing);
        }
        let port = Port::open(options.listen, sessions.clone(), credentials.clone())?;
        let local_addr = port.local_addr;
        let addresses = addresses(options.advertise, local_addr)?;
        let endpoint = Arc::new(Mutex::new(port.endpoint()?));
        let mut tasks = JoinSet::new();
        tasks.spawn(port.keep_serving(endpoint.clone()));
        let linker = Linker { sessions: sessions.clone(), endpoint: endpoint.clone(), credentials };
        tasks.spawn(linker.run());
        tasks.spawn(keep_house(sessions.clone()));
        tasks.spawn(keep_renewed(RenewAs::Router, channel.clone(), keeper.clone()));
        let state_file = home.state_file();
        tasks.spawn(
            Control { sessions: sessions.clone(), channel, keeper, addresses, state_file, standing }.run(),
        );
        tracing::info!(%local_addr, "router started");
        Ok(Running { local_addr, registry, sessions, endpoint, tasks })
    }
}

impl Running {
    /// Where it listens (UDP): with the port that the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until it serves: it knows its tag, from its controller now or from an earlier run.
    pub async fn serving(&self) {
        while self.sessions.plane().told().is_none() {
            tokio::time::sleep(SERVING_POLL).await;
        }
    }

    /// Its metrics, for whoever serves them.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether it forwards: it knows its tag, and is not about to stop.
    pub fn health(&self) -> Health {
        let sessions = self.sessions.clone();
        Arc::new(move || {
            if sessions.plane().told().is_none() {
                return Err("no controller has told this router its tag yet".to_owned());
            }
            if sessions.is_draining() { Err("the router stops".to_owned()) } else { Ok(()) }
        })
    }

    /// Stops: tells nodes, other routers and the controller, carries on until every node has left or five seconds have passed, then
    /// closes. Returns the number of sessions that had not left.
    pub async fn shutdown(mut self) -> usize {
        let mut changes = self.sessions.changes();
        self.sessions.drain();
        let left = async { while self.sessions.session_count() > 0 && changes.changed().await.is_ok() {} };
        let left = timeout(DRAIN_DEADLINE, left).await.is_ok();
        let staying = if left { 0 } else { self.sessions.session_count() };
        if staying > 0 {
            tracing::info!(sessions = staying, "nodes were still attached");
        }
        let endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        endpoint.close(close::DONE, b"the router stops");
        // What is not delivered by then is found out by the nodes.
        let _ = timeout(CLOSE_DEADLINE, endpoint.wait_idle()).await;
        self.tasks.shutdown().await;
        tracing::info!("router stopped");
        staying
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).close(close::DONE, b"the router stops");
    }
}

/// The router's controllers and its credentials.
fn identity(home: &RouterHome) -> Result<(Vec<String>, Keeper), StartError> {
    let path = home.identity_file();
    let dir = path.parent().map(Path::to_owned).unwrap_or_default();
    let read =
        home.identity().and_then(|file| Ok((file.controllers(), Keeper::new(file, Some(path.clone()))?)));
    let (controllers, keeper) = read.map_err(|source| StartError::Identity { home: dir, source })?;
    match keeper.credentials().current().id.role {
        SpiffeRole::Router => Ok((controllers, keeper)),
        role => Err(StartError::NotARouter { path, role }),
    }
}

/// What nodes are given; a wildcard address means nothing to them.
fn addresses(advertise: Vec<String>, local: SocketAddr) -> Result<Vec<String>, StartError> {
    if advertise.is_empty() {
        let own = local.to_string();
        return if local.ip().is_unspecified() { Err(StartError::Advertise(own)) } else { Ok(vec![own]) };
    }
    let is_address = |text: &str| {
        let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        parts.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0))
    };
    match advertise.iter().find(|text| !is_address(text)) {
        Some(wrong) => Err(StartError::Advertise(wrong.clone())),
        None => Ok(advertise),
    }
}

/// What the controller said in an earlier run. A damaged file only means that the controller must say it again.
fn kept(home: &RouterHome) -> Option<Standing> {
    Standing::load(&home.state_file()).unwrap_or_else(|error: StandingError| {
        tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the controller");
        None
    })
}

/// The UDP port and what an endpoint on it needs.
struct Port {
    local_addr: SocketAddr,
    socket: Arc<dyn AsyncUdpSocket>,
    sessions: Arc<Sessions>,
    issued: IssuedIds,
    config: ServerConfig,
}

impl Port {
    fn open(
        listen: SocketAddr,
        sessions: Arc<Sessions>,
        credentials: SharedCredentials,
    ) -> Result<Self, StartError> {
        let config = server_config(tls::peer_server(credentials), attach_transport(), true)?;
        let issued = IssuedIds::new();
        let socket = RouterSocket::bind(listen, sessions.plane().clone(), issued.clone());
        let socket = Arc::new(socket.map_err(|e| StartError::Listen(listen, e))?);
        let local_addr = socket.local_addr().map_err(|e| StartError::Listen(listen, e))?;
        Ok(Self { local_addr, socket, sessions, issued, config })
    }

    fn endpoint(&self) -> Result<Endpoint, StartError> {
        Endpoint::new_with_abstract_socket(
            self.endpoint_config(),
            Some(self.config.clone()),
            self.socket.clone(),
            Arc::new(TokioRuntime),
        )
        .map_err(StartError::Endpoint)
    }

    fn endpoint_config(&self) -> EndpointConfig {
        let unknown = Tag([0; 8]);
        let mut config = endpoint_config(unknown);
        let (plane, ids) = (self.sessions.plane().clone(), self.issued.clone());
        config.cid_generator(move || {
            let plane = plane.clone();
            // Before the controller has told the tag no packet reaches the endpoint, so none is made.
            let tag = move || plane.told().map_or(unknown, |told| told.tag);
            Box::new(Generator { ids: ids.clone(), tag })
        });
        // The constant is in the range that QUIC allows (RFC 9000, 18.2).
        let _ = config.max_udp_payload_size(MAX_DATAGRAM);
        config
    }

    /// Accepts nodes and routers; should the endpoint ever end by itself, a new one takes over and all come anew.
    async fn keep_serving(self, current: Arc<Mutex<Endpoint>>) {
        loop {
            let endpoint = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
            incoming::accept(self.sessions.clone(), endpoint).await;
            if self.sessions.is_draining() {
                return;
            }
            tracing::error!("the QUIC endpoint ended unexpectedly; starting another one");
            match self.endpoint() {
                Ok(endpoint) => *current.lock().unwrap_or_else(PoisonError::into_inner) = endpoint,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "no QUIC endpoint");
                    tokio::time::sleep(SWEEP_INTERVAL).await;
                }
            }
        }
    }
}

async fn keep_house(sessions: Arc<Sessions>) {
    let (mut follow, mut sweep, mut doubts) =
        (interval(LOOK), interval(SWEEP_INTERVAL), interval(doubt::LOOK));
    for timer in [&mut follow, &mut sweep, &mut doubts] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            () = sessions.doubts_arise() => {}
            _ = doubts.tick(), if sessions.is_doubting() => sessions.settle_doubts(),
            _ = follow.tick() => sessions.follow(),
            _ = sweep.tick() => sessions.sweep(now_unix()),
        }
    }
}

#[cfg(test)]
mod tests;
