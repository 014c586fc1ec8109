//! Whose session tokens are out: by them a tag is accepted at routers for a day, whether its node talks to this controller or not. Pure.
//!
//! They are kept in the store too, so that a session whose owner was deleted, disabled or lost its certificate while the controller was
//! down, or after its node had stopped talking to the controller, is ended at the routers all the same.

use hesper_model::id::{IdentityId, Tag};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// Prefix of the records: `session/<tag>`.
pub(crate) const SESSION: &str = "session/";

/// Who holds the tokens of one tag: `session/<tag>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Holder {
    /// Whose session it is.
    pub(crate) identity: IdentityId,
    /// SHA-256 of the SubjectPublicKeyInfo that the tokens are good for, lower-case hexadecimal.
    pub(crate) spki_sha256: String,
    /// Serial of the certificate that opened it.
    pub(crate) serial: String,
    /// When the last token has expired for sure, seconds since the epoch.
    pub(crate) expires_at: u64,
    /// Routers must not accept them any more.
    #[serde(default)]
    pub(crate) ended: bool,
}

/// Every session token that may be out.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_tag: HashMap<Tag, Holder>,
    by_expiry: BTreeSet<(u64, Tag)>,
}

impl Tokens {
    /// What is on record already, when the controller starts.
    pub(crate) fn restore(&mut self, tag: Tag, holder: Holder) {
        self.put(tag, holder);
    }

    /// A token for the tag is about to be given out. What to write before, if the record does not cover it yet.
    pub(crate) fn cover(&mut self, tag: Tag, holder: Holder, token_ends: u64) -> Option<Holder> {
        let covered = self.by_tag.get(&tag).is_some_and(|known| {
            let Holder { identity, spki_sha256, serial: _, expires_at, ended } = known;
            *identity == holder.identity
                && *spki_sha256 == holder.spki_sha256
                && *expires_at >= token_ends
                && !ended
        });
        if covered {
            return None;
        }
        self.put(tag, holder.clone());
        Some(holder)
    }

    /// The tokens of the tag count no more. What to write, if that is new.
    pub(crate) fn end(&mut self, tag: Tag) -> Option<Holder> {
        let holder = self.by_tag.get_mut(&tag).filter(|h| !h.ended)?;
        holder.ended = true;
        Some(holder.clone())
    }

    /// Forgets the tags of which no token can be valid any more; their records may go.
    pub(crate) fn expire(&mut self, now_unix: u64) -> Vec<Tag> {
        let mut gone = Vec::new();
        while let Some(&(at, tag)) = self.by_expiry.first()
            && at <= now_unix
        {
            self.by_expiry.pop_first();
            self.by_tag.remove(&tag);
            gone.push(tag);
        }
        gone
    }

    /// Tags whose tokens count.
    pub(crate) fn live(&self) -> impl Iterator<Item = (Tag, &Holder)> {
        self.by_tag.iter().filter(|(_, holder)| !holder.ended).map(|(tag, holder)| (*tag, holder))
    }

    /// Who holds the tokens of the tag, if they count.
    pub(crate) fn holder(&self, tag: Tag) -> Option<&Holder> {
        self.by_tag.get(&tag).filter(|holder| !holder.ended)
    }

    /// Tags whose tokens were ended.
    pub(crate) fn ended(&self) -> impl Iterator<Item = Tag> {
        self.by_tag.iter().filter(|(_, holder)| holder.ended).map(|(tag, _)| *tag)
    }

    fn put(&mut self, tag: Tag, holder: Holder) {
        let expires_at = holder.expires_at;
        if let Some(old) = self.by_tag.insert(tag, holder) {
            self.by_expiry.remove(&(old.expires_at, tag));
        }
        self.by_expiry.insert((expires_at, tag));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(who: &str, expires_at: u64) -> Holder {
        let (spki_sha256, serial) = (format!("key-of-{who}"), "1".to_owned());
        Holder { identity: IdentityId::new(who), spki_sha256, serial, expires_at, ended: false }
    }

    #[test]
    fn a_record_is_written_when_it_does_not_cover_the_token() {
        let (mut tokens, tag) = (Tokens::default(), Tag([1; 8]));
        assert_eq!(tokens.cover(tag, holder("a", 200), 100), Some(holder("a", 200)));
        assert_eq!(tokens.cover(tag, holder("a", 250), 200), None);
        assert_eq!(tokens.cover(tag, holder("a", 300), 201), Some(holder("a", 300)));
        assert_eq!(tokens.live().count(), 1);
        let ended = tokens.end(tag).expect("it was live");
        assert!(ended.ended && tokens.end(tag).is_none());
        assert_eq!((tokens.live().count(), tokens.ended().collect::<Vec<_>>()), (0, vec![tag]));
        assert_eq!((tokens.expire(299), tokens.expire(300)), (vec![], vec![tag]));
        assert!(tokens.by_tag.is_empty() && tokens.by_expiry.is_empty());
    }
}
