//! What a segment looks like on disk: encode and decode, and nothing else. The format is told in `lib.rs`.

use crate::Entry;
use crc32c::{crc32c, crc32c_append};

/// First bytes of a segment; the last one is the version of the format.
const MAGIC: [u8; 8] = *b"HESPERQ1";
/// One copy of the segment's header.
const COPY: usize = 40;
/// Bytes before the first record: the header, twice.
pub(crate) const SEGMENT_HEADER: usize = 2 * COPY;
/// Bytes of a record before its header and payload.
pub(crate) const RECORD_HEADER: usize = 32;
/// Bytes of a record's mark.
pub(crate) const MARK: usize = 4;
/// What the names of segments end with.
const EXTENSION: &str = ".seg";

/// The beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Sequence number of its first record, also its name.
    pub(crate) base: u64,
    /// When it was begun, ms since 1970.
    pub(crate) time_ms: u64,
    /// Random; goes into the checksum of every record.
    pub(crate) salt: u64,
    /// Random; the first bytes of every record.
    pub(crate) mark: u32,
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) time_ms: u64,
    pub(crate) header_len: usize,
    /// The whole record on disk, bytes.
    pub(crate) size: u64,
    checksum: u32,
}

/// The name of the segment that begins with `base`.
pub(crate) fn file_name(base: u64) -> String {
    format!("{base:020}{EXTENSION}")
}

/// The first sequence number of the segment of that name; `None` for any other file.
pub(crate) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// Bytes that a record with this entry takes on disk.
pub(crate) fn size_of(entry: &Entry) -> u64 {
    (RECORD_HEADER + entry.header.len() + entry.payload.len()) as u64
}

impl Head {
    pub(crate) fn payload_len(&self) -> u64 {
        self.size - (RECORD_HEADER + self.header_len) as u64
    }
}

impl SegmentHeader {
    /// Both copies.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut copy = [0; COPY];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..16].copy_from_slice(&self.base.to_le_bytes());
        copy[16..24].copy_from_slice(&self.time_ms.to_le_bytes());
        copy[24..32].copy_from_slice(&self.salt.to_le_bytes());
        copy[32..36].copy_from_slice(&self.mark.to_le_bytes());
        let checksum = crc32c(&copy[..36]);
        copy[36..].copy_from_slice(&checksum.to_le_bytes());
        let mut both = [0; SEGMENT_HEADER];
        both[..COPY].copy_from_slice(&copy);
        both[COPY..].copy_from_slice(&copy);
        both
    }

    /// Reads whichever copy is whole; `None` when neither is that of the segment which begins with `base`.
    pub(crate) fn decode(bytes: &[u8], base: u64) -> Option<Self> {
        let copies = bytes.get(..SEGMENT_HEADER)?.chunks_exact(COPY);
        copies.filter_map(Self::decode_copy).find(|header| header.base == base)
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        let whole = copy.starts_with(&MAGIC) && crc32c(&copy[..36]) == u32_at(copy, 36);
        whole.then(|| Self {
            base: u64_at(copy, 8),
            time_ms: u64_at(copy, 16),
            salt: u64_at(copy, 24),
            mark: u32_at(copy, 32),
        })
    }

    /// Appends the record to `out`.
    ///
    /// # Panics
    /// When header and payload are 4 GiB or more together, which the caller has excluded.
    pub(crate) fn encode_record(&self, out: &mut Vec<u8>, seq: u64, entry: &Entry) {
        let header_len = u32::try_from(entry.header.len()).expect("a header below 4 GiB");
        let length = u32::try_from(entry.header.len() + entry.payload.len()).expect("a record below 4 GiB");
        let start = out.len();
        out.extend_from_slice(&self.mark.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&header_len.to_le_bytes());
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&entry.time_ms.to_le_bytes());
        out.extend_from_slice(&entry.header);
        out.extend_from_slice(&entry.payload);
        let checksum = self.checksum(&out[start..]);
        out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The fixed part of a record that may begin here. Its numbers are believed only after [`Self::is_whole`].
    pub(crate) fn decode_head(&self, bytes: &[u8]) -> Option<Head> {
        let bytes = bytes.get(..RECORD_HEADER)?;
        let (length, header_len) = (u32_at(bytes, 8), u32_at(bytes, 12));
        (u32_at(bytes, 0) == self.mark && header_len <= length).then(|| Head {
            checksum: u32_at(bytes, 4),
            header_len: header_len as usize,
            size: RECORD_HEADER as u64 + u64::from(length),
            seq: u64_at(bytes, 16),
            time_ms: u64_at(bytes, 24),
        })
    }

    /// Whether these bytes, all of the record, are what was written.
    pub(crate) fn is_whole(&self, head: &Head, record: &[u8]) -> bool {
        record.len() as u64 == head.size && self.checksum(record) == head.checksum
    }

    /// Over the salt and everything behind the checksum itself.
    fn checksum(&self, record: &[u8]) -> u32 {
        crc32c_append(crc32c(&self.salt.to_le_bytes()), &record[8..])
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const HEADER: SegmentHeader =
        SegmentHeader { base: 7, time_ms: 1_700_000_000_000, salt: 0x1122_3344_5566_7788, mark: 0xA1B2_C3D4 };

    /// The format in bytes. Who changes it changes the version in the magic and reads both.
    #[test]
    fn the_format_is_these_bytes() {
        let copy = "48455350455251310700000000000000\
                    0068e5cf8b0100008877665544332211\
                    d4c3b2a16654de92";
        assert_eq!(to_hex(&HEADER.encode()), [copy, copy].concat());

        let mut record = Vec::new();
        let entry = Entry {
            time_ms: 1_700_000_000_001,
            header: Bytes::from_static(b"who"),
            payload: Bytes::from_static(b"what"),
        };
        HEADER.encode_record(&mut record, 9, &entry);
        let expected = "d4c3b2a177c3a8160700000003000000\
                        09000000000000000168e5cf8b010000\
                        77686f77686174";
        assert_eq!(to_hex(&record), expected);
        // CRC-32C itself (RFC 3720, B.4), so that no other polynomial passes for it.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    }

    #[test]
    fn either_copy_of_the_header_is_enough() {
        let whole = HEADER.encode();
        for at in 0..whole.len() {
            let mut damaged = whole;
            damaged[at] ^= 0x40;
            assert_eq!(SegmentHeader::decode(&damaged, 7), Some(HEADER), "byte {at}");
        }
        let mut both = whole;
        both[9] ^= 1;
        both[COPY + 9] ^= 1;
        assert_eq!(SegmentHeader::decode(&both, 7), None);
        assert_eq!(SegmentHeader::decode(&whole, 8), None, "a file under another's name");
        assert_eq!(SegmentHeader::decode(&whole[..COPY], 7), None, "torn");
    }

    #[test]
    fn names_are_sequence_numbers() {
        assert_eq!(file_name(7), "00000000000000000007.seg");
        assert_eq!(base_of(&file_name(u64::MAX)), Some(u64::MAX));
        for other in ["7.seg", "00000000000000000007", "0000000000000000000x.seg", "99999999999999999999.seg"]
        {
            assert_eq!(base_of(other), None, "{other}");
        }
    }

    fn to_hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
