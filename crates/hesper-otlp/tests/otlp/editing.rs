//! Editing bytes is decoding, editing and encoding.

use crate::support::{Style, any_request, canonical, request};
use bytes::Bytes;
use hesper_otlp::{
    Signal,
    edit::{Change, EditError, Edits, Target, edit},
    validate,
};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

/// Keys that random requests have, and one that they do not have.
const KEYS: [&str; 6] = ["a", "service.name", "hesper.x", "hesper", "xhesper.x", "new"];

#[derive(Clone, Copy, Debug)]
enum Verb {
    Insert,
    Update,
    Upsert,
    Delete,
}

fn any_verbs() -> impl Strategy<Value = Vec<(&'static str, Verb)>> {
    let verb = prop_oneof![Just(Verb::Insert), Just(Verb::Update), Just(Verb::Upsert), Just(Verb::Delete)];
    let some = prop::sample::subsequence(KEYS.to_vec(), 0..=KEYS.len()).prop_shuffle();
    (some, prop::collection::vec(verb, KEYS.len()))
        .prop_map(|(keys, verbs)| keys.into_iter().zip(verbs).collect())
}

/// An `AnyValue` that is a text, encoded.
fn value(text: &str) -> Vec<u8> {
    crate::support::field(1, &[text.as_bytes()])
}

fn ready(verbs: &[(&str, Verb)]) -> Edits {
    let changes: Vec<(String, Change)> = verbs
        .iter()
        .map(|(key, verb)| {
            let value = value(&format!("of {key}"));
            let change = match verb {
                Verb::Insert => Change::Insert(value),
                Verb::Update => Change::Update(value),
                Verb::Upsert => Change::Upsert(value),
                Verb::Delete => Change::Delete,
            };
            ((*key).to_owned(), change)
        })
        .collect();
    Edits::new(&changes).expect("edits")
}

/// Edits decoded messages.
struct Editor<'a> {
    verbs: &'a [(&'static str, Verb)],
    table: Vec<String>,
}

impl Editor<'_> {
    fn key(&self, pair: &Value) -> String {
        let pair = pair.as_message().expect("a pair");
        let key = pair.get_field_by_name("key").expect("a field").as_str().expect("a text").to_owned();
        let place = pair.get_field_by_name("key_strindex").expect("a field").as_i32().expect("a number");
        match usize::try_from(place).ok().and_then(|place| self.table.get(place)) {
            Some(name) if key.is_empty() => name.clone(),
            _ => key,
        }
    }

    fn pair(of: &DynamicMessage, key: &str) -> Value {
        let pool = of.descriptor().parent_pool().clone();
        let make = |name: &str| {
            let name = format!("opentelemetry.proto.common.v1.{name}");
            DynamicMessage::new(pool.get_message_by_name(&name).expect("a message"))
        };
        let (mut pair, mut value) = (make("KeyValue"), make("AnyValue"));
        value.set_field_by_name("string_value", Value::String(format!("of {key}")));
        pair.set_field_by_name("key", Value::String(key.into()));
        pair.set_field_by_name("value", Value::Message(value));
        Value::Message(pair)
    }

    fn list(&self, of: &mut DynamicMessage) {
        for (key, verb) in self.verbs {
            let new = Self::pair(of, key);
            let list = list(of, "attributes");
            let there = list.iter().any(|pair| self.key(pair) == *key);
            match verb {
                Verb::Insert | Verb::Upsert if !there => list.push(new),
                Verb::Insert => {}
                Verb::Update | Verb::Upsert => {
                    list.iter_mut()
                        .filter(|pair| self.key(pair) == *key)
                        .for_each(|pair| *pair = new.clone());
                }
                Verb::Delete => list.retain(|pair| self.key(pair) != *key),
            }
        }
    }

    fn holder(&self, holder: &mut DynamicMessage, target: Target) {
        if target == Target::Resources {
            let sets = self.verbs.iter().any(|(_, verb)| matches!(verb, Verb::Insert | Verb::Upsert));
            if holder.has_field_by_name("resource") || sets {
                let resource = holder.get_field_by_name_mut("resource").expect("a field");
                self.list(resource.as_message_mut().expect("a message"));
            }
            return;
        }
        each(holder, 2, |scope| {
            each(scope, 2, |item| {
                if item.descriptor().name() != "Metric" {
                    return self.list(item);
                }
                for data in ["gauge", "sum", "histogram", "exponential_histogram", "summary"] {
                    if item.has_field_by_name(data) {
                        let data = item.get_field_by_name_mut(data).expect("a field");
                        each(data.as_message_mut().expect("a message"), 1, |point| self.list(point));
                    }
                }
            });
        });
    }
}

fn list<'a>(message: &'a mut DynamicMessage, name: &str) -> &'a mut Vec<Value> {
    message.get_field_by_name_mut(name).expect("a field").as_list_mut().expect("a list")
}

fn each(message: &mut DynamicMessage, number: u32, mut edit: impl FnMut(&mut DynamicMessage)) {
    let name = message.descriptor().get_field(number).expect("a field").name().to_owned();
    list(message, &name).iter_mut().for_each(|value| edit(value.as_message_mut().expect("a message")));
}

fn edited(signal: Signal, bytes: &[u8], target: Target, verbs: &[(&'static str, Verb)]) -> Vec<u8> {
    let mut message = DynamicMessage::decode(request(signal), bytes).expect("a request");
    let mut table = Vec::new();
    if message.has_field_by_name("dictionary") {
        let dictionary = message.get_field_by_name("dictionary").expect("a field");
        let names = dictionary.as_message().expect("a message").get_field_by_name("string_table");
        let names = names.expect("a field");
        table.extend(
            names.as_list().expect("a list").iter().map(|name| name.as_str().expect("a text").to_owned()),
        );
    }
    let editor = Editor { verbs, table };
    if target == Target::Resources || signal != Signal::Profiles {
        each(&mut message, 1, |holder| editor.holder(holder, target));
    }
    canonical(signal, &message.encode_to_vec()).expect("still a request")
}

fn check(signal: Signal, bytes: Vec<u8>, verbs: &[(&'static str, Verb)]) {
    let bytes = Bytes::from(bytes);
    let edits = ready(verbs);
    for target in [Target::Resources, Target::Items] {
        let ours = edit(signal, &bytes, target, &edits).expect("edited");
        assert_eq!(canonical(signal, &ours), Some(edited(signal, &bytes, target, verbs)), "{target:?}");
        let counts = |bytes| validate(signal, bytes).expect("a request");
        assert_eq!(counts(&ours), counts(&bytes));
        assert_eq!(edit(signal, &ours, target, &edits).expect("edited"), ours, "again it is the same");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn plain_requests_are_edited_as_by_decoding(
        (signal, bytes) in any_request(Style::Plain),
        verbs in any_verbs(),
    ) {
        check(signal, bytes, &verbs);
    }

    #[test]
    fn odd_requests_are_edited_as_by_decoding((signal, bytes) in any_request(Style::Odd), verbs in any_verbs()) {
        check(signal, bytes, &verbs);
    }
}

#[test]
fn a_request_that_needs_no_change_is_handed_back() {
    // A span with the attribute `a`.
    let span = crate::support::field(9, &[&crate::support::field(1, &[b"a"])]);
    let scope = crate::support::field(2, &[&crate::support::field(2, &[&span])]);
    let bytes = Bytes::from(crate::support::field(1, &[&scope]));
    for verbs in [[("a", Verb::Insert)], [("b", Verb::Update)], [("b", Verb::Delete)]] {
        let ours = edit(Signal::Traces, &bytes, Target::Items, &ready(&verbs)).expect("edited");
        assert_eq!(ours.as_ptr(), bytes.as_ptr());
    }
    let ours = edit(Signal::Traces, &bytes, Target::Items, &ready(&[("a", Verb::Delete)])).expect("edited");
    assert!(ours.len() < bytes.len());
}

#[test]
fn a_batch_does_not_grow_without_a_bound() {
    // A million empty spans, each to get a hundred bytes.
    let scope = crate::support::field(2, &[&[0x12, 0].repeat(1 << 20)]);
    let bytes = Bytes::from(crate::support::field(1, &[&scope]));
    let edits = Edits::new(&[("a".into(), Change::Insert(value(&"x".repeat(100))))]).expect("edits");
    let error = edit(Signal::Traces, &bytes, Target::Items, &edits).expect_err("too much");
    assert_eq!(error, EditError::TooMuch);
}
