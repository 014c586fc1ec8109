//! Who is here: node sessions by tag, and routers. Pure: `now` comes in, effects go out.
//!
//! A session is connected while its watch is open and lingers for a while after it, so that it can be resumed with its
//! session token. What is gone takes its terminators with it; the caller removes those.

mod routers;

pub(crate) use routers::{LINKS_MAX, Routers};

use hesper_model::id::{EdgeRouterId, IdentityId, Tag};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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

/// Round-trip times that differ by less than this, in microseconds, are the same.
const RTT_SLACK: u32 = 500;

/// Tells one watch of a session or router from the next one.
pub(crate) type Epoch = u64;

/// Routers that a node is attached to or a router is linked with, and their round-trip times in microseconds; 0 = not yet measured.
pub(crate) type Attached = BTreeMap<EdgeRouterId, u32>;

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
    pub(crate) attached: Attached,
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
    #[error(
        "one identity may have {SESSIONS_PER_IDENTITY_MAX} at a time, and all of them are in use; stop a program that runs as it, or enroll \
         another identity for this one"
    )]
    OfIdentity,
    /// In total.
    #[error(
        "this controller keeps {SESSIONS_MAX} at a time, and all of them are in use; stop nodes that nobody needs"
    )]
    InTotal,
}

/// All node sessions and routers.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    nodes: HashMap<Tag, Session>,
    by_identity: HashMap<IdentityId, BTreeSet<Tag>>,
    lingering: BTreeSet<(Instant, Tag)>,
    routers: Routers,
    ended: BTreeSet<(Instant, Tag)>,
    ended_tags: HashSet<Tag>,
    last_epoch: Epoch,
    version: u64,
    view_version: u64,
    paths_version: u64,
}

impl Sessions {
    /// Grows with everything that a dial may wait for.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Grows with everything that nodes are told: hosts that come or go or become dearer, routers.
    pub(crate) fn view_version(&self) -> u64 {
        self.view_version
    }

    /// Grows with everything that ways between nodes depend on: attachments, routers, links, round-trip times.
    pub(crate) fn paths_version(&self) -> u64 {
        self.paths_version
    }

    /// Dialers are to choose among terminators anew.
    pub(crate) fn choices_changed(&mut self) {
        self.view_version += 1;
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
            free && !self.has_ended(*tag)
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
            attached: Attached::new(),
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
        routers: impl IntoIterator<Item = (EdgeRouterId, u32)>,
    ) {
        if !self.is_current(tag, epoch) {
            return;
        }
        let Some(session) = self.nodes.get_mut(&tag) else { return };
        let attached = settled(&session.attached, routers.into_iter().take(ATTACHED_MAX).collect());
        if session.attached == attached {
            return;
        }
        let others = !session.attached.keys().eq(attached.keys());
        session.attached = attached;
        if others {
            self.bump(false);
        }
        self.paths_version += 1;
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

    /// Sessions whose time to come back is over, and whose they were; they are forgotten.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(Tag, IdentityId)> {
        let mut gone = Vec::new();
        while let Some(&(until, tag)) = self.lingering.first()
            && until <= now
        {
            if let Some(session) = self.take(tag) {
                self.bump(session.hosting);
                gone.push((tag, session.identity));
            }
        }
        while self.ended.first().is_some_and(|(until, _)| *until <= now) {
            self.forget_ended();
        }
        gone
    }

    /// When [`Sessions::expire`] has something to do.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.lingering.first().map(|(until, _)| *until)
    }

    /// Ends a session for good, for example because its identity was disabled; it may be one that is not here any more. Its tag is
    /// not given out again while tokens for it may exist. The epoch of its watch, if one is open.
    pub(crate) fn end(&mut self, tag: Tag, now: Instant) -> Option<Epoch> {
        if self.ended_tags.insert(tag) {
            if self.ended.len() >= ENDED_MAX {
                self.forget_ended();
            }
            self.ended.insert((now + ENDED_KEPT, tag));
        }
        let session = self.take(tag)?;
        self.bump(session.hosting);
        match session.phase {
            Phase::Connected(epoch) => Some(epoch),
            Phase::Lingering(_) => None,
        }
    }

    /// Was a session of this tag ended?
    pub(crate) fn has_ended(&self, tag: Tag) -> bool {
        self.ended_tags.contains(&tag)
    }

    fn forget_ended(&mut self) {
        if let Some((_, tag)) = self.ended.pop_first() {
            self.ended_tags.remove(&tag);
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

    /// The routers that are here.
    pub(crate) fn routers(&self) -> &Routers {
        &self.routers
    }

    /// A router's watch opened; an older watch of it counts no more.
    pub(crate) fn open_router(&mut self, id: EdgeRouterId) -> Epoch {
        let epoch = self.next_epoch();
        self.routers.open(id, epoch);
        self.bump(true);
        epoch
    }

    /// The router's watch of this epoch ended. True when the router is gone with it.
    pub(crate) fn close_router(&mut self, id: &EdgeRouterId, epoch: Epoch) -> bool {
        let gone = self.routers.close(id, epoch);
        if gone {
            self.bump(true);
        }
        gone
    }

    /// What a router says about itself; more than [`LINKS_MAX`] links are cut off.
    pub(crate) fn set_router_status(
        &mut self,
        id: &EdgeRouterId,
        epoch: Epoch,
        attached: usize,
        draining: bool,
        links: impl IntoIterator<Item = (EdgeRouterId, u32)>,
    ) {
        let links = links.into_iter().take(LINKS_MAX).collect();
        let changed = self.routers.report(id, epoch, attached, draining, links);
        if changed.usable || changed.links {
            self.bump(changed.usable);
        } else if changed.rtt {
            self.paths_version += 1;
        }
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
        self.paths_version += 1;
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

/// What is reported now, with the round-trip times of before where they have hardly changed: noise is no news.
fn settled(before: &Attached, mut now: Attached) -> Attached {
    for (router, rtt) in &mut now {
        if let Some(old) = before.get(router).filter(|old| **old > 0 && *rtt > 0)
            && rtt.abs_diff(*old) < RTT_SLACK.max(*old / 8)
        {
            *rtt = *old;
        }
    }
    now
}

#[cfg(test)]
mod tests;
