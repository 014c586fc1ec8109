//! HTTP: listeners and clients (the Collector's `confighttp`).

use super::{auth::auth, grpc::MAX_REQUEST, headers::headers, listen, tls};
use crate::{
    Address, Auth, ClientTls, Compression, Endpoint, Headers, ServerTls, reader::Wanted, section::Section,
};
use std::time::Duration;

const COMPRESSIONS: [(&str, Compression); 8] = [
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
    ("snappy", Compression::Snappy),
    ("zlib", Compression::Zlib),
    ("deflate", Compression::Deflate),
    ("lz4", Compression::Lz4),
    ("none", Compression::None),
    ("", Compression::None),
];
const BUFFERS: &str = "buffers are as large as what is read and written";

/// An HTTP listener.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpServer {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// TLS, if there is any.
    pub tls: Option<ServerTls>,
    /// Who may call; None means everybody who can reach it.
    pub auth: Option<Auth>,
    /// The largest body in bytes, before and after decompression. 64 MiB unless it is written.
    pub max_request_body_size: u64,
    /// For browsers; None: no cross-origin requests.
    pub cors: Option<Cors>,
    /// Encodings of bodies that are accepted; None: all that are known.
    pub compression_algorithms: Option<Vec<Compression>>,
    /// Are headers of callers kept for processors (`from_context: metadata.…`)?
    pub include_metadata: bool,
    /// Headers of every answer.
    pub response_headers: Headers,
    /// Longest time for a request; zero: no limit of its own.
    pub read_timeout: Duration,
    /// Longest time for the head of a request (1 min).
    pub read_header_timeout: Duration,
    /// Longest time for an answer (30 s).
    pub write_timeout: Duration,
    /// How long a connection may be idle (1 min).
    pub idle_timeout: Duration,
    /// May a connection serve more than one request?
    pub keep_alives_enabled: bool,
}

/// Cross-origin requests of browsers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cors {
    /// Origins, perhaps with `*`.
    pub allowed_origins: Vec<String>,
    /// Headers besides the simple ones.
    pub allowed_headers: Vec<String>,
    /// Headers of answers that scripts may see.
    pub exposed_headers: Vec<String>,
    /// Seconds that a preflight answer may be remembered; zero: the browser's choice.
    pub max_age: u64,
}

/// An HTTP client, without its endpoint: some exporters have several.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpClient {
    /// TLS towards `https` endpoints.
    pub tls: ClientTls,
    /// How it says who we are.
    pub auth: Option<Auth>,
    /// Headers of every request.
    pub headers: Headers,
    /// How bodies are compressed.
    pub compression: Compression,
    /// The level of that compression; None: the algorithm's default.
    pub compression_level: Option<i64>,
    /// Longest time for a request with its answer; zero: no limit.
    pub timeout: Duration,
    /// An HTTP proxy on the way.
    pub proxy_url: Option<Address>,
    /// Keep cookies of the server?
    pub cookies: bool,
    /// Most idle connections in all; zero: no limit.
    pub max_idle_conns: u64,
    /// Most idle connections to one host; zero: no limit.
    pub max_idle_conns_per_host: u64,
    /// Most connections to one host; zero: no limit.
    pub max_conns_per_host: u64,
    /// How long a connection may be idle (90 s).
    pub idle_conn_timeout: Duration,
    /// A connection for every request?
    pub disable_keep_alives: bool,
}

impl Default for HttpClient {
    /// As the Collector's OTLP exporter does it where nothing is said.
    fn default() -> Self {
        Self {
            tls: ClientTls::default(),
            auth: None,
            headers: Headers::new(),
            compression: Compression::Gzip,
            compression_level: None,
            timeout: Duration::from_secs(30),
            proxy_url: None,
            cookies: false,
            max_idle_conns: 100,
            max_idle_conns_per_host: 0,
            max_conns_per_host: 0,
            idle_conn_timeout: Duration::from_secs(90),
            disable_keep_alives: false,
        }
    }
}

/// Reads the keys of an HTTP listener.
pub(crate) fn server(s: &Section<'_>, default: Address) -> HttpServer {
    s.unsupported("middlewares", "leave it out");
    let second = Duration::from_secs(1);
    let algorithms = s.is_set("compression_algorithms");
    let server = HttpServer {
        endpoint: listen::listen(s, default),
        tls: tls::server(s),
        auth: auth(s, Wanted::ServerAuth),
        max_request_body_size: match s.count("max_request_body_size", 0) {
            0 => MAX_REQUEST,
            size => size,
        },
        cors: s.section("cors", |s| Cors {
            allowed_origins: s.texts("allowed_origins"),
            allowed_headers: s.texts("allowed_headers"),
            exposed_headers: s.texts("exposed_headers"),
            max_age: s.count("max_age", 0),
        }),
        compression_algorithms: Some(s.some_of("compression_algorithms", &COMPRESSIONS))
            .filter(|_| algorithms),
        include_metadata: s.flag("include_metadata", false),
        response_headers: headers(s, "response_headers"),
        read_timeout: s.duration("read_timeout", Duration::ZERO),
        read_header_timeout: s.duration("read_header_timeout", 60 * second),
        write_timeout: s.duration("write_timeout", 30 * second),
        idle_timeout: s.duration("idle_timeout", 60 * second),
        keep_alives_enabled: s.flag("keep_alives_enabled", true),
    };
    listen::check_auth(s, &server.endpoint, server.tls.is_some(), server.auth.as_ref());
    server
}

/// Reads the keys of an HTTP client besides its endpoints.
pub(crate) fn client(s: &Section<'_>, timeout: Duration, compression: Compression) -> HttpClient {
    for key in ["read_buffer_size", "write_buffer_size"] {
        s.idle(key, BUFFERS);
    }
    for key in ["http2_read_idle_timeout", "http2_ping_timeout", "force_attempt_http2"] {
        s.idle(key, "the client chooses the version and watches its connections itself");
    }
    s.unsupported("middlewares", "leave it out");
    let level = s.section("compression_params", |s| {
        let number = |text: &str| text.parse::<i64>().ok();
        s.parsed("level", "a level", "write a whole number", number)
    });
    let client = HttpClient {
        tls: tls::client(s),
        auth: auth(s, Wanted::ClientAuth),
        headers: headers(s, "headers"),
        compression: s.one_of("compression", &COMPRESSIONS, compression),
        compression_level: level.flatten(),
        timeout: s.duration("timeout", timeout),
        proxy_url: proxy(s),
        cookies: s.section("cookies", |s| s.flag("enabled", false)).unwrap_or(false),
        max_idle_conns: s.count("max_idle_conns", 100),
        max_idle_conns_per_host: s.count("max_idle_conns_per_host", 0),
        max_conns_per_host: s.count("max_conns_per_host", 0),
        idle_conn_timeout: s.duration("idle_conn_timeout", Duration::from_secs(90)),
        disable_keep_alives: s.flag("disable_keep_alives", false),
    };
    check_level(s, &client);
    client
}

/// A level that the algorithm does not have would be another one silently.
fn check_level(s: &Section<'_>, client: &HttpClient) {
    let Some(level) = client.compression_level else { return };
    let levels = match client.compression {
        Compression::Gzip | Compression::Zlib | Compression::Deflate => -1..=9,
        Compression::Zstd => 1..=22,
        Compression::None | Compression::Snappy | Compression::Lz4 => {
            s.refuse("compression_params", "this compression has no levels", "leave it out");
            return;
        }
    };
    if !levels.contains(&level) {
        let next = format!("write a level from {} to {}", levels.start(), levels.end());
        s.refuse("compression_params", format_args!("there is no level {level}"), next);
    }
}

/// A proxy: `http://[USER:PASSWORD@]HOST:PORT`.
pub(crate) fn proxy(s: &Section<'_>) -> Option<Address> {
    let scalar = s.scalar("proxy_url").filter(|scalar| !scalar.text.text.is_empty())?;
    match Address::parse(&scalar.text.text) {
        Ok(address) if matches!(address.scheme.as_deref(), Some("http" | "https")) => Some(address),
        Ok(_) => {
            s.refuse("proxy_url", "the proxy has no scheme that is known here", "write http://HOST:PORT");
            None
        }
        Err((reason, next)) => {
            s.refuse("proxy_url", reason, next);
            None
        }
    }
}

/// A URL to send to: `http://`, `https://` or `hesper://`.
pub(crate) fn client_url(s: &Section<'_>, key: &'static str) -> Option<Endpoint> {
    const NEXT: &str = "write https://HOST[:PORT], http://HOST[:PORT] or hesper://SERVICE";
    let scalar = s.scalar(key)?;
    match Endpoint::parse(&scalar.text.text) {
        Ok(Endpoint::Underlay(address)) => {
            if !matches!(address.scheme.as_deref(), Some("http" | "https")) {
                s.refuse(key, "no URL of HTTP", NEXT);
            } else if address.host.is_empty() {
                s.refuse(key, "the host is missing", NEXT);
            }
            Some(Endpoint::Underlay(address))
        }
        Ok(mesh) => Some(mesh),
        Err((reason, next)) => {
            s.refuse(key, reason, next);
            None
        }
    }
}

/// Does a URL go without TLS?
pub(crate) fn is_plaintext(endpoint: &Endpoint) -> bool {
    endpoint.underlay().is_some_and(|address| address.scheme.as_deref() == Some("http"))
}
