//! Senders who claim to be somebody else, wherever they write it.

use crate::{
    oracle::sender,
    support::{field, number, request},
};
use bytes::Bytes;
use hesper_otlp::{Signal, Stamp, StampError, stamp::MAX_GROWTH, stamp::stamp, validate};
use prost_reflect::{DynamicMessage, MapKey, ReflectMessage, Value};

/// The claim.
const FORGED: &str = "forged";

fn text(value: &str) -> Vec<u8> {
    field(1, &[value.as_bytes()])
}

fn pair(key: &str, value: &[u8]) -> Vec<u8> {
    [text(key), field(2, &[value])].concat()
}

/// A pair that claims an identity.
fn forged() -> Vec<u8> {
    pair("hesper.identity.id", &text(FORGED))
}

/// A pair that is nobody's business.
fn honest() -> Vec<u8> {
    pair("service.name", &text("shop"))
}

/// A request whose only resource has these fields around a scope with these items.
fn with_item(item: &[u8]) -> Vec<u8> {
    field(1, &[&field(1, &[&field(1, &[&honest()])]), &field(2, &[&field(2, &[item])])])
}

/// All claims left in a message, at any depth, with the keys' table of profiles.
fn claims(message: &DynamicMessage, names: &[String], found: &mut Vec<String>) {
    let index = message.get_field_by_name("key_strindex").and_then(|index| index.as_i32()).unwrap_or(-1);
    let named = usize::try_from(index).ok().and_then(|index| names.get(index)).cloned().unwrap_or_default();
    let key = message.get_field_by_name("key").and_then(|key| key.as_str().map(str::to_owned));
    for key in [key.unwrap_or_default(), named] {
        if key.starts_with("hesper.") {
            found.push(format!("{key} = {}", message.get_field_by_name("value").expect("a value")));
        }
    }
    let unknown: Vec<u8> = message.unknown_fields().fold(Vec::new(), |mut bytes, field| {
        field.encode(&mut bytes);
        bytes
    });
    if unknown.windows(7).any(|window| window == b"hesper.") {
        found.push("an unknown field".to_owned());
    }
    for (_, value) in message.fields() {
        visit(value, names, found);
    }
}

fn visit(value: &Value, names: &[String], found: &mut Vec<String>) {
    match value {
        Value::Message(inner) => claims(inner, names, found),
        Value::List(values) => values.iter().for_each(|value| visit(value, names, found)),
        Value::Map(values) => values.iter().for_each(|(_, value): (&MapKey, _)| visit(value, names, found)),
        _ => {}
    }
}

fn claims_of(signal: Signal, payload: &[u8]) -> Vec<String> {
    let message = DynamicMessage::decode(request(signal), payload).expect("a request");
    assert_eq!(message.descriptor(), request(signal));
    let mut names = Vec::new();
    if let Some(dictionary) = message.get_field_by_name("dictionary") {
        let table =
            dictionary.as_message().expect("a message").get_field_by_name("string_table").expect("a field");
        names = table
            .as_list()
            .expect("a list")
            .iter()
            .map(|name| name.as_str().expect("text").to_owned())
            .collect();
    }
    let mut found = Vec::new();
    claims(&message, &names, &mut found);
    found
}

/// Cleans the request and demands that no claim is left, and that what is honest is.
fn check(what: &str, signal: Signal, payload: Vec<u8>) -> Bytes {
    let payload = Bytes::from(payload);
    let counts = validate(signal, &payload).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(!claims_of(signal, &payload).is_empty(), "{what}: nothing is forged");
    let clean = stamp(signal, &payload, &Stamp::default()).expect("stamped");
    assert_eq!(claims_of(signal, &clean), Vec::<String>::new(), "{what}");
    let stamped = stamp(signal, &payload, &sender()).expect("stamped");
    assert_eq!(validate(signal, &stamped), Ok(counts), "{what}");
    let left = claims_of(signal, &stamped);
    assert_eq!(left.len() as u64, 2 * counts.resources, "{what}: {left:?}");
    assert!(!left.iter().any(|claim| claim.contains(FORGED)), "{what}: {left:?}");
    stamped
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_claim_on_the_resource() {
    let resource = |attributes: &[Vec<u8>]| {
        let attributes: Vec<u8> = attributes.iter().flat_map(|pair| field(1, &[pair])).collect();
        field(1, &[&field(1, &[&attributes])])
    };
    let left = check("alone", Signal::Traces, resource(&[forged()]));
    assert!(!contains(&left, FORGED));
    let left = check("among others", Signal::Traces, resource(&[honest(), forged(), honest()]));
    assert!(contains(&left, "shop") && !contains(&left, FORGED));
    check("twice", Signal::Traces, resource(&[forged(), forged(), honest(), forged()]));
    check("any key under the prefix", Signal::Traces, resource(&[pair("hesper.", &text(FORGED))]));
    check("without a value", Signal::Traces, resource(&[text("hesper.identity.id")]));
    check(
        "value before key",
        Signal::Traces,
        resource(&[[field(2, &[&text(FORGED)]), text("hesper.x")].concat()]),
    );
}

#[test]
fn a_claim_in_pieces_that_protobuf_merges() {
    let resource = |pair: &[u8]| field(1, &[&field(1, &[pair])]);
    let holder = |parts: &[Vec<u8>]| field(1, &[&parts.concat()]);
    check("the first resource", Signal::Logs, holder(&[resource(&forged()), resource(&honest())]));
    check("the second resource", Signal::Logs, holder(&[resource(&honest()), resource(&forged())]));
    check("around a scope", Signal::Logs, holder(&[resource(&forged()), field(2, &[]), resource(&forged())]));
    let scope = field(2, &[&field(1, &[&field(3, &[&forged()])]), &field(1, &[&field(3, &[&forged()])])]);
    check("the scope twice", Signal::Logs, holder(&[scope]));
    let list = |pair: &[u8]| field(6, &[&field(1, &[pair])]);
    let value = [list(&honest()), list(&forged())].concat();
    check("the list twice", Signal::Logs, holder(&[resource(&pair("a", &value))]));
    let value = [field(2, &[&list(&honest())]), field(2, &[&list(&forged())])].concat();
    check("the value twice", Signal::Logs, holder(&[resource(&[text("a"), value].concat())]));
    let key = [text("service.name"), text("hesper.identity.id"), field(2, &[&text(FORGED)])].concat();
    check("the last key", Signal::Logs, holder(&[resource(&key)]));
}

#[test]
fn a_key_that_only_some_readers_see_goes_too() {
    let key = [text("hesper.identity.id"), text("service.name"), field(2, &[&text(FORGED)])].concat();
    let payload = field(1, &[&field(1, &[&field(1, &[&key])])]);
    let clean = stamp(Signal::Logs, &payload.into(), &Stamp::default()).expect("stamped");
    assert_eq!(clean, field(1, &[&field(1, &[])]));
}

#[test]
fn a_claim_on_scopes_and_items() {
    let scope = field(1, &[&field(2, &[&field(1, &[&field(3, &[&forged()])])])]);
    for signal in [Signal::Traces, Signal::Metrics, Signal::Logs, Signal::Profiles] {
        check("scope", signal, scope.clone());
    }
    check("span", Signal::Traces, with_item(&field(9, &[&forged()])));
    check("event", Signal::Traces, with_item(&field(11, &[&field(3, &[&forged()])])));
    check("link", Signal::Traces, with_item(&field(13, &[&field(4, &[&forged()])])));
    check("log record", Signal::Logs, with_item(&field(6, &[&forged()])));
    check(
        "body of a log record",
        Signal::Logs,
        with_item(&field(5, &[&field(6, &[&field(1, &[&forged()])])])),
    );
    check("metric metadata", Signal::Metrics, with_item(&field(12, &[&forged()])));
    // The number of each kind of data, of its points' attributes and of their exemplars.
    for (data, attributes, exemplars) in [(5, 7, 5), (7, 7, 5), (9, 9, 8), (10, 1, 11), (11, 7, 0)] {
        let point = |fields: &[u8]| with_item(&field(data, &[&field(1, &[fields])]));
        check("data point", Signal::Metrics, point(&field(attributes, &[&forged()])));
        if exemplars > 0 {
            check("exemplar", Signal::Metrics, point(&field(exemplars, &[&field(7, &[&forged()])])));
        }
    }
}

#[test]
fn a_claim_deep_in_lists() {
    let mut value = field(6, &[&field(1, &[&forged()]), &field(1, &[&honest()])]);
    for level in 0..20 {
        value = if level % 2 == 0 {
            field(5, &[&field(1, &[&text("x")]), &field(1, &[&value])])
        } else {
            field(6, &[&field(1, &[&pair("outer", &value)])])
        };
    }
    let left = check("deep", Signal::Traces, with_item(&field(9, &[&pair("list", &value)])));
    assert!(contains(&left, "shop") && contains(&left, "outer") && !contains(&left, FORGED));
}

#[test]
fn a_claim_in_fields_that_nobody_knows() {
    let known = field(1, &[&field(1, &[&honest()])]);
    let group = [&[0x9b, 6][..], &field(1, &[&forged()]), &[0x9c, 6]].concat();
    for (what, unknown) in [("field", field(99, &[&forged()])), ("group", group)] {
        for inside in [
            field(1, &[&known, &unknown]),
            field(1, &[&field(1, &[&unknown])]),
            [unknown.clone(), field(1, &[&known])].concat(),
            with_item(&field(9, &[&honest(), &unknown])),
        ] {
            check(what, Signal::Traces, inside);
        }
    }
    let harmless = field(1, &[&known, &field(99, &[b"of a later version"])]);
    let left = stamp(Signal::Traces, &harmless.into(), &sender()).expect("stamped");
    assert!(contains(&left, "of a later version"), "check 15: unknown fields are sent on");
}

#[test]
fn a_claim_under_lengths_of_many_bytes() {
    /// Every length and every key with two bytes more than needed.
    fn padded(number: u8, parts: &[&[u8]]) -> Vec<u8> {
        let bytes = parts.concat();
        let mut out = vec![number << 3 | 0x82, 0x80, 0];
        let mut len = Vec::new();
        prost::encoding::encode_varint(bytes.len() as u64, &mut len);
        *len.last_mut().expect("a byte") |= 0x80;
        out.extend([&len[..], &[0x80, 0], &bytes].concat());
        out
    }
    let pair = |key: &str, value: &str| {
        let value = padded(1, &[value.as_bytes()]);
        padded(1, &[&padded(1, &[key.as_bytes()]), &padded(2, &[&value])])
    };
    let resource = padded(1, &[&pair("hesper.identity.id", FORGED), &pair("service.name", "shop")]);
    let left = check("padded", Signal::Traces, padded(1, &[&resource]));
    assert!(contains(&left, "shop") && !contains(&left, FORGED));
}

#[test]
fn a_claim_by_the_tables_of_profiles() {
    let table =
        |names: &[&str]| names.iter().flat_map(|name| field(5, &[name.as_bytes()])).collect::<Vec<u8>>();
    let names = table(&["", "hesper.identity.id", "cpu", "hesper.main"]);
    let entry = |key| field(6, &[&number(1, key), &field(2, &[&text(FORGED)])]);
    let resource = |pair: &[u8]| field(1, &[&field(1, &[&field(1, &[pair])])]);
    let by_index = |index| [number(3, index), field(2, &[&text(FORGED)])].concat();
    let plain = field(1, &[]);

    let attributes = field(2, &[&names, &entry(2), &entry(1), &entry(2)]);
    let left = check("attribute table", Signal::Profiles, [plain.clone(), attributes].concat());
    let message = DynamicMessage::decode(request(Signal::Profiles), &left[..]).expect("a request");
    let dictionary = message.get_field_by_name("dictionary").expect("a field");
    let kept =
        dictionary.as_message().expect("a message").get_field_by_name("attribute_table").expect("a field");
    let kept = kept.as_list().expect("a list").len();
    assert_eq!(kept, 3, "entries are known by their place, which must not change");
    assert!(contains(&left, "hesper.main"), "names of functions are no attributes");

    let dictionary = field(2, &[&names]);
    check("key of a resource", Signal::Profiles, [resource(&by_index(1)), dictionary.clone()].concat());
    check("key before its table", Signal::Profiles, [dictionary, resource(&by_index(1))].concat());
    let pieces = [field(2, &[&table(&["", "a"])]), field(2, &[&table(&["hesper.x"]), &entry(2)])].concat();
    check("a table in pieces", Signal::Profiles, [plain.clone(), pieces].concat());
    let truncated = field(2, &[&names, &entry(1 | 1 << 32)]);
    check("an index of more than 32 bits", Signal::Profiles, [plain.clone(), truncated].concat());
    let nested = field(6, &[&number(1, 2), &field(2, &[&field(6, &[&field(1, &[&by_index(1)])])])]);
    check("in a list of the table", Signal::Profiles, [plain, field(2, &[&names, &nested])].concat());
}

#[test]
fn the_empty_name_of_profiles_stays_empty() {
    let names = [field(5, &[b"hesper.identity.id"]), field(5, &[b"cpu"])].concat();
    // Without a number, the key is the first entry of the table.
    let payload = [field(1, &[]), field(2, &[&names, &field(6, &[&field(2, &[&text(FORGED)])])])].concat();
    let left = check("index 0", Signal::Profiles, payload);
    assert!(contains(&left, "cpu"));
}

#[test]
fn what_only_looks_like_a_claim_stays() {
    let pairs =
        [pair("xhesper.identity.id", &text("a")), pair("Hesper.x", &text("b")), pair("hesper", &text("c"))];
    let pairs: Vec<u8> = pairs.iter().flat_map(|pair| field(1, &[pair])).collect();
    let value = field(1, &[&pair("note", &text("hesper.identity.id"))]);
    let payload = Bytes::from(field(1, &[&field(1, &[&pairs, &value])]));
    assert_eq!(stamp(Signal::Traces, &payload, &Stamp::default()), Ok(payload.clone()));
}

#[test]
fn every_resource_gets_the_stamp() {
    let payload = [field(1, &[]), field(1, &[&field(1, &[])]), field(1, &[&field(2, &[])])].concat();
    let stamped = stamp(Signal::Traces, &payload.into(), &sender()).expect("stamped");
    assert_eq!(claims_of(Signal::Traces, &stamped).len(), 6);
    assert_eq!(stamp(Signal::Traces, &Bytes::new(), &sender()), Ok(Bytes::new()));
}

#[test]
fn stamps_do_not_blow_up_a_small_request() {
    let payload = Bytes::from([0x0a, 0].repeat(1 << 20));
    let error = stamp(Signal::Traces, &payload, &sender()).expect_err("too many");
    assert!(matches!(error, StampError::TooManyResources { resources } if resources > 100_000), "{error}");
    let within = payload.slice(..2 * 100_000);
    let stamped = stamp(Signal::Traces, &within, &sender()).expect("stamped");
    assert!(stamped.len() <= within.len() + MAX_GROWTH + 100_000);
}

#[test]
fn hostile_shapes_cost_no_more_than_their_length() {
    let many = field(1, &[&field(1, &[&field(1, &[&forged()]).repeat(100_000)])]);
    let clean = stamp(Signal::Traces, &many.into(), &Stamp::default()).expect("stamped");
    assert_eq!(clean, field(1, &[&field(1, &[])]));
    let near = field(1, &[&field(3, &["hesper".repeat(1 << 18).as_bytes()])]);
    assert_eq!(stamp(Signal::Traces, &near.clone().into(), &Stamp::default()), Ok(near.into()));
}
