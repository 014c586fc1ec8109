//! Who is here: node sessions by tag, and routers. Pure: `now` comes in, effects go out.
//!
//! A session is connected while its watch is open and lingers for a while after it, so that it can be resumed with its
//! session token. What is gone takes its terminators with it; the caller removes those.

use hesper_model::id::{EdgeRouterId, IdentityId, Tag};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

/// Sessions of one identity: one identity file is seldom shared by more than a few programs.
pub(crate) const SESSIONS_PER_IDENTITY_MAX: usize = 64;
/// Sessions in total; each costs about a kilobyte here.
pub(crate) const SESSIONS_MAX: usize = 50_000;
/// Routers that one session may report: nodes attach to two, a reconfiguration may double that.
pub(crate) const ATTACHED_MAX: usize = 16;
/// How long the tag of an ended session is refused: as long as a session token lives.
const ENDED_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Ended sessions remembered; beyond it the oldest is forgotten, and only its token's own end is left.
const ENDED_MAX: usize = 10_000;

/// Tells one watch of a session or router from the next one.
pub(crate) type Epoch = u64;

/// A node session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Whose it is.
    pub(crate) identity: IdentityId,
    /// SHA-256 of the SubjectPublicKeyInfo of its certificate; unknown until a session from before a restart comes back.
    pub(crate) spki_sha256: Option<String>,
    /// Serial of the certificate that opened it.
    pub(crate) serial: String,
    /// Routers that it is attached to, as it says.
    pub(crate) attached: BTreeSet<EdgeRouterId>,
    phase: Phase,
    opened: Epoch,
    hosting: bool,
}

impl Session {
    /// Is its watch open?
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected(_))
    }

    /// Could another watch by this identity and key take it over?
    fn resumable_by(&self, identity: &IdentityId, spki_sha256: &str) -> bool {
        self.identity == *identity && self.spki_sha256.as_deref().is_none_or(|spki| spki == spki_sha256)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connected(Epoch),
    Lingering(Instant),
}

/// A router whose watch is open.
#[derive(Clone, Debug, Default)]
struct Router {
    epoch: Epoch,
    draining: bool,
    attached: usize,
}

/// Who opens a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opener<'a> {
    /// Whose certificate it is.
    pub(crate) identity: &'a IdentityId,
    /// SHA-256 of its SubjectPublicKeyInfo, lower-case hexadecimal.
    pub(crate) spki_sha256: &'a str,
    /// Its serial.
    pub(crate) serial: &'a str,
}

/// A session that was opened or resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Its tag.
    pub(crate) tag: Tag,
    /// Of this watch; reports and the end of another watch are ignored.
    pub(crate) epoch: Epoch,
    /// Was it there before?
    pub(crate) resumed: bool,
}

/// No further session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMany {
    /// Of this identity.
    #[error("this identity has {SESSIONS_PER_IDENTITY_MAX} sessions already")]
    OfIdentity,
    /// In total.
    #[error("the controller has {SESSIONS_MAX} sessions already")]
    InTotal,
}

/// All node sessions and routers.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    nodes: HashMap<Tag, Session>,
    by_identity: HashMap<IdentityId, BTreeSet<Tag>>,
    lingering: BTreeSet<(Instant, Tag)>,
    routers: BTreeMap<EdgeRouterId, Router>,
    ended: BTreeSet<(Instant, Tag)>,
    last_epoch: Epoch,
    version: u64,
    view_version: u64,
}

impl Sessions {
    /// Grows with everything that a dial may wait for.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Grows with everything that nodes are told: hosts that come or go, routers.
    pub(crate) fn view_version(&self) -> u64 {
        self.view_version
    }

    /// Opens a session for a watch: the one with the tag `resume` when this identity and key may have it, else a new one with
    /// the random tag `fresh`. A session unknown here (from before a restart) is taken up again under its tag.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(crate) fn open(
        &mut self,
        who: &Opener<'_>,
        resume: Option<Tag>,
        fresh: Tag,
    ) -> Result<Opened, TooMany> {
        let resume = resume.filter(|tag| {
            let free = self.nodes.get(tag).is_none_or(|s| s.resumable_by(who.identity, who.spki_sha256));
            free && !self.ended().any(|ended| ended == *tag)
        });
        let known = resume.filter(|tag| self.nodes.contains_key(tag));
        if known.is_none() {
            if self.nodes.len() >= SESSIONS_MAX {
                return Err(TooMany::InTotal);
            }
            if self.of_identity(who.identity).count() >= SESSIONS_PER_IDENTITY_MAX {
                // A program that starts again and again takes the place of its own earlier starts.
                let oldest = self.longest_gone(who.identity).ok_or(TooMany::OfIdentity)?;
                self.take(oldest);
                self.bump(true);
            }
        }
        let (tag, epoch) = (resume.unwrap_or(fresh), self.next_epoch());
        let old = self.take(tag);
        let session = Session {
            identity: who.identity.clone(),
            spki_sha256: Some(who.spki_sha256.to_owned()),
            serial: who.serial.to_owned(),
            attached: old.as_ref().map(|s| s.attached.clone()).unwrap_or_default(),
            phase: Phase::Connected(epoch),
            opened: epoch,
            hosting: old.is_some_and(|s| s.hosting),
        };
        self.bump(session.hosting);
        self.insert(tag, session);
        Ok(Opened { tag, epoch, resumed: resume.is_some() })
    }

    /// A session that hosts stored terminators, as found when the controller starts; it lingers.
    pub(crate) fn restore(&mut self, tag: Tag, identity: IdentityId, until: Instant) {
        if self.nodes.contains_key(&tag) {
            return;
        }
        let session = Session {
            identity,
            spki_sha256: None,
            serial: String::new(),
            attached: BTreeSet::new(),
            phase: Phase::Lingering(until),
            opened: 0,
            hosting: true,
        };
        self.insert(tag, session);
    }

    /// The watch of this epoch ended; the session lingers.
    pub(crate) fn close(&mut self, tag: Tag, epoch: Epoch, until: Instant) {
        if !self.is_current(tag, epoch) {
            return;
        }
        if let Some(mut session) = self.take(tag) {
            session.phase = Phase::Lingering(until);
            self.bump(session.hosting);
            self.insert(tag, session);
        }
    }

    /// Is this the watch that the session lives by?
    pub(crate) fn is_current(&self, tag: Tag, epoch: Epoch) -> bool {
        self.nodes.get(&tag).is_some_and(|s| s.phase == Phase::Connected(epoch))
    }

    /// The routers that a session says it is attached to; more than [`ATTACHED_MAX`] are cut off.
    pub(crate) fn set_attached(
        &mut self,
        tag: Tag,
        epoch: Epoch,
        routers: impl IntoIterator<Item = EdgeRouterId>,
    ) {
        if !self.is_current(tag, epoch) {
            return;
        }
        let attached: BTreeSet<_> = routers.into_iter().take(ATTACHED_MAX).collect();
        if let Some(session) = self.nodes.get_mut(&tag)
            && session.attached != attached
        {
            session.attached = attached;
            self.bump(false);
        }
    }

    /// The session hosts something now, so that others are told when it goes and comes.
    pub(crate) fn set_hosting(&mut self, tag: Tag) {
        if let Some(session) = self.nodes.get_mut(&tag)
            && !session.hosting
        {
            session.hosting = true;
            self.bump(true);
        }
    }

    /// Sessions whose time to come back is over; they are forgotten.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Tag> {
        let mut gone = Vec::new();
        while let Some(&(until, tag)) = self.lingering.first()
            && until <= now
        {
            if let Some(session) = self.take(tag) {
                self.bump(session.hosting);
                gone.push(tag);
            }
        }
        while self.ended.first().is_some_and(|(until, _)| *until <= now) {
            self.ended.pop_first();
        }
        gone
    }

    /// When [`Sessions::expire`] has something to do.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.lingering.first().map(|(until, _)| *until)
    }

    /// Ends a session for good, for example because its identity was disabled. Its tag is not given out again while tokens
    /// for it may exist. The epoch of its watch, if one is open.
    pub(crate) fn end(&mut self, tag: Tag, now: Instant) -> Option<Epoch> {
        let session = self.take(tag)?;
        self.bump(session.hosting);
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_first();
        }
        self.ended.insert((now + ENDED_KEPT, tag));
        match session.phase {
            Phase::Connected(epoch) => Some(epoch),
            Phase::Lingering(_) => None,
        }
    }

    /// Tags of sessions that were ended and whose tokens may still be valid: routers must not accept them.
    pub(crate) fn ended(&self) -> impl Iterator<Item = Tag> {
        self.ended.iter().map(|(_, tag)| *tag)
    }

    /// A session, connected or lingering.
    pub(crate) fn get(&self, tag: Tag) -> Option<&Session> {
        self.nodes.get(&tag)
    }

    /// Every session, connected or lingering.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tag, &Session)> {
        self.nodes.iter().map(|(tag, session)| (*tag, session))
    }

    /// The sessions of an identity.
    pub(crate) fn of_identity<'a>(&'a self, id: &IdentityId) -> impl Iterator<Item = (Tag, &'a Session)> {
        let tags = self.by_identity.get(id).into_iter().flatten();
        tags.filter_map(|tag| self.nodes.get(tag).map(|session| (*tag, session)))
    }

    /// The connected session that the identity opened last: the caller's, where a call does not name one.
    pub(crate) fn newest_of(&self, id: &IdentityId) -> Option<Tag> {
        let connected = self.of_identity(id).filter(|(_, s)| s.is_connected());
        connected.max_by_key(|(_, s)| s.opened).map(|(tag, _)| tag)
    }

    /// A router's watch opened; an older watch of it counts no more.
    pub(crate) fn open_router(&mut self, id: EdgeRouterId) -> Epoch {
        let epoch = self.next_epoch();
        self.routers.insert(id, Router { epoch, ..Router::default() });
        self.bump(true);
        epoch
    }

    /// The router's watch of this epoch ended.
    pub(crate) fn close_router(&mut self, id: &EdgeRouterId, epoch: Epoch) {
        if self.routers.get(id).is_some_and(|r| r.epoch == epoch) {
            self.routers.remove(id);
            self.bump(true);
        }
    }

    /// What a router says about itself.
    pub(crate) fn set_router_status(
        &mut self,
        id: &EdgeRouterId,
        epoch: Epoch,
        attached: usize,
        draining: bool,
    ) {
        let Some(router) = self.routers.get_mut(id).filter(|r| r.epoch == epoch) else { return };
        let changed = router.draining != draining;
        (router.attached, router.draining) = (attached, draining);
        if changed {
            self.bump(true);
        }
    }

    /// Is the router's watch open?
    pub(crate) fn router_is_online(&self, id: &EdgeRouterId) -> bool {
        self.routers.contains_key(id)
    }

    /// May new dials go through the router?
    pub(crate) fn router_is_usable(&self, id: &EdgeRouterId) -> bool {
        self.routers.get(id).is_some_and(|r| !r.draining)
    }

    /// Connected sessions, and routers online.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.nodes.len() - self.lingering.len(), self.routers.len())
    }

    fn longest_gone(&self, id: &IdentityId) -> Option<Tag> {
        let lingering = self.of_identity(id).filter_map(|(tag, s)| match s.phase {
            Phase::Lingering(until) => Some((until, tag)),
            Phase::Connected(_) => None,
        });
        lingering.min().map(|(_, tag)| tag)
    }

    fn next_epoch(&mut self) -> Epoch {
        self.last_epoch += 1;
        self.last_epoch
    }

    fn bump(&mut self, told_to_nodes: bool) {
        self.version += 1;
        self.view_version += u64::from(told_to_nodes);
    }

    fn insert(&mut self, tag: Tag, session: Session) {
        self.by_identity.entry(session.identity.clone()).or_default().insert(tag);
        if let Phase::Lingering(until) = session.phase {
            self.lingering.insert((until, tag));
        }
        self.nodes.insert(tag, session);
    }

    fn take(&mut self, tag: Tag) -> Option<Session> {
        let session = self.nodes.remove(&tag)?;
        if let Phase::Lingering(until) = session.phase {
            self.lingering.remove(&(until, tag));
        }
        if let Some(tags) = self.by_identity.get_mut(&session.identity) {
            tags.remove(&tag);
            if tags.is_empty() {
                self.by_identity.remove(&session.identity);
            }
        }
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINGER: Duration = Duration::from_secs(30);

    fn tag(n: u8) -> Tag {
        Tag([n; 8])
    }

    fn id(name: &str) -> IdentityId {
        IdentityId::new(name)
    }

    fn open(s: &mut Sessions, who: &str, key: &str, resume: Option<Tag>, fresh: u8) -> Opened {
        let opener = Opener { identity: &id(who), spki_sha256: key, serial: "01" };
        s.open(&opener, resume, tag(fresh)).expect("room for a session")
    }

    #[test]
    fn a_session_lingers_and_is_resumed_by_its_own_key_only() {
        let (mut s, t0) = (Sessions::default(), Instant::now());
        let first = open(&mut s, "a", "k", None, 1);
        assert!(!first.resumed && s.get(tag(1)).is_some_and(Session::is_connected));
        s.close(first.tag, first.epoch, t0 + LINGER);
        assert!(!s.get(tag(1)).is_some_and(Session::is_connected));
        assert_eq!(open(&mut s, "b", "k2", Some(tag(1)), 2).tag, tag(2), "another identity");
        assert_eq!(open(&mut s, "a", "other", Some(tag(1)), 3).tag, tag(3), "another key");
        let again = open(&mut s, "a", "k", Some(tag(1)), 4);
        assert!(again.resumed && again.tag == tag(1));
        assert!(s.expire(t0 + LINGER * 2).is_empty(), "connected again");
        s.close(again.tag, again.epoch, t0 + LINGER);
        assert_eq!(s.expire(t0 + LINGER), [tag(1)]);
        assert!(s.get(tag(1)).is_none());
    }

    #[test]
    fn the_end_of_an_older_watch_changes_nothing() {
        let (mut s, t0) = (Sessions::default(), Instant::now());
        let first = open(&mut s, "a", "k", None, 1);
        let second = open(&mut s, "a", "k", Some(tag(1)), 2);
        s.close(first.tag, first.epoch, t0 + LINGER);
        s.set_attached(first.tag, first.epoch, [EdgeRouterId::new("r")]);
        assert!(s.is_current(tag(1), second.epoch) && s.get(tag(1)).is_some_and(|n| n.attached.is_empty()));
        let (old, new) = (s.open_router(EdgeRouterId::new("r")), s.open_router(EdgeRouterId::new("r")));
        s.close_router(&EdgeRouterId::new("r"), old);
        assert!(s.router_is_online(&EdgeRouterId::new("r")));
        s.set_router_status(&EdgeRouterId::new("r"), new, 3, true);
        assert!(!s.router_is_usable(&EdgeRouterId::new("r")) && s.router_is_online(&EdgeRouterId::new("r")));
    }

    #[test]
    fn after_a_restart_stored_sessions_have_their_grace() {
        let (mut s, t0) = (Sessions::default(), Instant::now());
        s.restore(tag(1), id("a"), t0 + LINGER);
        s.restore(tag(2), id("a"), t0 + LINGER);
        assert_eq!(s.next_expiry(), Some(t0 + LINGER));
        assert_eq!(
            open(&mut s, "b", "k", Some(tag(1)), 9).tag,
            tag(9),
            "a restored session is still its identity's"
        );
        assert!(open(&mut s, "a", "k", Some(tag(1)), 8).resumed);
        assert!(open(&mut s, "c", "k", Some(tag(3)), 7).resumed, "unknown here: taken up under its tag");
        assert_eq!(s.expire(t0 + LINGER), [tag(2)]);
    }

    #[test]
    fn an_ended_session_does_not_come_back_by_its_token() {
        let (mut s, t0) = (Sessions::default(), Instant::now());
        let opened = open(&mut s, "a", "k", None, 1);
        assert_eq!(s.end(tag(1), t0), Some(opened.epoch));
        assert_eq!(s.end(tag(1), t0), None);
        assert_eq!(open(&mut s, "a", "k", Some(tag(1)), 2).tag, tag(2));
        assert_eq!(s.ended().collect::<Vec<_>>(), [tag(1)]);
        s.expire(t0 + ENDED_KEPT);
        assert_eq!(s.ended().count(), 0);
    }

    #[test]
    fn only_what_nodes_are_told_moves_the_view() {
        let (mut s, t0) = (Sessions::default(), Instant::now());
        let a = open(&mut s, "a", "k", None, 1);
        s.set_attached(a.tag, a.epoch, [EdgeRouterId::new("r")]);
        s.close(a.tag, a.epoch, t0 + LINGER);
        assert_eq!(s.view_version(), 0);
        assert_eq!(s.version(), 3);
        let a = open(&mut s, "a", "k", Some(tag(1)), 2);
        s.set_hosting(a.tag);
        let told = s.view_version();
        s.set_hosting(a.tag);
        assert_eq!(s.view_version(), told);
        s.close(a.tag, a.epoch, t0 + LINGER);
        assert!(s.view_version() > told);
    }

    #[test]
    fn one_identity_cannot_take_every_session() {
        let mut s = Sessions::default();
        for n in 0..SESSIONS_PER_IDENTITY_MAX {
            open(&mut s, "a", "k", None, n as u8);
        }
        let opener = Opener { identity: &id("a"), spki_sha256: "k", serial: "01" };
        assert_eq!(s.open(&opener, None, tag(200)), Err(TooMany::OfIdentity));
        assert!(
            s.open(&opener, Some(tag(3)), tag(200)).is_ok_and(|o| o.resumed),
            "its own are still resumed"
        );
        open(&mut s, "b", "k", None, 201);
        let first = open(&mut s, "a", "k", Some(tag(3)), 0);
        s.close(first.tag, first.epoch, Instant::now());
        assert_eq!(open(&mut s, "a", "k", None, 202).tag, tag(202));
        assert!(s.get(tag(3)).is_none(), "the one that was gone made room");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open { who: u8, resume: Option<u8>, fresh: u8 },
        Close { watch: usize },
        End { tag: u8 },
        Wait { seconds: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..3, proptest::option::of(0u8..12), 0u8..12).prop_map(|(who, resume, fresh)| Step::Open {
                who,
                resume,
                fresh: fresh + 100
            }),
            (0usize..20).prop_map(|watch| Step::Close { watch }),
            (0u8..12).prop_map(|tag| Step::End { tag }),
            (0u64..40).prop_map(|seconds| Step::Wait { seconds }),
        ]
    }

    proptest! {
        #[test]
        fn the_indexes_agree_whatever_happens(steps in proptest::collection::vec(step(), 0..80)) {
            let (mut s, mut now) = (Sessions::default(), Instant::now());
            let mut watches = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Open { who, resume, fresh } => {
                        // Tags are random in life: a fresh one is never one that exists.
                        let fresh = Tag([fresh, n as u8, 0, 0, 0, 0, 0, 0]);
                        let who = id(&who.to_string());
                        let opener = Opener { identity: &who, spki_sha256: who.as_str(), serial: "" };
                        watches.push(s.open(&opener, resume.map(tag), fresh).expect("room"));
                    }
                    Step::Close { watch } => if let Some(w) = watches.get(watch) { s.close(w.tag, w.epoch, now + LINGER); },
                    Step::End { tag: t } => drop(s.end(tag(t), now)),
                    Step::Wait { seconds } => { now += Duration::from_secs(seconds); s.expire(now); }
                }
                let lingering = s.nodes.values().filter(|n| !n.is_connected()).count();
                prop_assert_eq!(lingering, s.lingering.len());
                prop_assert_eq!(s.nodes.len(), s.by_identity.values().map(BTreeSet::len).sum::<usize>());
                prop_assert!(s.by_identity.iter().all(|(i, tags)| tags.iter().all(|t| s.nodes[t].identity == *i)));
                prop_assert!(s.ended().all(|t| !s.nodes.contains_key(&t)));
                prop_assert!(s.next_expiry().is_none_or(|at| at <= now + LINGER));
            }
        }
    }
}
