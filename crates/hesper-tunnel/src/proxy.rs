//! Local listeners: each connection becomes one stream to its service, each UDP client one flow of datagrams.

mod udp;

use crate::{
    Dialer, Known, Metrics,
    app_data::AppData,
    http::dial_word,
    metrics::{Held, Side},
    plan::{self, ListenEffect, Local, Skipped},
};
use hesper_model::config::Protocol;
use hesper_sdk::{Context, DialOptions};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Where listeners listen unless told otherwise.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Connections of one listener open at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 16_384;
/// After an accept that failed (no file descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long until a `proxy.v1` listener whose port was taken is tried again.
const RETRY: Duration = Duration::from_secs(15);

/// `service:port`, `service:port:tcp`, `service:port:udp`: a listener and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name of the service, or `instance@name`.
    pub service: String,
    /// The port to listen on; 0 = one that the system chooses.
    pub port: u16,
    /// TCP unless given.
    pub protocol: Protocol,
}

/// Text that is no listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// Not of that form.
    #[error("'{0}' is not SERVICE:PORT, SERVICE:PORT:tcp or SERVICE:PORT:udp")]
    Form(String),
}

impl FromStr for Spec {
    type Err = InvalidSpec;
    fn from_str(s: &str) -> Result<Self, InvalidSpec> {
        let form = || InvalidSpec::Form(s.to_owned());
        let (rest, last) = s.rsplit_once(':').ok_or_else(form)?;
        let protocol = if last == "udp" { Protocol::Udp } else { Protocol::Tcp };
        let (service, port) = match last {
            "tcp" | "udp" => rest.rsplit_once(':').ok_or_else(form)?,
            _ => (rest, last),
        };
        let digits = !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or_else(form)?;
        if service.is_empty() {
            Err(form())
        } else {
            Ok(Self { service: service.to_owned(), port, protocol })
        }
    }
}

/// Why listeners could not be opened. None is open then.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// An address that cannot be listened on.
    #[error(
        "cannot listen on {address} for service '{service}' ({protocol}); choose another port, or stop what has it"
    )]
    Listen {
        /// TCP or UDP.
        protocol: Protocol,
        /// The address.
        address: SocketAddr,
        /// The service.
        service: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Two listeners on one port.
    #[error("port {port} is asked for twice, by service '{first}' and by service '{second}'")]
    Twice {
        /// The port.
        port: u16,
        /// One service.
        first: String,
        /// The other.
        second: String,
    },
}

/// Listeners that are open and not yet served.
#[derive(Debug)]
pub struct Listeners(Vec<(Dialed, Socket)>);

/// What a listener dials.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dialed {
    /// As the SDK takes it: a name, or `instance@name`.
    service: String,
    /// It is the service's name as it stands, whatever is in it.
    exact: bool,
}

impl Dialed {
    fn options(&self, asked: &AppData) -> DialOptions {
        let instance = self.exact.then(String::new);
        DialOptions { app_data: asked.to_json(), instance, ..DialOptions::default() }
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Socket {
    async fn open(local: Local) -> io::Result<Self> {
        match local.protocol {
            Protocol::Tcp => TcpListener::bind(local.address).await.map(Self::Tcp),
            Protocol::Udp => UdpSocket::bind(local.address).await.map(Self::Udp),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        }
    }

    /// Serves until dropped; connections live on until `ends`, flows of datagrams do not.
    async fn serve<D: Dialer>(self, dialer: D, dialed: Dialed, metrics: Metrics, ends: CancellationToken) {
        match self {
            Self::Tcp(listener) => listen(dialer, dialed, listener, metrics, ends).await,
            Self::Udp(socket) => udp::listen(dialer, dialed, socket, metrics).await,
        }
    }
}

/// Opens a listener for each spec on `bind` ([`LOOPBACK`] unless the user said otherwise): all of them or none.
///
/// # Errors
/// [`ProxyError`]: the first address that cannot be listened on.
pub async fn open(specs: &[Spec], bind: IpAddr) -> Result<Listeners, ProxyError> {
    for (i, spec) in specs.iter().enumerate() {
        if let Some(first) =
            specs[..i].iter().find(|s| (s.port, s.protocol) == (spec.port, spec.protocol) && spec.port != 0)
        {
            let (first, second) = (first.service.clone(), spec.service.clone());
            return Err(ProxyError::Twice { port: spec.port, first, second });
        }
    }
    let mut open = Vec::new();
    for spec in specs {
        let address = SocketAddr::new(bind, spec.port);
        let (protocol, service) = (spec.protocol, spec.service.clone());
        let socket = Socket::open(Local { protocol, address })
            .await
            .map_err(|source| ProxyError::Listen { protocol, address, service: service.clone(), source })?;
        tracing::info!(%service, %protocol, address = %socket.local_addr().unwrap_or(address), "listening");
        open.push((Dialed { service, exact: false }, socket));
    }
    Ok(Listeners(open))
}

impl Listeners {
    /// Where each service is listened for.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.0.iter().filter_map(|(dialed, l)| Some((dialed.service.clone(), l.local_addr().ok()?))).collect()
    }

    /// Serves them until dropped.
    pub async fn serve<D: Dialer>(self, dialer: D, metrics: Metrics) {
        let ends = CancellationToken::new();
        let _ends = ends.clone().drop_guard();
        let mut tasks = JoinSet::new();
        for (dialed, socket) in self.0 {
            tasks.spawn(socket.serve(dialer.clone(), dialed, metrics.clone(), ends.clone()));
        }
        while tasks.join_next().await.is_some() {}
        std::future::pending::<()>().await;
    }
}

/// Opens the listeners of `specs` on `bind` and serves them until dropped.
///
/// # Errors
/// [`ProxyError`].
pub async fn run(ctx: Context, specs: &[Spec], bind: IpAddr, metrics: Metrics) -> Result<(), ProxyError> {
    open(specs, bind).await?.serve(ctx, metrics).await;
    Ok(())
}

/// Serves the listeners that `proxy.v1` configs ask for, following every change, until dropped.
pub async fn follow_configs<D: Dialer>(dialer: D, mut known: watch::Receiver<Arc<Known>>, metrics: Metrics) {
    let ends = CancellationToken::new();
    let _ends = ends.clone().drop_guard();
    let mut running: BTreeMap<Local, String> = BTreeMap::new();
    let mut stops: BTreeMap<Local, CancellationToken> = BTreeMap::new();
    let mut said = Said::default();
    loop {
        let view = Arc::clone(&known.borrow_and_update().view);
        let (wanted, skipped) = plan::proxy_listeners(&view);
        said.warn("no listener for this service", &skipped);
        let mut failed = Vec::new();
        for effect in plan::listen_effects(&running, &wanted) {
            match effect {
                ListenEffect::Close(local) => {
                    running.remove(&local);
                    if let Some(stop) = stops.remove(&local) {
                        stop.cancel();
                        tracing::info!(%local, "no longer listening");
                    }
                }
                ListenEffect::Open(local, service) => match open_retrying(local).await {
                    Ok(socket) => {
                        tracing::info!(%service, %local, "listening");
                        let stop = CancellationToken::new();
                        stops.insert(local, stop.clone());
                        running.insert(local, service.clone());
                        let dialed = Dialed { service, exact: true };
                        let serve = socket.serve(dialer.clone(), dialed, metrics.clone(), ends.clone());
                        let ends = ends.clone();
                        tokio::spawn(async move {
                            tokio::select! {
                                () = serve => {}
                                () = stop.cancelled() => {}
                                () = ends.cancelled() => {}
                            }
                        });
                    }
                    Err(error) => {
                        failed.push(Skipped { service, reason: format!("cannot listen on {local}: {error}") })
                    }
                },
            }
        }
        said.warn("no listener for this service yet", &failed);
        tokio::select! {
            changed = known.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if !failed.is_empty() => {}
        }
    }
}

/// A port that we have just closed ourselves may need a moment.
async fn open_retrying(local: Local) -> io::Result<Socket> {
    match Socket::open(local).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            Socket::open(local).await
        }
        other => other,
    }
}

/// Remembers what was said, so that each thing is said once for as long as it is so.
#[derive(Debug, Default)]
pub(crate) struct Said(BTreeMap<&'static str, BTreeSet<Skipped>>);

impl Said {
    pub(crate) fn warn(&mut self, message: &'static str, skipped: &[Skipped]) {
        let said = self.0.entry(message).or_default();
        for new in skipped.iter().filter(|s| !said.contains(*s)) {
            tracing::warn!(service = %new.service, reason = %new.reason, "{message}");
        }
        *said = skipped.iter().cloned().collect();
    }
}

/// Accepts until dropped; connections live on until `ends`.
async fn listen<D: Dialer>(
    dialer: D,
    dialed: Dialed,
    listener: TcpListener,
    metrics: Metrics,
    ends: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let local = listener.local_addr().ok();
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, client)) => {
                let (dialer, dialed, metrics) = (dialer.clone(), dialed.clone(), metrics.clone());
                let ends = ends.clone();
                tokio::spawn(async move {
                    let _held = (permit, Held::new(&metrics.proxied_open));
                    tokio::select! {
                        () = carry(&dialer, &dialed, tcp, client, local, &metrics) => {}
                        () = ends.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(service = %dialed.service, %error, "a listener could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What the hosting side is told about a client of a local listener.
fn asked(service: &str, local: Option<SocketAddr>, client: SocketAddr, protocol: Protocol) -> AppData {
    let asked = AppData::tcp(service, local.map_or(0, |l| l.port()), Some(client)).over(protocol);
    let dst_ip = local.map(|l| l.ip().to_string()).unwrap_or_default();
    AppData { dst_hostname: String::new(), dst_ip, ..asked }
}

async fn carry<D: Dialer>(
    dialer: &D,
    dialed: &Dialed,
    tcp: TcpStream,
    client: SocketAddr,
    local: Option<SocketAddr>,
    metrics: &Metrics,
) {
    let service = &dialed.service;
    let asked = asked(service, local, client, Protocol::Tcp);
    match dialer.dial_tcp(service, dialed.options(&asked), tcp).await {
        Ok(copying) => {
            metrics.proxied(service, "ok");
            match copying.await {
                Ok(copied) => metrics.copied(Side::Proxy, copied),
                Err(error) => tracing::debug!(%service, %client, %error, "a connection broke"),
            }
        }
        Err(error) => {
            metrics.proxied(service, dial_word(&error));
            tracing::warn!(%service, %client, reason = %error, "a connection was refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let of = |service: &str, port, protocol| Ok(Spec { service: service.into(), port, protocol });
        let spec = |service: &str, port| of(service, port, Protocol::Tcp);
        assert_eq!("svc:80".parse(), spec("svc", 80));
        assert_eq!("svc:80:tcp".parse(), spec("svc", 80));
        assert_eq!("inst@a:b:80".parse(), spec("inst@a:b", 80));
        assert_eq!("svc:80:udp".parse(), of("svc", 80, Protocol::Udp));
        for bad in
            ["", "svc", "svc:", ":80", "svc:http", "svc:65536", "svc:+80", "svc::tcp", "80:tcp", "svc:udp"]
        {
            assert_eq!(bad.parse::<Spec>(), Err(InvalidSpec::Form(bad.into())), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_or_asked_for_twice_is_said_clearly() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = taken.local_addr().expect("address").port();
        let spec = |service: &str, port, protocol| Spec { service: service.into(), port, protocol };
        let specs = [spec("free", 0, Protocol::Tcp), spec("svc", port, Protocol::Tcp)];
        let error = open(&specs, LOOPBACK).await.expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on 127.0.0.1:{port} for service 'svc' (tcp); choose another port, or stop what has it"
            )
        );
        let specs = [spec("a", 7, Protocol::Udp), spec("b", 7, Protocol::Udp)];
        let error = open(&specs, LOOPBACK).await.expect_err("twice").to_string();
        assert_eq!(error, "port 7 is asked for twice, by service 'a' and by service 'b'");
    }
}
