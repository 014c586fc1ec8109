//! One connection from its arrival to its end.

use super::{
    body::{Answer, Arriving},
    service::{self, Core},
    stream::{self, Version},
    watch::{Activity, Life, Next, Rules},
};
use crate::net::{Arrival, Peer};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use std::{convert::Infallible, fmt, pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long a connection has to get ready: its TLS, the word of the mesh.
const READY: Duration = Duration::from_secs(15);
/// Largest head of a request, bytes. What a gateway tells in one header must fit, see `origin`.
const MAX_HEAD: u32 = 32 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 128;
/// Most that is read from a connection of HTTP/1 at once. It is held while the connection lives, and nobody counts it.
const READ: usize = 64 << 10;
/// Largest frame of HTTP/2. One that is larger than the 16 KiB of the protocol saves work, and each connection may hold one unfinished.
const MAX_FRAME: u32 = 64 << 10;
/// What a peer may send before we have read it: in one request, and on one connection. It is what may be under way at once, so not too small.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Requests that a peer reset before we took them, and those that we reset for its errors: more ends the connection (CVE-2023-44487, RUSTSEC-2024-0003).
const MAX_PENDING_RESETS: usize = 20;
const MAX_ERROR_RESETS: usize = 1024;
/// How long the rest of a request that was refused early is read and thrown away. Streams that are reset while data is on its way count as
/// errors of the peer, and in overload its connection would end, with the requests on it that were taken.
const LINGER: Duration = Duration::from_secs(5);

/// How connections of a server are treated.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Longest time for the head of a request, and for the first bytes of a connection.
    pub(crate) head: Duration,
    /// Closes idle connections of HTTP/1, of HTTP/2, and those that are so old.
    pub(crate) idle1: Option<Duration>,
    pub(crate) idle2: Option<Duration>,
    pub(crate) age: Option<Duration>,
    /// How long requests may take when a connection is too old. `None`: as long as they like.
    pub(crate) age_grace: Option<Duration>,
    /// Requests at once on one connection.
    pub(crate) max_streams: u32,
    /// Asks silent peers over HTTP/2 whether they live, and waits so long.
    pub(crate) ping: Option<(Duration, Duration)>,
    /// May a connection of HTTP/1, of HTTP/2 serve more than one request?
    pub(crate) keep_alive1: bool,
    pub(crate) keep_alive2: bool,
}

/// Why a connection was not served.
#[derive(Debug)]
pub(crate) struct NotReady;

/// Serves a connection until it ends or is told to.
pub(crate) async fn serve(
    core: Arc<Core>,
    arrival: Arrival,
    stop: CancellationToken,
) -> Result<(), NotReady> {
    let from = arrival.from;
    let activity = Arc::new(Activity::new(!core.connection.keep_alive2));
    let ready = async {
        let (io, peer) = timeout(READY, arrival.ready).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        let opened = stream::open(io, Arc::clone(&activity));
        let (version, stream) =
            timeout(core.connection.head, opened).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        Ok::<_, std::io::Error>((version, stream, Arc::new(peer)))
    };
    let ready = tokio::select! {
        ready = ready => ready,
        () = stop.cancelled() => return Ok(()),
    };
    let (version, stream, peer) = ready.map_err(|error| {
        debug!(%from, %error, "a connection did not get ready");
        NotReady
    })?;
    let io = TokioIo::new(stream);
    let settings = core.connection.clone();
    let service = service_fn({
        let activity = Arc::clone(&activity);
        move |request| answer(Arc::clone(&core), Arc::clone(&peer), Arc::clone(&activity), request)
    });
    match version {
        Version::Http1 => {
            let connection = http1(&settings).serve_connection(io, service);
            drive(connection, &settings, version, &activity, &stop, &from).await;
        }
        Version::Http2 => {
            let connection = http2(&settings).serve_connection(io, service);
            drive(connection, &settings, version, &activity, &stop, &from).await;
        }
    }
    Ok(())
}

async fn answer(
    core: Arc<Core>,
    peer: Arc<Peer>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let busy = activity.begin();
    let (head, body) = request.into_parts();
    let mut body = Arriving::new(body);
    let response = service::answer(&core, &peer, &head, &mut body).await;
    busy.answered(!body.has_ended());
    if head.version == http::Version::HTTP_2 && !body.has_ended() {
        // As many as a connection may have streams.
        tokio::spawn(timeout(LINGER, body.discard()));
    }
    Ok(response)
}

fn http1(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `watch` has the deadlines: this one would end idle connections, too.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD as usize)
        .max_buf_size(READ)
        .keep_alive(settings.keep_alive1);
    builder
}

fn http2(settings: &Settings) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_streams(settings.max_streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS);
    if let Some((interval, wait)) = settings.ping {
        builder.keep_alive_interval(interval).keep_alive_timeout(wait);
    }
    builder
}

/// Lets the connection go on, as long as it may.
async fn drive<C>(
    connection: C,
    settings: &Settings,
    version: Version,
    activity: &Activity,
    stop: &CancellationToken,
    from: &str,
) where
    C: GracefulConnection,
    C::Error: fmt::Display,
{
    let mut life = Life { rules: rules(settings, version), age_grace: settings.age_grace, ending: None };
    let mut connection = pin!(connection);
    let mut stopped = pin!(stop.cancelled());
    let mut timer = pin!(sleep_until(Instant::now()));
    let (mut armed, mut stopping) = (true, false);
    loop {
        tokio::select! {
            biased;
            result = &mut connection => {
                if let Err(error) = result {
                    debug!(%from, %error, "a connection ended with an error");
                }
                return;
            }
            () = &mut stopped, if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            () = activity.changed.notified() => {}
            () = &mut timer, if armed => {}
        }
        let (drain, look) = match life.look(&activity.seen(), activity.now()) {
            Next::Cut(why) => {
                debug!(%from, ?why, "a connection is cut");
                return;
            }
            Next::Drain(look) => (true, Some(look)),
            Next::Look(look) => (false, look),
        };
        if drain {
            connection.as_mut().graceful_shutdown();
        }
        armed = look.is_some();
        if let Some(look) = look {
            timer.as_mut().reset(activity.at(look).into());
        }
    }
}

fn rules(settings: &Settings, version: Version) -> Rules {
    let single = !settings.keep_alive2;
    // So that connections that began together do not end together.
    let age = settings.age.map(|age| age.mul_f64(rand::random_range(0.9..1.1)));
    match version {
        // hyper itself ends these after one request.
        Version::Http1 => Rules { head: Some(settings.head), idle: settings.idle1, age, single: false },
        Version::Http2 => Rules { head: None, idle: settings.idle2, age, single },
    }
}
