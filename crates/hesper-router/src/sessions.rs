//! What the router's tasks share: the attached sessions, what was revoked, and the plane that the socket reads.
//!
//! Lock order: `attached`, then `table`. The socket takes the table for reading while it forwards one batch; everybody else
//! holds either lock for a few operations and never across an await.

use crate::{
    admission::{self, Refusal},
    metrics::Metrics,
    plane::Plane,
    revoked::Revoked,
    table::{Full, Pass, Place, Table},
};
use hesper_model::id::Tag;
use hesper_overlay::transport::close;
use hesper_pki::{credentials::PeerIdentity, token::SessionClaims};
use hesper_proto::overlay::{Draining, FromRouter, PeerGone, from_router::Message};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{mpsc, watch};

/// Sessions that one router carries.
pub(crate) const MAX_SESSIONS: usize = 16_384;
/// Longest life of a pass and then some; revocations are remembered for this long and the outage grace.
const PASS_LIFE: Duration = Duration::from_secs(3_600);

/// Seconds since the epoch.
pub(crate) fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// An attached session, as seen from outside of its task.
struct Session {
    epoch: u64,
    /// When its token ends.
    exp: u64,
    /// Where its connection was when last looked at.
    seen: Place,
    connection: quinn::Connection,
    outbox: mpsc::Sender<FromRouter>,
}

struct Attached {
    sessions: HashMap<Tag, Session>,
    last_epoch: u64,
    revoked_passes: Revoked<String>,
    revoked_sessions: Revoked<Tag>,
}

/// Why a node is not let in, or its pass opens nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Full(#[from] Full),
    #[error("this router carries {MAX_SESSIONS} sessions already")]
    NoRoom,
    #[error("this router has not heard from its controller yet")]
    NotReady,
}

/// See the module.
pub(crate) struct Sessions {
    plane: Arc<Plane>,
    attached: Mutex<Attached>,
    /// Counts changes of what the controller is told (attached tags, draining).
    changed: watch::Sender<u64>,
    draining: AtomicBool,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}

impl Sessions {
    /// Knows nothing yet; `outage_grace` as in [`crate::outage`].
    pub(crate) fn new(metrics: Metrics, outage_grace: Duration) -> Self {
        let remember_secs = (PASS_LIFE + outage_grace).as_secs();
        Self {
            plane: Arc::new(Plane::new(Table::new(outage_grace.as_secs()), metrics)),
            attached: Mutex::new(Attached {
                sessions: HashMap::new(),
                last_epoch: 0,
                revoked_passes: Revoked::new(remember_secs),
                // A session token lives for a day.
                revoked_sessions: Revoked::new(remember_secs + 86_400),
            }),
            changed: watch::Sender::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// What forwarding reads.
    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.plane.metrics
    }

    fn attached(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The controller was last heard of at `at`.
    pub(crate) fn controller_lost(&self, at: u64) {
        self.metrics().connected.set(0);
        self.plane.table_mut().outage_mut().lost(at);
    }

    /// The controller is there.
    pub(crate) fn controller_back(&self, now: u64) {
        self.metrics().connected.set(1);
        self.plane.table_mut().outage_mut().over(now);
    }

    /// Checks a session token without attaching anybody.
    pub(crate) fn check_session(
        &self,
        token: &str,
        peer: &PeerIdentity,
        now: u64,
    ) -> Result<SessionClaims, AdmitError> {
        let told = self.plane.told().ok_or(AdmitError::NotReady)?;
        let outage = self.plane.table().outage();
        let claims = admission::session(token, peer, &told.verifier, &outage, now)?;
        if self.attached().revoked_sessions.contains(&claims.tag, claims.iat) {
            return Err(Refusal::Revoked("session").into());
        }
        Ok(claims)
    }

    /// Attaches a session whose token was checked; whoever held its tag before is closed. Returns its epoch.
    pub(crate) fn attach(
        &self,
        claims: &SessionClaims,
        connection: &quinn::Connection,
        outbox: mpsc::Sender<FromRouter>,
    ) -> Result<u64, AdmitError> {
        let mut attached = self.attached();
        if attached.revoked_sessions.contains(&claims.tag, claims.iat) {
            return Err(Refusal::Revoked("session").into());
        }
        if attached.sessions.len() >= MAX_SESSIONS && !attached.sessions.contains_key(&claims.tag) {
            return Err(AdmitError::NoRoom);
        }
        attached.last_epoch += 1;
        let epoch = attached.last_epoch;
        let seen = place_of(connection);
        let session = Session { epoch, exp: claims.exp, seen, connection: connection.clone(), outbox };
        if let Some(before) = attached.sessions.insert(claims.tag, session) {
            before.connection.close(close::DONE, b"replaced by a new attach of the same session");
        }
        self.plane.table_mut().attach(claims.tag, epoch, seen);
        self.metrics().sessions.set(attached.sessions.len() as i64);
        drop(attached);
        self.bump();
        Ok(epoch)
    }

    /// The session showed a newer token.
    pub(crate) fn prolong(&self, tag: Tag, epoch: u64, exp: u64) {
        if let Some(session) = self.attached().sessions.get_mut(&tag).filter(|s| s.epoch == epoch) {
            session.exp = exp;
        }
    }

    /// The session's connection ended.
    pub(crate) fn detach(&self, tag: Tag, epoch: u64) {
        let mut attached = self.attached();
        if attached.sessions.get(&tag).is_some_and(|s| s.epoch == epoch) {
            attached.sessions.remove(&tag);
        }
        let gone = self.plane.table_mut().detach(tag, epoch);
        self.metrics().sessions.set(attached.sessions.len() as i64);
        let Some(peers) = gone else { return };
        attached.tell_gone(tag, &peers);
        drop(attached);
        self.bump();
    }

    /// Opens the pair of a pass. True: the binder is attached here now.
    pub(crate) fn open(&self, token: &str, presenter: &SessionClaims, now: u64) -> Result<bool, AdmitError> {
        let told = self.plane.told().ok_or(AdmitError::NotReady)?;
        let outage = self.plane.table().outage();
        let claims = admission::pass(token, presenter, &told.id, &told.verifier, &outage, now)?;
        let attached = self.attached();
        if attached.revoked_passes.contains(&claims.jti, claims.iat) {
            return Err(Refusal::Revoked("pass").into());
        }
        let mut table = self.plane.table_mut();
        table.open(Pass { id: claims.jti.into(), a: claims.a, b: claims.b, exp: claims.exp })?;
        self.metrics().pairs.set(table.open_pairs() as i64);
        Ok(table.is_attached(claims.b))
    }

    /// The controller takes back passes and sessions.
    pub(crate) fn revoke(&self, passes: &[String], sessions: &[Tag], now: u64) {
        let mut attached = self.attached();
        let mut table = self.plane.table_mut();
        for pass in passes {
            attached.revoked_passes.insert(pass.clone(), now);
            table.revoke_pass(pass);
        }
        let mut gone = Vec::new();
        for tag in sessions {
            attached.revoked_sessions.insert(*tag, now);
            gone.push((*tag, table.revoke_session(*tag)));
        }
        self.metrics().pairs.set(table.open_pairs() as i64);
        drop(table);
        for (tag, peers) in gone {
            if let Some(session) = attached.sessions.remove(&tag) {
                session.connection.close(close::REFUSED, b"the session was revoked");
            }
            attached.tell_gone(tag, &peers);
        }
        self.metrics().sessions.set(attached.sessions.len() as i64);
        drop(attached);
        self.bump();
    }

    /// Housekeeping, about once per second: forgets what has ended and closes sessions whose token has.
    pub(crate) fn sweep(&self, now: u64) {
        let attached = self.attached();
        let mut table = self.plane.table_mut();
        table.expire(now);
        self.metrics().pairs.set(table.open_pairs() as i64);
        let outage = table.outage();
        drop(table);
        for session in attached.sessions.values().filter(|s| !outage.honours(s.exp, now)) {
            session.connection.close(close::REFUSED, b"the session token has expired");
        }
    }

    /// Follows the sessions to the addresses that their attach connections have now.
    pub(crate) fn follow_addresses(&self) {
        let mut attached = self.attached();
        for (tag, session) in &mut attached.sessions {
            let place = place_of(&session.connection);
            // Only a change counts: a session whose address another one has taken must not take it back.
            if place != session.seen {
                session.seen = place;
                self.plane.table_mut().moved(*tag, session.epoch, place);
                tracing::debug!(%tag, "a session's address changed");
            }
        }
    }

    /// Tells everybody that this router is about to stop.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        for session in self.attached().sessions.values() {
            session.send(Message::Draining(Draining {}));
        }
        self.bump();
    }

    /// Is this router about to stop?
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Tags of the attached sessions.
    pub(crate) fn tags(&self) -> Vec<Tag> {
        self.plane.table().attached()
    }

    /// Number of attached sessions.
    pub(crate) fn session_count(&self) -> usize {
        self.attached().sessions.len()
    }

    /// Counts changes of [`Sessions::tags`] and [`Sessions::is_draining`].
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn bump(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Attached {
    fn tell_gone(&self, tag: Tag, peers: &[Tag]) {
        for session in peers.iter().filter_map(|peer| self.sessions.get(peer)) {
            session.send(Message::PeerGone(PeerGone { tag: tag.0.to_vec() }));
        }
    }
}

impl Session {
    /// A notice: dropped if the node does not read what it is sent; it then finds out by itself, later.
    fn send(&self, message: Message) {
        if self.outbox.try_send(FromRouter { message: Some(message) }).is_err() {
            tracing::debug!("a node does not read its notices");
        }
    }
}

fn place_of(connection: &quinn::Connection) -> Place {
    Place { address: connection.remote_address(), local_ip: connection.local_ip() }
}
