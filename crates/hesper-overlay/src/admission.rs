//! Which streams a hosting node lets in, and when they end: a plain state machine, no clock, no sockets.
//!
//! The rules: a stream lives by a grant that the controller signed for **this dialer** (identity and key that its handshake proved), **this
//! node**, and a terminator bound **here**; it ends with the grant unless a renewal came first; it ends at once when the grant is revoked.
//! All grants of one connection are for one session of the dialer, whose tag is thereby proven.
//! Revoked grants are remembered, so the order in which a dial and its revocation arrive does not matter.
//!
//! While no controller can be reached, grants cannot be renewed by anyone: for the span of the outage (at most [`Admission`]'s grace) the
//! clock that grants are held against stands still. If the controller is lost again while grants of before have not been renewed yet,
//! those are held against the first outage and its grace, and the ones that were renewed in between against the second.

use hesper_model::{
    config::otlp::SenderTerms,
    id::{IdentityId, ServiceId, Tag, TerminatorId},
};
use hesper_pki::token::{GrantClaims, TokenError, Verifier};
use std::collections::{HashMap, HashSet};

/// How long a revocation is remembered, seconds: longer than any grant lives.
const REMEMBER_REVOKED_SECS: u64 = 3600;
/// After an outage, time for the dialers to come back and renew, seconds.
const RENEWAL_SLACK_SECS: u64 = 60;

/// A stream at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A peer connection at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(pub u64);

/// Who dials, as the handshake proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialer {
    /// The identity of the leaf certificate.
    pub id: IdentityId,
    /// SHA-256 of its SubjectPublicKeyInfo, lower-case hexadecimal.
    pub spki_sha256: String,
}

/// Why a stream or a renewal is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The terminator is not bound at this node.
    #[error("terminator {0} is not bound here")]
    NotBound(TerminatorId),
    /// The token itself.
    #[error("the grant is not valid")]
    Token(#[from] TokenError),
    /// A grant for another node.
    #[error("the grant is for another hosting identity")]
    Audience,
    /// A grant for another dialer.
    #[error("the grant is for another dialer")]
    Subject,
    /// A grant for another key of the dialer.
    #[error("the grant is bound to another key")]
    Key,
    /// A grant for another service or terminator than the stream asks for.
    #[error("the grant is for another service or terminator")]
    Target,
    /// A grant for another session than the connection's first one.
    #[error("the grant is for another session of the dialer")]
    Session,
    /// Revoked before.
    #[error("the grant was revoked")]
    Revoked,
}

impl Rejection {
    /// Stable code for the dialer (in `DialResult`).
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotBound(_) => code::INVALID_TERMINATOR,
            Self::Token(TokenError::Expired { .. }) => code::GRANT_EXPIRED,
            Self::Revoked => code::GRANT_REVOKED,
            _ => code::INVALID_GRANT,
        }
    }
}

/// Codes of `DialResult`.
pub mod code {
    /// No such terminator here (any more): ask the controller again.
    pub const INVALID_TERMINATOR: &str = "INVALID_TERMINATOR";
    /// The grant is not for this stream: ask the controller again.
    pub const INVALID_GRANT: &str = "INVALID_GRANT";
    /// The grant ran out: ask the controller again.
    pub const GRANT_EXPIRED: &str = "GRANT_EXPIRED";
    /// The grant was revoked: ask the controller again.
    pub const GRANT_REVOKED: &str = "GRANT_REVOKED";
    /// The hosting program takes no more for now.
    pub const BUSY: &str = "BUSY";
    /// The hosting program said no.
    pub const REFUSED: &str = "REFUSED";
    /// The stream began with something else than a dial.
    pub const PROTOCOL: &str = "PROTOCOL";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    /// Lost at; lost again at, if it was there for a moment only; and found again at.
    Lost {
        since: u64,
        again: u64,
        back: Option<u64>,
    },
}

#[derive(Clone, Debug)]
struct Live {
    peer: PeerId,
    service: ServiceId,
    terminator: TerminatorId,
    grant: String,
    /// What the dialer may send, as the grant that let it in says. The program was told so: see [`Admission::renew`].
    terms: Option<SenderTerms>,
    exp: u64,
}

/// Bound terminators, live streams and revoked grants of one node.
#[derive(Debug)]
pub struct Admission {
    me: IdentityId,
    grace_secs: u64,
    link: Link,
    bound: HashMap<TerminatorId, ServiceId>,
    streams: HashMap<StreamId, Live>,
    revoked: HashMap<String, u64>,
    /// The dialer's session behind each connection, proven by its first admitted grant.
    tags: HashMap<PeerId, Tag>,
}

impl Admission {
    /// For the identity `me`; during an outage grants are honoured for `grace_secs` (0 = never).
    pub fn new(me: IdentityId, grace_secs: u64) -> Self {
        Self {
            me,
            grace_secs,
            link: Link::Up,
            bound: HashMap::new(),
            streams: HashMap::new(),
            revoked: HashMap::new(),
            tags: HashMap::new(),
        }
    }

    /// Streams for this terminator of this service may come.
    pub fn bind(&mut self, terminator: TerminatorId, service: ServiceId) {
        self.bound.insert(terminator, service);
    }

    /// No new ones; those that are open go on by their grants.
    pub fn unbind(&mut self, terminator: &TerminatorId) {
        self.bound.remove(terminator);
    }

    /// The controller is reachable, or not.
    pub fn set_controller(&mut self, reachable: bool, now: u64) {
        self.link = match (self.link, reachable) {
            (Link::Lost { back: None, .. }, false) => self.link,
            // Lost again before the slack was over: what nobody has renewed is still in the first outage.
            (Link::Lost { since, .. }, false) if self.honours(now) => {
                Link::Lost { since, again: now, back: None }
            }
            (Link::Up | Link::Lost { .. }, false) => Link::Lost { since: now, again: now, back: None },
            (Link::Lost { since, again, back: None }, true) => Link::Lost { since, again, back: Some(now) },
            (link, true) => link,
        };
    }

    /// The time that grants are held against: stands still during an outage, until its grace ends.
    fn clock(&self, now: u64) -> u64 {
        self.stands(now).map_or(now, |at| at.min(now))
    }

    /// When it stopped, if it stands.
    fn stands(&self, now: u64) -> Option<u64> {
        let Link::Lost { since, again, back } = self.link else { return None };
        let over = back.is_some_and(|at| now >= at.saturating_add(RENEWAL_SLACK_SECS));
        let honoured = |lost: &u64| now < lost.saturating_add(self.grace_secs);
        [since, again].into_iter().find(|lost| !over && honoured(lost))
    }

    fn honours(&self, now: u64) -> bool {
        self.stands(now).is_some()
    }

    /// Verifies a grant's signature and time. Touches no state, so that it may run outside any lock, before [`Self::admit`] or
    /// [`Self::renew`] on the same machine; `frozen` is [`Self::frozen_clock`].
    pub fn verify(
        verifier: &Verifier,
        grant: &str,
        now: u64,
        frozen: Option<u64>,
    ) -> Result<GrantClaims, TokenError> {
        match (verifier.verify(grant, now), frozen) {
            (Err(TokenError::Expired { .. }), Some(at)) => verifier.verify(grant, at),
            (result, _) => result,
        }
    }

    /// The time at which the clock stands, if it stands.
    pub fn frozen_clock(&self, now: u64) -> Option<u64> {
        self.honours(now).then(|| self.clock(now))
    }

    /// Admits a stream: checks the verified claims against the peer and the target, and registers it, in one step.
    pub fn admit(
        &mut self,
        now: u64,
        stream: StreamId,
        (peer, dialer): (PeerId, &Dialer),
        (service, terminator): (&ServiceId, &TerminatorId),
        claims: &GrantClaims,
    ) -> Result<(), Rejection> {
        if self.bound.get(terminator) != Some(service) {
            return Err(Rejection::NotBound(terminator.clone()));
        }
        self.check(now, (peer, dialer), (service, terminator), claims)?;
        self.tags.insert(peer, claims.tag);
        let live = Live {
            peer,
            service: service.clone(),
            terminator: terminator.clone(),
            grant: claims.jti.clone(),
            terms: claims.otlp.clone(),
            exp: claims.exp,
        };
        self.streams.insert(stream, live);
        Ok(())
    }

    /// A renewal for the streams of one peer connection, service and terminator. Never shortens a life, and never alters what may be sent
    /// over a stream: one that was let in on other terms stays with its older grant, which the controller ends.
    pub fn renew(
        &mut self,
        now: u64,
        (peer, dialer): (PeerId, &Dialer),
        (service, terminator): (&ServiceId, &TerminatorId),
        claims: &GrantClaims,
    ) -> Result<(), Rejection> {
        self.check(now, (peer, dialer), (service, terminator), claims)?;
        let mine = |l: &&mut Live| {
            l.peer == peer
                && l.service == *service
                && l.terminator == *terminator
                && l.terms == claims.otlp
                && l.exp <= claims.exp
        };
        for live in self.streams.values_mut().filter(mine) {
            live.grant = claims.jti.clone();
            live.exp = claims.exp;
        }
        Ok(())
    }

    fn check(
        &self,
        now: u64,
        (peer, dialer): (PeerId, &Dialer),
        (service, terminator): (&ServiceId, &TerminatorId),
        claims: &GrantClaims,
    ) -> Result<(), Rejection> {
        if claims.aud != self.me {
            return Err(Rejection::Audience);
        }
        if claims.sub != dialer.id {
            return Err(Rejection::Subject);
        }
        if claims.cnf != dialer.spki_sha256 {
            return Err(Rejection::Key);
        }
        if claims.service != *service || claims.terminator != *terminator {
            return Err(Rejection::Target);
        }
        if self.tags.get(&peer).is_some_and(|tag| *tag != claims.tag) {
            return Err(Rejection::Session);
        }
        if self.revoked.contains_key(&claims.jti) {
            return Err(Rejection::Revoked);
        }
        if claims.exp <= self.clock(now) {
            return Err(TokenError::Expired { at: instant(claims.exp), now: instant(now) }.into());
        }
        Ok(())
    }

    /// These grants ended before their time. Returns the streams to end; they are forgotten here.
    pub fn revoke<'a>(&mut self, now: u64, grants: impl IntoIterator<Item = &'a str>) -> Vec<StreamId> {
        let until = self.clock(now).saturating_add(REMEMBER_REVOKED_SECS);
        for grant in grants {
            self.revoked.insert(grant.to_owned(), until);
        }
        let revoked = &self.revoked;
        take(&mut self.streams, |live| revoked.contains_key(&live.grant))
    }

    /// Every grant that streams live by ended before its time. As [`revoke`](Self::revoke).
    pub fn revoke_all(&mut self, now: u64) -> Vec<StreamId> {
        let grants: Vec<String> = self.streams.values().map(|live| live.grant.clone()).collect();
        self.revoke(now, grants.iter().map(String::as_str))
    }

    /// Returns the streams whose grant has lapsed; they are forgotten here.
    pub fn expire(&mut self, now: u64) -> Vec<StreamId> {
        if !self.honours(now) && matches!(self.link, Link::Lost { back: Some(_), .. }) {
            self.link = Link::Up;
        }
        let clock = self.clock(now);
        self.revoked.retain(|_, until| *until > clock);
        take(&mut self.streams, |live| live.exp <= clock)
    }

    /// A stream is over by itself.
    pub fn close(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    /// A connection is over.
    pub fn leave(&mut self, peer: PeerId) {
        self.tags.remove(&peer);
    }

    /// The session at the other end of a connection; `None` until a grant was admitted on it.
    pub fn tag(&self, peer: PeerId) -> Option<Tag> {
        self.tags.get(&peer).copied()
    }

    /// Ids of the grants that streams live by.
    pub fn grants(&self) -> HashSet<&str> {
        self.streams.values().map(|live| live.grant.as_str()).collect()
    }

    /// Streams now open.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Is no stream open?
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

fn instant(secs: u64) -> time::OffsetDateTime {
    let at = i64::try_from(secs).ok().and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

fn take(streams: &mut HashMap<StreamId, Live>, ends: impl Fn(&Live) -> bool) -> Vec<StreamId> {
    let mut gone: Vec<StreamId> = streams.iter().filter(|(_, l)| ends(l)).map(|(id, _)| *id).collect();
    gone.sort_unstable();
    gone.iter().for_each(|id| {
        streams.remove(id);
    });
    gone
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
