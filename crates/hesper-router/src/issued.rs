//! The router's own connection ids: tag ‖ 4 random bytes ‖ 4 bytes of MAC under a key of this process.
//!
//! The router answers whoever it has accepted before and nobody else. A connection id with a good MAC was issued here, so
//! its sender has completed a knock or watched one who did; anything else is dropped before QUIC could react to it. What
//! names a connection that is over is not answered either: QUIC asks [`ConnectionIdGenerator::validate`] only before it sends
//! a stateless reset, and that is refused always.

use hesper_model::id::Tag;
use hesper_overlay::cid::CID_LEN;
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;
use rand::Rng;
use ring::hmac::{HMAC_SHA256, Key, sign};
use std::time::Duration;

const SIGNED_LEN: usize = 12;

/// Makes and recognises connection ids of this process.
#[derive(Clone)]
pub(crate) struct IssuedIds {
    key: Key,
}

impl IssuedIds {
    /// With a fresh key.
    pub(crate) fn new() -> Self {
        Self { key: Key::new(HMAC_SHA256, &rand::rng().random::<[u8; 32]>()) }
    }

    /// A new connection id that begins with `tag`.
    pub(crate) fn make(&self, tag: Tag) -> [u8; CID_LEN] {
        let mut id = [0; CID_LEN];
        id[..8].copy_from_slice(&tag.0);
        rand::rng().fill(&mut id[8..SIGNED_LEN]);
        let mac = self.mac(&id);
        id[SIGNED_LEN..].copy_from_slice(&mac);
        id
    }

    /// Was this connection id made here? The comparison is of two integers, so its time tells nothing.
    pub(crate) fn issued(&self, id: &[u8; CID_LEN]) -> bool {
        let mut given = [0; CID_LEN - SIGNED_LEN];
        given.copy_from_slice(&id[SIGNED_LEN..]);
        u32::from_be_bytes(given) == u32::from_be_bytes(self.mac(id))
    }

    fn mac(&self, id: &[u8; CID_LEN]) -> [u8; 4] {
        let mut mac = [0; 4];
        mac.copy_from_slice(&sign(&self.key, &id[..SIGNED_LEN]).as_ref()[..4]);
        mac
    }
}

/// What quinn asks for connection ids; the tag is read at each one.
pub(crate) struct Generator<F> {
    pub(crate) ids: IssuedIds,
    pub(crate) tag: F,
}

impl<F: Fn() -> Tag + Send + Sync> ConnectionIdGenerator for Generator<F> {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.ids.make((self.tag)()))
    }
    fn validate(&self, _: &ConnectionId) -> Result<(), InvalidCid> {
        Err(InvalidCid)
    }
    fn cid_len(&self) -> usize {
        CID_LEN
    }
    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_here_is_recognised() {
        let (ids, tag) = (IssuedIds::new(), Tag(*b"a-router"));
        let id = ids.make(tag);
        assert_eq!(id[..8], tag.0);
        assert!(ids.issued(&id));
        assert!(!IssuedIds::new().issued(&id), "another process");
        for bit in 0..CID_LEN * 8 {
            let mut other = id;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!ids.issued(&other), "bit {bit}");
        }
    }
}
