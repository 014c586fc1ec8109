//! Protobuf to JSON.

use crate::{
    Signal,
    schema::{self, Field, Kind, MAX_FIELDS, MessageType, Shape},
    validate::{inside, validate},
    wire::{Entry, Fields, Malformed, Value, varint},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::{ops::Range, slice};

/// The request as JSON, on one line; mostly two or three times as long, at most some ten times. Fields that occur in pieces come out as
/// the one value that they mean.
///
/// # Errors
/// When it is no request.
pub fn encode(signal: Signal, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
    validate(signal, payload)?;
    let request = View { of: schema::request(signal), payload, parts: Parts::One(0..payload.len()) };
    let mut text = Vec::with_capacity(payload.len() * 2);
    // Writing into memory does not fail, and the bytes were checked.
    let written = request.serialize(&mut serde_json::Serializer::new(&mut text));
    debug_assert!(written.is_ok());
    Ok(text)
}

/// Where a message lies: in one place, unless it occurs several times, which means all of them one after the other.
enum Parts {
    One(Range<usize>),
    Many(Vec<Range<usize>>),
}

impl Parts {
    fn as_slice(&self) -> &[Range<usize>] {
        match self {
            Self::One(range) => slice::from_ref(range),
            Self::Many(ranges) => ranges,
        }
    }
}

/// A message in the payload.
struct View<'a> {
    of: &'static MessageType,
    payload: &'a [u8],
    parts: Parts,
}

/// Where a field occurs: from the first time to the last.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    last: Entry,
}

impl View<'_> {
    /// Where each field of the table occurs. Of a `oneof`, only what was set last.
    fn spans(&self) -> [Option<Span>; MAX_FIELDS] {
        let mut spans = [None; MAX_FIELDS];
        let mut chosen = None;
        for part in self.parts.as_slice() {
            for entry in Fields::new(self.payload, part.clone(), 0, self.of.name).filter_map(Result::ok) {
                let Some(index) = self.of.index(entry.number) else { continue };
                let switched = self.of.fields[index].shape == Shape::Oneof && chosen != Some(index);
                if switched && let Some(before) = chosen.replace(index) {
                    spans[before] = None;
                }
                let first = spans[index].map_or(entry.start, |span: Span| span.first);
                spans[index] = Some(Span { first, last: entry });
            }
        }
        spans
    }

    fn occurrences<'a>(&'a self, field: &'a Field, span: Span) -> impl Iterator<Item = Entry> + 'a {
        let within = move |part: &Range<usize>| part.start.max(span.first)..part.end.min(span.last.end);
        let parts = self.parts.as_slice().iter().map(within).filter(|range| range.start < range.end);
        parts.flat_map(|range| inside(self.payload, range, field.number))
    }
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (field, span) in self.of.fields.iter().zip(self.spans()) {
            let Some(span) = span else { continue };
            match field.kind {
                _ if field.shape == Shape::Repeated => {
                    map.serialize_entry(field.name, &List { message: self, field, span })?;
                }
                Kind::Message(of) => {
                    let parts = if span.first == span.last.start {
                        Parts::One(span.last.range())
                    } else {
                        Parts::Many(self.occurrences(field, span).map(|entry| entry.range()).collect())
                    };
                    map.serialize_entry(field.name, &View { of, payload: self.payload, parts })?;
                }
                kind => {
                    let scalar =
                        Scalar { kind, value: span.last.value, bytes: &self.payload[span.last.range()] };
                    map.serialize_entry(field.name, &scalar)?;
                }
            }
        }
        map.end()
    }
}

/// A repeated field.
struct List<'a> {
    message: &'a View<'a>,
    field: &'a Field,
    span: Span,
}

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let payload = self.message.payload;
        for entry in self.message.occurrences(self.field, self.span) {
            match (self.field.kind, entry.value) {
                (Kind::Message(of), _) => {
                    list.serialize_element(&View { of, payload, parts: Parts::One(entry.range()) })?;
                }
                (kind, Value::Len) if kind.packable() => {
                    let values = Packed { kind, bytes: &payload[..entry.end], at: entry.body };
                    for value in values {
                        list.serialize_element(&Scalar { kind, value, bytes: &[] })?;
                    }
                }
                (kind, value) => {
                    list.serialize_element(&Scalar { kind, value, bytes: &payload[entry.range()] })?;
                }
            }
        }
        list.end()
    }
}

/// Numbers one after the other.
struct Packed<'a> {
    kind: Kind,
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Packed<'_> {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        match self.kind {
            Kind::Double | Kind::Fixed64 | Kind::SFixed64 => {
                let bytes = self.bytes.get(self.at..)?.first_chunk()?;
                self.at += bytes.len();
                Some(Value::Fixed64(u64::from_le_bytes(*bytes)))
            }
            Kind::Fixed32 => {
                let bytes = self.bytes.get(self.at..)?.first_chunk()?;
                self.at += bytes.len();
                Some(Value::Fixed32(u32::from_le_bytes(*bytes)))
            }
            _ => varint(self.bytes, &mut self.at).ok().map(Value::Varint),
        }
    }
}

/// A value that is no message.
struct Scalar<'a> {
    kind: Kind,
    value: Value,
    /// Of a text or bytes.
    bytes: &'a [u8],
}

impl Serialize for Scalar<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = match self.value {
            Value::Varint(number) | Value::Fixed64(number) => number,
            Value::Fixed32(number) => u64::from(number),
            Value::Len | Value::Group => 0,
        };
        match self.kind {
            Kind::String | Kind::Message(_) => serializer.serialize_str(&String::from_utf8_lossy(self.bytes)),
            Kind::Bytes => serializer.serialize_str(&STANDARD.encode(self.bytes)),
            Kind::Id(_) => serializer.serialize_str(&hex(self.bytes)),
            Kind::Double => double(f64::from_bits(number), serializer),
            // JavaScript has no whole numbers of 64 bits.
            Kind::Fixed64 | Kind::UInt64 => serializer.collect_str(&number),
            Kind::SFixed64 | Kind::Int64 => serializer.collect_str(&(number as i64)),
            Kind::Fixed32 | Kind::UInt32 => serializer.serialize_u32(number as u32),
            Kind::Int32 | Kind::Enum(_) => serializer.serialize_i32(number as i32),
            Kind::SInt32 => {
                let number = number as u32;
                serializer.serialize_i32((number >> 1) as i32 ^ -((number & 1) as i32))
            }
            Kind::Bool => serializer.serialize_bool(number != 0),
        }
    }
}

fn double<S: Serializer>(number: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.is_finite() {
        serializer.serialize_f64(number)
    } else if number.is_nan() {
        serializer.serialize_str("NaN")
    } else {
        serializer.serialize_str(if number > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}
