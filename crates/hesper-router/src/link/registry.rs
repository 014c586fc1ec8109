//! The links that are up, and whom links are wanted with.

use super::{Handed, RESERVED, Wire};
use crate::{
    links::{
        Peer, Peers,
        whereabouts::{Finding, Sight, Whereabouts},
    },
    metrics::Metrics,
    plane::Plane,
    sessions::place_of,
    table::{Place, RouterIx},
};
use hesper_model::id::EdgeRouterId;
use hesper_overlay::transport::close;
use hesper_proto::overlay::{Draining, LinkMessage, Ping, link_message::Message};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// One link that is up, as seen from outside of its task.
struct Up {
    id: EdgeRouterId,
    epoch: u64,
    whereabouts: Whereabouts,
    wire: Wire,
}

#[derive(Default)]
struct Inner {
    peers: Peers,
    up: HashMap<RouterIx, Up>,
    last_epoch: u64,
}

/// See the module.
pub(crate) struct Links {
    plane: Arc<Plane>,
    inner: Mutex<Inner>,
}

impl Links {
    /// None is up and none wanted.
    pub(crate) fn new(plane: Arc<Plane>) -> Self {
        Self { plane, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metrics(&self) -> &Metrics {
        &self.plane.metrics
    }

    /// The controller names these other routers.
    pub(crate) fn name(&self, peers: &[Peer], now: u64) {
        self.inner().peers.name(peers, now);
    }

    /// Is there to be a link with this router?
    pub(crate) fn wants(&self, id: &EdgeRouterId) -> bool {
        self.inner().peers.knows(id)
    }

    /// Whom the router `own` connects to.
    pub(crate) fn to_connect(&self, own: &EdgeRouterId) -> Vec<Peer> {
        self.inner().peers.to_connect(own).cloned().collect()
    }

    /// Housekeeping: ends links with routers that the controller has not named for long.
    pub(crate) fn sweep(&self, now: u64) {
        let mut inner = self.inner();
        inner.peers.expire(now);
        for up in inner.up.values().filter(|up| !inner.peers.knows(&up.id)) {
            up.wire.connection.close(close::REFUSED, b"the controller no longer names this router");
        }
    }

    /// A link is up with a router that has just shaken hands from `place`; an earlier one with the same router is closed. `None`: there
    /// is no room.
    pub(crate) fn up(&self, id: &EdgeRouterId, place: Place, wire: Wire) -> Option<(RouterIx, u64)> {
        let mut inner = self.inner();
        inner.last_epoch += 1;
        let epoch = inner.last_epoch;
        let whereabouts = Whereabouts::new(place);
        let mut table = self.plane.table_mut();
        let ix = table.router(id)?;
        table.link_up(ix, epoch, place);
        drop(table);
        if let Some(before) = inner.up.insert(ix, Up { id: id.clone(), epoch, whereabouts, wire }) {
            before.wire.connection.close(close::DONE, b"replaced by a new link");
        }
        self.metrics().links.set(inner.up.len() as i64);
        Some((ix, epoch))
    }

    /// That link's connection ended.
    pub(crate) fn down(&self, ix: RouterIx, epoch: u64) {
        let mut inner = self.inner();
        if inner.up.get(&ix).is_some_and(|up| up.epoch == epoch) {
            inner.up.remove(&ix);
        }
        self.metrics().links.set(inner.up.len() as i64);
    }

    /// Hands a pass over those of the links that are up. Each answer says whether the binder is attached there.
    pub(crate) fn hand_over(&self, links: &[RouterIx], pass: &Handed) -> Vec<oneshot::Receiver<bool>> {
        let inner = self.inner();
        let mut answers = Vec::new();
        for up in links.iter().filter_map(|ix| inner.up.get(ix)) {
            let (answer, answered) = oneshot::channel();
            // A full queue is a link that is about to be given up; the pass is handed over by the next one.
            if up.wire.passes.try_send((pass.clone(), Some(answer))).is_ok() {
                answers.push(answered);
            }
        }
        answers
    }

    /// A notice over these links: dropped where the other router does not read.
    pub(crate) fn tell(&self, links: &[RouterIx], message: &Message) {
        let inner = self.inner();
        for up in links.iter().filter_map(|ix| inner.up.get(ix)) {
            up.tell(message.clone());
        }
    }

    /// This router is about to stop.
    pub(crate) fn drain(&self) {
        for up in self.inner().up.values() {
            up.tell(Message::Draining(Draining {}));
        }
    }

    /// Follows the other routers to the addresses that their connections have now, once they have proven that they are there.
    pub(crate) fn follow_addresses(&self) {
        for (ix, up) in &mut self.inner().up {
            let connection = &up.wire.connection;
            let challenges = connection.stats().frame_tx.path_challenge;
            let sight = Sight { place: place_of(connection), challenges };
            match up.whereabouts.look(sight, rand::random()) {
                Finding::Same | Finding::Wait => {}
                Finding::Ask(nonce) => up.tell(Message::Ping(Ping { nonce })),
                Finding::Moved(place) => {
                    self.plane.table_mut().link_moved(*ix, up.epoch, place);
                    tracing::info!(router = %up.id, address = %place.address, "another router's address changed");
                }
            }
            // A node that attached from there may have had it meanwhile.
            if self.plane.table().is_link_homeless(*ix) {
                self.plane.table_mut().link_stayed(*ix, up.epoch, up.whereabouts.proven());
            }
        }
    }

    /// The router of this link has answered a ping.
    pub(crate) fn answered(&self, ix: RouterIx, epoch: u64, nonce: u64) {
        if let Some(up) = self.inner().up.get_mut(&ix).filter(|up| up.epoch == epoch) {
            up.whereabouts.answered(nonce);
        }
    }

    /// The links that are up, each with its round-trip time, in order of router.
    pub(crate) fn round_trips(&self) -> Vec<(EdgeRouterId, Duration)> {
        let mut links: Vec<_> =
            self.inner().up.values().map(|up| (up.id.clone(), up.wire.round_trip())).collect();
        links.sort_unstable_by(|x, y| x.0.as_str().cmp(y.0.as_str()));
        links
    }
}

impl Up {
    fn tell(&self, message: Message) {
        let room = self.wire.outbox.capacity() > RESERVED;
        if !room || self.wire.outbox.try_send(LinkMessage { message: Some(message) }).is_err() {
            tracing::debug!(router = %self.id, "another router does not read its notices");
        }
    }
}
