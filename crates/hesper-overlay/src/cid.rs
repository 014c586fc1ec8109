//! Connection ids that carry a tag: the first eight bytes say where a packet goes, the rest is random.

use hesper_model::id::Tag;
use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::RngCore;
use std::time::Duration;

/// Length of every connection id that a node or router issues: tag ‖ 8 random bytes.
pub const CID_LEN: usize = 16;
/// Length of the first destination connection id of an attach: a knock (see [`crate::knock`]).
pub const KNOCK_LEN: usize = 20;

/// Issues connection ids of [`CID_LEN`] bytes that begin with one tag.
#[derive(Clone, Debug)]
pub struct TagGenerator(pub Tag);

impl ConnectionIdGenerator for TagGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        fresh_dcid(self.0)
    }
    fn cid_len(&self) -> usize {
        CID_LEN
    }
    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A connection id towards the holder of `tag`: the first destination of a dial, before the peer issued its own.
pub fn fresh_dcid(tag: Tag) -> ConnectionId {
    let mut bytes = [0; CID_LEN];
    bytes[..8].copy_from_slice(&tag.0);
    rand::rng().fill_bytes(&mut bytes[8..]);
    ConnectionId::new(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_begin_with_the_tag_and_differ() {
        let tag = Tag(*b"somenode");
        let mut generator = TagGenerator(tag);
        let (a, b) = (generator.generate_cid(), generator.generate_cid());
        assert_eq!((a.len(), &a[..8]), (CID_LEN, &tag.0[..]));
        assert_ne!(a, b);
    }
}
