//! Asks a URL and reads the answer, bounded. Targets and discoveries are asked alike.

use super::{
    proxy,
    room::{LARGEST, Taken},
};
use crate::{
    export::otlp::{
        BuildError, chain,
        http::{
            Send, client,
            connect::{Connect, basic},
        },
        request::{USER_AGENT, add_headers},
    },
    net::{
        BoxIo, Connector,
        tls::{ClientTlsLayer, HTTP1},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flate2::write::GzDecoder;
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::{
    Address, ClientTls, Compression, Endpoint, HttpClient, TlsIdentity,
    receivers::{Credentials, ScrapeClient, ScrapeTls},
};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

/// Redirects that are followed, as Prometheus does.
const REDIRECTS: usize = 10;
/// A connection that was not used for so long is closed; targets are asked again before that, unless their interval is long.
const IDLE: Duration = Duration::from_secs(300);
/// Files with certificates are looked at so often.
const RELOAD: Duration = Duration::from_secs(60);

/// Asks one host.
pub(super) struct Client {
    settings: ScrapeClient,
    connector: Arc<dyn Connector>,
    endpoint: Endpoint,
    is_https: bool,
    host: String,
    send: Send,
    headers: HeaderMap,
}

/// What came back.
pub(super) struct Page {
    /// `Content-Type`
    pub(super) content_type: Option<String>,
    /// Decompressed.
    pub(super) body: Vec<u8>,
}

/// Why nothing did.
pub(super) struct Failed {
    pub(super) reason: String,
    pub(super) is_too_large: bool,
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self { reason, is_too_large: false }
    }
}

impl Client {
    /// For a host. `name` is who asks, for messages.
    ///
    /// # Errors
    /// A header that cannot be sent, files of TLS that cannot be read.
    pub(super) fn new(
        name: &str,
        settings: &ScrapeClient,
        endpoint: &Endpoint,
        is_https: bool,
        host: String,
        connector: Arc<dyn Connector>,
    ) -> Result<Self, BuildError> {
        let wanted = with_scheme(endpoint, is_https);
        let mut http = http_client(settings);
        let exempt = |address: &Address| {
            let list = settings.no_proxy.as_deref().unwrap_or_default();
            proxy::is_exempt(list, &address.host, address.port.unwrap_or_default())
        };
        http.proxy_url = http.proxy_url.filter(|_| !wanted.underlay().is_some_and(exempt));
        // What is offered in TLS is all that this decides there; the pool keeps its connection.
        let offered = HttpClient { disable_keep_alives: !settings.enable_http2, ..http.clone() };
        let opener = match (endpoint.is_mesh(), is_https) {
            (true, true) => within_mesh(name, endpoint, &http, connector.clone())?,
            _ => connector.clone(),
        };
        let connect = Connect::new(name, &wanted, &offered, opener)?;
        let mut headers = HeaderMap::new();
        add_headers(&mut headers, &settings.headers, false, name)?;
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if let Some(credentials) = connect.proxy_credentials() {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
        let user = endpoint.underlay().and_then(|address| address.user_info.as_ref());
        if let Some(user) = user {
            headers.insert(header::AUTHORIZATION, basic(user).map_err(BuildError)?);
        }
        let send = client(Arc::new(connect), &http);
        let (settings, endpoint) = (settings.clone(), endpoint.clone());
        Ok(Self { settings, connector, endpoint, is_https, host, send, headers })
    }

    /// Asks for a path (with its parameters), follows redirects, and reads an answer of at most `limit` bytes. To be given a deadline.
    pub(super) async fn get(
        &self,
        path: &str,
        headers: &HeaderMap,
        limit: u64,
        room: &mut Taken,
    ) -> Result<Page, Failed> {
        let mut all = self.headers.clone();
        all.extend(headers.clone());
        if let Some(value) = authorization(self.settings.credentials.as_ref()).await? {
            all.insert(header::AUTHORIZATION, value);
        }
        let scheme = if self.is_https { "https" } else { "http" };
        let mut uri = format!("{scheme}://{}{path}", self.host);
        let mut elsewhere: Option<Client> = None;
        for _ in 0..=REDIRECTS {
            let client = elsewhere.as_ref().unwrap_or(self);
            let response = client.ask(&uri, &all).await?;
            let status = response.status();
            if status == 200 {
                return read(response, limit, room).await;
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let follows =
                self.settings.follow_redirects && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = location.filter(|_| follows) else {
                return Err(format!("it answered {status}").into());
            };
            let (next, other) = self.redirected(&uri, location)?;
            if other.is_some() {
                // Another host gets none of what is for this one.
                all.remove(header::AUTHORIZATION);
                elsewhere = other;
            }
            uri = next;
        }
        Err(format!("it redirects more than {REDIRECTS} times").into())
    }

    async fn ask(&self, uri: &str, headers: &HeaderMap) -> Result<Response<Incoming>, Failed> {
        // Parameters may hold tokens, so neither is shown.
        let uri: Uri = uri.parse().map_err(|error| format!("its URL is none: {error}"))?;
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = uri;
        *request.headers_mut() = headers.clone();
        (self.send)(request).await.map_err(|error| Failed::from(chain(&error)))
    }

    /// Where a redirect leads: the URL, and whom to ask when it is another host.
    fn redirected(&self, from: &str, location: &str) -> Result<(String, Option<Client>), Failed> {
        let bad = |error: url::ParseError| format!("it redirects to what is no URL: {error}");
        let from = url::Url::parse(from).map_err(bad)?;
        let to = from.join(location).map_err(bad)?;
        if to.origin() == from.origin() {
            return Ok((to.into(), None));
        }
        let host = to.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_https = to.scheme() == "https";
        if !(is_https || to.scheme() == "http") || host.is_empty() {
            return Err(format!("it redirects to {}, which is not followed", to.scheme()).into());
        }
        if self.endpoint.is_mesh() {
            return Err(format!("it redirects out of the mesh to '{host}', which is not followed").into());
        }
        let endpoint = Endpoint::Underlay(Address::new(&host, to.port_or_known_default().unwrap_or(80)));
        let mut settings = self.settings.clone();
        settings.credentials = None;
        let authority = to.authority().rsplit('@').next().unwrap_or_default().to_owned();
        let client =
            Client::new("redirect", &settings, &endpoint, is_https, authority, self.connector.clone())
                .map_err(|error| error.to_string())?;
        Ok((to.into(), Some(client)))
    }
}

/// Speaks TLS through the mesh, to a target that wants it there too.
struct WithinMesh {
    inner: Arc<dyn Connector>,
    layer: ClientTlsLayer,
    name: String,
}

impl Connector for WithinMesh {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        async move {
            let io = self.inner.connect(endpoint).await?;
            self.layer.wrap(io, &self.name).await
        }
        .boxed()
    }
}

/// The name that the certificate must have is that of the service, unless `server_name` says another.
fn within_mesh(
    name: &str,
    endpoint: &Endpoint,
    settings: &HttpClient,
    inner: Arc<dyn Connector>,
) -> Result<Arc<dyn Connector>, BuildError> {
    let service = match endpoint {
        Endpoint::Mesh { service, .. } => service.clone(),
        Endpoint::Underlay(address) => address.host.clone(),
    };
    let layer = ClientTlsLayer::new(&settings.tls, &[HTTP1]);
    let layer = layer.map_err(|error| BuildError(format!("{name}: {endpoint}: {error}")))?;
    Ok(Arc::new(WithinMesh { inner, layer, name: service }))
}

/// Reads an answer, decompresses it, and stops as soon as it is too long.
async fn read(response: Response<Incoming>, limit: u64, room: &mut Taken) -> Result<Page, Failed> {
    let limit = Some(limit).filter(|limit| *limit > 0).unwrap_or(LARGEST).min(LARGEST);
    let text = |name: header::HeaderName| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let content_type = text(header::CONTENT_TYPE);
    let encoding = text(header::CONTENT_ENCODING).unwrap_or_default();
    let out = Bounded { bytes: Vec::new(), limit: usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut sink = match encoding.trim() {
        "" | "identity" => Reading::Plain(out),
        gzip if gzip.eq_ignore_ascii_case("gzip") => Reading::Gzip(Box::new(GzDecoder::new(out))),
        other => {
            let other = other.escape_debug();
            return Err(format!("the Content-Encoding '{other}' was not asked for").into());
        }
    };
    let too_large =
        || Failed { reason: format!("the answer has more than {limit} bytes"), is_too_large: true };
    let mut body = response.into_body();
    let mut compressed = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {}", chain(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        compressed = compressed.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if compressed > limit {
            return Err(too_large());
        }
        // Pieces, so that a frame that becomes a thousand times as much takes its room step by step.
        for piece in data.chunks(8 << 10) {
            match sink.write_all(piece) {
                Ok(()) => room.grow(sink.len()).await,
                Err(_) if sink.is_full() => return Err(too_large()),
                Err(error) => return Err(format!("the answer is no gzip: {error}").into()),
            }
        }
    }
    match sink.finish() {
        Ok(body) => Ok(Page { content_type, body }),
        Err(error) => Err(format!("the answer is no whole gzip: {error}").into()),
    }
}

/// Bytes up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            // Noted by being longer than allowed.
            self.limit = 0;
            return Err(io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Reading {
    Plain(Bounded),
    Gzip(Box<GzDecoder<Bounded>>),
}

impl Reading {
    fn bounded(&self) -> &Bounded {
        match self {
            Self::Plain(bounded) => bounded,
            Self::Gzip(decoder) => decoder.get_ref(),
        }
    }

    fn len(&self) -> usize {
        self.bounded().bytes.len()
    }

    fn is_full(&self) -> bool {
        self.bounded().limit == 0
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(bounded) => bounded.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(bounded) => Ok(bounded.bytes),
            Self::Gzip(decoder) => decoder.finish().map(|bounded| bounded.bytes),
        }
    }
}

/// The header `Authorization`. Files are read every time.
async fn authorization(credentials: Option<&Credentials>) -> Result<Option<HeaderValue>, String> {
    async fn text(file: Option<&String>, text: &str) -> Result<String, String> {
        let Some(file) = file else { return Ok(text.to_owned()) };
        let read = tokio::fs::read_to_string(file).await;
        let text = read.map_err(|error| format!("no credentials: {file}: {error}"))?;
        Ok(text.trim().to_owned())
    }
    let value = match credentials {
        None => return Ok(None),
        Some(Credentials::Basic { username, username_file, password, password_file }) => {
            let username = text(username_file.as_ref(), username).await?;
            let password = text(password_file.as_ref(), password.expose()).await?;
            format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
        }
        Some(Credentials::Token { scheme, token, file }) => {
            format!("{scheme} {}", text(file.as_ref(), token.expose()).await?)
        }
    };
    let value = HeaderValue::from_str(&value);
    let mut value = value.map_err(|_| "no credentials: they have characters that no header can have")?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The settings of Prometheus in the words of the other clients.
fn http_client(settings: &ScrapeClient) -> HttpClient {
    HttpClient {
        tls: tls(&settings.tls),
        auth: None,
        headers: Vec::new(),
        compression: Compression::None,
        compression_level: None,
        timeout: Duration::ZERO,
        proxy_url: settings.proxy_url.clone(),
        cookies: false,
        max_idle_conns: 1,
        max_idle_conns_per_host: 1,
        max_conns_per_host: 0,
        idle_conn_timeout: IDLE,
        disable_keep_alives: false,
    }
}

fn tls(settings: &ScrapeTls) -> ClientTls {
    let identity = TlsIdentity {
        cert_file: settings.cert_file.clone(),
        cert_pem: settings.cert.clone(),
        key_file: settings.key_file.clone(),
        key_pem: settings.key.clone(),
    };
    ClientTls {
        insecure_skip_verify: settings.insecure_skip_verify,
        server_name_override: settings.server_name.clone(),
        ca_file: settings.ca_file.clone(),
        ca_pem: settings.ca.clone(),
        identity: Some(identity).filter(|identity| *identity != TlsIdentity::default()),
        reload_interval: RELOAD,
        ..ClientTls::default()
    }
}

/// The endpoint with its scheme, by which TLS is chosen.
fn with_scheme(endpoint: &Endpoint, is_https: bool) -> Endpoint {
    match endpoint {
        Endpoint::Underlay(address) => {
            let scheme = if is_https { "https" } else { "http" };
            let port = address.port.or(Some(if is_https { 443 } else { 80 }));
            let scheme = Some(scheme.to_owned());
            Endpoint::Underlay(Address { scheme, port, user_info: None, ..address.clone() })
        }
        mesh => mesh.clone(),
    }
}
