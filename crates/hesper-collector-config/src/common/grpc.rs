//! gRPC: listeners and clients (the Collector's `configgrpc`).

use super::{auth::auth, headers::headers, listen, tls};
use crate::{
    Address, Auth, ClientTls, Endpoint, Headers, ServerTls, reader::Wanted, remark::Topic, section::Section,
};
use std::time::Duration;

/// The largest request when nothing is written: what OTLP 1.11 recommends, before and after decompression.
pub(crate) const MAX_REQUEST: u64 = 64 << 20;
const MIB: u64 = 1 << 20;
/// More is not believed to be meant, in MiB.
const MOST_MIB: u64 = 4096;
const BUFFERS: &str = "buffers are as large as what is read and written";

/// How what is sent is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the algorithms")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Snappy,
    Zlib,
    Deflate,
    Lz4,
}

/// A gRPC listener.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcServer {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// TLS, if there is any.
    pub tls: Option<ServerTls>,
    /// Who may call; None means everybody who can reach it.
    pub auth: Option<Auth>,
    /// The largest message in bytes, before and after decompression. 64 MiB unless `max_recv_msg_size_mib` says otherwise.
    pub max_message_size: u64,
    /// Most calls at once on one connection; None leaves it to the implementation.
    pub max_concurrent_streams: Option<u32>,
    /// How idle and dead connections are found.
    pub keepalive: KeepaliveServer,
    /// Are headers of callers kept for processors (`from_context: metadata.…`)?
    pub include_metadata: bool,
}

/// `keepalive` of a gRPC listener. None: never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepaliveServer {
    /// Close a connection that was idle so long.
    pub max_connection_idle: Option<Duration>,
    /// Close a connection that is so old.
    pub max_connection_age: Option<Duration>,
    /// How much longer calls may take then.
    pub max_connection_age_grace: Option<Duration>,
    /// Ask a silent caller whether it lives after so long (2 h).
    pub time: Duration,
    /// How long it has for the answer (20 s).
    pub timeout: Duration,
}

impl Default for KeepaliveServer {
    fn default() -> Self {
        Self {
            max_connection_idle: None,
            max_connection_age: None,
            max_connection_age_grace: None,
            time: Duration::from_secs(2 * 3600),
            timeout: Duration::from_secs(20),
        }
    }
}

/// A gRPC client.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcClient {
    /// Where it sends to. Without scheme, or with `http`, `https`, `dns`, `passthrough`, `unix`.
    pub endpoint: Endpoint,
    /// TLS; on unless `insecure`. Not used towards the mesh, which is secure by itself.
    pub tls: ClientTls,
    /// How it says who we are.
    pub auth: Option<Auth>,
    /// Headers of every call.
    pub headers: Headers,
    /// How requests are compressed.
    pub compression: Compression,
    /// How it finds dead connections.
    pub keepalive: KeepaliveClient,
    /// Wait for a connection instead of failing at once?
    pub wait_for_ready: bool,
    /// `pick_first` or `round_robin` over the addresses of a name.
    pub balancer_name: String,
    /// The `:authority` to send instead of the endpoint's.
    pub authority: Option<String>,
}

impl GrpcClient {
    /// To this endpoint, with TLS, and as the Collector does it where nothing is said.
    pub fn to(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            tls: ClientTls::default(),
            auth: None,
            headers: Headers::new(),
            compression: Compression::Gzip,
            keepalive: KeepaliveClient::default(),
            wait_for_ready: false,
            balancer_name: "round_robin".to_owned(),
            authority: None,
        }
    }

    /// Is TLS spoken? `https` forces it; the mesh needs none.
    pub fn speaks_tls(&self) -> bool {
        match &self.endpoint {
            Endpoint::Mesh { .. } => false,
            Endpoint::Underlay(address) => {
                !self.tls.is_plaintext() || address.scheme.as_deref() == Some("https")
            }
        }
    }
}

/// `keepalive` of a gRPC client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepaliveClient {
    /// Ask a silent server whether it lives after so long (10 s).
    pub time: Duration,
    /// How long it has for the answer (10 s).
    pub timeout: Duration,
    /// Ask without a call under way too?
    pub permit_without_stream: bool,
}

impl Default for KeepaliveClient {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self { time: ten, timeout: ten, permit_without_stream: false }
    }
}

/// Reads the keys of a gRPC listener.
pub(crate) fn server(s: &Section<'_>, default: Address) -> GrpcServer {
    s.idle("read_buffer_size", BUFFERS);
    s.idle("write_buffer_size", BUFFERS);
    s.unsupported("middlewares", "leave it out");
    let streams = s.count_in("max_concurrent_streams", 0, 0..=u64::from(u32::MAX));
    let server = GrpcServer {
        endpoint: listen::listen(s, default),
        tls: tls::server(s),
        auth: auth(s, Wanted::ServerAuth),
        max_message_size: match s.count_in("max_recv_msg_size_mib", 0, 0..=MOST_MIB) {
            0 => MAX_REQUEST,
            mib => mib * MIB,
        },
        max_concurrent_streams: u32::try_from(streams).ok().filter(|n| *n > 0),
        keepalive: s.section("keepalive", keepalive_server).unwrap_or_default(),
        include_metadata: s.flag("include_metadata", false),
    };
    listen::check_auth(s, &server.endpoint, server.tls.is_some(), server.auth.as_ref());
    server
}

fn keepalive_server(s: &Section<'_>) -> KeepaliveServer {
    let mut keepalive = KeepaliveServer::default();
    s.section("server_parameters", |s| {
        let some = |key| Some(s.duration(key, Duration::ZERO)).filter(|d| !d.is_zero());
        keepalive.max_connection_idle = some("max_connection_idle");
        keepalive.max_connection_age = some("max_connection_age");
        keepalive.max_connection_age_grace = some("max_connection_age_grace");
        keepalive.time = s.duration("time", keepalive.time);
        keepalive.timeout = s.duration("timeout", keepalive.timeout);
    });
    s.section("enforcement_policy", |s| {
        s.duration("min_time", Duration::ZERO);
        s.flag("permit_without_stream", false);
        for key in ["min_time", "permit_without_stream"] {
            s.idle(key, "callers may ask whether we live as often as they like");
        }
    });
    keepalive
}

/// Reads the keys of a gRPC client.
pub(crate) fn client(s: &Section<'_>) -> GrpcClient {
    s.idle("read_buffer_size", BUFFERS);
    s.idle("write_buffer_size", BUFFERS);
    s.unsupported("middlewares", "leave it out");
    let keepalive = KeepaliveClient::default();
    let words = [
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
        ("snappy", Compression::Snappy),
        ("none", Compression::None),
        ("", Compression::None),
    ];
    let client = GrpcClient {
        endpoint: target(s),
        tls: tls::client(s),
        auth: auth(s, Wanted::ClientAuth),
        headers: headers(s, "headers"),
        compression: s.one_of("compression", &words, Compression::Gzip),
        keepalive: s
            .section("keepalive", |s| KeepaliveClient {
                time: s.duration("time", keepalive.time),
                timeout: s.duration("timeout", keepalive.timeout),
                permit_without_stream: s.flag("permit_without_stream", false),
            })
            .unwrap_or(keepalive),
        wait_for_ready: s.flag("wait_for_ready", false),
        balancer_name: s.text_or("balancer_name", "round_robin"),
        authority: s.text("authority"),
    };
    check_client(s, &client);
    client
}

fn check_client(s: &Section<'_>, client: &GrpcClient) {
    if !["round_robin", "pick_first"].contains(&&*client.balancer_name) {
        s.refuse("balancer_name", "not known here", "write round_robin or pick_first");
    }
    super::check_url(s, "tls", &client.endpoint, !client.speaks_tls(), client.auth.as_ref(), &client.headers);
    let scheme = client.endpoint.underlay().and_then(|address| address.scheme.as_deref());
    if scheme == Some("http") && client.speaks_tls() {
        let reason =
            format!("http:// has no effect in the endpoint of {}: TLS is spoken all the same", s.what);
        s.remark(
            Topic::NoEffect,
            "endpoint",
            reason,
            "leave it out, and write tls: {insecure: true} if that is meant",
        );
    }
    if client.endpoint.is_mesh() && s.is_set("tls") {
        let reason = format!("tls of {} has no effect towards the mesh, which is secure by itself", s.what);
        s.remark(Topic::NoEffect, "tls", reason, "it may stay, or be left out");
    }
}

/// Where a gRPC client sends to.
fn target(s: &Section<'_>) -> Endpoint {
    const NEXT: &str = "write HOST:PORT, or hesper://SERVICE";
    let nowhere = Endpoint::Underlay(Address::default());
    s.require("endpoint", NEXT);
    let Some(scalar) = s.scalar("endpoint") else { return nowhere };
    let endpoint = match Endpoint::parse(&scalar.text.text) {
        Ok(endpoint) => endpoint,
        Err((reason, next)) => {
            s.refuse("endpoint", reason, next);
            return nowhere;
        }
    };
    match &endpoint {
        Endpoint::Mesh { .. } if endpoint.has_path() => s.refuse("endpoint", "gRPC has no path", NEXT),
        Endpoint::Mesh { .. } => {}
        Endpoint::Underlay(a) if a.is_unix() => {}
        Endpoint::Underlay(a) => {
            let scheme = a.scheme.as_deref();
            if scheme.is_some_and(|s| !["http", "https", "dns", "passthrough"].contains(&s)) {
                s.refuse("endpoint", "this scheme is not known here", NEXT);
            } else if a.user_info.is_some() || endpoint.has_path() {
                s.refuse("endpoint", "gRPC has no path and no password in its address", NEXT);
            } else if a.host.is_empty() {
                s.refuse("endpoint", "the host is missing", NEXT);
            } else if a.port.is_none() && !matches!(scheme, Some("http" | "https")) {
                s.refuse("endpoint", "the port is missing", NEXT);
            }
        }
    }
    endpoint
}
