//! OTLP over HTTP.

pub(crate) mod connect;
mod cookies;
mod response;

use self::{connect::Connect, cookies::Jar};
use super::{
    BuildError, Hop,
    answer::Answer,
    compress::{Compressor, Snappy},
    pieces::{Carrier, Limit, Piece, deliver},
    request::{Party, USER_AGENT, add_headers, authority},
};
use crate::{
    auth::ClientAuth,
    export::{Exporter, Failure, Shipment},
    net::Connector,
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::{
    Endpoint, HttpClient,
    exporters::{self, OtlpHttpExporter},
};
use hesper_otlp::{Encoding, PartialSuccess, Signal, json};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::timeout;

/// When the settings have no limit: a request that takes longer is lost.
const LONGEST: Duration = Duration::from_secs(3600);
/// How a connection of HTTP/2 is found to be dead.
const PING: Duration = Duration::from_secs(30);
/// From this size on a request is made JSON beside the tasks that wait for sockets.
const LONG: usize = 64 * 1024;

/// Sends requests of HTTP: version 2 where the server chooses it in TLS, else 1.1 on as many connections as there are requests.
pub struct Http {
    /// In the order of [`Signal::ALL`]; none for a signal that has no URL.
    routes: [Option<Route>; 4],
    encoding: Encoding,
    compressor: Compressor,
    timeout: Duration,
    name: String,
}

/// Where one signal goes.
struct Route {
    party: Party,
    uri: Uri,
    headers: HeaderMap,
    send: Send,
    cookies: Option<Mutex<Jar>>,
    limit: Limit,
}

/// Sends a request by the pool of connections to its host.
pub(crate) type Send = Arc<
    dyn Fn(Request<Full<Bytes>>) -> hyper_util::client::legacy::ResponseFuture + std::marker::Send + Sync,
>;

/// Hosts with their pools: signals with one host share it.
type Hosts = Vec<(Endpoint, Arc<Connect>, Send)>;

impl Http {
    /// One of these settings. `name` is the id of the exporter, for messages; `connector` opens the streams.
    ///
    /// # Errors
    /// Credentials that need secrecy and a URL that gives none; TLS files that cannot be read.
    pub fn new(
        name: &str,
        settings: &OtlpHttpExporter,
        connector: Arc<dyn Connector>,
        auth: Option<Arc<dyn ClientAuth>>,
        hop: Hop,
    ) -> Result<Arc<Self>, BuildError> {
        let client = &settings.client;
        let encoding = match settings.encoding {
            exporters::Encoding::Proto => Encoding::Protobuf,
            exporters::Encoding::Json => Encoding::Json,
        };
        let compressor = Compressor::new(client.compression, client.compression_level, Snappy::Block);
        let mut hosts = Hosts::new();
        let mut route = |signal: Signal| {
            let Some(endpoint) = settings.endpoint_of(signal) else { return Ok(None) };
            let tls = endpoint.underlay().is_some_and(|address| address.scheme.as_deref() == Some("https"));
            let (connect, send) = host(name, &endpoint, client, &connector, &mut hosts)?;
            let mut headers = headers(name, &endpoint, client, encoding, &compressor)?;
            if let Some(credentials) = connect.proxy_credentials() {
                headers.insert(header::PROXY_AUTHORIZATION, credentials);
            }
            Ok(Some(Route {
                party: Party::new(name, &endpoint, tls, auth.clone(), hop)?,
                uri: uri(name, &endpoint)?,
                headers,
                send,
                cookies: client.cookies.then(Mutex::default),
                limit: Limit::default(),
            }))
        };
        let [traces, metrics, logs, profiles] = Signal::ALL.map(&mut route);
        Ok(Arc::new(Self {
            routes: [traces?, metrics?, logs?, profiles?],
            encoding,
            compressor,
            timeout: Some(client.timeout).filter(|time| !time.is_zero()).unwrap_or(LONGEST),
            name: name.to_owned(),
        }))
    }

    async fn body(&self, piece: &Piece<'_>) -> Result<Bytes, String> {
        let encoded = match self.encoding {
            Encoding::Protobuf => piece.payload.clone(),
            Encoding::Json => {
                let (signal, payload) = (piece.signal, piece.payload.clone());
                let text = if payload.len() < LONG {
                    json::encode(signal, &payload)
                } else {
                    let encode = tokio::task::spawn_blocking(move || json::encode(signal, &payload));
                    encode.await.map_err(|error| error.to_string())?
                };
                text.map_err(|error| format!("not encoded as JSON: {error}"))?.into()
            }
        };
        self.compressor.compress(&encoded).await.map_err(|error| format!("not compressed: {error}"))
    }
}

/// The requests of one signal.
struct Post<'a> {
    http: &'a Http,
    route: &'a Route,
}

impl Post<'_> {
    async fn post(&self, piece: &Piece<'_>) -> Answer {
        let (route, to) = (self.route, &self.route.party.to);
        let mut headers = route.headers.clone();
        if let Some(cookies) = route.cookies.as_ref().and_then(|jar| lock(jar).header(SystemTime::now())) {
            headers.insert(header::COOKIE, cookies);
        }
        if let Err(reason) = route.party.sign(&mut headers, piece).await {
            return Answer::again(reason);
        }
        let body = match self.http.body(piece).await {
            Ok(body) => body,
            Err(reason) => return Answer::never(format!("{to}: {reason}")),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = route.uri.clone();
        *request.headers_mut() = headers;
        match (route.send)(request).await {
            Ok(response) => {
                if let Some(jar) = &route.cookies {
                    lock(jar).learn(response.headers(), SystemTime::now());
                }
                response::read(response, piece.signal, piece.payload.len(), to).await
            }
            Err(error) => Answer::again(format!("{to} gave no answer: {}", super::chain(&error))),
        }
    }
}

impl Carrier for Post<'_> {
    fn carry<'a>(&'a self, piece: &'a Piece<'a>) -> BoxFuture<'a, Answer> {
        let longest = self.http.timeout;
        async move {
            timeout(longest, self.post(piece)).await.unwrap_or_else(|_| {
                Answer::again(format!("{} gave no answer in {longest:?}", self.route.party.to))
            })
        }
        .boxed()
    }

    fn to(&self) -> &str {
        &self.route.party.to
    }
}

impl Exporter for Http {
    fn export<'a>(&'a self, shipment: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>> {
        async move {
            let signal = shipment.batch.signal;
            let Some(route) = &self.routes[signal as usize] else {
                let reason = format!("exporter '{}': no URL for {signal}; add {signal}_endpoint", self.name);
                return Err(Failure::Never { reason });
            };
            deliver(&Post { http: self, route }, &route.limit, shipment).await
        }
        .boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        // Connections that nobody uses end with the exporter.
        async {}.boxed()
    }
}

fn lock(jar: &Mutex<Jar>) -> std::sync::MutexGuard<'_, Jar> {
    jar.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pool of a host, made when it is the first time.
fn host(
    name: &str,
    endpoint: &Endpoint,
    settings: &HttpClient,
    connector: &Arc<dyn Connector>,
    hosts: &mut Hosts,
) -> Result<(Arc<Connect>, Send), BuildError> {
    let mut base = endpoint.clone();
    match &mut base {
        Endpoint::Mesh { path, query, .. } => (*path, *query) = (String::new(), None),
        Endpoint::Underlay(address) => {
            (address.path, address.query, address.user_info) = (String::new(), None, None);
        }
    }
    if let Some((_, connect, send)) = hosts.iter().find(|(known, ..)| *known == base) {
        return Ok((Arc::clone(connect), Arc::clone(send)));
    }
    let connect = Arc::new(Connect::new(name, &base, settings, Arc::clone(connector))?);
    let send = client(Arc::clone(&connect), settings);
    hosts.push((base, Arc::clone(&connect), Arc::clone(&send)));
    Ok((connect, send))
}

pub(crate) fn client(connect: Arc<Connect>, settings: &HttpClient) -> Send {
    let unlimited = |most: u64| usize::try_from(most).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
    let idle = match settings.disable_keep_alives {
        true => 0,
        false => unlimited(settings.max_idle_conns).min(unlimited(settings.max_idle_conns_per_host)),
    };
    let open = tower::service_fn(move |uri: Uri| Arc::clone(&connect).open(uri));
    let client = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Some(settings.idle_conn_timeout).filter(|time| !time.is_zero()))
        .pool_max_idle_per_host(idle)
        .http2_keep_alive_interval(PING)
        .build(open);
    Arc::new(move |request| client.request(request))
}

pub(crate) fn uri(name: &str, endpoint: &Endpoint) -> Result<Uri, BuildError> {
    let (Endpoint::Mesh { path, query, .. }
    | Endpoint::Underlay(hesper_collector_config::Address { path, query, .. })) = endpoint;
    let tls = endpoint.underlay().is_some_and(|address| address.scheme.as_deref() == Some("https"));
    let path = if path.is_empty() { "/" } else { path };
    let path = match query {
        Some(query) => format!("{path}?{}", query.expose()),
        None => path.to_owned(),
    };
    let parts = Uri::builder().scheme(if tls { "https" } else { "http" });
    let built = parts.authority(authority(endpoint, name)?).path_and_query(path).build();
    // What stands behind the ? is secret, so the error is not shown.
    built.map_err(|_| BuildError(format!("exporter '{name}': {endpoint} is no URL; correct it")))
}

fn headers(
    name: &str,
    endpoint: &Endpoint,
    settings: &HttpClient,
    encoding: Encoding,
    compressor: &Compressor,
) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(user_info) = endpoint.underlay().and_then(|address| address.user_info.as_ref()) {
        let refused = |error| BuildError(format!("exporter '{name}': the user in {endpoint}: {error}"));
        headers.insert(header::AUTHORIZATION, connect::basic(user_info).map_err(refused)?);
    }
    add_headers(&mut headers, &settings.headers, false, name)?;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    if let Some(encoding) = compressor.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    if settings.disable_keep_alives {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(headers)
}
