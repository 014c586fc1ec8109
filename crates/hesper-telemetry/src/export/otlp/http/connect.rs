//! Connections for HTTP: over TLS where the URL says so, and through a proxy where the settings do.

use crate::{
    export::otlp::BuildError,
    net::{
        BoxIo, Connector,
        tls::{ClientTlsLayer, H2, HTTP1},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use hesper_collector_config::{Address, Endpoint, HttpClient, Secret};
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, proxy::Tunnel},
    rt::TokioIo,
};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

/// How connections to one host are made.
pub(crate) struct Connect {
    connector: Arc<dyn Connector>,
    endpoint: Endpoint,
    tls: Option<(ClientTlsLayer, String)>,
    proxy: Option<Proxy>,
    /// As many connections as there may be.
    room: Option<Arc<Semaphore>>,
}

/// A proxy on the way.
struct Proxy {
    endpoint: Endpoint,
    uri: Uri,
    tls: Option<(ClientTlsLayer, String)>,
    credentials: Option<HeaderValue>,
}

impl Connect {
    pub(crate) fn new(
        name: &str,
        endpoint: &Endpoint,
        settings: &HttpClient,
        connector: Arc<dyn Connector>,
    ) -> Result<Self, BuildError> {
        let refused = |error: String| BuildError(format!("exporter '{name}': {error}"));
        let address = endpoint.underlay();
        let tls = match address.filter(|address| address.scheme.as_deref() == Some("https")) {
            Some(address) => {
                // A connection for each request is one of HTTP/1.1.
                let offered: &[&[u8]] = if settings.disable_keep_alives { &[HTTP1] } else { &[H2, HTTP1] };
                let layer = ClientTlsLayer::new(&settings.tls, offered);
                Some((layer.map_err(|error| refused(error.to_string()))?, address.host.clone()))
            }
            None => None,
        };
        let proxy = settings.proxy_url.as_ref().filter(|_| address.is_some());
        let most = usize::try_from(settings.max_conns_per_host).unwrap_or(usize::MAX);
        let most = Some(most.min(Semaphore::MAX_PERMITS)).filter(|most| *most > 0);
        Ok(Self {
            connector,
            endpoint: endpoint.clone(),
            tls,
            proxy: proxy.map(|url| Proxy::new(url, settings)).transpose().map_err(refused)?,
            room: most.map(|most| Arc::new(Semaphore::new(most))),
        })
    }

    /// Credentials for the proxy, where requests show them: it reads those that go without TLS.
    pub(crate) fn proxy_credentials(&self) -> Option<HeaderValue> {
        self.proxy.as_ref().filter(|_| self.tls.is_none())?.credentials.clone()
    }

    /// Opens a connection.
    pub(crate) fn open(self: Arc<Self>, uri: Uri) -> BoxFuture<'static, io::Result<Stream>> {
        async move { self.stream(uri).await }.boxed()
    }

    async fn stream(&self, uri: Uri) -> io::Result<Stream> {
        let permit = match &self.room {
            Some(room) => Some(Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?),
            None => None,
        };
        let io = match &self.proxy {
            None => self.connector.connect(&self.endpoint).await?,
            Some(proxy) if self.tls.is_none() => proxy.connect(&self.connector).await?,
            Some(proxy) => proxy.tunnel(proxy.connect(&self.connector).await?, uri).await?,
        };
        let proxied = self.proxy.is_some() && self.tls.is_none();
        let (io, chosen) = match &self.tls {
            Some((layer, name)) => layer.handshake(io, name).await?,
            None => (io, None),
        };
        Ok(Stream { io: TokioIo::new(io), h2: chosen.as_deref() == Some(H2), proxied, _permit: permit })
    }
}

impl Proxy {
    fn new(url: &Address, settings: &HttpClient) -> Result<Self, String> {
        let tls = match url.scheme.as_deref() {
            Some("https") => {
                let layer =
                    ClientTlsLayer::new(&settings.tls, &[HTTP1]).map_err(|error| error.to_string())?;
                Some((layer, url.host.clone()))
            }
            _ => None,
        };
        let uri = Uri::builder().scheme("http").authority(url.authority()).path_and_query("/").build();
        Ok(Self {
            endpoint: Endpoint::Underlay(url.clone()),
            uri: uri.map_err(|error| format!("proxy_url {url} is no URL: {error}"))?,
            tls,
            credentials: url.user_info.as_ref().map(basic).transpose()?,
        })
    }

    fn connect<'a>(&'a self, connector: &'a Arc<dyn Connector>) -> BoxFuture<'a, io::Result<BoxIo>> {
        async move {
            let io = connector.connect(&self.endpoint).await?;
            match &self.tls {
                Some((layer, name)) => layer.wrap(io, name).await,
                None => Ok(io),
            }
        }
        .boxed()
    }

    /// Asks the proxy, to which the stream leads, for one to the host (CONNECT).
    fn tunnel(&self, io: BoxIo, to: Uri) -> BoxFuture<'static, io::Result<BoxIo>> {
        // It is asked for once, since the tunnel is made for one connection here.
        let mut once = Some(TokioIo::new(io));
        let open = tower::service_fn(move |_: Uri| {
            ready(once.take().ok_or_else(|| io::Error::other("asked twice")))
        });
        let mut tunnel = Tunnel::new(self.uri.clone(), open);
        if let Some(credentials) = &self.credentials {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        // It is always ready: what it needs is there.
        let opening = tunnel.call(to);
        let proxy = self.endpoint.to_string();
        async move {
            let opened = opening.await.map_err(|error| {
                io::Error::other(format!("the proxy {proxy}: {}", crate::export::otlp::chain(&error)))
            })?;
            Ok(opened.into_inner())
        }
        .boxed()
    }
}

/// `user:password` of a URL as a header.
pub(crate) fn basic(user_info: &Secret) -> Result<HeaderValue, String> {
    let decoded = crate::export::otlp::answer::percent_decoded(user_info.expose().as_bytes());
    let value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(decoded)));
    let mut value = value.map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// A connection, as the client needs to know it.
pub(crate) struct Stream {
    io: TokioIo<BoxIo>,
    h2: bool,
    proxied: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
