//! What the router's tasks share: the attached sessions, what was revoked, the links, and the plane that the socket reads.
//!
//! Lock order: `attached`, then the links, then `table`. The socket takes the table for reading while it forwards one batch; everybody else
//! holds either lock for a few operations and never across an await.

mod doubts;
mod notices;
mod passes;

use crate::{
    admission::{self, Refusal},
    attach::Outbox,
    doubt::Doubt,
    limits::{Identities, Limit},
    link::Links,
    metrics::Metrics,
    plane::Plane,
    quota::SessionRate,
    revoked::Revoked,
    silence::{Look, Silence},
    standing::Standing,
    table::{Full, Place, Table},
};
use hesper_model::id::Tag;
use hesper_overlay::transport::close;
use hesper_pki::{credentials::PeerIdentity, token::SessionClaims};
use hesper_proto::overlay::{Draining, from_router::Message};
use notices::gone_from_here;
pub(crate) use passes::Opened;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Notify, watch};

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
    /// The SPIFFE id of whose it is.
    identity: String,
    /// Where its connection was when last looked at.
    seen: Place,
    silence: Silence,
    quiet: bool,
    doubt: Doubt,
    connection: quinn::Connection,
    outbox: Outbox,
}

struct Attached {
    sessions: HashMap<Tag, Session>,
    /// Those that have been asked whether they are there.
    doubted: BTreeSet<Tag>,
    identities: Identities,
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
    #[error(transparent)]
    Limit(#[from] Limit),
    #[error("this router carries {MAX_SESSIONS} sessions already")]
    NoRoom,
    #[error("this router has not heard from its controller yet")]
    NotReady,
}

/// See the module.
pub(crate) struct Sessions {
    plane: Arc<Plane>,
    attached: Mutex<Attached>,
    links: Links,
    /// Counts the controller's words.
    told: watch::Sender<u64>,
    /// Counts changes of what the controller is told (attached tags, links, draining).
    changed: watch::Sender<u64>,
    /// A session is doubted.
    doubts: Notify,
    draining: AtomicBool,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}

impl Sessions {
    /// Knows nothing yet; `outage_grace` as in [`crate::outage`].
    pub(crate) fn new(metrics: Metrics, outage_grace: Duration, rate: SessionRate) -> Self {
        let remember_secs = (PASS_LIFE + outage_grace).as_secs();
        let plane = Arc::new(Plane::new(Table::new(outage_grace.as_secs()), metrics, rate));
        Self {
            links: Links::new(plane.clone()),
            plane,
            attached: Mutex::new(Attached {
                sessions: HashMap::new(),
                doubted: BTreeSet::new(),
                identities: Identities::default(),
                last_epoch: 0,
                revoked_passes: Revoked::new(remember_secs),
                // A session token lives for a day.
                revoked_sessions: Revoked::new(remember_secs + 86_400),
            }),
            told: watch::Sender::new(0),
            changed: watch::Sender::new(0),
            doubts: Notify::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// The controller's word, whole; it replaces what was told before.
    pub(crate) fn tell(&self, standing: &Standing) {
        self.plane.tell(standing);
        self.links.name(&standing.peers, now_unix());
        self.told.send_modify(|n| *n += 1);
    }

    /// Counts what the controller has told.
    pub(crate) fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// The links to other routers.
    pub(crate) fn links(&self) -> &Links {
        &self.links
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

    /// Somebody has shaken hands and proved who it is.
    pub(crate) fn handshake(&self, peer: &PeerIdentity) -> Result<(), AdmitError> {
        Ok(self.attached().identities.handshake(&peer.id.to_string(), Instant::now())?)
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

    /// Attaches a session of `peer`, which has shaken hands from `seen` and whose token was checked; whoever held its tag before is
    /// closed. Returns its epoch.
    pub(crate) fn attach(
        &self,
        peer: &PeerIdentity,
        claims: &SessionClaims,
        seen: Place,
        connection: &quinn::Connection,
        outbox: Outbox,
    ) -> Result<u64, AdmitError> {
        let tag = claims.tag;
        let mut attached = self.attached();
        if attached.revoked_sessions.contains(&tag, claims.iat) {
            return Err(Refusal::Revoked("session").into());
        }
        if attached.sessions.len() >= MAX_SESSIONS && !attached.sessions.contains_key(&tag) {
            return Err(AdmitError::NoRoom);
        }
        let identity = peer.id.to_string();
        let older = attached.identities.attach(&identity, tag, Instant::now())?;
        attached.last_epoch += 1;
        let epoch = attached.last_epoch;
        let (exp, connection) = (claims.exp, connection.clone());
        let session = Session {
            epoch,
            exp,
            identity,
            seen,
            silence: Silence::default(),
            quiet: false,
            doubt: Doubt::default(),
            connection,
            outbox,
        };
        if let Some(before) = attached.sessions.insert(tag, session) {
            before.connection.close(close::DONE, b"replaced by a new attach of the same session");
        }
        self.plane.table_mut().attach(tag, epoch, seen);
        self.metrics().sessions.set(attached.sessions.len() as i64);
        if attached.doubt(&older) {
            self.doubts.notify_one();
        }
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
            attached.remove(tag);
        }
        let gone = self.plane.table_mut().detach(tag, epoch);
        self.metrics().sessions.set(attached.sessions.len() as i64);
        let Some(others) = gone else { return };
        self.tell_others(&attached, &others, &gone_from_here(tag));
        drop(attached);
        self.bump();
    }

    /// The controller takes back passes and sessions.
    pub(crate) fn revoke(&self, passes: &[String], sessions: &[Tag], now: u64) {
        let mut attached = self.attached();
        let mut table = self.plane.table_mut();
        let mut closed = Vec::new();
        for pass in passes {
            attached.revoked_passes.insert(pass.clone(), now);
            closed.extend(table.revoke_pass(pass));
        }
        let mut gone = Vec::new();
        for tag in sessions {
            attached.revoked_sessions.insert(*tag, now);
            gone.push((*tag, table.revoke_session(*tag)));
        }
        self.metrics().pairs.set(table.open_pairs() as i64);
        drop(table);
        // The controller may not reach both.
        attached.tell_apart(&closed);
        for (tag, others) in gone {
            if let Some(session) = attached.remove(tag) {
                session.connection.close(close::REFUSED, b"the session was revoked");
            }
            self.tell_others(&attached, &others, &gone_from_here(tag));
        }
        self.metrics().sessions.set(attached.sessions.len() as i64);
        drop(attached);
        self.bump();
    }

    /// Housekeeping, about once per second: forgets what has ended and closes sessions whose token has.
    pub(crate) fn sweep(&self, now: u64) {
        self.links.sweep(now);
        let mut attached = self.attached();
        attached.identities.sweep(Instant::now());
        let mut table = self.plane.table_mut();
        let lapsed = table.expire(now);
        self.metrics().pairs.set(table.open_pairs() as i64);
        let outage = table.outage();
        drop(table);
        attached.tell_apart(&lapsed);
        self.plane.forget_quotas(|tag| attached.sessions.contains_key(&tag));
        for session in attached.sessions.values().filter(|s| !outage.honours(s.exp, now)) {
            session.connection.close(close::REFUSED, b"the session token has expired");
        }
    }

    /// Follows the sessions and links to the addresses that their connections have now, and ends sessions that are silent.
    pub(crate) fn follow(&self) {
        self.links.follow_addresses();
        let mut attached = self.attached();
        for (tag, session) in &mut attached.sessions {
            let place = place_of(&session.connection);
            // Only a change counts: a session whose address another one has taken must not take it from there.
            if place != session.seen {
                session.seen = place;
                self.plane.table_mut().moved(*tag, session.epoch, place);
                tracing::debug!(%tag, "a session's address changed");
            } else {
                self.take_back(*tag, session.epoch, place);
            }
            let look = session.silence.look(signs(&session.connection));
            if look == Look::Silent {
                self.plane.metrics.silent.inc();
                session.connection.close(close::GONE, b"silent");
            }
            let quiet = look != Look::Well;
            if quiet != session.quiet {
                session.quiet = quiet;
                self.plane.table_mut().set_quiet(*tag, session.epoch, quiet);
            }
        }
    }

    /// QUIC follows a packet to a new address before that is proven. Whoever sends copies of one session's packets from the address of
    /// another makes the first a guest there until its own next packet; the host must not pay for it.
    fn take_back(&self, tag: Tag, epoch: u64, place: Place) {
        let homeless = self.plane.table().is_homeless(tag);
        if homeless && self.plane.table_mut().stayed(tag, epoch, place) {
            tracing::debug!(%tag, "a session has its address back");
        }
    }

    /// Tells everybody that this router is about to stop.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        for session in self.attached().sessions.values() {
            session.send(Message::Draining(Draining {}));
        }
        self.links.drain();
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

    /// Counts changes of [`Sessions::tags`], of the links that are up, and of [`Sessions::is_draining`].
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn bump(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Attached {
    fn remove(&mut self, tag: Tag) -> Option<Session> {
        let session = self.sessions.remove(&tag)?;
        self.identities.detach(&session.identity, tag);
        Some(session)
    }
}

/// Where the other end of a connection is now.
pub(crate) fn place_of(connection: &quinn::Connection) -> Place {
    Place { address: connection.remote_address(), local_ip: connection.local_ip() }
}

/// What has come over a connection and was authentic; datagrams are counted before that is known.
fn signs(connection: &quinn::Connection) -> u64 {
    let frames = connection.stats().frame_rx;
    frames.acks + frames.ping + frames.stream
}
