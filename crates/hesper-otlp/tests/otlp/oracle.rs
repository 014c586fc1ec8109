//! Stamping bytes is decoding, editing and encoding.

use crate::support::{Style, any_request, canonical, request};
use bytes::Bytes;
use hesper_otlp::{Signal, Stamp, stamp::stamp, validate};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

const PREFIX: &str = "hesper.";

/// What the tests put on each resource.
pub(crate) fn sender() -> Stamp {
    Stamp::default().with("hesper.identity.id", "i-1").with_list("hesper.forwarded.for", ["g-1", "g-2"])
}

/// Edits a decoded message as [`stamp`] edits bytes.
struct Editor {
    /// Entries of the string table under the prefix.
    names: Vec<usize>,
}

impl Editor {
    fn reserved(&self, pair: &DynamicMessage) -> bool {
        let named = pair.get_field_by_name("key").is_some_and(|key| text(&key).starts_with(PREFIX));
        let index = pair.get_field_by_name("key_strindex").and_then(|index| index.as_i32());
        named || index.and_then(|i| usize::try_from(i).ok()).is_some_and(|i| self.names.contains(&i))
    }

    fn clean(&self, message: &mut DynamicMessage) {
        for (_, value) in message.fields_mut() {
            match value {
                Value::Message(inner) => self.clean(inner),
                Value::List(values) => {
                    values.retain(|value| !is(value, "KeyValue", |pair| self.reserved(pair)));
                    for value in values.iter_mut() {
                        if is(value, "KeyValueAndUnit", |pair| self.reserved(pair)) {
                            value.as_message_mut().expect("a message").clear();
                        }
                        value.as_message_mut().into_iter().for_each(|inner| self.clean(inner));
                    }
                }
                _ => {}
            }
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn is(value: &Value, name: &str, that: impl FnOnce(&DynamicMessage) -> bool) -> bool {
    value.as_message().is_some_and(|message| message.descriptor().name() == name && that(message))
}

fn list<'a>(message: &'a mut DynamicMessage, name: &str) -> &'a mut Vec<Value> {
    message.get_field_by_name_mut(name).expect("a field").as_list_mut().expect("a list")
}

/// The names in the table; a reserved one in the place that must be empty is made so.
fn string_table(request: &mut DynamicMessage) -> Vec<usize> {
    if !request.has_field_by_name("dictionary") {
        return Vec::new();
    }
    let dictionary = request.get_field_by_name_mut("dictionary").expect("a field");
    let table = list(dictionary.as_message_mut().expect("a message"), "string_table");
    if let Some(first) = table.first_mut().filter(|first| text(first).starts_with(PREFIX)) {
        *first = Value::String(String::new());
    }
    let reserved = |(index, name): (usize, &Value)| text(name).starts_with(PREFIX).then_some(index);
    table.iter().enumerate().filter_map(reserved).collect()
}

/// Attributes, as the stamp of [`sender`] has them.
fn attributes(request: &DynamicMessage) -> Vec<Value> {
    let pool = request.descriptor().parent_pool().clone();
    let make = |name: &str| {
        let name = format!("opentelemetry.proto.common.v1.{name}");
        DynamicMessage::new(pool.get_message_by_name(&name).expect("a message"))
    };
    let string = |text: &str| {
        let mut value = make("AnyValue");
        value.set_field_by_name("string_value", Value::String(text.into()));
        value
    };
    let pair = |key: &str, value: DynamicMessage| {
        let mut pair = make("KeyValue");
        pair.set_field_by_name("key", Value::String(key.into()));
        pair.set_field_by_name("value", Value::Message(value));
        Value::Message(pair)
    };
    let (mut array, mut chain) = (make("ArrayValue"), make("AnyValue"));
    let values = ["g-1", "g-2"].map(|name| Value::Message(string(name)));
    array.set_field_by_name("values", Value::List(values.into()));
    chain.set_field_by_name("array_value", Value::Message(array));
    vec![pair("hesper.identity.id", string("i-1")), pair("hesper.forwarded.for", chain)]
}

/// What [`stamp`] should make of a request, re-encoded by opentelemetry-proto.
fn edited(signal: Signal, bytes: &[u8], add: bool) -> Vec<u8> {
    let mut message = DynamicMessage::decode(request(signal), bytes).expect("a request");
    let editor = Editor { names: string_table(&mut message) };
    editor.clean(&mut message);
    if add {
        let add = attributes(&message);
        let name = request(signal).get_field(1).expect("resources").name().to_owned();
        for holder in list(&mut message, &name) {
            let holder = holder.as_message_mut().expect("a message");
            let resource = holder.get_field_by_name_mut("resource").expect("a field");
            list(resource.as_message_mut().expect("a message"), "attributes").extend(add.iter().cloned());
        }
    }
    canonical(signal, &message.encode_to_vec()).expect("still a request")
}

fn check(signal: Signal, bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    for (with, add) in [(sender(), true), (Stamp::default(), false)] {
        let stamped = stamp(signal, &bytes, &with).expect("stamped");
        assert_eq!(canonical(signal, &stamped), Some(edited(signal, &bytes, add)));
        let counts = |bytes| validate(signal, bytes).expect("a request");
        assert_eq!(counts(&stamped), counts(&bytes));
        // Stamped again it is the same, with the new attributes in the place of the old.
        assert_eq!(stamp(signal, &stamped, &with).expect("stamped"), stamped);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn plain_requests_are_stamped_as_by_decoding((signal, bytes) in any_request(Style::Plain)) {
        check(signal, bytes);
    }

    #[test]
    fn odd_requests_are_stamped_as_by_decoding((signal, bytes) in any_request(Style::Odd)) {
        check(signal, bytes);
    }

    #[test]
    fn damaged_requests_do_not_break_it(
        (signal, bytes) in any_request(Style::Odd),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        prop_assume!(!bytes.is_empty());
        let mut bytes = bytes;
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let valid = validate(signal, &bytes).is_ok();
        let stamped = stamp(signal, &bytes.into(), &sender());
        if valid {
            prop_assert!(validate(signal, &stamped.expect("a request is stamped")).is_ok());
        }
    }
}
