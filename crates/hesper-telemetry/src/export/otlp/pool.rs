//! The connections to one destination: one for each of its addresses, taken in turn.

use super::{
    dial::Dial,
    link::{Link, Worth},
};
use hesper_collector_config::{Endpoint, GrpcClient, KeepaliveClient};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};

/// Most addresses of a name that are used.
const MOST: usize = 16;
/// A resolver that has not answered by then is asked again later.
const DEADLINE: Duration = Duration::from_secs(5);
/// A name is not looked up more often.
const FRESH: Duration = Duration::from_secs(30);

/// The connections to a destination.
pub(crate) struct Pool {
    dial: Arc<Dial>,
    keepalive: KeepaliveClient,
    /// The name to look up, if its addresses are taken in turn.
    name: Option<(String, u16)>,
    links: Mutex<Links>,
    turn: AtomicUsize,
}

struct Links {
    all: Arc<[Arc<Link>]>,
    looked_up: Option<Instant>,
}

impl Pool {
    pub(crate) fn new(dial: Dial, settings: &GrpcClient) -> Self {
        let (dial, keepalive) = (Arc::new(dial), settings.keepalive.clone());
        let name = name_of(&dial.endpoint).filter(|_| settings.balancer_name == "round_robin");
        let all = Arc::from([Link::new(Arc::clone(&dial), None, keepalive.clone())]);
        let links = Mutex::new(Links { all, looked_up: None });
        Self { dial, keepalive, name, links, turn: AtomicUsize::new(0) }
    }

    /// The next connection: an open one if there is any, else one that may open.
    pub(crate) async fn next(&self) -> Arc<Link> {
        let mut links = Arc::clone(&self.lock().all);
        if let Some((host, port)) = &self.name
            && links.iter().any(|link| link.at().is_none() || link.worth() != Worth::Open)
            && self.begin_lookup()
        {
            links = self.look_up(host, *port).await;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // An address whose connection is not there yet gets its turn, too: a request opens it.
        let in_turn = (0..links.len()).map(|step| &links[turn.wrapping_add(step) % links.len()]);
        let best = in_turn.min_by_key(|link| link.worth() == Worth::Failed);
        Arc::clone(best.unwrap_or(&links[0]))
    }

    /// May the name be looked up now? Only one caller may.
    fn begin_lookup(&self) -> bool {
        let mut links = self.lock();
        let due = links.looked_up.is_none_or(|at| at.elapsed() >= FRESH);
        if due {
            links.looked_up = Some(Instant::now());
        }
        due
    }

    async fn look_up(&self, host: &str, port: u16) -> Arc<[Arc<Link>]> {
        let found: BTreeSet<SocketAddr> = match timeout(DEADLINE, lookup_host((host, port))).await {
            Ok(Ok(found)) => found.take(MOST).collect(),
            // The connector will look it up too, and tell why that fails.
            _ => BTreeSet::new(),
        };
        let mut links = self.lock();
        if found.len() > 1 || (found.len() == 1 && links.all.len() > 1) {
            let link = |at: SocketAddr| {
                let known = links.all.iter().find(|link| link.at() == Some(at)).map(Arc::clone);
                known.unwrap_or_else(|| Link::new(Arc::clone(&self.dial), Some(at), self.keepalive.clone()))
            };
            links.all = found.into_iter().map(link).collect();
        }
        Arc::clone(&links.all)
    }

    /// Lets all connections go when their last request is done.
    pub(crate) fn close(&self) {
        let links = Arc::clone(&self.lock().all);
        links.iter().for_each(|link| link.forget());
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host that may have several addresses. `passthrough` leaves it to the connector.
fn name_of(endpoint: &Endpoint) -> Option<(String, u16)> {
    let address = endpoint.underlay().filter(|address| !address.is_unix() && !address.host.is_empty())?;
    let named = address.host.parse::<IpAddr>().is_err() && !address.host.eq_ignore_ascii_case("localhost");
    let port = address.port.or(match address.scheme.as_deref() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })?;
    (named && address.scheme.as_deref() != Some("passthrough")).then(|| (address.host.clone(), port))
}
