//! Joining what one receive call returned in several buffers, so that one call sends it on: pure.
//!
//! QUIC sends batches of ten packets, and a fast sender fills many of the router's buffers between two reads. The kernel takes several
//! such batches at once (GSO), and then walks its whole network stack once for all of them, here and at the receiver: a copy is cheaper.

use crate::{send::Batch, table::Place};
use quinn::udp::EcnCodepoint;

/// What the kernel takes as one batch at most: an IP packet's length, less the headers.
const MAX_BATCH: usize = 65_535 - 40 - 8;

/// Datagrams for one place that begin at the front of a buffer. Behind them there may be room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Which of the buffers.
    pub(crate) buffer: usize,
    /// Bytes in it.
    pub(crate) len: usize,
    pub(crate) to: Place,
    stride: usize,
    ecn: Option<EcnCodepoint>,
}

impl Joined {
    /// A batch that is for one place altogether, in this buffer.
    pub(crate) fn new(buffer: usize, batch: &Batch<'_>, to: Place) -> Self {
        let len = batch.bytes.len();
        Self { buffer, len, to, stride: batch.stride.clamp(1, len.max(1)), ecn: batch.ecn }
    }

    /// May `next` follow it in a buffer of `room` bytes, as one batch of `max_segments` datagrams at most?
    pub(crate) fn takes(&self, next: &Self, room: usize, max_segments: usize) -> bool {
        let len = self.len + next.len;
        // All are of one length but the last.
        let is_open = self.len.is_multiple_of(self.stride);
        let is_last = next.len <= self.stride && next.len == next.stride;
        (self.to, self.ecn) == (next.to, next.ecn)
            && is_open
            && (next.stride == self.stride || is_last)
            && len <= room.min(MAX_BATCH)
            && len.div_ceil(self.stride) <= max_segments
    }

    /// It, in its buffer.
    pub(crate) fn batch<'a>(&self, buffer: &'a [u8]) -> Batch<'a> {
        Batch { bytes: &buffer[..self.len], stride: self.stride, ecn: self.ecn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn place(port: u16) -> Place {
        Place { address: SocketAddr::from(([192, 0, 2, 1], port)), local_ip: None }
    }

    fn joined(stride: usize, len: usize) -> Joined {
        Joined::new(0, &Batch { bytes: &vec![0; len], stride, ecn: None }, place(1))
    }

    #[test]
    fn only_the_last_datagram_may_be_shorter() {
        let takes = |a: Joined, b: Joined| a.takes(&b, 1 << 16, 64);
        assert!(takes(joined(100, 300), joined(100, 250)));
        assert!(takes(joined(100, 300), joined(80, 80)), "one, and shorter");
        assert!(takes(joined(100, 100), joined(100, 300)));
        assert!(!takes(joined(100, 250), joined(100, 100)), "there is a shorter one already");
        assert!(!takes(joined(100, 300), joined(80, 160)), "two shorter ones");
        assert!(!takes(joined(100, 300), joined(120, 120)), "a longer one");
        assert!(!takes(joined(100, 300), Joined { to: place(2), ..joined(100, 100) }));
        assert!(!takes(joined(100, 300), Joined { ecn: Some(EcnCodepoint::Ce), ..joined(100, 100) }));
    }

    #[test]
    fn it_stays_within_the_buffer_and_what_the_kernel_takes() {
        let (a, b) = (joined(100, 300), joined(100, 200));
        assert!(a.takes(&b, 500, 5) && !a.takes(&b, 499, 5) && !a.takes(&b, 500, 4));
        let (a, b) = (joined(1_000, 60_000), joined(1_000, 6_000));
        assert!(!a.takes(&b, 1 << 20, 1_000));
    }

    proptest! {
        #[test]
        fn what_is_joined_is_cut_into_the_same_datagrams(
            strides in proptest::collection::vec((1usize..5, 1usize..20), 1..12), max in 1usize..16,
        ) {
            let (mut whole, mut lengths) = (None::<Joined>, Vec::new());
            let cut = |j: &Joined| (0..j.len).step_by(j.stride).map(|at| j.stride.min(j.len - at)).collect::<Vec<_>>();
            for (stride, len) in strides {
                let next = joined(stride, len);
                match &mut whole {
                    Some(joined) if joined.takes(&next, 64, max) => {
                        lengths.extend(cut(&next));
                        joined.len += next.len;
                        prop_assert!(cut(joined).len() <= max && joined.len <= 64);
                        prop_assert_eq!(&cut(joined), &lengths);
                    }
                    _ => {
                        lengths = cut(&next);
                        whole = Some(next);
                    }
                }
            }
        }
    }
}
