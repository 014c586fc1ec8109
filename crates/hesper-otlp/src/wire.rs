//! The wire format of protobuf: fields of a message as they lie in the bytes, every bound checked, nothing copied.
//!
//! Positions are those in the whole payload, at every depth, so that an error names the byte and an edit its place.
//!
//! Everything goes through [`Fields`], field by field. Its parts are inlined by force: that makes `validate` faster by three quarters.

use crate::{
    limits::DEPTH,
    schema::{Kind, MessageType},
};
use std::{fmt, ops::Range};

/// Bytes that are no message, and where that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}, in {within}: {fault}")]
pub struct Malformed {
    /// Offset in the payload.
    pub at: usize,
    /// The message that it was read as.
    pub within: &'static str,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A number that does not end within ten bytes, is more than 64 bits, or ends with the message.
    Varint,
    /// A field number of 0 or beyond 29 bits, or one of the two wire types that do not exist.
    Key,
    /// A value that goes beyond the end of its message.
    CutShort,
    /// A group that does not begin or does not end.
    Group,
    /// Messages in messages beyond [`DEPTH`].
    TooDeep,
    /// A value of another wire type than the field's, whose JSON name this is.
    WireType(&'static str),
    /// A text that is no UTF-8, in the field of this JSON name.
    Utf8(&'static str),
    /// More bytes than can be edited, 4 GiB.
    TooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Varint => f.write_str("a number that does not end"),
            Self::Key => f.write_str("a field number or wire type that does not exist"),
            Self::CutShort => f.write_str("a value that goes beyond the end of its message"),
            Self::Group => f.write_str("a group without its begin or end"),
            Self::TooDeep => write!(f, "messages nested deeper than {DEPTH}"),
            Self::WireType(name) => write!(f, "{name} has the wire type of another field type"),
            Self::Utf8(name) => write!(f, "{name} is not UTF-8"),
            Self::TooLong => f.write_str("more than 4 GiB"),
        }
    }
}

/// The value of a field, as far as the wire format knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// From [`Entry::body`] to [`Entry::end`].
    Len,
    /// Likewise, its end tag included. Only unknown fields are groups.
    Group,
}

/// One field in a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) number: u32,
    pub(crate) value: Value,
    /// Where its key begins.
    pub(crate) start: usize,
    /// Where its value begins, after the length if it has one.
    pub(crate) body: usize,
    /// Where the next field begins.
    pub(crate) end: usize,
}

impl Entry {
    pub(crate) fn range(&self) -> Range<usize> {
        self.body..self.end
    }
}

/// The fields of a message, in their order on the wire; ends after the first fault.
pub(crate) struct Fields<'a> {
    /// The payload up to the end of the message.
    bytes: &'a [u8],
    at: usize,
    /// How many messages and groups may still be nested in this one.
    budget: u32,
    within: &'static str,
}

impl<'a> Fields<'a> {
    /// The message at a range of the payload, which is `level` messages inside the request.
    pub(crate) fn new(payload: &'a [u8], range: Range<usize>, level: u32, within: &'static str) -> Self {
        let bytes = payload.get(..range.end).unwrap_or(payload);
        Self { bytes, at: range.start, budget: DEPTH.saturating_sub(level), within }
    }

    /// Which field is wrong, given its place.
    pub(crate) fn fault(&self, at: usize, fault: Fault) -> Malformed {
        Malformed { at, within: self.within, fault }
    }

    #[inline(always)]
    fn read(&mut self) -> Result<Entry, (usize, Fault)> {
        let start = self.at;
        let (number, wire_type) = key(self.bytes, &mut self.at).map_err(|fault| (start, fault))?;
        let before = self.at;
        let (value, body) = match wire_type {
            WireType::Varint => (varint(self.bytes, &mut self.at).map(Value::Varint), before),
            WireType::Fixed64 => {
                (fixed(self.bytes, &mut self.at).map(u64::from_le_bytes).map(Value::Fixed64), before)
            }
            WireType::Fixed32 => {
                (fixed(self.bytes, &mut self.at).map(u32::from_le_bytes).map(Value::Fixed32), before)
            }
            WireType::Len => match length(self.bytes, &mut self.at) {
                Ok(body) => (Ok(Value::Len), body),
                Err(fault) => (Err(fault), before),
            },
            WireType::Group => (
                skip(self.bytes, &mut self.at, wire_type, number, self.budget).map(|()| Value::Group),
                before,
            ),
            WireType::EndGroup => (Err(Fault::Group), before),
        };
        let value = value.map_err(|fault| (before, fault))?;
        Ok(Entry { number, value, start, body, end: self.at })
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<Entry, Malformed>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        Some(self.read().map_err(|(at, fault)| {
            self.at = self.bytes.len();
            self.fault(at, fault)
        }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WireType {
    Varint,
    Fixed64,
    Len,
    Group,
    EndGroup,
    Fixed32,
}

#[inline(always)]
fn key(bytes: &[u8], at: &mut usize) -> Result<(u32, WireType), Fault> {
    let key = u32::try_from(varint(bytes, at)?).map_err(|_| Fault::Key)?;
    let wire_type = match key & 7 {
        0 => WireType::Varint,
        1 => WireType::Fixed64,
        2 => WireType::Len,
        3 => WireType::Group,
        4 => WireType::EndGroup,
        5 => WireType::Fixed32,
        _ => return Err(Fault::Key),
    };
    if key >> 3 == 0 { Err(Fault::Key) } else { Ok((key >> 3, wire_type)) }
}

/// The message in a field; `None` for a field that is no message.
#[inline]
pub(crate) fn inner(
    of: &'static MessageType,
    entry: &Entry,
) -> Result<Option<&'static MessageType>, Malformed> {
    let Some(field) = of.field(entry.number) else { return Ok(None) };
    let Kind::Message(inner) = field.kind else { return Ok(None) };
    if entry.value != Value::Len {
        return Err(Malformed { at: entry.start, within: of.name, fault: Fault::WireType(field.name) });
    }
    Ok(Some(inner))
}

/// Reads a number of at most ten bytes and 64 bits; shorter forms are not demanded.
#[inline(always)]
pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, Fault> {
    // Most keys and lengths.
    if let Some(byte) = bytes.get(*at).filter(|byte| **byte < 0x80) {
        *at += 1;
        return Ok(u64::from(*byte));
    }
    long_varint(bytes, at)
}

fn long_varint(bytes: &[u8], at: &mut usize) -> Result<u64, Fault> {
    let mut value = 0;
    for (index, byte) in bytes.get(*at..).unwrap_or_default().iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            *at += index + 1;
            // The tenth byte has room for one bit.
            return if index == 9 && *byte > 1 { Err(Fault::Varint) } else { Ok(value) };
        }
    }
    Err(Fault::Varint)
}

#[inline(always)]
fn fixed<const N: usize>(bytes: &[u8], at: &mut usize) -> Result<[u8; N], Fault> {
    let value = bytes.get(*at..).and_then(|rest| rest.first_chunk()).ok_or(Fault::CutShort)?;
    *at += N;
    Ok(*value)
}

/// Reads a length and goes beyond what has it; returns where that begins.
#[inline(always)]
fn length(bytes: &[u8], at: &mut usize) -> Result<usize, Fault> {
    let len = varint(bytes, at)?;
    let body = *at;
    let len = usize::try_from(len).ok().filter(|len| *len <= bytes.len() - body).ok_or(Fault::CutShort)?;
    *at += len;
    Ok(body)
}

/// Goes beyond a field that nobody knows. Groups count as messages.
fn skip(bytes: &[u8], at: &mut usize, of: WireType, number: u32, budget: u32) -> Result<(), Fault> {
    if budget == 0 {
        return Err(Fault::TooDeep);
    }
    match of {
        WireType::Varint => varint(bytes, at).map(drop),
        WireType::Fixed64 => fixed::<8>(bytes, at).map(drop),
        WireType::Fixed32 => fixed::<4>(bytes, at).map(drop),
        WireType::Len => length(bytes, at).map(drop),
        WireType::EndGroup => Err(Fault::Group),
        WireType::Group => loop {
            let (inner, wire_type) = key(bytes, at)?;
            if wire_type == WireType::EndGroup {
                return if inner == number { Ok(()) } else { Err(Fault::Group) };
            }
            skip(bytes, at, wire_type, inner, budget - 1)?;
        },
    }
}

/// How many bytes a number takes.
pub(crate) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Writes a number in its shortest form.
pub(crate) fn put_varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Writes a field whose value has a length.
pub(crate) fn put_field(number: u32, bytes: &[u8], into: &mut Vec<u8>) {
    put_len_key(number, into);
    put_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}

/// Writes the key of a field whose value has a length.
pub(crate) fn put_len_key(number: u32, into: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 2, into);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::encoding::{decode_varint, encoded_len_varint};

    proptest! {
        #[test]
        fn numbers_are_read_as_prost_reads_them(bytes in prop::collection::vec(any::<u8>(), 0..13)) {
            let mut at = 0;
            let mut rest = &bytes[..];
            let (ours, theirs) = (varint(&bytes, &mut at), decode_varint(&mut rest));
            prop_assert_eq!(ours.ok(), theirs.clone().ok());
            prop_assert!(theirs.is_err() || bytes.len() - rest.len() == at);
        }

        #[test]
        fn numbers_are_written_in_their_shortest_form(value in any::<u64>(), shift in 0..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varint(value, &mut bytes);
            prop_assert_eq!(bytes.len(), varint_len(value));
            prop_assert_eq!(bytes.len(), encoded_len_varint(value));
            prop_assert_eq!(varint(&bytes, &mut 0), Ok(value));
        }

        #[test]
        fn fields_lie_in_the_bytes_one_after_the_other(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut at = 0;
            let mut faults = 0;
            for entry in Fields::new(&bytes, 0..bytes.len(), 0, "Test") {
                let Ok(entry) = entry else { faults += 1; continue };
                prop_assert_eq!(entry.start, at);
                prop_assert!(entry.start < entry.body && entry.body <= entry.end && entry.end <= bytes.len());
                at = entry.end;
            }
            prop_assert!(faults == 1 || at == bytes.len());
        }
    }

    #[test]
    fn the_longest_number_is_64_bits() {
        let mut bytes = [0xff; 10];
        bytes[9] = 1;
        assert_eq!(varint(&bytes, &mut 0), Ok(u64::MAX));
        bytes[9] = 2;
        assert_eq!(varint(&bytes, &mut 0), Err(Fault::Varint));
        assert_eq!(varint(&[0x80, 0x80, 0], &mut 0), Ok(0));
    }

    #[test]
    fn an_error_names_the_byte_and_the_message() {
        let error =
            Fields::new(b"\x0a\x05ab", 0..4, 0, "Span").next().expect("a field").expect_err("cut short");
        assert_eq!(error.to_string(), "byte 1, in Span: a value that goes beyond the end of its message");
    }
}
