//! Values of JSON as values of protobuf (proto3 "JSON Options", with OTLP's rules for ids and enumerations).

use crate::schema::{EnumType, Field, Kind};
use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::Error;

/// A value of JSON.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

/// A value on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(std::borrow::Cow<'a, [u8]>),
}

impl Raw<'_> {
    pub(super) fn is_default(&self) -> bool {
        match self {
            Self::Varint(number) | Self::Fixed64(number) => *number == 0,
            Self::Fixed32(number) => *number == 0,
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }

    pub(super) fn wire_type(&self) -> u64 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32(_) => 5,
        }
    }
}

/// The value of a field.
pub(super) fn scalar<'a, E: Error>(field: &Field, input: Input<'a>) -> Result<Raw<'a>, E> {
    value(field.kind, input).map_err(|wanted| {
        let found = match input {
            Input::Bool(value) => format!("{value}"),
            Input::Int(value) => format!("{value}"),
            Input::Float(value) => format!("{value}"),
            Input::Text(text) => format!("{:?}", excerpt(text)),
        };
        E::custom(format_args!("{}: expected {wanted}, found {found}", field.name))
    })
}

/// Enough of a text to find it again.
fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The value, or what was expected instead.
fn value<'a>(kind: Kind, input: Input<'a>) -> Result<Raw<'a>, &'static str> {
    match kind {
        Kind::String => text(input).map(|text| Raw::Bytes(text.as_bytes().into())),
        Kind::Bytes => {
            let bytes = base64(text(input)?).ok_or("base64")?;
            Ok(Raw::Bytes(bytes.into()))
        }
        Kind::Id(len) => id(text(input)?, len).map(|bytes| Raw::Bytes(bytes.into())),
        Kind::Bool => match input {
            Input::Bool(value) => Ok(Raw::Varint(value.into())),
            _ => Err("true or false"),
        },
        Kind::Double => double(input).map(|number| Raw::Fixed64(number.to_bits())),
        Kind::Fixed32 => whole::<u32>(input, "a whole number of 32 bits").map(Raw::Fixed32),
        Kind::UInt32 => whole::<u32>(input, "a whole number of 32 bits").map(|n| Raw::Varint(n.into())),
        // Negative numbers are written with 64 bits.
        Kind::Int32 => whole::<i32>(input, "an integer of 32 bits").map(|n| Raw::Varint(i64::from(n) as u64)),
        Kind::SInt32 => {
            let number = whole::<i32>(input, "an integer of 32 bits")?;
            Ok(Raw::Varint(u64::from((number << 1 ^ number >> 31) as u32)))
        }
        Kind::Fixed64 => whole::<u64>(input, "a whole number of 64 bits").map(Raw::Fixed64),
        Kind::UInt64 => whole::<u64>(input, "a whole number of 64 bits").map(Raw::Varint),
        Kind::SFixed64 => whole::<i64>(input, "an integer of 64 bits").map(|n| Raw::Fixed64(n as u64)),
        Kind::Int64 => whole::<i64>(input, "an integer of 64 bits").map(|n| Raw::Varint(n as u64)),
        Kind::Enum(of) => enumeration(of, input).map(|n| Raw::Varint(i64::from(n) as u64)),
        Kind::Message(_) => Err("an object"),
    }
}

fn text(input: Input<'_>) -> Result<&str, &'static str> {
    match input {
        Input::Text(text) => Ok(text),
        _ => Err("a text"),
    }
}

/// A whole number: as a number or as a text, also as one with an exponent or a fraction of nothing.
fn whole<T: TryFrom<i128>>(input: Input<'_>, wanted: &'static str) -> Result<T, &'static str> {
    let float = |number: f64| {
        // 2^70 is beyond all kinds, and within i128.
        let whole = number.fract() == 0.0 && number.abs() < (2.0_f64).powi(70);
        whole.then_some(number as i128)
    };
    let number = match input {
        Input::Int(number) => Some(number),
        Input::Float(number) => float(number),
        Input::Text(text) => text.parse().ok().or_else(|| text.parse().ok().and_then(float)),
        Input::Bool(_) => None,
    };
    number.and_then(|number| T::try_from(number).ok()).ok_or(wanted)
}

fn double(input: Input<'_>) -> Result<f64, &'static str> {
    let number = match input {
        Input::Int(number) => Some(number as f64),
        Input::Float(number) => Some(number),
        Input::Text("NaN") => Some(f64::NAN),
        Input::Text("Infinity") => Some(f64::INFINITY),
        Input::Text("-Infinity") => Some(f64::NEG_INFINITY),
        // Rust reads more names of what is not finite than JSON has.
        Input::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        Input::Bool(_) => None,
    };
    number.ok_or("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
}

fn enumeration(of: &EnumType, input: Input<'_>) -> Result<i32, &'static str> {
    let named = |text: &str| of.values.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    match input {
        Input::Text(text) if named(text).is_some() => Ok(named(text).unwrap_or_default()),
        input => whole(input, "the number of an enumeration"),
    }
}

/// Hexadecimal digits of either case: as many as the id has, or none for no id.
fn id(text: &str, len: usize) -> Result<Vec<u8>, &'static str> {
    let wanted = if len == 16 { "32 hexadecimal digits" } else { "16 hexadecimal digits" };
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    if !text.is_empty() && text.len() != 2 * len {
        return Err(wanted);
    }
    let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    text.as_bytes().chunks_exact(2).map(byte).collect::<Option<_>>().ok_or(wanted)
}

/// Both alphabets, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let url_safe = text.bytes().any(|byte| matches!(byte, b'-' | b'_'));
    let alphabet = if url_safe { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(text).ok()
}
