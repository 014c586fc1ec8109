//! JSON to protobuf.

use crate::{
    Signal,
    json::scalar::{Input, Raw, scalar},
    limits::DEPTH,
    schema::{self, Field, Kind, MessageType, Shape},
    splice::{Open, Splice},
    wire::{put_len_key, put_varint},
};
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A text that is no OTLP/JSON: what is wrong, and in which line and column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

/// Longest text. The payload has at most four times as many bytes (`0,` in a list of numbers becomes eight), and places have 32 bits.
const MAX_LEN: usize = Splice::MAX_LEN / 8;

/// Reads the request of a signal and encodes it as protobuf. Unknown names are ignored at any depth; `null` is as good as absent.
///
/// # Errors
/// When it is no JSON, or a value does not fit its field.
pub fn decode(signal: Signal, text: &[u8]) -> Result<Bytes, JsonError> {
    if text.len() > MAX_LEN {
        return Err(JsonError(format!("the text has more than {MAX_LEN} bytes; send smaller batches")));
    }
    let mut out = Out { bytes: Vec::with_capacity(text.len() / 2), lengths: Splice::default() };
    let mut json = serde_json::Deserializer::from_slice(text);
    // Messages are counted below, and what is unknown is skipped without recursion.
    json.disable_recursion_limit();
    let request = Fields { of: schema::request(signal), out: &mut out, level: 0 };
    json.deserialize_map(request).and_then(|()| json.end()).map_err(|error| JsonError(error.to_string()))?;
    Ok(out.finish())
}

/// The payload as it grows. Each length has one byte until it is known.
struct Out {
    bytes: Vec<u8>,
    lengths: Splice,
}

impl Out {
    fn begin(&mut self, number: u32) -> (usize, Open) {
        put_len_key(number, &mut self.bytes);
        let at = self.bytes.len();
        self.bytes.push(0);
        (at, self.lengths.open(at, 1, 0))
    }

    fn end(&mut self, (at, open): (usize, Open)) {
        let len = self.bytes.len() - at - 1;
        if let Some(short) = self.lengths.close_with(&open, len) {
            self.bytes[at] = short;
        }
    }

    fn raw(&mut self, raw: &Raw) {
        match raw {
            Raw::Varint(number) => put_varint(*number, &mut self.bytes),
            Raw::Fixed64(number) => self.bytes.extend_from_slice(&number.to_le_bytes()),
            Raw::Fixed32(number) => self.bytes.extend_from_slice(&number.to_le_bytes()),
            Raw::Bytes(bytes) => {
                put_varint(bytes.len() as u64, &mut self.bytes);
                self.bytes.extend_from_slice(bytes);
            }
        }
    }

    fn field(&mut self, number: u32, raw: &Raw) {
        put_varint(u64::from(number) << 3 | raw.wire_type(), &mut self.bytes);
        self.raw(raw);
    }

    fn finish(self) -> Bytes {
        if self.lengths.is_empty() {
            return self.bytes.into();
        }
        self.lengths.apply(&self.bytes, &[])
    }
}

/// The members of an object that is a message.
struct Fields<'a> {
    of: &'static MessageType,
    out: &'a mut Out,
    /// How many messages it is inside the request.
    level: u32,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.of.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name(self.of))? {
            match field {
                Some(field) => map.next_value_seed(Member { field, out: self.out, level: self.level })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The name of a member; `None` for one that the message does not have.
struct Name(&'static MessageType);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().find(|field| field.name == name))
    }
}

/// The value of a member.
struct Member<'a> {
    field: &'static Field,
    out: &'a mut Out,
    level: u32,
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Member<'_> {
    fn scalar<E: Error>(self, input: Input<'_>) -> Result<(), E> {
        let field = self.field;
        if field.shape == Shape::Repeated {
            return Err(E::custom(format_args!("{}: expected a list", field.name)));
        }
        let raw = scalar(field, input)?;
        if field.shape != Shape::Implicit || !raw.is_default() {
            self.out.field(field.number, &raw);
        }
        Ok(())
    }
}

/// The ways in which a value that is no list and no object comes.
macro_rules! scalars {
    () => {
        fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
            self.scalar(Input::Bool(value))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
            self.scalar(Input::Int(value.into()))
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
            self.scalar(Input::Int(value.into()))
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
            self.scalar(Input::Float(value))
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
            self.scalar(Input::Text(value))
        }
    };
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = ();

    scalars!();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of {}", self.field.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if self.field.shape == Shape::Repeated {
            return Err(A::Error::custom(format_args!(
                "{}: expected a list, found an object",
                self.field.name
            )));
        }
        message(self.field, self.out, self.level, map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { field, out, level } = self;
        if field.shape != Shape::Repeated {
            return Err(A::Error::custom(format_args!("{}: expected one value, found a list", field.name)));
        }
        if !field.kind.packable() {
            while list.next_element_seed(Element { field, out, level })?.is_some() {}
            return Ok(());
        }
        let start = out.bytes.len();
        let open = out.begin(field.number);
        let empty = out.bytes.len();
        while list.next_element_seed(Element { field, out, level })?.is_some() {}
        let none = out.bytes.len() == empty;
        out.end(open);
        if none {
            out.bytes.truncate(start);
        }
        Ok(())
    }
}

/// An element of a list.
struct Element<'a> {
    field: &'static Field,
    out: &'a mut Out,
    level: u32,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Element<'_> {
    fn scalar<E: Error>(self, input: Input<'_>) -> Result<(), E> {
        let raw = scalar(self.field, input)?;
        if self.field.kind.packable() {
            self.out.raw(&raw);
        } else {
            self.out.field(self.field.number, &raw);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    scalars!();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an element of {}", self.field.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        message(self.field, self.out, self.level, map)
    }
}

fn message<'de, A: MapAccess<'de>>(field: &Field, out: &mut Out, level: u32, map: A) -> Result<(), A::Error> {
    let Kind::Message(of) = field.kind else {
        return Err(A::Error::custom(format_args!("{}: found an object", field.name)));
    };
    if level >= DEPTH {
        return Err(A::Error::custom(format_args!("{}: objects nested deeper than {DEPTH}", field.name)));
    }
    let open = out.begin(field.number);
    Fields { of, out: &mut *out, level: level + 1 }.visit_map(map)?;
    out.end(open);
    Ok(())
}
