//! Memory for a request.
//!
//! A small one is on the heap. A large one gets pages of its own, and the system has them back the moment it is gone: on a heap, buffers of
//! megabytes that many threads grow and drop leave holes, and what is resident becomes twice what is counted.

use bytes::Bytes;
use memmap2::{Advice, MmapMut};

/// From so many bytes on it has its own pages.
const LARGE: usize = 512 << 10;
/// Address space for one request at once. More is for few, and is copied when it is needed.
const ADDRESSES: usize = 128 << 20;

/// Bytes, one after the other.
#[derive(Debug, Default)]
pub struct Room {
    place: Place,
    len: usize,
    /// How many there can be.
    most: usize,
}

#[derive(Debug)]
enum Place {
    /// What is in it beyond the bytes is zero, or was read into and not used.
    Heap(Vec<u8>),
    /// Address space for all that may come; pages come as they are written.
    Pages(MmapMut),
}

/// The pages of one that is complete.
struct Pages {
    map: MmapMut,
    len: usize,
}

impl Default for Place {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

impl Room {
    /// For so many bytes at most.
    pub fn new(most: usize) -> Self {
        Self { place: Place::default(), len: 0, most }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// None yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes sure that so many bytes have a place, all in all.
    pub fn reserve(&mut self, total: usize) {
        let before = match &mut self.place {
            Place::Heap(heap) if total < LARGE => {
                return heap.reserve_exact(total.saturating_sub(heap.len()));
            }
            Place::Pages(map) if total <= map.len() => return,
            Place::Heap(heap) => &heap[..self.len],
            Place::Pages(map) => &map[..self.len],
        };
        let size = self.most.min(total.saturating_mul(2).max(ADDRESSES)).max(total);
        let Ok(mut map) = MmapMut::map_anon(size).or_else(|_| MmapMut::map_anon(total)) else {
            // No system of pages, or none left: the heap knows what to do then.
            let mut heap = Vec::with_capacity(total);
            heap.extend_from_slice(before);
            self.place = Place::Heap(heap);
            return;
        };
        // A huge page would be there as a whole for its first byte. Where that is not known, there are none.
        let _ = map.advise(Advice::NoHugePage);
        map[..self.len].copy_from_slice(before);
        self.place = Place::Pages(map);
    }

    /// Adds bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        let total = self.len + bytes.len();
        if total >= LARGE {
            self.reserve(total);
        }
        match &mut self.place {
            Place::Heap(heap) => {
                heap.truncate(self.len);
                heap.extend_from_slice(bytes);
            }
            Place::Pages(map) => map[self.len..total].copy_from_slice(bytes),
        }
        self.len = total;
    }

    /// What can be written to, up to so many bytes all in all, for which room was [reserved](Self::reserve). [`Self::wrote`] tells how much was.
    pub fn free(&mut self, total: usize) -> &mut [u8] {
        let place = match &mut self.place {
            Place::Heap(heap) => {
                if heap.len() < total {
                    heap.resize(total, 0);
                }
                &mut heap[..]
            }
            Place::Pages(map) => &mut map[..],
        };
        &mut place[self.len..total]
    }

    /// So many bytes were written to what was free.
    pub fn wrote(&mut self, bytes: usize) {
        self.len += bytes;
    }

    /// All of it.
    pub fn into_bytes(self) -> Bytes {
        match self.place {
            Place::Heap(mut heap) => {
                heap.truncate(self.len);
                if heap.capacity() - heap.len() > heap.len() / 4 {
                    heap.shrink_to_fit();
                }
                heap.into()
            }
            Place::Pages(map) => Bytes::from_owner(Pages { map, len: self.len }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is added in whatever way, across the border between heap and pages: it comes out as it went in.
        #[test]
        fn what_goes_in_comes_out(pieces in prop::collection::vec((any::<u8>(), 0usize..600_000, any::<bool>()), 0..6)) {
            let most: usize = pieces.iter().map(|(_, len, _)| len).sum();
            let (mut room, mut all) = (Room::new(most), Vec::new());
            for (byte, len, added) in pieces {
                let piece = vec![byte; len];
                if added {
                    room.extend(&piece);
                } else {
                    // More room than is used.
                    let total = (room.len() + len + 7).min(most);
                    room.reserve(total);
                    room.free(total)[..len].copy_from_slice(&piece);
                    room.wrote(len);
                }
                all.extend(piece);
                prop_assert_eq!(room.len(), all.len());
            }
            let large = matches!(room.place, Place::Pages(_));
            prop_assert!(large || all.len() < LARGE);
            prop_assert!(room.into_bytes() == all);
        }
    }
}
