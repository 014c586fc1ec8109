//! The HTTP proxy: absolute-form requests and CONNECT go to services, origin-form requests are for the proxy itself.
//!
//! HTTP/1.1 on a loopback listener (RFC 9110, RFC 9112). Each request gets a stream of its own: a second dial to the same host costs no
//! round trip. Failures are told apart: 400 the request, 403 policy, 404 no such service, 502 the dial or the target, 503 no
//! terminator, 504 time; the reason is in the body, a stable word in `x-hesper-error`. Heads are bounded in size and time.

mod body;
mod client;
mod connect;
mod failure;
mod forward;
mod headers;
mod local;
mod trace;

pub(crate) use failure::dial_word;

use crate::{Dialer, Known, Metrics, metrics::Held};
use bytes::Bytes;
use client::{Client, ClientIo};
use failure::{Failure, full};
use hesper_observe::metrics::Registry;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Connections served at once; more wait in the kernel's backlog. A Prometheus holds one for each target.
const MAX_CONNECTIONS: usize = 4_096;
/// CONNECT tunnels open at once.
const MAX_TUNNELS: usize = 16_384;
/// Largest head of a request, give or take one read.
const MAX_HEAD: usize = 64 * 1024;
/// Most header fields of a request.
const MAX_FIELDS: usize = 128;
/// A head must be whole within this time; an idle connection is closed after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// After an accept that failed (no file descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
struct Shared<D> {
    dialer: D,
    known: watch::Receiver<Arc<Known>>,
    registry: Registry,
    metrics: Metrics,
    local_addr: Option<SocketAddr>,
    tunnels: Arc<Semaphore>,
    ended: CancellationToken,
}

/// The proxy, ready to serve.
pub struct HttpProxy<D> {
    shared: Arc<Shared<D>>,
    head_timeout: Duration,
    _ends: DropGuard,
}

impl<D: Dialer> HttpProxy<D> {
    /// A proxy that opens streams with `dialer` to the services in `known`, and serves `registry` at `/metrics`.
    pub fn new(dialer: D, known: watch::Receiver<Arc<Known>>, registry: Registry, metrics: Metrics) -> Self {
        let ended = CancellationToken::new();
        let shared = Shared {
            dialer,
            known,
            registry,
            metrics,
            local_addr: None,
            tunnels: Arc::new(Semaphore::new(MAX_TUNNELS)),
            ended: ended.clone(),
        };
        Self { shared: Arc::new(shared), head_timeout: HEAD_TIMEOUT, _ends: ended.drop_guard() }
    }

    /// Closes connections whose head is not whole, or that are idle, after so long instead of 30 s.
    #[must_use]
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.head_timeout = timeout;
        self
    }

    /// Serves connections until dropped; connections and tunnels end with it.
    pub async fn serve(mut self, listener: TcpListener) {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.local_addr = listener.local_addr().ok();
        }
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((tcp, client)) => {
                    let connection = connection(Arc::clone(&self.shared), tcp, client, self.head_timeout);
                    let ended = self.shared.ended.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        tokio::select! {
                            () = connection => {}
                            () = ended.cancelled() => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the HTTP proxy could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection<D: Dialer>(
    shared: Arc<Shared<D>>,
    tcp: TcpStream,
    client: SocketAddr,
    head_timeout: Duration,
) {
    let _held = Held::new(&shared.metrics.http_open);
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let (io, by) = ClientIo::new(tcp, client);
    let service = service_fn(move |request| {
        let (shared, by) = (Arc::clone(&shared), by.clone());
        async move { Ok::<_, Infallible>(respond(&shared, request, &by).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .serve_connection(io, service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%client, %error, "a proxy connection ended early");
    }
}

async fn respond<D: Dialer>(
    shared: &Arc<Shared<D>>,
    request: Request<Incoming>,
    client: &Client,
) -> Response<Body> {
    let started = Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let span = trace::begin(&request);
    let (kind, result) = serve(shared, request, client).instrument(span.clone()).await;
    let took = started.elapsed();
    match result {
        Ok(response) => {
            shared.metrics.request(kind, "ok", response.status().as_u16(), took);
            tracing::debug!(%method, host = uri.host(), status = response.status().as_u16(), "proxied");
            trace::answered(span, response)
        }
        Err(failure) => {
            shared.metrics.request(kind, failure.word(), failure.status().as_u16(), took);
            trace::failed(&span, &failure);
            tracing::info!(%method, host = uri.host(), status = failure.status().as_u16(), reason = %failure, "not proxied");
            failure.into_response()
        }
    }
}

async fn serve<D: Dialer>(
    shared: &Arc<Shared<D>>,
    request: Request<Incoming>,
    client: &Client,
) -> (&'static str, Result<Response<Body>, Failure>) {
    if let Some(what) = headers::ambiguity(request.headers()) {
        return ("local", Err(Failure::BadRequest(format!("the request has {what}"))));
    }
    if request.method() == Method::CONNECT {
        return ("connect", connect::connect(shared, request, client.address).await);
    }
    if request.uri().authority().is_some() && !is_for_us(shared, &request) {
        return ("forward", forward::forward(shared, request, client).await);
    }
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(header::HOST) {
        return ("local", Err(Failure::BadRequest("the request has no Host field".into())));
    }
    let known = Arc::clone(&shared.known.borrow());
    ("local", local::answer(request.method(), request.uri(), request.headers(), &known, &shared.registry))
}

/// Does an absolute URL name this very listener? (`curl -x P http://127.0.0.1:9180/sd`)
fn is_for_us<D>(shared: &Shared<D>, request: &Request<Incoming>) -> bool {
    let (Some(host), Some(own)) = (request.uri().host(), shared.local_addr) else { return false };
    let loopback = host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip == own.ip());
    loopback && request.uri().port_u16().unwrap_or(80) == own.port()
}

/// A short answer as text.
fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
