//! Cutting what one receive call returned into runs that can be sent with one call each: pure.
//!
//! The kernel merges datagrams of one sender (GRO) whatever their destination, so one buffer may hold packets for several
//! nodes and for the router. All of them have the same length (the stride), only the last may be shorter. A run of equal
//! destination is again of that shape, so the kernel can cut it up on sending (GSO).

use std::ops::Range;

/// Neighbouring datagrams with the same destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run<K> {
    pub(crate) key: K,
    /// Bytes of the buffer, whole datagrams.
    pub(crate) bytes: Range<usize>,
    pub(crate) datagrams: usize,
}

/// The runs of `buffer`, in order and without a gap; `key` tells a datagram's destination. A `stride` of 0 yields nothing.
pub(crate) fn runs<'a, K: PartialEq>(
    buffer: &'a [u8],
    stride: usize,
    mut key: impl FnMut(&'a [u8]) -> K,
) -> impl Iterator<Item = Run<K>> {
    let mut rest = buffer.chunks(stride.max(1)).take(if stride == 0 { 0 } else { usize::MAX });
    let mut pending: Option<Run<K>> = None;
    let mut at = 0;
    std::iter::from_fn(move || {
        for datagram in rest.by_ref() {
            let (start, end) = (at, at + datagram.len());
            at = end;
            let key = key(datagram);
            match &mut pending {
                Some(run) if run.key == key => {
                    run.bytes.end = end;
                    run.datagrams += 1;
                }
                _ => {
                    if let Some(done) = pending.replace(Run { key, bytes: start..end, datagrams: 1 }) {
                        return Some(done);
                    }
                }
            }
        }
        pending.take()
    })
}

/// The pieces of a run of `len` bytes that may each be sent with one call: at most `max_segments` datagrams of `stride` bytes.
pub(crate) fn pieces(len: usize, stride: usize, max_segments: usize) -> impl Iterator<Item = Range<usize>> {
    let step = stride.max(1) * max_segments.max(1);
    (0..len).step_by(step).map(move |start| start..(start + step).min(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mixed_batch_is_cut_where_the_destination_changes() {
        let buffer = b"a1a2b3a4c5c";
        let got: Vec<_> = runs(buffer, 2, |d| d[0]).map(|r| (r.key, r.bytes, r.datagrams)).collect();
        assert_eq!(got, [(b'a', 0..4, 2), (b'b', 4..6, 1), (b'a', 6..8, 1), (b'c', 8..11, 2)]);
        assert_eq!(runs(b"", 2, |d| d.len()).count(), 0);
        assert_eq!(runs(b"abc", 0, |d| d.len()).count(), 0);
        assert_eq!(runs(b"abc", 9, |d| d.len()).count(), 1);
    }

    #[test]
    fn pieces_stay_under_the_kernels_limit() {
        assert_eq!(pieces(10, 3, 2).collect::<Vec<_>>(), [0..6, 6..10]);
        assert_eq!(pieces(6, 3, 2).count(), 1);
        assert_eq!(pieces(7, 3, 1).collect::<Vec<_>>(), [0..3, 3..6, 6..7]);
        assert_eq!(pieces(0, 3, 1).count(), 0);
    }

    proptest! {
        #[test]
        fn every_datagram_goes_where_it_says_once_and_in_order(
            tags in proptest::collection::vec(0u8..3, 0..40), stride in 1usize..9, cut in 0usize..8, max in 1usize..8,
        ) {
            let mut buffer: Vec<u8> = tags.iter().flat_map(|t| vec![*t; stride]).collect();
            buffer.truncate(buffer.len().saturating_sub(cut.min(stride - 1)));
            let mut out = Vec::new();
            let mut last = None;
            for run in runs(&buffer, stride, |d| d[0]) {
                prop_assert_ne!(last.replace(run.key), Some(run.key), "neighbours are merged");
                prop_assert_eq!(run.datagrams, run.bytes.len().div_ceil(stride));
                for piece in pieces(run.bytes.len(), stride, max) {
                    let sent = &buffer[run.bytes.clone()][piece];
                    prop_assert!(sent.len() <= stride * max);
                    out.extend(sent.chunks(stride).map(|d| (run.key, d.to_vec())));
                }
            }
            let expected: Vec<_> = buffer.chunks(stride).map(|d| (d[0], d.to_vec())).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
