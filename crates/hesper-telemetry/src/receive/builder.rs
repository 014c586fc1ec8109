//! A server from settings.

use super::{
    admission::Admission,
    connection,
    cors::Cors,
    grpc::GrpcSide,
    http::HttpSide,
    observe::Observer,
    origin::Keep,
    server::Server,
    service::{Core, Sinks},
    take::Side,
};
use crate::{auth::Authenticator, flow::Sink};
use hesper_collector_config::{
    Auth, Compression, Cors as CorsSettings, GrpcServer, Headers, KeepaliveServer, receivers::OtlpHttp,
};
use hesper_otlp::{Signal, limits};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{sync::Arc, time::Duration};

/// Connections at once: each costs some ten thousand bytes when idle, and a file.
pub const DEFAULT_MAX_CONNECTIONS: usize = 4096;
/// How long requests in flight may take when the server stops.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(10);
/// How long a request may take to come: senders have given up long before.
pub const DEFAULT_BODY_TIME: Duration = Duration::from_secs(60);
/// Calls at once on one connection when nothing is configured. Throughput is that many batches in a round trip.
const MAX_STREAMS: u32 = 256;
/// How long the first bytes of a gRPC connection may take.
const GRPC_HEAD: Duration = Duration::from_secs(20);
/// How long a gRPC call waits for the sink, if its sender does not say.
const GRPC_ANSWER: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// Compressions of bodies when nothing is configured: all that there are.
const COMPRESSIONS: [Compression; 6] = [
    Compression::Gzip,
    Compression::Zstd,
    Compression::Snappy,
    Compression::Zlib,
    Compression::Deflate,
    Compression::Lz4,
];

/// A server that is being described. Endpoint and TLS of the settings are the business of whoever makes the streams.
#[derive(Default)]
pub struct Builder {
    grpc: Option<(GrpcServer, Option<Arc<dyn Authenticator>>)>,
    http: Option<(OtlpHttp, Option<Arc<dyn Authenticator>>)>,
    sinks: Sinks,
    admission: Option<Admission>,
    observer: Option<Arc<dyn Observer>>,
    secret_headers: Vec<HeaderName>,
    max_connections: Option<usize>,
    drain: Option<Duration>,
    body_time: Option<Duration>,
}

/// Why a description makes no server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Settings name an authenticator, and there is none: nobody must come in unchecked.
    #[error("the receiver is to ask the authenticator {0}, which was not given to it")]
    NoAuthenticator(String),
    /// Neither gRPC nor HTTP.
    #[error("the receiver speaks no protocol")]
    NoProtocol,
    /// No signal has a sink.
    #[error("the receiver is in no pipeline")]
    NoSink,
    /// Two signals on one path.
    #[error("{0} and {1} are both received at {2}; give one of them another path")]
    SamePath(Signal, Signal, String),
    /// A value that cannot be in a header.
    #[error("{0} has a value that is no header")]
    Header(String),
}

impl Builder {
    /// Speaks gRPC, by these settings. With HTTP too, both share the port.
    #[must_use]
    pub fn grpc(mut self, settings: GrpcServer, auth: Option<Arc<dyn Authenticator>>) -> Self {
        self.grpc = Some((settings, auth));
        self
    }

    /// Speaks HTTP, by these settings.
    #[must_use]
    pub fn http(mut self, settings: OtlpHttp, auth: Option<Arc<dyn Authenticator>>) -> Self {
        self.http = Some((settings, auth));
        self
    }

    /// Where a signal goes. One without a sink is not served.
    #[must_use]
    pub fn sink(mut self, signal: Signal, sink: Arc<dyn Sink>) -> Self {
        self.sinks.set(signal, sink);
        self
    }

    /// The budget, shared with other receivers; one of its own otherwise.
    #[must_use]
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Who counts; nobody otherwise.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// A header that carries a secret here, such as the token of an authenticator that looks elsewhere than in `authorization`: it is never kept.
    #[must_use]
    pub fn secret_header(mut self, name: HeaderName) -> Self {
        self.secret_headers.push(name);
        self
    }

    /// Most connections at once: [`DEFAULT_MAX_CONNECTIONS`] otherwise. More are closed as they come.
    #[must_use]
    pub fn max_connections(mut self, max: usize) -> Self {
        self.max_connections = Some(max);
        self
    }

    /// How long requests in flight may take when the server stops: [`DEFAULT_DRAIN`] otherwise.
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = Some(drain);
        self
    }

    /// How long a request may take to come, where the settings do not say: [`DEFAULT_BODY_TIME`] otherwise.
    #[must_use]
    pub fn body_time(mut self, time: Duration) -> Self {
        self.body_time = Some(time);
        self
    }

    /// The server.
    ///
    /// # Errors
    /// What is missing or contradicts itself.
    pub fn build(self) -> Result<Server, BuildError> {
        if self.sinks.is_empty() {
            return Err(BuildError::NoSink);
        }
        let body_time = self.body_time.unwrap_or(DEFAULT_BODY_TIME);
        let connection = connection_settings(
            self.grpc.as_ref().map(|(settings, _)| settings),
            self.http.as_ref().map(|(settings, _)| settings),
        )?;
        let secret = self.secret_headers;
        let grpc = self
            .grpc
            .map(|(settings, auth)| grpc_side(&settings, auth, secret.clone(), body_time))
            .transpose()?;
        let http =
            self.http.map(|(settings, auth)| http_side(&settings, auth, secret, body_time)).transpose()?;
        let core = Core {
            grpc,
            http,
            sinks: self.sinks,
            admission: self.admission.unwrap_or_default(),
            observer: self.observer.unwrap_or_else(|| Arc::new(())),
            connection,
        };
        Ok(Server {
            core: Arc::new(core),
            max_connections: self.max_connections.unwrap_or(DEFAULT_MAX_CONNECTIONS),
            drain: self.drain.unwrap_or(DEFAULT_DRAIN),
        })
    }
}

/// How connections are treated. On a shared port both kinds of settings hold where they say something: HTTP/1 is HTTP's, HTTP/2 is gRPC's.
fn connection_settings(
    grpc: Option<&GrpcServer>,
    http: Option<&OtlpHttp>,
) -> Result<connection::Settings, BuildError> {
    let some = |time: Duration| Some(time).filter(|time| !time.is_zero());
    let server = http.map(|http| &http.server);
    let idle = server.and_then(|server| some(server.idle_timeout));
    let keepalive = match (grpc, http) {
        (Some(grpc), _) => Some(&grpc.keepalive),
        (None, Some(_)) => None,
        (None, None) => return Err(BuildError::NoProtocol),
    };
    let keep_alive1 = server.is_none_or(|server| server.keep_alives_enabled);
    let of = |get: fn(&KeepaliveServer) -> Option<Duration>| keepalive.and_then(get);
    Ok(connection::Settings {
        head: server.and_then(|server| some(server.read_header_timeout)).unwrap_or(GRPC_HEAD),
        idle1: if http.is_some() { idle } else { Some(GRPC_HEAD) },
        idle2: if grpc.is_some() { of(|keepalive| keepalive.max_connection_idle) } else { idle },
        age: of(|keepalive| keepalive.max_connection_age),
        age_grace: of(|keepalive| keepalive.max_connection_age_grace),
        max_streams: grpc.and_then(|grpc| grpc.max_concurrent_streams).unwrap_or(MAX_STREAMS),
        // gRPC's own servers ask once a second at most, too.
        ping: keepalive.map(|keepalive| (keepalive.time.max(SECOND), keepalive.timeout.max(SECOND))),
        keep_alive1,
        keep_alive2: grpc.is_some() || keep_alive1,
    })
}

fn checked(
    settings: Option<&Auth>,
    auth: Option<Arc<dyn Authenticator>>,
) -> Result<Option<Arc<dyn Authenticator>>, BuildError> {
    match (settings, auth) {
        (Some(settings), None) => Err(BuildError::NoAuthenticator(settings.authenticator.to_string())),
        (_, auth) => Ok(auth),
    }
}

fn size_limits(max: u64) -> limits::Limits {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    limits::Limits { request: max, decompressed: max, response: limits::RESPONSE_LEN }
}

fn grpc_side(
    settings: &GrpcServer,
    auth: Option<Arc<dyn Authenticator>>,
    secret: Vec<HeaderName>,
    body_time: Duration,
) -> Result<GrpcSide, BuildError> {
    let side = Side {
        auth: checked(settings.auth.as_ref(), auth)?,
        request_params: Vec::new(),
        keep: Keep { include_metadata: settings.include_metadata, secret },
        limits: size_limits(settings.max_message_size),
        body_time,
        answer_time: Some(GRPC_ANSWER),
    };
    Ok(GrpcSide { side })
}

fn http_side(
    settings: &OtlpHttp,
    auth: Option<Arc<dyn Authenticator>>,
    secret: Vec<HeaderName>,
    body_time: Duration,
) -> Result<HttpSide, BuildError> {
    let server = &settings.server;
    let params = server.auth.iter().flat_map(|auth| &auth.request_params);
    let params: Result<Vec<HeaderName>, _> = params.map(|name| HeaderName::try_from(name.as_str())).collect();
    let side = Side {
        auth: checked(server.auth.as_ref(), auth)?,
        request_params: params.map_err(|_| BuildError::Header("auth.request_params".to_owned()))?,
        keep: Keep { include_metadata: server.include_metadata, secret },
        limits: size_limits(server.max_request_body_size),
        body_time: if server.read_timeout.is_zero() { body_time } else { server.read_timeout },
        answer_time: Some(server.write_timeout).filter(|time| !time.is_zero()),
    };
    Ok(HttpSide {
        side,
        paths: paths(settings)?,
        compressions: server.compression_algorithms.clone().unwrap_or_else(|| COMPRESSIONS.to_vec()),
        cors: cors(server.cors.as_ref())?,
        headers: response_headers(&server.response_headers)?,
    })
}

fn paths(settings: &OtlpHttp) -> Result<Vec<(String, Signal)>, BuildError> {
    let mut paths: Vec<(String, Signal)> = Vec::new();
    for (path, signal) in [
        (&settings.traces_url_path, Signal::Traces),
        (&settings.metrics_url_path, Signal::Metrics),
        (&settings.logs_url_path, Signal::Logs),
        (&settings.profiles_url_path, Signal::Profiles),
    ] {
        if let Some((_, other)) = paths.iter().find(|(own, _)| own == path) {
            return Err(BuildError::SamePath(*other, signal, path.clone()));
        }
        paths.push((path.clone(), signal));
    }
    Ok(paths)
}

fn cors(settings: Option<&CorsSettings>) -> Result<Option<Cors>, BuildError> {
    let Some(settings) = settings else { return Ok(None) };
    Cors::new(settings).map_err(|key| BuildError::Header(key.to_owned()))
}

fn response_headers(settings: &Headers) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::with_capacity(settings.len());
    for (name, value) in settings {
        let no_header = || BuildError::Header(format!("response_headers.{name}"));
        let value = HeaderValue::from_str(value.expose()).map_err(|_| no_header())?;
        headers.append(HeaderName::try_from(name.as_str()).map_err(|_| no_header())?, value);
    }
    Ok(headers)
}
