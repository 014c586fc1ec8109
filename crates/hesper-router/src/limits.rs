//! What one identity may take of the router's room and time: pure.
//!
//! A node that goes wrong, or one that means harm, is enrolled like any other. Whatever it does it does as its identity, so that is
//! what is counted: its sessions, and how often it shakes hands.

use crate::rate::Rate;
use hesper_model::id::Tag;
use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

/// Sessions that one identity may have attached: programs that share an identity file are few.
pub(crate) const MAX_SESSIONS_PER_IDENTITY: usize = 64;
/// Handshakes of one identity at once (all its sessions come back twice), and per second later on.
const HANDSHAKES: (f64, f64) = (128.0, 8.0);
/// Identities that are remembered; as many as may attach, four times.
const MAX_IDENTITIES: usize = 65_536;

/// Why an identity has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Limit {
    #[error("this identity has {MAX_SESSIONS_PER_IDENTITY} sessions attached here already")]
    Sessions,
    #[error("this identity attaches too often")]
    Handshakes,
    #[error("this router has no room for another identity")]
    Identities,
}

/// What each identity, by its SPIFFE id, has taken.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    of: HashMap<String, Taken>,
}

#[derive(Debug)]
struct Taken {
    tags: BTreeSet<Tag>,
    handshakes: Rate,
}

impl Identities {
    /// It has shaken hands.
    pub(crate) fn handshake(&mut self, id: &str, now: Instant) -> Result<(), Limit> {
        let taken = self.taken(id, now)?;
        if taken.handshakes.try_take(now) { Ok(()) } else { Err(Limit::Handshakes) }
    }

    /// It attaches as `tag`. Returns the tags of its other sessions.
    pub(crate) fn attach(&mut self, id: &str, tag: Tag, now: Instant) -> Result<Vec<Tag>, Limit> {
        let taken = self.taken(id, now)?;
        if taken.tags.len() >= MAX_SESSIONS_PER_IDENTITY && !taken.tags.contains(&tag) {
            return Err(Limit::Sessions);
        }
        taken.tags.insert(tag);
        Ok(taken.tags.iter().copied().filter(|t| *t != tag).collect())
    }

    /// That session is over.
    pub(crate) fn detach(&mut self, id: &str, tag: Tag) {
        if let Some(taken) = self.of.get_mut(id) {
            taken.tags.remove(&tag);
        }
    }

    /// Forgets who has taken nothing lately.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.of.retain(|_, taken| !taken.tags.is_empty() || !taken.handshakes.is_rested(now));
    }

    fn taken(&mut self, id: &str, now: Instant) -> Result<&mut Taken, Limit> {
        if !self.of.contains_key(id) && self.of.len() >= MAX_IDENTITIES {
            return Err(Limit::Identities);
        }
        let new = || Taken { tags: BTreeSet::new(), handshakes: Rate::new(HANDSHAKES.0, HANDSHAKES.1, now) };
        Ok(self.of.entry(id.to_owned()).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tag(n: usize) -> Tag {
        Tag((n as u64).to_be_bytes())
    }

    #[test]
    fn one_identity_has_a_share_of_sessions_and_no_more() {
        let now = Instant::now();
        let mut identities = Identities::default();
        for n in 0..MAX_SESSIONS_PER_IDENTITY {
            assert_eq!(identities.attach("a", tag(n), now).unwrap().len(), n);
        }
        assert_eq!(identities.attach("a", tag(99), now), Err(Limit::Sessions));
        assert_eq!(identities.attach("a", tag(3), now).unwrap().len(), 63, "the same again is no other");
        assert_eq!(identities.attach("b", tag(99), now), Ok(vec![]));
        identities.detach("a", tag(3));
        assert!(identities.attach("a", tag(99), now).unwrap().contains(&tag(2)));
    }

    #[test]
    fn one_identity_shakes_hands_at_its_rate_and_is_forgotten_when_it_rests() {
        let now = Instant::now();
        let mut identities = Identities::default();
        while identities.handshake("a", now).is_ok() {}
        assert_eq!(identities.handshake("a", now), Err(Limit::Handshakes));
        assert_eq!(identities.handshake("b", now), Ok(()), "another's share is its own");
        let later = now + Duration::from_secs(1);
        let good = (0..100).filter(|_| identities.handshake("a", later).is_ok()).count();
        assert_eq!(good, HANDSHAKES.1 as usize);
        identities.sweep(later + Duration::from_secs(3));
        assert_eq!(identities.of.len(), 1, "it has not rested yet");
        identities.sweep(later + Duration::from_secs(60));
        assert!(identities.of.is_empty());
    }
}
