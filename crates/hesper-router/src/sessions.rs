//! What the router's tasks share: the attached sessions, what was revoked, the links, and the plane that the socket reads.
//!
//! Lock order: `attached`, then the links, then `table`. The socket takes the table for reading while it forwards one batch; everybody else
//! holds either lock for a few operations and never across an await.

use crate::{
    admission::{self, Refusal},
    limits::{Identities, Limit},
    link::{Handed, Links, Wire},
    metrics::Metrics,
    plane::Plane,
    quota::SessionRate,
    revoked::Revoked,
    standing::Standing,
    table::{Full, Others, Pass, Place, RouterIx, Table, Ways},
};
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_overlay::transport::close;
use hesper_pki::{credentials::PeerIdentity, token::SessionClaims};
use hesper_proto::overlay::{
    Draining, FromRouter, PeerGone, PeerRestarted, from_router::Message, link_message::Message as LinkWord,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{mpsc, watch};

/// Sessions that one router carries.
pub(crate) const MAX_SESSIONS: usize = 16_384;
/// Longest life of a pass and then some; revocations are remembered for this long and the outage grace.
const PASS_LIFE: Duration = Duration::from_secs(3_600);

/// Looks at a session's connection ([`FOLLOW_INTERVAL`] apart) without any sign of it, after which ways over links are preferred:
/// nodes ping every two seconds or more often. Looks are counted and not time, so that a router that was asleep itself hears
/// first what waits for it.
const QUIET_AFTER: u32 = 11;
/// The same, after which the session is detached: five seconds.
const SILENT_AFTER: u32 = 20;
/// Pause between two looks: the longest time that a node whose address changed stays deaf after its first packet from there.
pub(crate) const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

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
    /// Where its connection was when last looked at, what had been heard over it, and looks since then without a sign.
    seen: Place,
    heard: u64,
    silent: u32,
    connection: quinn::Connection,
    outbox: mpsc::Sender<FromRouter>,
}

struct Attached {
    sessions: HashMap<Tag, Session>,
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
                identities: Identities::default(),
                last_epoch: 0,
                revoked_passes: Revoked::new(remember_secs),
                // A session token lives for a day.
                revoked_sessions: Revoked::new(remember_secs + 86_400),
            }),
            told: watch::Sender::new(0),
            changed: watch::Sender::new(0),
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

    /// Attaches a session of `peer` whose token was checked; whoever held its tag before is closed. Returns its epoch.
    pub(crate) fn attach(
        &self,
        peer: &PeerIdentity,
        claims: &SessionClaims,
        connection: &quinn::Connection,
        outbox: mpsc::Sender<FromRouter>,
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
        let (seen, exp, connection) = (place_of(connection), claims.exp, connection.clone());
        let session = Session { epoch, exp, identity, seen, heard: 0, silent: 0, connection, outbox };
        if let Some(before) = attached.sessions.insert(tag, session) {
            before.connection.close(close::DONE, b"replaced by a new attach of the same session");
        }
        self.plane.table_mut().attach(tag, epoch, seen);
        self.metrics().sessions.set(attached.sessions.len() as i64);
        for tag in older {
            let others = self.plane.table().others(tag);
            self.tell_others(&attached, &others, &restarted(tag));
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

    /// Opens the pair of a pass that its dialer presents.
    pub(crate) fn open(
        &self,
        token: &str,
        presenter: &SessionClaims,
        now: u64,
    ) -> Result<Opened, AdmitError> {
        let told = self.plane.told().ok_or(AdmitError::NotReady)?;
        let outage = self.plane.table().outage();
        let claims = admission::pass(token, presenter, &told.id, &told.verifier, &outage, now)?;
        let attached = self.attached();
        if attached.revoked_passes.contains(&claims.jti, claims.iat) {
            return Err(Refusal::Revoked("pass").into());
        }
        let mut table = self.plane.table_mut();
        let (direct, over) = admission::ways(&claims, &told.id);
        let over: Vec<_> = over.into_iter().filter_map(|id| table.router(id)).collect();
        let token: Option<Arc<str>> = (!over.is_empty()).then(|| token.into());
        let ways = Ways::Dialer { direct, over: over.clone() };
        let (id, a, b, exp) = (claims.jti.into(), claims.a, claims.b, claims.exp);
        table.open(Pass { id, a, b, exp, ways, token: token.clone() })?;
        self.metrics().pairs.set(table.open_pairs() as i64);
        let here = direct && table.is_attached(b);
        Ok(Opened { here, over, handed: token.map(|token| Handed { token, binder: b }) })
    }

    /// Opens the pair of a pass that the router `from` hands over. True: the binder is attached here now.
    pub(crate) fn open_handed(
        &self,
        token: &str,
        from: &EdgeRouterId,
        ix: RouterIx,
        now: u64,
    ) -> Result<bool, AdmitError> {
        let told = self.plane.told().ok_or(AdmitError::NotReady)?;
        let outage = self.plane.table().outage();
        let claims = admission::handed_pass(token, from, &told.id, &told.verifier, &outage, now)?;
        let attached = self.attached();
        if attached.revoked_passes.contains(&claims.jti, claims.iat) {
            return Err(Refusal::Revoked("pass").into());
        }
        let mut table = self.plane.table_mut();
        let (id, a, b, exp) = (claims.jti.into(), claims.a, claims.b, claims.exp);
        table.open(Pass { id, a, b, exp, ways: Ways::Link(ix), token: None })?;
        self.metrics().pairs.set(table.open_pairs() as i64);
        Ok(table.is_attached(b))
    }

    /// A link is up. `None`: there is no room for another router.
    pub(crate) fn link_up(&self, id: &EdgeRouterId, wire: Wire) -> Option<(RouterIx, u64)> {
        let up = self.links.up(id, wire)?;
        self.bump();
        Some(up)
    }

    /// That link is down; those who can no longer reach each other are told.
    pub(crate) fn link_down(&self, ix: RouterIx, epoch: u64) {
        let attached = self.attached();
        self.links.down(ix, epoch);
        let cut = self.plane.table_mut().link_down(ix, epoch).unwrap_or_default();
        for (here, there) in cut {
            attached.tell(&[here], &gone_from_here(there));
        }
        drop(attached);
        self.bump();
    }

    /// The router of this link says that a session is no longer attached there.
    pub(crate) fn gone_there(&self, ix: RouterIx, epoch: u64, tag: Tag) {
        let attached = self.attached();
        let mut table = self.plane.table_mut();
        let concerned = table.over_link(ix, tag);
        if !concerned.is_empty() {
            table.set_absent(ix, epoch, tag, true);
        }
        drop(table);
        attached.tell(&concerned, &gone_from_here(tag));
    }

    /// The router of this link says that the identity of a session has attached there as another session.
    pub(crate) fn restarted_there(&self, ix: RouterIx, tag: Tag) {
        let attached = self.attached();
        let concerned = self.plane.table().over_link(ix, tag);
        attached.tell(&concerned, &restarted(tag));
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
        table.expire(now);
        self.metrics().pairs.set(table.open_pairs() as i64);
        let outage = table.outage();
        drop(table);
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
            // Only a change counts: a session whose address another one has taken must not take it back.
            if place != session.seen {
                session.seen = place;
                self.plane.table_mut().moved(*tag, session.epoch, place);
                tracing::debug!(%tag, "a session's address changed");
            }
            let was_quiet = session.silent >= QUIET_AFTER;
            session.listen();
            let quiet = session.silent >= QUIET_AFTER;
            if quiet != was_quiet {
                self.plane.table_mut().set_quiet(*tag, session.epoch, quiet);
            }
            if session.silent == SILENT_AFTER {
                self.plane.metrics.silent.inc();
                session.connection.close(close::GONE, b"silent");
            }
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

    fn tell_others(&self, attached: &Attached, others: &Others, notice: &Notice) {
        attached.tell(&others.sessions, notice);
        self.links.tell(&others.links, &notice.router);
    }

    fn bump(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

/// What a pass that was presented has opened.
pub(crate) struct Opened {
    /// The binder is attached here now.
    pub(crate) here: bool,
    /// Links that it leads over.
    pub(crate) over: Vec<RouterIx>,
    /// What is to be handed over them.
    pub(crate) handed: Option<Handed>,
}

/// A notice, as nodes and as other routers hear it.
struct Notice {
    node: Message,
    router: LinkWord,
}

fn gone_from_here(tag: Tag) -> Notice {
    let gone = PeerGone { tag: tag.0.to_vec() };
    Notice { node: Message::PeerGone(gone.clone()), router: LinkWord::PeerGone(gone) }
}

fn restarted(tag: Tag) -> Notice {
    let restarted = PeerRestarted { tag: tag.0.to_vec() };
    Notice { node: Message::PeerRestarted(restarted.clone()), router: LinkWord::PeerRestarted(restarted) }
}

impl Attached {
    fn tell(&self, sessions: &[Tag], notice: &Notice) {
        for session in sessions.iter().filter_map(|tag| self.sessions.get(tag)) {
            session.send(notice.node.clone());
        }
    }

    fn remove(&mut self, tag: Tag) -> Option<Session> {
        let session = self.sessions.remove(&tag)?;
        self.identities.detach(&session.identity, tag);
        Some(session)
    }
}

impl Session {
    /// Has anything authenticated come over its connection since the last look?
    fn listen(&mut self) {
        let frames = self.connection.stats().frame_rx;
        let heard = frames.acks + frames.ping + frames.stream;
        if heard == self.heard {
            self.silent = self.silent.saturating_add(1);
        } else {
            (self.heard, self.silent) = (heard, 0);
        }
    }

    /// A notice: dropped if the node does not read what it is sent; it then finds out by itself, later.
    fn send(&self, message: Message) {
        if self.outbox.try_send(FromRouter { message: Some(message) }).is_err() {
            tracing::debug!("a node does not read its notices");
        }
    }
}

/// Where the other end of a connection is now.
pub(crate) fn place_of(connection: &quinn::Connection) -> Place {
    Place { address: connection.remote_address(), local_ip: connection.local_ip() }
}
