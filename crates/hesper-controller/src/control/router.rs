//! The service `RouterControl`.

use super::{
    HELLO, auth, events,
    push::{self, Ended, Outbox},
    renew::{self, internal},
    sessions::Epoch,
    shown, tell_router, token_keys,
};
use crate::ca::Watcher;
use crate::state::{Changes, Expect, ROUTER_SECRET, RouterSecret, State, WRITE_ATTEMPTS, WriteError};
use hesper_model::{
    entity::EdgeRouter,
    id::{EdgeRouterId, Tag},
};
use hesper_observe::events::{Event, Kind, Named};
use hesper_pki::credentials::PeerIdentity;
use hesper_proto::control::{
    RenewRequest, RenewResponse, RouterHello, RouterReport, RouterState, RouterUpdate,
    router_control_server::RouterControl, router_report, router_update,
};
use rand::Rng;
use std::{collections::BTreeSet, sync::Arc};
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Addresses of one router.
const ADDRESSES_MAX: usize = 8;
/// Longest address: a DNS name of 253 bytes and a port.
const ADDRESS_LEN_MAX: usize = 260;

/// The service.
pub(super) struct RouterService(pub(super) Arc<State>);

#[tonic::async_trait]
impl RouterControl for RouterService {
    type WatchStream = ReceiverStream<Result<RouterUpdate, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<RouterReport>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = auth::router(&self.0, request.extensions())?;
        let mut reports = request.into_inner();
        let hello = hello(&mut reports).await?;
        check_addresses(&hello.addresses)?;
        let secret = secret(&self.0, &caller.router.id).await?;
        advertise(&self.0, &caller.router.id, &hello.addresses).await?;
        let (watch, from) = Watch::open(self.0.clone(), caller, secret, &hello);
        self.0.control.watches.spawn(watch.run(reports));
        Ok(Response::new(ReceiverStream::new(from)))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = auth::router(&self.0, request.extensions())?;
        Ok(Response::new(renew::renew(&self.0, &caller.peer, request.get_ref()).await?))
    }
}

/// One open watch.
struct Watch {
    state: Arc<State>,
    id: EdgeRouterId,
    caller: auth::Router,
    secret: RouterSecret,
    epoch: Epoch,
    outbox: Arc<Outbox<RouterUpdate>>,
    to: mpsc::Sender<Result<RouterUpdate, Status>>,
    watcher: Watcher,
}

impl Watch {
    fn open(
        state: Arc<State>,
        caller: auth::Router,
        secret: RouterSecret,
        hello: &RouterHello,
    ) -> (Self, mpsc::Receiver<Result<RouterUpdate, Status>>) {
        let id = caller.router.id.clone();
        let outbox = Arc::new(Outbox::default());
        let (epoch, lost) = state.control.change(|shared| {
            let lost = shared.sessions.routers().linked(&id);
            let epoch = shared.sessions.open_router(id.clone());
            if let Some((_, old)) = shared.routers.insert(id.clone(), (epoch, outbox.clone())) {
                old.end(Status::aborted("the router opened a newer watch"));
            }
            // What was revoked while it was away.
            tell_router(&outbox, shared.ledger.revoked_for_router(&id), shared.sessions.ended().collect());
            (epoch, lost)
        });
        events::links(&state, &id, &lost, &BTreeSet::new());
        let client = shown(&hello.client);
        tracing::info!(router = %caller.router.name, addresses = ?hello.addresses, client, "router online");
        let event = Event::success(Kind::RouterOnline).actor(id.as_str()).identity(named(&caller));
        state.record(event.field("client", client));
        // One: what waits here cannot be overtaken by something more urgent.
        let (to, from) = mpsc::channel(1);
        let watcher = state.control.watchers.open(&caller.peer.id, &caller.router.name);
        (Self { state, id, caller, secret, epoch, outbox, to, watcher }, from)
    }

    async fn run(self, mut reports: Streaming<RouterReport>) {
        let control = &self.state.control;
        let mut last = None;
        let feed =
            push::feed(&self.to, &self.outbox, control.changes(), || control.pace(), || self.news(&mut last));
        let ended = push::until_over(&self.to, feed, self.listen(&mut reports), &control.stop).await;
        if ended == Some(Ended::Slow) {
            control.metrics.slow.inc();
            tracing::warn!(router = %self.caller.router.name, "router cut off: it does not read");
        }
        let (lost, gone) = control.change(|shared| {
            let lost = shared.sessions.routers().linked(&self.id);
            let gone = shared.sessions.close_router(&self.id, self.epoch);
            if shared.routers.get(&self.id).is_some_and(|(of, _)| *of == self.epoch) {
                shared.routers.remove(&self.id);
            }
            (lost, gone)
        });
        // Not when it is here by a newer watch.
        if gone {
            events::links(&self.state, &self.id, &lost, &BTreeSet::new());
            let event =
                Event::success(Kind::RouterOffline).actor(self.id.as_str()).identity(named(&self.caller));
            self.state.record(event);
        }
        tracing::info!(router = %self.caller.router.name, "router offline");
    }

    /// Takes reports until there are no more.
    async fn listen(&self, reports: &mut Streaming<RouterReport>) {
        loop {
            match reports.message().await {
                Ok(Some(RouterReport { report: Some(router_report::Report::Status(status)) })) => {
                    let (attached, draining) = (status.attached.len(), status.draining);
                    let model = self.state.model();
                    let links =
                        status.links.into_iter().map(|l| (EdgeRouterId::new(l.router_id), l.rtt_micros));
                    let known = links.filter(|(id, _)| model.edge_router(id).is_some());
                    let (before, now) = self.state.control.change(|shared| {
                        let before = shared.sessions.routers().linked(&self.id);
                        shared.sessions.set_router_status(&self.id, self.epoch, attached, draining, known);
                        (before, shared.sessions.routers().linked(&self.id))
                    });
                    events::links(&self.state, &self.id, &before, &now);
                }
                Ok(Some(RouterReport { report: Some(router_report::Report::Trusting(trusting)) })) => {
                    self.watcher.report(&trusting);
                }
                // A second hello, or a report of a later version.
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(router = %self.caller.router.name, %status, "the router's reports ended");
                    return;
                }
            }
        }
    }

    /// The router's state, if it differs from the last one.
    fn news(&self, last: &mut Option<RouterState>) -> Result<Option<RouterUpdate>, Status> {
        let model = self.state.model();
        auth::known_router(&model, &self.id)?;
        let PeerIdentity { id, spki_sha256, serial, .. } = &self.caller.peer;
        auth::certificate(&self.state.records(), id, spki_sha256, serial, OffsetDateTime::now_utc())?;
        let now = RouterState {
            revision: model.revision(),
            router_id: self.id.to_string(),
            tag: self.secret.tag.0.to_vec(),
            knock_secret: self.secret.knock_secret.to_vec(),
            token_keys: token_keys(&self.state),
            peers: self.state.control.picture(&self.state).router_peers(&self.id, self.secret.tag),
            trust: Some(self.state.trust()),
        };
        if last.as_ref().is_some_and(|before| RouterState { revision: now.revision, ..before.clone() } == now)
        {
            return Ok(None);
        }
        *last = Some(now.clone());
        Ok(Some(RouterUpdate { update: Some(router_update::Update::State(now)) }))
    }
}

fn named(caller: &auth::Router) -> Named {
    Named::new(caller.router.id.as_str(), caller.router.name.as_str())
}

async fn hello(reports: &mut Streaming<RouterReport>) -> Result<RouterHello, Status> {
    let first = timeout(HELLO, reports.message()).await;
    match first.map_err(|_| Status::deadline_exceeded("the first report did not come"))?? {
        Some(RouterReport { report: Some(router_report::Report::Hello(hello)) }) => Ok(hello),
        _ => Err(Status::invalid_argument("the first report must be hello")),
    }
}

fn check_addresses(addresses: &[String]) -> Result<(), Status> {
    if addresses.len() > ADDRESSES_MAX {
        return Err(Status::invalid_argument(format!("a router has at most {ADDRESSES_MAX} addresses")));
    }
    let is_address = |text: &str| {
        let parts = text.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
            && text.len() <= ADDRESS_LEN_MAX
            && text.chars().all(|c| c.is_ascii_graphic())
    };
    match addresses.iter().find(|text| !is_address(text)) {
        Some(bad) => Err(Status::invalid_argument(format!("the address '{}' is not host:port", shown(bad)))),
        None => Ok(()),
    }
}

/// The router's tag and secret, made once.
async fn secret(state: &State, id: &EdgeRouterId) -> Result<RouterSecret, Status> {
    for _ in 0..WRITE_ATTEMPTS {
        if let Some(secret) = state.records().router_secret(id.as_str()) {
            return Ok(secret.clone());
        }
        let fresh = RouterSecret { tag: Tag::random(&mut rand::rng()), knock_secret: rand::rng().random() };
        let mut changes = Changes::default();
        changes.create_record(format!("{ROUTER_SECRET}{id}"), &fresh);
        match state.commit(changes).await {
            Ok(_) | Err(WriteError::Conflict(_)) => {}
            Err(error) => return Err(internal(&error).into()),
        }
    }
    Err(Status::aborted("the router's secret is being made by others: try again"))
}

/// Stores the addresses that nodes are given.
async fn advertise(state: &State, id: &EdgeRouterId, addresses: &[String]) -> Result<(), Status> {
    for _ in 0..WRITE_ATTEMPTS {
        let Some(stored) = state.get::<EdgeRouter>(id.as_str()) else {
            return Err(Status::unauthenticated(format!("there is no edge router '{id}' any more")));
        };
        if stored.entity.addresses == addresses {
            return Ok(());
        }
        let now = OffsetDateTime::now_utc();
        let changed = EdgeRouter { addresses: addresses.to_vec(), updated_at: now, ..stored.entity };
        match state.put(&changed, Expect::Unchanged(stored.mod_revision)).await {
            Ok(_) => return Ok(()),
            Err(WriteError::Conflict(_)) => {}
            Err(error) => return Err(internal(&error).into()),
        }
    }
    Err(Status::aborted("the router is being changed by others: try again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["192.0.2.1:3022", "router.example:3022", "[2001:db8::1]:3022"] {
            assert!(check_addresses(&[good.to_owned()]).is_ok(), "{good}");
        }
        for bad in ["", "router", ":3022", "router:0", "router:70000", "rou ter:1", "r\u{e9}:1"] {
            assert!(check_addresses(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(check_addresses(&vec!["r:1".to_owned(); ADDRESSES_MAX + 1]).is_err());
    }
}
