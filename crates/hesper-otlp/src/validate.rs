//! Is it a request, and how much is in it? Reads everything once and keeps nothing.
//!
//! What is accepted is exactly what prost decodes into the types of opentelemetry-proto: so whoever gets the payload after us
//! can read it, and nothing is refused that a decoding hop would have taken.

use crate::{
    Signal,
    limits::DEPTH,
    schema::{self, Field, Kind, METRICS_METRIC, MessageType, Shape, number},
    wire::{Entry, Fault, Fields, Malformed, Value, inner, varint},
};
use std::ops::Range;

/// How much a request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `ResourceSpans` and their like; empty ones too.
    pub resources: u64,
    /// `ScopeSpans` and their like; empty ones too.
    pub scopes: u64,
    /// Spans, data points, log records or profiles: [`Signal::items`].
    pub items: u64,
}

/// Checks that the payload is the request of a signal, and counts what is in it. Unknown fields are skipped.
///
/// # Errors
/// The first fault.
pub fn validate(signal: Signal, payload: &[u8]) -> Result<Counts, Malformed> {
    message(schema::request(signal), payload, 0..payload.len(), 0)?;
    Ok(count(signal, payload))
}

fn message(
    of: &'static MessageType,
    payload: &[u8],
    range: Range<usize>,
    level: u32,
) -> Result<(), Malformed> {
    let mut fields = Fields::new(payload, range, level, of.name);
    while let Some(entry) = fields.next() {
        let entry = entry?;
        let Some(field) = of.field(entry.number) else {
            // prost counts an unknown field as one level more.
            if level >= DEPTH {
                return Err(fields.fault(entry.start, Fault::TooDeep));
            }
            continue;
        };
        check(field, payload, &entry).map_err(|fault| fields.fault(entry.start, fault))?;
        if let Kind::Message(inner) = field.kind {
            if level >= DEPTH {
                return Err(fields.fault(entry.start, Fault::TooDeep));
            }
            message(inner, payload, entry.range(), level + 1)?;
        }
    }
    Ok(())
}

fn check(field: &Field, payload: &[u8], entry: &Entry) -> Result<(), Fault> {
    let matches = match (entry.value, field.kind) {
        (Value::Len, Kind::String) => {
            let text = std::str::from_utf8(&payload[entry.range()]);
            return text.map(drop).map_err(|_| Fault::Utf8(field.name));
        }
        (Value::Len, Kind::Bytes | Kind::Id(_) | Kind::Message(_)) => true,
        (Value::Len, kind) => {
            return if field.shape == Shape::Repeated { packed(kind, payload, entry) } else { Err(()) }
                .map_err(|()| Fault::WireType(field.name));
        }
        (Value::Fixed64(_), kind) => matches!(kind, Kind::Double | Kind::Fixed64 | Kind::SFixed64),
        (Value::Fixed32(_), kind) => matches!(kind, Kind::Fixed32),
        (Value::Varint(_), kind) => is_varint(kind),
        (Value::Group, _) => false,
    };
    if matches { Ok(()) } else { Err(Fault::WireType(field.name)) }
}

fn is_varint(kind: Kind) -> bool {
    use Kind::{Bool, Enum, Int32, Int64, SInt32, UInt32, UInt64};
    matches!(kind, Int32 | Int64 | UInt32 | UInt64 | SInt32 | Bool | Enum(_))
}

/// Numbers one after the other.
fn packed(kind: Kind, payload: &[u8], entry: &Entry) -> Result<(), ()> {
    let whole = match kind {
        Kind::Double | Kind::Fixed64 | Kind::SFixed64 => entry.range().len().is_multiple_of(8),
        Kind::Fixed32 => entry.range().len().is_multiple_of(4),
        _ => {
            let (bytes, mut at) = (&payload[..entry.end], entry.body);
            while at < entry.end {
                varint(bytes, &mut at).map_err(drop)?;
            }
            true
        }
    };
    if whole { Ok(()) } else { Err(()) }
}

/// Counts what is in a request that [`validate()`] accepted. Only headers are read, down to the items.
pub fn count(signal: Signal, payload: &[u8]) -> Counts {
    let mut counts = Counts::default();
    for resource in inside(payload, 0..payload.len(), number::RESOURCES) {
        counts.resources += 1;
        for scope in inside(payload, resource.range(), number::SCOPES) {
            counts.scopes += 1;
            for item in inside(payload, scope.range(), number::ITEMS) {
                counts.items += match signal {
                    Signal::Metrics => data_points(payload, item.range()),
                    _ => 1,
                };
            }
        }
    }
    counts
}

/// How many messages are nested in a request that [`validate()`] accepted, at any depth: what a decoder makes something of. Two bytes
/// may be one, and hundreds of bytes when decoded.
pub fn nested(signal: Signal, payload: &[u8]) -> u64 {
    fn count(of: &'static MessageType, payload: &[u8], range: Range<usize>) -> u64 {
        let inside = checked(payload, range).map(|entry| match inner(of, &entry) {
            Ok(Some(inner)) => 1 + count(inner, payload, entry.range()),
            _ => 0,
        });
        inside.sum()
    }
    count(schema::request(signal), payload, 0..payload.len())
}

/// The occurrences of one field of a message that was checked.
pub(crate) fn inside(payload: &[u8], range: Range<usize>, number: u32) -> impl Iterator<Item = Entry> {
    checked(payload, range).filter(move |entry| entry.number == number)
}

/// The strings that profiles name by their place, over all pieces of the dictionary.
pub(crate) fn string_table(payload: &[u8]) -> impl Iterator<Item = Entry> {
    let dictionaries = inside(payload, 0..payload.len(), number::DICTIONARY);
    dictionaries.flat_map(|dictionary| inside(payload, dictionary.range(), number::STRING_TABLE))
}

/// The fields of a message that was checked.
pub(crate) fn checked(payload: &[u8], range: Range<usize>) -> impl Iterator<Item = Entry> {
    Fields::new(payload, range, 0, "").filter_map(Result::ok)
}

/// The points of a metric's last kind of data: setting another one unsets those before.
pub(crate) fn data_points(payload: &[u8], metric: Range<usize>) -> u64 {
    let (mut of, mut points) = (0, 0);
    for entry in checked(payload, metric) {
        if METRICS_METRIC.field(entry.number).is_none_or(|field| field.shape != Shape::Oneof) {
            continue;
        }
        if of != entry.number {
            (of, points) = (entry.number, 0);
        }
        points += inside(payload, entry.range(), number::DATA_POINTS).count() as u64;
    }
    points
}
