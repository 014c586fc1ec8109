//! Starting, serving, stopping.
//!
//! - [`listener`]: the accept loop and each connection: TLS with an optional client certificate, then HTTP/1.1 or HTTP/2,
//!   then gRPC or REST by content type. Deadlines and caps on everything that the unauthenticated can hold open.
//! - [`certificate`]: the server's own certificate, renewed while it runs.
//! - [`upkeep`]: what is swept up now and then: ended sessions, expired certificates, old enrollments.

mod certificate;
mod listener;
mod upkeep;

use crate::{
    api,
    ca::CaKeyError,
    control,
    forward::{Forward, ForwardError, Forwarding},
    home::{self, HomeError, Kept},
    metrics::{self, Metrics},
    state::{Authority, FollowError, State, WriteError},
    validity::{OutOfBounds, Validities},
};
use hesper_observe::{
    events::{Events, InvalidRetention},
    metrics::{Health, Registry},
};
use hesper_pki::ca::CaError;
use hesper_store::StoreError;
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a stopping controller waits for requests in flight.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// How to run.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How long things are valid, where it differs from `controller.json`.
    pub validities: Validities,
    /// Where its metrics are put; see [`Running::registry`].
    pub registry: Registry,
    /// How much of the audit file is kept, where it differs from `controller.json`.
    pub retention: Kept,
    /// Where telemetry goes that is to be forwarded; none: whoever sends some is told so.
    pub forwarding: Option<Forwarding>,
}

impl StartOptions {
    /// Listens there, with the validities of `controller.json`.
    pub fn new(listen: SocketAddr) -> Self {
        let (validities, retention) = (Validities::default(), Kept::default());
        Self { listen, validities, registry: Registry::new(), retention, forwarding: None }
    }
}

/// Why a controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its home directory is not usable.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit file cannot be opened.
    #[error("the audit file {} cannot be opened", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store's objects cannot be read.
    #[error("the controller's state cannot be loaded")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A validity is too short or too long.
    #[error(transparent)]
    Validity(#[from] OutOfBounds),
    /// The audit file would be kept too short.
    #[error(transparent)]
    Retention(#[from] InvalidRetention),
    /// Telemetry could not be forwarded.
    #[error("telemetry cannot be forwarded")]
    Forward(#[from] ForwardError),
    /// The port cannot be had.
    #[error("cannot listen on {address}: choose another address, or stop what listens there")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The server certificate could not be made, or a CA cannot be used.
    #[error("the server certificate could not be made")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<FollowError> for StartError {
    fn from(error: FollowError) -> Self {
        Self::State(Box::new(error))
    }
}

impl From<WriteError> for StartError {
    fn from(error: WriteError) -> Self {
        Self::State(Box::new(error))
    }
}

impl From<CaKeyError> for StartError {
    fn from(error: CaKeyError) -> Self {
        Self::Certificate(Box::new(error))
    }
}

impl From<CaError> for StartError {
    fn from(error: CaError) -> Self {
        Self::Certificate(Box::new(error))
    }
}

/// The controller.
#[derive(Debug)]
pub struct Controller;

/// A running controller. Dropping it stops it without waiting; [`Running::shutdown`] waits.
pub struct Running {
    local_addr: SocketAddr,
    pub(crate) state: Arc<State>,
    stop: CancellationToken,
    tasks: TaskTracker,
    failed: watch::Receiver<Option<String>>,
    forward: Arc<Forward>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Controller {
    /// Starts the controller of an initialised home directory. It serves when this returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(dir: &Path, options: StartOptions) -> Result<Running, StartError> {
        let home = home::open(dir)?;
        options.validities.check()?;
        let listener = listener::bind(options.listen)
            .map_err(|source| StartError::Listen { address: options.listen, source })?;
        let local_addr =
            listener.local_addr().map_err(|source| StartError::Listen { address: options.listen, source })?;
        let retention = options.retention.over(home.settings.kept()).check()?;
        let events = Events::open(&home.audit, retention)
            .map_err(|source| StartError::Audit { path: home.audit.clone(), source })?;
        let registry = options.registry;
        registry.add_role("controller");
        events.register(&registry);
        let port = if home.settings.ctrl_port == 0 { local_addr.port() } else { home.settings.ctrl_port };
        let ctrl_url = url(&home.settings.ctrl_address, port);
        let store = hesper_store::open_sqlite(&home.store)?;
        let authority = Authority {
            cas: home.cas,
            signer: home.signer,
            trust_domain: home.settings.trust_domain.clone(),
            ctrl_url,
        };
        let mut state = State::load(store, authority, events, Metrics::new(registry)).await?;
        state.control.settings.apply(options.validities.or(home.settings.validities()));
        state.authority.cas.settle(&state.rotation())?;
        let state = Arc::new(state);
        metrics::show_entities(&state);
        let forward = Forward::open(&state, &home.telemetry, options.forwarding).await?;
        run(state, listener, local_addr, &home.settings.ctrl_address, Arc::new(forward)).await
    }
}

/// `https://host:port`, with brackets around an IPv6 address.
fn url(host: &str, port: u16) -> String {
    if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") }
}

async fn run(
    state: Arc<State>,
    listener: TcpListener,
    local_addr: SocketAddr,
    address: &str,
    forward: Arc<Forward>,
) -> Result<Running, StartError> {
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (failing, failed) = watch::channel(None);
    let follower = (state.clone(), stop.clone());
    tasks.spawn(async move {
        let (state, stop) = follower;
        if let Err(error) = state.follow(&stop).await {
            let reason = api::chain(&error);
            tracing::error!(%reason, "the controller cannot follow its store and stops");
            failing.send_replace(Some(reason));
            stop.cancel();
        }
    });
    upkeep::builtin_types(&state).await?;
    let certificate = certificate::Own::new(state.clone(), address)?;
    let credentials = certificate.credentials();
    let own = credentials.clone();
    let registry = &state.metrics.registry;
    registry.certificate("controller", move || Some(own.current().not_after.unix_timestamp()));
    let authority = Arc::downgrade(&state);
    registry.certificate("ca", move || {
        let state = authority.upgrade()?;
        let issuing = state.authority.cas.get(state.rotation().issuing()).ok()?;
        Some(issuing.not_after().unix_timestamp())
    });
    tasks.spawn(certificate.keep_renewed(stop.clone()));
    tasks.spawn(upkeep::run(state.clone(), stop.clone()));
    control::spawn(&state, &tasks, &stop);
    let app = listener::App {
        rest: api::routes(&state),
        grpc: control::routes(state.clone()),
        forward: forward.clone(),
        state: state.clone(),
    };
    let serving = listener::serve(listener, credentials, app, state.clone(), tasks.clone(), stop.clone());
    tasks.spawn(serving);
    tracing::info!(%local_addr, url = state.authority.ctrl_url, "the controller serves");
    Ok(Running { local_addr, state, stop, tasks, failed, forward })
}

impl Running {
    /// Where it listens, with the port that the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its URL, as written into tokens.
    pub fn url(&self) -> &str {
        &self.state.authority.ctrl_url
    }

    /// Its metrics, for whoever serves them beside its own port.
    pub fn registry(&self) -> &Registry {
        &self.state.metrics.registry
    }

    /// Whether it works: it follows its store.
    pub fn health(&self) -> Health {
        let failed = self.failed.clone();
        Arc::new(move || failed.borrow().clone().map_or(Ok(()), Err))
    }

    /// The certificates of the CAs that are trusted, PEM.
    pub fn ca_pem(&self) -> String {
        self.state.ca_pem()
    }

    /// What happens here: to follow it, to send it on.
    pub fn events(&self) -> &Events {
        &self.state.events
    }

    /// Waits until it fails by itself, and says why: it can no longer follow its store.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // Stopped without a failure.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops: no new connection, requests in flight are finished, the store is closed.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(STOP_DEADLINE, self.tasks.wait()).await.is_err() {
            tracing::warn!("some requests were cut off");
        }
        self.forward.close().await;
        self.state.store.close().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
