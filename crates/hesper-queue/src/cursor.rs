//! How far a destination is: the lowest record that it has not acknowledged, and what it has beyond.

use crate::ranges::Ranges;
use crc32c::crc32c;
use std::{fmt::Write, ops::Range};

/// First bytes of a cursor file; the last one is the version of the format.
const MAGIC: [u8; 8] = *b"HESPERC1";
/// Bytes before the ranges.
const FIXED: usize = 24;
/// Ranges that a file keeps, 64 KiB: what is acknowledged beyond them comes a second time after a crash.
const RANGES_MAX: usize = 4096;
/// What the names of cursor files end with.
const EXTENSION: &str = ".cursor";
/// Longest name of a file without the extension; Linux allows 255 bytes in all.
const NAME_MAX: usize = 200;

/// The cursor of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    low: u64,
    /// All above `low`. As many at most as records are delivered and not acknowledged, which the reader's owner holds.
    beyond: Ranges,
}

impl Cursor {
    /// Of a destination whose first record is `low`.
    pub(crate) fn new(low: u64) -> Self {
        Self { low, beyond: Ranges::default() }
    }

    /// The lowest record that is not acknowledged.
    pub(crate) fn low(&self) -> u64 {
        self.low
    }

    /// Past the highest record that is acknowledged.
    pub(crate) fn end(&self) -> u64 {
        self.beyond.end().unwrap_or(self.low)
    }

    /// Acknowledges; how many records that was news for.
    pub(crate) fn ack(&mut self, range: Range<u64>) -> u64 {
        let new = self.beyond.add(range.start.max(self.low)..range.end);
        self.low = self.beyond.settle(self.low);
        new
    }

    /// Whether the record is acknowledged.
    pub(crate) fn has(&self, seq: u64) -> bool {
        seq < self.low || self.beyond.contains(seq)
    }

    /// Every number that is acknowledged.
    pub(crate) fn acknowledged(&self) -> Ranges {
        let mut all = self.beyond.clone();
        all.add(0..self.low);
        all
    }

    /// How many of these are not acknowledged.
    pub(crate) fn missing(&self, range: Range<u64>) -> u64 {
        let open = range.start.max(self.low)..range.end;
        if open.is_empty() { 0 } else { open.end - open.start - self.beyond.count(open) }
    }

    /// The file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let ranges: Vec<_> = self.beyond.iter().take(RANGES_MAX).collect();
        let mut file = Vec::with_capacity(FIXED + 16 * ranges.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&[0; 4]);
        file.extend_from_slice(&u32::try_from(ranges.len()).expect("few ranges").to_le_bytes());
        file.extend_from_slice(&self.low.to_le_bytes());
        for range in ranges {
            file.extend_from_slice(&range.start.to_le_bytes());
            file.extend_from_slice(&range.end.to_le_bytes());
        }
        let checksum = crc32c(&file[12..]);
        file[8..12].copy_from_slice(&checksum.to_le_bytes());
        file
    }

    /// Reads a file; `None` when it is not what [`Self::encode`] wrote.
    pub(crate) fn decode(file: &[u8]) -> Option<Self> {
        let (fixed, ranges) = file.split_at_checked(FIXED)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let count = u32::from_le_bytes(fixed[12..16].try_into().expect("four bytes")) as usize;
        let whole = fixed.starts_with(&MAGIC)
            && fixed[8..12] == crc32c(&file[12..]).to_le_bytes()
            && ranges.len() == count.checked_mul(16)?;
        whole.then(|| {
            let mut cursor = Self::new(number(&fixed[16..]));
            for range in ranges.chunks_exact(16) {
                cursor.ack(number(&range[..8])..number(&range[8..]));
            }
            cursor
        })
    }
}

/// The file of a destination: its name, with everything but letters, digits, `-` and `_` as `%XX`. `None` when the
/// destination has no name or one that is too long for a file.
pub(crate) fn file_name(destination: &str) -> Option<String> {
    let mut name = String::new();
    for byte in destination.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            name.push(char::from(byte));
        } else {
            write!(name, "%{byte:02X}").expect("a string takes everything");
        }
    }
    let fits = !name.is_empty() && name.len() <= NAME_MAX;
    fits.then(|| name + EXTENSION)
}

/// The destination that a file belongs to; `None` for any other file.
pub(crate) fn destination_of(name: &str) -> Option<String> {
    let mut pieces = name.strip_suffix(EXTENSION)?.split('%');
    let mut destination = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        destination.push(u8::from_str_radix(code, 16).ok()?);
        destination.extend_from_slice(rest.as_bytes());
    }
    let destination = String::from_utf8(destination).ok()?;
    (file_name(&destination)? == name).then_some(destination)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor(low: u64, acks: &[u64]) -> Cursor {
        let mut cursor = Cursor::new(low);
        acks.iter().for_each(|seq| assert_eq!(cursor.ack(*seq..*seq + 1), 1));
        cursor
    }

    #[test]
    fn acknowledged_in_any_order() {
        let mut cursor = cursor(5, &[7, 6, 9]);
        assert_eq!((cursor.low(), cursor.end()), (5, 10));
        assert_eq!(cursor.missing(0..20), 12, "5, 8 and ten more");
        assert_eq!(cursor.ack(7..8), 0, "a second time is no news");
        assert_eq!(cursor.ack(3..6), 1, "3 and 4 were acknowledged before it began");
        assert_eq!(cursor.low(), 8);
        assert!(cursor.has(4) && cursor.has(9) && !cursor.has(8) && !cursor.has(10));
    }

    #[test]
    fn the_format_is_these_bytes() {
        let file = cursor(5, &[8, 9]).encode();
        let mut expected = b"HESPERC1\xba\xb8\xd2\x54".to_vec();
        expected
            .extend([1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(file, expected);
    }

    #[test]
    fn a_file_that_is_not_whole_is_refused() {
        let file = cursor(5, &[8, 9, 20]).encode();
        assert_eq!(Cursor::decode(&file), Some(cursor(5, &[8, 9, 20])));
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert_eq!(Cursor::decode(&damaged), None, "byte {at}");
            assert_eq!(Cursor::decode(&file[..at]), None, "the first {at} bytes");
        }
    }

    #[test]
    fn a_file_is_bounded() {
        let odd: Vec<_> = (1..=2 * RANGES_MAX as u64 + 9).filter(|seq| seq % 2 == 1).collect();
        let file = cursor(0, &odd).encode();
        assert_eq!(file.len(), FIXED + 16 * RANGES_MAX);
        let back = Cursor::decode(&file).expect("whole");
        assert!(back.has(1) && !back.has(*odd.last().expect("some")), "what is left out comes again");
    }

    #[test]
    fn every_destination_has_its_file() {
        assert_eq!(file_name("otlp/eu-1").as_deref(), Some("otlp%2Feu-1.cursor"));
        assert_eq!(file_name(""), None);
        assert_eq!(file_name(&"é".repeat(34)), None, "204 bytes");
        for other in
            ["otlp/eu.cursor", "%2f.cursor", "%.cursor", "%FF.cursor", ".cursor", "a.cursor.tmp", "a"]
        {
            assert_eq!(destination_of(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn files_are_told_apart(name in "\\PC{1,40}") {
            prop_assume!(file_name(&name).is_some());
            prop_assert_eq!(destination_of(&file_name(&name).expect("fits")), Some(name));
        }
    }
}
