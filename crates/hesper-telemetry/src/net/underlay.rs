//! Streams to others over the network under the mesh.

use super::{
    BoxIo, Connector,
    resolve::{interleave, resolve},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hesper_collector_config::{Address, Endpoint};
use socket2::{SockRef, TcpKeepalive};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

/// How long a stream may take to open, the resolver included, when nobody said anything else.
const DEADLINE: Duration = Duration::from_secs(10);
/// The next address is tried when the one before has not answered after so long (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// How long a stream is silent before the kernel asks whether the other end lives.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Connects by TCP and over Unix sockets. A name with several addresses is tried at all of them, a little after one another, and
/// the first that answers is taken (RFC 8305), so that a dead one costs little.
#[derive(Clone, Debug)]
pub struct UnderlayConnector {
    deadline: Duration,
}

impl Default for UnderlayConnector {
    fn default() -> Self {
        Self::new(DEADLINE)
    }
}

impl UnderlayConnector {
    /// With this deadline for each stream.
    pub const fn new(deadline: Duration) -> Self {
        Self { deadline }
    }

    async fn open(&self, endpoint: &Endpoint) -> io::Result<BoxIo> {
        let address = match endpoint {
            Endpoint::Underlay(address) => address,
            Endpoint::Mesh { .. } => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "it is in the mesh, and nobody has an identity of the mesh here; enroll, and give the identity's file",
                ));
            }
        };
        if address.is_unix() {
            return Ok(Box::new(UnixStream::connect(&address.path).await?));
        }
        let port = port(address)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the port is missing"))?;
        // As Go has it, no host is this machine.
        let host = if address.host.is_empty() { "localhost" } else { &address.host };
        let stream = race(&interleave(&resolve(host, port).await?), STAGGER).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        Ok(Box::new(stream))
    }
}

impl Connector for UnderlayConnector {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        async move {
            let opened = timeout(self.deadline, self.open(endpoint)).await.unwrap_or_else(|_| {
                let text = format!("nobody answered in {:?}", self.deadline);
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            });
            opened.map_err(|e| io::Error::new(e.kind(), format!("cannot connect to {endpoint}: {e}")))
        }
        .boxed()
    }
}

/// The port, or what the scheme means by none.
fn port(address: &Address) -> Option<u16> {
    address.port.or(match address.scheme.as_deref() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })
}

/// The first of these that answers. Each is tried when the one before failed, or has not answered after `stagger`.
async fn race(addresses: &[SocketAddr], stagger: Duration) -> io::Result<TcpStream> {
    let (mut running, mut faults) = (FuturesUnordered::new(), Vec::new());
    let mut rest = addresses.iter().copied();
    let mut next = rest.next();
    while next.is_some() || !running.is_empty() {
        if let Some(address) = next.take() {
            running.push(async move { (address, TcpStream::connect(address).await) });
        }
        tokio::select! {
            biased;
            Some((address, connected)) = running.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(e) => {
                    faults.push((address, e));
                    next = rest.next();
                }
            },
            () = sleep(stagger), if rest.len() > 0 => next = rest.next(),
        }
    }
    Err(summary(&faults))
}

/// All that went wrong, in one error.
fn summary(faults: &[(SocketAddr, io::Error)]) -> io::Error {
    let kind = faults.first().map_or(io::ErrorKind::NotFound, |(_, e)| e.kind());
    let texts: Vec<String> = faults.iter().map(|(address, e)| format!("{address}: {e}")).collect();
    io::Error::new(kind, texts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::TcpListener;

    /// A port that lets nobody in and sends nobody away: its backlog is full.
    fn blackhole() -> (SocketAddr, Vec<Socket>) {
        let stream = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = stream();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
        listener.listen(0).expect("listens");
        let address = listener.local_addr().expect("an address");
        let mut held = vec![listener];
        for _ in 0..4 {
            let filler = stream();
            filler.set_nonblocking(true).expect("set");
            // In progress: nobody will ever accept it.
            let _ = filler.connect(&address);
            held.push(filler);
        }
        (address.as_socket().expect("TCP"), held)
    }

    #[tokio::test]
    async fn a_dead_first_address_does_not_keep_the_second_from_being_taken() {
        let (dead, _held) = blackhole();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let alive = listener.local_addr().expect("an address");
        let stream = race(&[dead, alive], Duration::from_millis(10)).await.expect("the second");
        assert_eq!(stream.peer_addr().expect("connected"), alive);
    }

    #[tokio::test]
    async fn all_that_refused_are_named() {
        let closed = |ip: &str| {
            let listener = TcpListener::bind((ip, 0)).expect("a port");
            listener.local_addr().expect("an address")
        };
        let (a, b) = (closed("127.0.0.1"), closed("127.0.0.2"));
        // An hour: they are tried because the one before failed, not because of the time.
        let error = race(&[a, b], Duration::from_secs(3600)).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(text.contains(&a.to_string()) && text.contains(&b.to_string()), "{text}");
    }

    #[test]
    fn a_port_may_come_from_the_scheme() {
        for (text, expected) in
            [("https://x", Some(443)), ("http://x", Some(80)), ("http://x:81", Some(81)), ("x", None)]
        {
            let Ok(Endpoint::Underlay(address)) = Endpoint::parse(text) else { panic!("{text}") };
            assert_eq!(port(&address), expected, "{text}");
        }
    }
}
