//! The accept loop, and each connection. What the unauthenticated can hold open is capped and has a deadline; connections
//! with a certificate of ours have a cap of their own, so that strangers cannot shut nodes out.

use crate::{api::Remote, forward::Forward, state::State, trace};
use axum::{Router, body::Body, response::Response};
use hesper_overlay::handshakes::{Handshakes, Turn};
use hesper_pki::{
    credentials::{PeerIdentity, SharedCredentials},
    tls,
};
use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{Instrument as _, Span};

/// Connections waiting in the kernel: a thousand nodes come back at once after a restart.
const BACKLOG: u32 = 4096;
/// Handshakes at once; more wait in the kernel.
const MAX_HANDSHAKES: usize = 1024;
/// A handshake that has taken so long gives way to others: a few round trips and a busy machine fit in, somebody who says nothing does not.
const FAIR_TIME: Duration = Duration::from_secs(2);
/// How soon it is looked again whether there is room for a handshake.
const ROOM_PAUSE: Duration = Duration::from_millis(10);
/// Connections without a client certificate: administrators, enrolling nodes, and strangers.
const MAX_ANONYMOUS: usize = 512;
/// The same of one address: a site behind one is not that large, and one stranger does not shut out all others.
const MAX_ANONYMOUS_PER_ADDRESS: usize = 128;
/// Connections with a client certificate.
const MAX_KNOWN: usize = 16_384;
/// A handshake takes no longer.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A request's headers arrive within this time, and an idle HTTP/1.1 connection ends after it.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);
/// A connection without a client certificate lives no longer; requests in flight are finished.
const ANONYMOUS_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How long requests in flight have to finish when a connection ends.
const DRAIN_DEADLINE: Duration = Duration::from_secs(4);
/// An HTTP/2 peer is asked whether it lives so often,
const PING_EVERY: Duration = Duration::from_secs(10);
/// and has so long to answer.
const PING_DEADLINE: Duration = Duration::from_secs(10);
/// HTTP/2 streams of one connection at once.
const MAX_STREAMS: u32 = 128;
/// Largest header block, in bytes.
const MAX_HEADERS: u32 = 16 * 1024;
/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is served on the one port.
#[derive(Clone)]
pub(super) struct App {
    pub(super) rest: Router,
    pub(super) grpc: Router,
    pub(super) forward: Arc<Forward>,
    pub(super) state: Arc<State>,
}

#[derive(Clone)]
struct Limits {
    handshakes: Arc<Handshakes>,
    anonymous: Arc<Semaphore>,
    addresses: Addresses,
    known: Arc<Semaphore>,
}

/// Opens the port.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until `stop`. No error ends the loop: what fails is one connection, or it is tried again.
pub(super) async fn serve(
    listener: TcpListener,
    credentials: SharedCredentials,
    app: App,
    state: Arc<State>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls::controller_server(credentials)));
    let limits = Limits {
        handshakes: Handshakes::new(MAX_HANDSHAKES, FAIR_TIME),
        anonymous: Arc::new(Semaphore::new(MAX_ANONYMOUS)),
        addresses: Addresses::default(),
        known: Arc::new(Semaphore::new(MAX_KNOWN)),
    };
    while let Some(mut turn) = stop.run_until_cancelled(room(&limits.handshakes)).await {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let (acceptor, app, state) = (acceptor.clone(), app.clone(), state.clone());
                let (limits, stop) = (limits.clone(), stop.clone());
                tasks.spawn(async move {
                    let tls = tokio::select! {
                        tls = handshake(&acceptor, stream, &state) => tls,
                        () = turn.displaced() => return refused(&state, "handshake_displaced"),
                    };
                    drop(turn);
                    let Some(tls) = tls else { return };
                    connection(tls, remote, app, &state, &limits, stop).await;
                });
            }
            Err(error) => {
                refused(&state, "accept");
                if !is_of_one_connection(&error) {
                    // Out of file descriptors, say: others will close some.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Waits for a place: for a handshake to end, or for the oldest to have had its time.
async fn room(handshakes: &Arc<Handshakes>) -> Turn {
    loop {
        match handshakes.begin(Instant::now()) {
            Some(turn) => return turn,
            None => sleep(ROOM_PAUSE).await,
        }
    }
}

/// Connections without a client certificate, by the address that they came from.
#[derive(Clone, Debug, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; no longer counted when dropped.
struct Counted(Addresses, IpAddr);

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, address: IpAddr) -> Option<Counted> {
        let mut open = self.lock();
        let count = open.entry(address).or_default();
        (*count < MAX_ANONYMOUS_PER_ADDRESS).then(|| {
            *count += 1;
            Counted(self.clone(), address)
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        if let Some(count) = open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn refused(state: &State, reason: &'static str) {
    state.metrics.connections_refused.get_or_create(&vec![("reason", reason)]).inc();
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream, state: &State) -> Option<TlsStream<TcpStream>> {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    match timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => Some(tls),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            refused(state, "handshake");
            None
        }
        Err(_) => {
            refused(state, "handshake_deadline");
            None
        }
    }
}

async fn connection(
    tls: TlsStream<TcpStream>,
    remote: SocketAddr,
    app: App,
    state: &State,
    limits: &Limits,
    stop: CancellationToken,
) {
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = if chain.is_empty() { None } else { tls::peer_of(chain).ok() };
    let (who, permit) = match &peer {
        Some(_) => ("peer", limits.known.clone().try_acquire_owned()),
        None => ("anonymous", limits.anonymous.clone().try_acquire_owned()),
    };
    let Ok(_permit): Result<OwnedSemaphorePermit, _> = permit else {
        return refused(state, who);
    };
    let counted = if peer.is_none() { limits.addresses.enter(remote.ip()) } else { None };
    if peer.is_none() && counted.is_none() {
        return refused(state, "anonymous_address");
    }
    let open = state.metrics.connections.get_or_create(&vec![("by", who)]).clone();
    open.inc();
    let lifetime = if peer.is_some() { Duration::MAX } else { ANONYMOUS_LIFETIME };
    http(tls, remote, peer, app, lifetime, stop).await;
    open.dec();
    drop(counted);
}

/// Serves requests until the peer closes, its time is over, or the controller stops.
async fn http(
    tls: TlsStream<TcpStream>,
    remote: SocketAddr,
    peer: Option<PeerIdentity>,
    app: App,
    lifetime: Duration,
    stop: CancellationToken,
) {
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer(app.clone(), peer.clone(), remote, request));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS);
    // The handshake has settled the version, so that nothing is read to find it out.
    let builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(tls), service));
    let over = async {
        tokio::select! {
            () = sleep(lifetime) => {}
            () = stop.cancelled() => {}
        }
    };
    tokio::select! {
        ended = connection.as_mut() => return note(ended),
        () = over => connection.as_mut().graceful_shutdown(),
    }
    if let Ok(ended) = timeout(DRAIN_DEADLINE, connection.as_mut()).await {
        note(ended);
    }
}

/// Answers one request: telemetry to be forwarded, another call of gRPC, or REST.
async fn answer(
    app: App,
    peer: Option<PeerIdentity>,
    remote: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let is_grpc = is_grpc(&request);
    if is_grpc && Forward::is_for(request.uri().path()) {
        let answer = app.forward.call(&app.state, peer.as_ref(), remote.ip(), request).await;
        return Ok(answer.map(Body::new));
    }
    let span = match is_grpc {
        true => trace::grpc(request.uri().path(), request.headers(), Some(remote.ip())),
        false => Span::none(),
    };
    request.extensions_mut().insert(Remote(remote));
    request.extensions_mut().insert(peer);
    let router = if is_grpc { app.grpc } else { app.rest };
    let response = router.oneshot(request.map(Body::new)).instrument(span.clone()).await?;
    trace::called(&span, &response);
    Ok(response)
}

fn note(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
}
