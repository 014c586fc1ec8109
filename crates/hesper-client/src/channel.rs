//! The gRPC channel to the controller: mutual TLS, connects when first used and again whenever it broke.

use crate::{
    connect::{ConnectError, ControllerUrl, InvalidControllerUrl, connect},
    diagnosis::{self, Diagnosis},
};
use hesper_pki::{credentials::SharedCredentials, tls};
use hyper_util::rt::TokioIo;
use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// An HTTP/2 PING this often, also between calls, so that a dead controller is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// No answer to the PING for this long: the connection is dead. Revocations come over it: the sooner a new one is tried, the sooner
/// they come when the network is whole again.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// A channel to the controllers. Cheap to clone; clones share one connection.
#[derive(Clone)]
pub struct ControlChannel {
    channel: Channel,
    controllers: Arc<Controllers>,
}

impl fmt::Debug for ControlChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ControlChannel").field(&self.controllers.urls).finish()
    }
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// An address that is none.
    #[error(transparent)]
    Url(#[from] InvalidControllerUrl),
    /// No address at all.
    #[error("no controller address is given")]
    NoController,
}

impl ControlChannel {
    /// A channel to the first of `urls` that answers. Nothing is sent yet. Must be called inside a tokio runtime.
    pub fn new<S: AsRef<str>>(urls: &[S], credentials: SharedCredentials) -> Result<Self, ChannelError> {
        let urls = urls.iter().map(|url| url.as_ref().parse()).collect::<Result<Vec<ControllerUrl>, _>>()?;
        let first = urls.first().ok_or(ChannelError::NoController)?.clone();
        let controllers = Arc::new(Controllers { urls, credentials, preferred: AtomicUsize::new(0) });
        let connector = {
            let controllers = controllers.clone();
            tower::service_fn(move |_| {
                let controllers = controllers.clone();
                async move { controllers.connect().await.map(TokioIo::new) }
            })
        };
        let channel = endpoint(&first)?.connect_with_connector_lazy(connector);
        Ok(Self { channel, controllers })
    }

    /// Whether certificates are the reason for the failure of a call, and then what is wrong with them. When it may be so, a
    /// connection of its own is made, which takes a second. See [`crate::diagnosis`].
    pub async fn diagnose(&self, status: &Status) -> Option<Diagnosis> {
        let connected = connect_error(status).is_none_or(|e| matches!(e, ConnectError::Tls { .. }));
        // A connection may be older than the refusal of its certificate, which is then told by the controller's word alone.
        let perhaps = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Unauthenticated];
        if !connected || !perhaps.contains(&status.code()) {
            return None;
        }
        diagnosis::diagnose(&self.controllers.urls, &self.controllers.credentials).await
    }

    /// The channel, for the generated clients.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// How long to wait before the next attempt, of a `wait` that was drawn for it, after one that began `spent` ago and failed so. In a
/// network that swallows everything an attempt is itself a long wait: then the next one begins at once, so that little time is lost when
/// the network is whole again.
pub fn rest(status: &Status, wait: Duration, spent: Duration) -> Duration {
    match connect_error(status) {
        Some(ConnectError::Timeout { .. }) => wait.saturating_sub(spent),
        _ => wait,
    }
}

/// The failure to connect behind a status, if that is what it is: names the address and the step.
pub fn connect_error(status: &Status) -> Option<&ConnectError> {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The transport is our connector's business; tonic only needs an authority for the requests, in a scheme for which it
/// does not ask for its own TLS.
fn endpoint(url: &ControllerUrl) -> Result<Endpoint, InvalidControllerUrl> {
    let endpoint = Endpoint::from_shared(format!("http://{}", url.authority()))
        .map_err(|_| InvalidControllerUrl(url.to_string()))?;
    Ok(endpoint
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .executor(Spawn))
}

/// Spawns what serves the connection outside of the span of the call that needed it: it serves many, and would hold that one open.
#[derive(Clone, Copy)]
struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        tokio::spawn(task);
    }
}

struct Controllers {
    urls: Vec<ControllerUrl>,
    credentials: SharedCredentials,
    /// The one that answered last.
    preferred: AtomicUsize,
}

impl Controllers {
    /// Tries every controller once, the preferred one first.
    async fn connect(&self) -> Result<TlsStream<TcpStream>, ConnectError> {
        // New for each connection: it says which CAs are trusted now.
        let mut config = tls::controller_client(self.credentials.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        let start = self.preferred.load(Ordering::Relaxed);
        let mut failure = None;
        for offset in 0..self.urls.len() {
            let index = (start + offset) % self.urls.len();
            match connect(&self.urls[index], config.clone()).await {
                Ok(stream) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(error) => {
                    tracing::debug!(controller = %self.urls[index], %error, "no connection");
                    failure = Some(error);
                }
            }
        }
        // `urls` is never empty.
        Err(failure.unwrap_or_else(|| ConnectError::Timeout { authority: String::new() }))
    }
}
