//! Local listeners: each connection becomes one stream to its service.

use crate::{
    Dialer, Known, Metrics,
    app_data::AppData,
    http::dial_word,
    metrics::Held,
    plan::{self, ListenEffect, Skipped},
};
use bytes::Bytes;
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
    net::{TcpListener, TcpStream},
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

/// `service:port`, `service:port:tcp`: a listener and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name of the service, or `instance@name`.
    pub service: String,
    /// The port to listen on; 0 = one that the system chooses.
    pub port: u16,
}

/// Text that is no listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// Not of that form.
    #[error("'{0}' is not SERVICE:PORT or SERVICE:PORT:tcp")]
    Form(String),
    /// UDP.
    #[error("'{0}': UDP is not carried yet")]
    Udp(String),
}

impl FromStr for Spec {
    type Err = InvalidSpec;
    fn from_str(s: &str) -> Result<Self, InvalidSpec> {
        let form = || InvalidSpec::Form(s.to_owned());
        let (rest, last) = s.rsplit_once(':').ok_or_else(form)?;
        let (service, port) = match last {
            "udp" => return Err(InvalidSpec::Udp(s.to_owned())),
            "tcp" => rest.rsplit_once(':').ok_or_else(form)?,
            _ => (rest, last),
        };
        let digits = !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or_else(form)?;
        if service.is_empty() { Err(form()) } else { Ok(Self { service: service.to_owned(), port }) }
    }
}

/// Why listeners could not be opened. None is open then.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// An address that cannot be listened on.
    #[error("cannot listen on {address} for service '{service}'; choose another port, or stop what has it")]
    Listen {
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
pub struct Listeners(Vec<(String, TcpListener)>);

/// Opens a listener for each spec on `bind` ([`LOOPBACK`] unless the user said otherwise): all of them or none.
///
/// # Errors
/// [`ProxyError`]: the first address that cannot be listened on.
pub async fn open(specs: &[Spec], bind: IpAddr) -> Result<Listeners, ProxyError> {
    for (i, spec) in specs.iter().enumerate() {
        if let Some(first) = specs[..i].iter().find(|s| s.port == spec.port && spec.port != 0) {
            let (first, second) = (first.service.clone(), spec.service.clone());
            return Err(ProxyError::Twice { port: spec.port, first, second });
        }
    }
    let mut open = Vec::new();
    for spec in specs {
        let address = SocketAddr::new(bind, spec.port);
        let listener = TcpListener::bind(address).await.map_err(|source| ProxyError::Listen {
            address,
            service: spec.service.clone(),
            source,
        })?;
        tracing::info!(service = %spec.service, address = %listener.local_addr().unwrap_or(address), "listening");
        open.push((spec.service.clone(), listener));
    }
    Ok(Listeners(open))
}

impl Listeners {
    /// Where each service is listened for.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.0.iter().filter_map(|(service, l)| Some((service.clone(), l.local_addr().ok()?))).collect()
    }

    /// Serves them until dropped.
    pub async fn serve<D: Dialer>(self, dialer: D, metrics: Metrics) {
        let ends = CancellationToken::new();
        let _ends = ends.clone().drop_guard();
        let mut tasks = JoinSet::new();
        for (service, listener) in self.0 {
            tasks.spawn(listen(dialer.clone(), service, listener, metrics.clone(), ends.clone()));
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
    let mut running: BTreeMap<SocketAddr, String> = BTreeMap::new();
    let mut stops: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
    let mut said = Said::default();
    loop {
        let view = Arc::clone(&known.borrow_and_update().view);
        let (wanted, skipped) = plan::proxy_listeners(&view);
        said.warn("no listener for this service", &skipped);
        let mut failed = Vec::new();
        for effect in plan::listen_effects(&running, &wanted) {
            match effect {
                ListenEffect::Close(address) => {
                    running.remove(&address);
                    if let Some(stop) = stops.remove(&address) {
                        stop.cancel();
                        tracing::info!(%address, "no longer listening");
                    }
                }
                ListenEffect::Open(address, service) => match listen_retrying(address).await {
                    Ok(listener) => {
                        tracing::info!(%service, %address, "listening");
                        let stop = CancellationToken::new();
                        stops.insert(address, stop.clone());
                        running.insert(address, service.clone());
                        let serve = listen(dialer.clone(), service, listener, metrics.clone(), ends.clone());
                        let ends = ends.clone();
                        tokio::spawn(async move {
                            tokio::select! {
                                () = serve => {}
                                () = stop.cancelled() => {}
                                () = ends.cancelled() => {}
                            }
                        });
                    }
                    Err(error) => failed
                        .push(Skipped { service, reason: format!("cannot listen on {address}: {error}") }),
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
async fn listen_retrying(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            TcpListener::bind(address).await
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
    service: String,
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
                let (dialer, service, metrics) = (dialer.clone(), service.clone(), metrics.clone());
                let ends = ends.clone();
                tokio::spawn(async move {
                    let _held = (permit, Held::new(&metrics.proxied_open));
                    tokio::select! {
                        () = carry(&dialer, &service, tcp, client, local, &metrics) => {}
                        () = ends.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%service, %error, "a listener could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn carry<D: Dialer>(
    dialer: &D,
    service: &str,
    tcp: TcpStream,
    client: SocketAddr,
    local: Option<SocketAddr>,
    metrics: &Metrics,
) {
    let mut asked = AppData::tcp(service, local.map_or(0, |l| l.port()), Some(client));
    asked.dst_hostname.clear();
    asked.dst_ip = local.map(|l| l.ip().to_string()).unwrap_or_default();
    let options = DialOptions { app_data: asked.to_json(), ..DialOptions::default() };
    match dialer.dial(service, options).await {
        Ok(stream) => {
            metrics.proxied(service, "ok");
            if let Err(error) = D::splice(stream, tcp, Bytes::new()).await {
                tracing::debug!(%service, %client, %error, "a connection broke");
            }
        }
        Err(error) => {
            metrics.proxied(service, dial_word(&error));
            tracing::warn!(%service, %client, reason = %error, "a connection was refused");
            // Reset, not end: the client must not take it for an empty answer.
            if let Err(error) = tcp.set_zero_linger() {
                tracing::debug!(%error, "no reset");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let spec = |service: &str, port| Ok(Spec { service: service.into(), port });
        assert_eq!("svc:80".parse(), spec("svc", 80));
        assert_eq!("svc:80:tcp".parse(), spec("svc", 80));
        assert_eq!("inst@a:b:80".parse(), spec("inst@a:b", 80));
        assert_eq!("svc:80:udp".parse::<Spec>(), Err(InvalidSpec::Udp("svc:80:udp".into())));
        for bad in ["", "svc", "svc:", ":80", "svc:http", "svc:65536", "svc:+80", "svc::tcp", "80:tcp"] {
            assert_eq!(bad.parse::<Spec>(), Err(InvalidSpec::Form(bad.into())), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_or_asked_for_twice_is_said_clearly() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = taken.local_addr().expect("address").port();
        let specs = [Spec { service: "free".into(), port: 0 }, Spec { service: "svc".into(), port }];
        let error = open(&specs, LOOPBACK).await.expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on 127.0.0.1:{port} for service 'svc'; choose another port, or stop what has it"
            )
        );
        let specs = [Spec { service: "a".into(), port: 7 }, Spec { service: "b".into(), port: 7 }];
        let error = open(&specs, LOOPBACK).await.expect_err("twice").to_string();
        assert_eq!(error, "port 7 is asked for twice, by service 'a' and by service 'b'");
    }
}
