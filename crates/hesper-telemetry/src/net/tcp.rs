//! TCP ports that streams come in at.

use super::{Arrival, BoxIo, Incoming, Peer, resolve::resolve, tls::ServerTlsLayer};
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::Address;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Sleep,
};

/// Connections that the kernel keeps until they are accepted: a burst of reconnects after a restart of ours.
const BACKLOG: i32 = 1024;
/// How long nothing is accepted after the machine ran out of something (files, memory).
const PAUSE: Duration = Duration::from_millis(200);
/// How often a free port is looked for that is free in both families.
const ATTEMPTS: usize = 16;
/// This machine does not have that family of addresses (Linux).
const EAFNOSUPPORT: i32 = 97;

/// A TCP port, perhaps on several addresses. It is closed when this is dropped.
pub struct TcpIncoming {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    /// Who is asked first, so that one busy address does not starve the others.
    turn: usize,
    pause: Option<Pin<Box<Sleep>>>,
    told: bool,
    tls: Option<ServerTlsLayer>,
}

impl fmt::Debug for TcpIncoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpIncoming").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl TcpIncoming {
    /// Listens. `localhost` is both loopback addresses, an empty host (`:4317`) and `[::]` every address of both families,
    /// `0.0.0.0` every address of IPv4, any other name all its addresses. Port 0 takes a free one, the same on all of them.
    ///
    /// # Errors
    /// No address can be listened on, or one is taken; the text names it.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        let failed = |reason: io::Error| {
            io::Error::new(reason.kind(), format!("cannot listen on {address}: {reason}"))
        };
        let port = address.port.ok_or_else(|| failed(io::Error::other("the port is missing")))?;
        let wanted = if address.host.is_empty() {
            vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)]
        } else {
            resolve(&address.host, port).await.map_err(failed)?
        };
        let mut bound = Self::bind_all(&wanted);
        for _ in 1..ATTEMPTS {
            let taken = bound.as_ref().is_err_and(|(_, e)| e.kind() == io::ErrorKind::AddrInUse);
            if port != 0 || !taken {
                break;
            }
            bound = Self::bind_all(&wanted);
        }
        if address.host.is_empty() && bound.as_ref().is_err_and(|(_, e)| has_no_family(e)) {
            bound = Self::bind_all(&[SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)]);
        }
        bound.map_err(|(at, reason)| {
            let next = match reason.kind() {
                io::ErrorKind::AddrInUse => "; end what listens there, or choose another port",
                io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
                io::ErrorKind::PermissionDenied => "; choose a port from 1024 on",
                _ => "",
            };
            failed(io::Error::new(reason.kind(), format!("{at}: {reason}{next}")))
        })
    }

    /// Listens on all that this machine has. With port 0 the first one's port is the others', too.
    fn bind_all(wanted: &[SocketAddr]) -> Result<Self, (SocketAddr, io::Error)> {
        let (mut listeners, mut addresses, mut missing) = (Vec::new(), Vec::<SocketAddr>::new(), None);
        for at in wanted {
            let port = match (at.port(), addresses.first()) {
                (0, Some(first)) => first.port(),
                (port, _) => port,
            };
            let at = SocketAddr::new(at.ip(), port);
            match listen(at) {
                Ok((listener, address)) => {
                    listeners.push(listener);
                    addresses.push(address);
                }
                Err(e) if has_no_family(&e) => missing = missing.or(Some((at, e))),
                Err(e) => return Err((at, e)),
            }
        }
        match missing {
            Some(missing) if listeners.is_empty() => Err(missing),
            _ => Ok(Self { listeners, addresses, turn: 0, pause: None, told: false, tls: None }),
        }
    }

    /// Speaks TLS with whoever comes, if there is a layer.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<ServerTlsLayer>) -> Self {
        self.tls = tls;
        self
    }

    /// Where it listens, with the ports that were taken.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.poll_once(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(accepted)) => {
                    self.told = false;
                    return Poll::Ready(accepted);
                }
                Poll::Ready(Err(e)) if is_of_the_caller(&e) => {}
                Poll::Ready(Err(e)) => {
                    if !self.told {
                        tracing::warn!(at = ?self.addresses, error = %e, "no connections can be accepted; trying on");
                        self.told = true;
                    }
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
            }
        }
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        for i in 0..self.listeners.len() {
            let at = (self.turn + i) % self.listeners.len();
            if let Poll::Ready(accepted) = self.listeners[at].poll_accept(cx) {
                self.turn = at + 1;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

impl Incoming for TcpIncoming {
    fn next(&mut self) -> BoxFuture<'_, Option<Arrival>> {
        async {
            let (stream, from) = std::future::poll_fn(|cx| self.poll_accept(cx)).await;
            Some(arrival(stream, from, self.tls.clone()))
        }
        .boxed()
    }
}

fn arrival(stream: TcpStream, from: SocketAddr, tls: Option<ServerTlsLayer>) -> Arrival {
    // A caller over IPv4 at a socket of both families has an address of IPv6 that means one of IPv4.
    let peer = Peer { address: Some(from.ip().to_canonical()), ..Peer::default() };
    let ready = async move {
        // Small answers must not wait for more of them.
        stream.set_nodelay(true)?;
        let io: BoxIo = Box::new(stream);
        match tls {
            Some(tls) => tls.accept(io, peer).await,
            None => Ok((io, peer)),
        }
    };
    let from = SocketAddr::new(from.ip().to_canonical(), from.port()).to_string();
    Arrival { from, ready: ready.boxed() }
}

fn listen(at: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of the process before us that are still closing do not keep us from the port.
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn has_no_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// It concerns one connection that is gone already; the next one may be accepted at once.
fn is_of_the_caller(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
