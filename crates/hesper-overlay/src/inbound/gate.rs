//! What is bound here, which streams are open by which grants, and what each dialing identity has: the state behind one lock.

use super::{Arrival, MAX_PEERS_OF_IDENTITY};
use crate::{
    admission::{Admission, Dialer, PeerId, Rejection, StreamId},
    node::{Inner, unix_now},
    stream::{StreamError, StreamHandle},
};
use hesper_model::id::{IdentityId, ServiceId, TerminatorId};
use hesper_pki::token::GrantClaims;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::mpsc;

/// What is bound, and which streams are open.
pub(crate) struct Gate(Mutex<State>);

struct State {
    admission: Admission,
    handles: HashMap<StreamId, StreamHandle>,
    listeners: HashMap<TerminatorId, mpsc::Sender<Arrival>>,
    /// The tokens of the grants that streams live by, by the grants' ids.
    tokens: HashMap<String, String>,
    /// What each dialing identity has.
    peers: HashMap<IdentityId, Taken>,
    next: u64,
}

/// What one identity has open here.
#[derive(Debug, Default)]
struct Taken {
    connections: usize,
    /// Held by each open stream.
    streams: Arc<()>,
}

impl Gate {
    pub(crate) fn new(me: IdentityId, outage_grace: Duration) -> Self {
        Self(Mutex::new(State {
            admission: Admission::new(me, outage_grace.as_secs()),
            handles: HashMap::new(),
            listeners: HashMap::new(),
            tokens: HashMap::new(),
            peers: HashMap::new(),
            next: 1,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bind(&self, terminator: TerminatorId, service: ServiceId, arrivals: mpsc::Sender<Arrival>) {
        let mut state = self.lock();
        state.admission.bind(terminator.clone(), service);
        state.listeners.insert(terminator, arrivals);
    }

    pub(crate) fn unbind(&self, terminator: &TerminatorId) {
        let mut state = self.lock();
        state.admission.unbind(terminator);
        state.listeners.remove(terminator);
    }

    pub(crate) fn set_controller(&self, reachable: bool) {
        self.lock().admission.set_controller(reachable, unix_now());
    }

    pub(crate) fn revoke(&self, grants: &[String]) {
        let handles = {
            let mut state = self.lock();
            let ended = state.admission.revoke(unix_now(), grants.iter().map(String::as_str));
            state.take(&ended)
        };
        end(handles, StreamError::Revoked);
    }

    pub(crate) fn revoke_all(&self) {
        let handles = {
            let mut state = self.lock();
            let ended = state.admission.revoke_all(unix_now());
            state.take(&ended)
        };
        end(handles, StreamError::Revoked);
    }

    pub(crate) fn expire(&self) {
        let handles = {
            let mut state = self.lock();
            let ended = state.admission.expire(unix_now());
            state.forget_tokens();
            state.take(&ended)
        };
        end(handles, StreamError::Expired);
    }

    /// The grants that streams live by, as their dialers presented them.
    pub(crate) fn grants(&self) -> Vec<String> {
        let mut state = self.lock();
        state.forget_tokens();
        state.tokens.values().cloned().collect()
    }

    pub(crate) fn streams(&self) -> usize {
        self.lock().admission.len()
    }

    /// One more connection of this identity: how many others it has, and what counts its streams. `None`: no room.
    pub(super) fn enter(&self, id: &IdentityId) -> Option<(usize, Arc<()>)> {
        let mut state = self.lock();
        let taken = state.peers.entry(id.clone()).or_default();
        let others = taken.connections;
        (others < MAX_PEERS_OF_IDENTITY).then(|| {
            taken.connections += 1;
            (others, taken.streams.clone())
        })
    }

    pub(super) fn leave(&self, peer: PeerId, id: &IdentityId) {
        let mut state = self.lock();
        state.admission.leave(peer);
        if let Some(taken) = state.peers.get_mut(id) {
            taken.connections -= 1;
            if taken.connections == 0 {
                state.peers.remove(id);
            }
        }
    }

    pub(super) fn next_id(&self) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        state.next
    }

    /// Admits a stream by the verified claims of the grant that is shown: registers it and its handle in one step. Returns who listens.
    pub(super) fn admit(
        &self,
        now: u64,
        (id, handle): (StreamId, StreamHandle),
        dialer: (PeerId, &Dialer),
        target: (&ServiceId, &TerminatorId),
        (claims, grant): (&GrantClaims, &str),
    ) -> Result<mpsc::Sender<Arrival>, Rejection> {
        let mut state = self.lock();
        state.admission.admit(now, id, dialer, target, claims)?;
        state.handles.insert(id, handle);
        if !state.tokens.contains_key(&claims.jti) {
            state.tokens.insert(claims.jti.clone(), grant.to_owned());
        }
        state.listeners.get(target.1).cloned().ok_or_else(|| Rejection::NotBound(target.1.clone()))
    }

    /// The same dialer shows a later grant for the streams that it has there.
    pub(super) fn renew(
        &self,
        now: u64,
        dialer: (PeerId, &Dialer),
        target: (&ServiceId, &TerminatorId),
        (claims, grant): (GrantClaims, String),
    ) -> Result<(), Rejection> {
        let mut state = self.lock();
        state.admission.renew(now, dialer, target, &claims)?;
        state.tokens.insert(claims.jti, grant);
        Ok(())
    }

    fn close(&self, stream: StreamId) {
        let mut state = self.lock();
        state.admission.close(stream);
        state.handles.remove(&stream);
    }

    pub(super) fn frozen_clock(&self, now: u64) -> Option<u64> {
        self.lock().admission.frozen_clock(now)
    }
}

impl State {
    /// Those that no stream lives by any more.
    fn forget_tokens(&mut self) {
        let live = self.admission.grants();
        self.tokens.retain(|id, _| live.contains(id.as_str()));
    }

    fn take(&mut self, ended: &[StreamId]) -> Vec<StreamHandle> {
        ended.iter().filter_map(|id| self.handles.remove(id)).collect()
    }
}

/// Outside the gate's lock: the end of a stream takes that lock itself.
fn end(handles: Vec<StreamHandle>, reason: StreamError) {
    handles.iter().for_each(|h| h.end(reason.clone()));
}

/// Closes a stream at the gate when its last half is gone.
pub(super) struct StreamGuard {
    /// Count the open streams of its connection and of its dialer.
    pub(super) _live: [Arc<()>; 2],
    pub(super) gate: Weak<Inner>,
    pub(super) id: StreamId,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if let Some(node) = self.gate.upgrade() {
            node.gate.close(self.id);
        }
    }
}
