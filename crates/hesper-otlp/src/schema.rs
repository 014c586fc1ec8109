//! The messages of OTLP as a table: what each field number is, and its name in JSON.
//!
//! The table is generated from the descriptors that the crate opentelemetry-proto carries (`cargo xtask codegen`), and a test in
//! `xtask` keeps it so. It holds what the four export requests reach and nothing else.

use crate::Signal;

/// A message.
#[derive(Debug)]
pub(crate) struct MessageType {
    /// Its name without the package, for errors.
    pub(crate) name: &'static str,
    /// In the order of their numbers.
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// Its name in JSON, lowerCamelCase.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
}

/// The type of a field's values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Double,
    Fixed32,
    Fixed64,
    SFixed64,
    Int32,
    Int64,
    UInt32,
    UInt64,
    SInt32,
    Bool,
    String,
    /// Base64 in JSON.
    Bytes,
    /// Bytes that are hexadecimal in JSON, and so many unless empty.
    Id(usize),
    Enum(&'static EnumType),
    Message(&'static MessageType),
}

/// How often a field may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Once; its default is as good as absent.
    Implicit,
    /// Once; its default is not absent.
    Optional,
    /// One of the message's only `oneof`: setting it unsets the others.
    Oneof,
    /// Any number of times; numbers are packed.
    Repeated,
}

/// An enumeration.
#[derive(Debug)]
pub(crate) struct EnumType {
    pub(crate) values: &'static [(&'static str, i32)],
}

/// Most fields of one message.
pub(crate) const MAX_FIELDS: usize = 16;

impl MessageType {
    /// The place of a field in the table.
    pub(crate) fn index(&self, number: u32) -> Option<usize> {
        // Numbers have no gaps in most messages.
        let guess = (number as usize).wrapping_sub(1);
        if self.fields.get(guess).is_some_and(|field| field.number == number) {
            return Some(guess);
        }
        self.fields.iter().position(|field| field.number == number)
    }

    pub(crate) fn field(&self, number: u32) -> Option<&'static Field> {
        self.index(number).map(|index| &self.fields[index])
    }

    pub(crate) fn is(&self, other: &'static Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Kind {
    /// May repeated values stand in one packed field?
    pub(crate) fn packable(self) -> bool {
        !matches!(self, Self::String | Self::Bytes | Self::Id(_) | Self::Message(_))
    }
}

/// The request of a signal.
pub(crate) fn request(signal: Signal) -> &'static MessageType {
    match signal {
        Signal::Traces => &COLLECTOR_TRACE_EXPORT_TRACE_SERVICE_REQUEST,
        Signal::Metrics => &COLLECTOR_METRICS_EXPORT_METRICS_SERVICE_REQUEST,
        Signal::Logs => &COLLECTOR_LOGS_EXPORT_LOGS_SERVICE_REQUEST,
        Signal::Profiles => &COLLECTOR_PROFILES_EXPORT_PROFILES_SERVICE_REQUEST,
    }
}

/// Numbers that are the same in the messages of all signals.
pub(crate) mod number {
    /// Of `Resource…` in the request.
    pub(crate) const RESOURCES: u32 = 1;
    /// Of the dictionary in the request of profiles.
    pub(crate) const DICTIONARY: u32 = 2;
    /// Of the resource in `Resource…`.
    pub(crate) const RESOURCE: u32 = 1;
    /// Of `Scope…` in `Resource…`.
    pub(crate) const SCOPES: u32 = 2;
    /// Of spans, metrics, log records and profiles in `Scope…`.
    pub(crate) const ITEMS: u32 = 2;
    /// Of the data points in each kind of metric.
    pub(crate) const DATA_POINTS: u32 = 1;
    /// Of the attributes in `Resource`.
    pub(crate) const ATTRIBUTES: u32 = 1;
    /// Of the key, the value and the key's index in `KeyValue`.
    pub(crate) const KEY: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
    pub(crate) const KEY_STRINDEX: u32 = 3;
    /// Of the key's index in `KeyValueAndUnit`.
    pub(crate) const UNIT_KEY_STRINDEX: u32 = 1;
    /// Of a text and an array in `AnyValue`.
    pub(crate) const STRING_VALUE: u32 = 1;
    pub(crate) const ARRAY_VALUE: u32 = 5;
    /// Of the values in `ArrayValue`.
    pub(crate) const VALUES: u32 = 1;
    /// Of the strings in `ProfilesDictionary`.
    pub(crate) const STRING_TABLE: u32 = 5;
}

include!("generated/schema.rs");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn reach(
        message: &'static MessageType,
        seen: &mut BTreeSet<usize>,
        check: &mut impl FnMut(&MessageType),
    ) {
        if seen.insert(std::ptr::from_ref(message).addr()) {
            check(message);
            for field in message.fields {
                if let Kind::Message(inner) = field.kind {
                    reach(inner, seen, check);
                }
            }
        }
    }

    #[test]
    fn the_table_is_as_its_readers_need_it() {
        let mut seen = BTreeSet::new();
        for signal in Signal::ALL {
            reach(request(signal), &mut seen, &mut |message| {
                assert!(message.fields.len() <= MAX_FIELDS, "{}", message.name);
                assert!(message.fields.is_sorted_by(|a, b| a.number < b.number), "{}", message.name);
                for (index, field) in message.fields.iter().enumerate() {
                    assert_eq!(message.index(field.number), Some(index));
                }
                assert!(message.index(0).is_none() && message.index(1000).is_none());
            });
        }
        assert!(seen.len() > 40, "{}", seen.len());
    }

    #[test]
    fn numbers_that_readers_know_are_those_of_the_table() {
        let name = |message: &MessageType, number| message.field(number).map(|field| field.name);
        let inner = |message: &MessageType, number| match message.field(number).map(|field| field.kind) {
            Some(Kind::Message(inner)) => inner,
            other => panic!("{} {number}: {other:?}", message.name),
        };
        for (signal, items) in Signal::ALL.into_iter().zip(["spans", "metrics", "logRecords", "profiles"]) {
            let of_resource = inner(request(signal), number::RESOURCES);
            assert!(inner(of_resource, number::RESOURCE).is(&RESOURCE_RESOURCE));
            assert_eq!(name(inner(of_resource, number::SCOPES), number::ITEMS), Some(items));
        }
        for field in METRICS_METRIC.fields.iter().filter(|field| field.shape == Shape::Oneof) {
            assert_eq!(name(inner(&METRICS_METRIC, field.number), number::DATA_POINTS), Some("dataPoints"));
        }
        let dictionary = inner(request(Signal::Profiles), number::DICTIONARY);
        let names = [
            (name(&RESOURCE_RESOURCE, number::ATTRIBUTES), "attributes"),
            (name(&COMMON_KEY_VALUE, number::KEY), "key"),
            (name(&COMMON_KEY_VALUE, number::VALUE), "value"),
            (name(&COMMON_KEY_VALUE, number::KEY_STRINDEX), "keyStrindex"),
            (name(&PROFILES_KEY_VALUE_AND_UNIT, number::UNIT_KEY_STRINDEX), "keyStrindex"),
            (name(&COMMON_ANY_VALUE, number::STRING_VALUE), "stringValue"),
            (name(&COMMON_ANY_VALUE, number::ARRAY_VALUE), "arrayValue"),
            (name(&COMMON_ARRAY_VALUE, number::VALUES), "values"),
            (name(dictionary, number::STRING_TABLE), "stringTable"),
        ];
        names.iter().for_each(|(found, expected)| assert_eq!(*found, Some(*expected)));
    }
}
