//! Streams: where receivers get them, and where exporters ask for them.
//!
//! Both are traits, so that what comes over the mesh and over the network under it is served alike.

mod resolve;
pub mod tcp;
pub mod tls;
pub mod underlay;
pub mod unix;

use crate::origin::Sender;
use futures::future::BoxFuture;
use hesper_collector_config::{Address, Endpoint, ServerTls};
use hesper_model::config::otlp::SenderTerms;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Any stream.
pub type BoxIo = Box<dyn Io>;

/// Who is at the other end of a stream that came in.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address on the network under the mesh. None over the mesh and over Unix sockets.
    pub address: Option<IpAddr>,
    /// The identity, over the mesh.
    pub mesh: Option<MeshPeer>,
    /// The subject of its certificate when mutual TLS was spoken.
    pub tls_subject: Option<String>,
}

/// An identity of the mesh that dialed us.
#[derive(Clone, Debug)]
pub struct MeshPeer {
    /// Who, as its certificate proved it.
    pub sender: Sender,
    /// What policy lets it send.
    pub terms: Arc<SenderTerms>,
}

/// A stream that has come in. What is left to be done for it (a handshake, the word of acceptance) is done by its own task.
pub struct Arrival {
    /// Who comes, for the log, before anything is proved.
    pub from: String,
    /// Gets it ready. To be given a deadline.
    pub ready: BoxFuture<'static, io::Result<(BoxIo, Peer)>>,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival").field("from", &self.from).finish_non_exhaustive()
    }
}

/// A place where streams come in: a TCP port, a Unix socket, a bound service.
pub trait Incoming: Send {
    /// The next stream. `None`: there will be no more. Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Option<Arrival>>;
}

/// A place on the network under the mesh where streams come in.
pub struct Listener {
    /// The streams.
    pub incoming: Box<dyn Incoming>,
    /// Where it is, with the port that was taken; none for a Unix socket.
    pub addresses: Vec<SocketAddr>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Listens at a TCP port or a Unix socket, perhaps with TLS.
///
/// # Errors
/// Nothing can come in there; the text names the place and the reason.
pub async fn listen(address: &Address, tls: Option<&ServerTls>) -> io::Result<Listener> {
    let invalid = |e: tls::TlsError| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("cannot listen on {address}: {e}"))
    };
    let tls = tls.map(tls::ServerTlsLayer::new).transpose().map_err(invalid)?;
    if address.is_unix() {
        let incoming = unix::UnixIncoming::bind(Path::new(&address.path))?.with_tls(tls);
        return Ok(Listener { incoming: Box::new(incoming), addresses: Vec::new() });
    }
    let incoming = tcp::TcpIncoming::bind(address).await?.with_tls(tls);
    let addresses = incoming.local_addresses().to_vec();
    Ok(Listener { incoming: Box::new(incoming), addresses })
}

/// Where streams to others come from.
pub trait Connector: Send + Sync {
    /// Opens a stream to an endpoint, without TLS on top. To be given a deadline.
    ///
    /// # Errors
    /// Nobody answers there; the text names the endpoint and the reason.
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>>;
}
