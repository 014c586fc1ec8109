//! Every action of `resource` and `attributes`.

use crate::{
    fixtures::{everything, items, log, metrics, request, span, text},
    made, processor,
};
use hesper_otlp::Signal;
use hesper_telemetry::origin::Origin;
use serde_json::{Value as Json, json};

fn origin() -> Origin {
    Origin {
        auth: [("username".to_owned(), "user-1".to_owned())].into(),
        metadata: vec![("x-tenant".into(), "a".into()), ("x-tenant".into(), "b".into())],
        peer: Some("10.1.2.3".parse().expect("an address")),
        ..Origin::default()
    }
}

/// What is left of a resource's attributes.
fn resource(actions: &str, before: &[Json]) -> Vec<Json> {
    let step = processor("resource", &format!("{{attributes: [{actions}]}}"));
    let made = made(&step, Signal::Traces, &request(Signal::Traces, before, &[span()]), &origin());
    let attributes = &made.expect("something is left")["resourceSpans"][0]["resource"]["attributes"];
    attributes.as_array().cloned().unwrap_or_default()
}

fn int(key: &str, n: i64) -> Json {
    json!({"key": key, "value": {"intValue": n.to_string()}})
}

fn double(key: &str, n: f64) -> Json {
    json!({"key": key, "value": {"doubleValue": n}})
}

fn flag(key: &str, yes: bool) -> Json {
    json!({"key": key, "value": {"boolValue": yes}})
}

#[test]
fn values_are_set_changed_and_taken_away() {
    let (a, b) = (text("a", "1"), text("b", "2"));
    let before = [a.clone(), b.clone()];
    let new = text("a", "x");
    for (actions, after) in [
        ("{key: a, value: x, action: insert}", vec![a.clone(), b.clone()]),
        ("{key: c, value: x, action: insert}", vec![a.clone(), b.clone(), text("c", "x")]),
        ("{key: a, value: x, action: update}", vec![new.clone(), b.clone()]),
        ("{key: c, value: x, action: update}", vec![a.clone(), b.clone()]),
        ("{key: a, value: x, action: upsert}", vec![new.clone(), b.clone()]),
        ("{key: c, value: 7, action: upsert}", vec![a.clone(), b.clone(), int("c", 7)]),
        ("{key: a, action: delete}", vec![b.clone()]),
        ("{key: c, action: delete}", vec![a.clone(), b.clone()]),
        ("{pattern: '^[ab]$', action: delete}", vec![]),
        ("{key: b, pattern: '^a', action: delete}", vec![]),
        ("{key: c, from_attribute: a, action: insert}", vec![a.clone(), b.clone(), text("c", "1")]),
        ("{key: a, from_attribute: b, action: update}", vec![text("a", "2"), b.clone()]),
        ("{key: a, from_attribute: none, action: upsert}", vec![a.clone(), b.clone()]),
        ("{key: a, from_attribute: none, default_value: x, action: upsert}", vec![new.clone(), b.clone()]),
        (
            "{key: c, from_context: metadata.X-Tenant, action: insert}",
            vec![a.clone(), b.clone(), text("c", "a;b")],
        ),
        ("{key: a, from_context: auth.username, action: update}", vec![text("a", "user-1"), b.clone()]),
        ("{key: a, from_context: client.address, action: upsert}", vec![text("a", "10.1.2.3"), b.clone()]),
        ("{key: a, from_context: auth.none, action: upsert}", vec![a.clone(), b.clone()]),
        (
            "{key: a, from_context: metadata.no, default_value: x, action: upsert}",
            vec![new.clone(), b.clone()],
        ),
        // In order: the second sees what the first did.
        ("{key: a, action: delete}, {key: a, value: x, action: insert}", vec![b.clone(), new.clone()]),
        (
            "{key: c, value: x, action: insert}, {key: a, from_attribute: c, action: update}",
            vec![new.clone(), b.clone(), text("c", "x")],
        ),
    ] {
        assert_eq!(resource(actions, &before), after, "{actions}");
    }
    let twice = [a.clone(), b.clone(), text("a", "3")];
    assert_eq!(resource("{key: a, value: x, action: upsert}", &twice), [new.clone(), b.clone(), new]);
    assert_eq!(resource("{key: a, action: delete}", &twice), [b]);
}

#[test]
fn hashes_are_those_of_sha_1() {
    let list = json!({"key": "l", "value": {"arrayValue": {"values": [{"intValue": "1"}]}}});
    let before = [text("a", "abc"), text("e", ""), int("i", 1), flag("f", true), double("d", 1.0), list];
    let of =
        |key: &str, pattern: &str| resource(&format!("{{key: '{key}', {pattern} action: hash}}"), &before);
    // FIPS 180, and sha1sum of one and of eight bytes.
    let hashed = |i: usize, key: &str| of(key, "")[i]["value"]["stringValue"].clone();
    assert_eq!(hashed(0, "a"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(hashed(1, "e"), "");
    assert_eq!(hashed(2, "i"), "3da89ee273be13437e7ecf760f3fbd4dc0e8d1fe");
    assert_eq!(hashed(3, "f"), "bf8b4530d8d246dd74ac53a13471bba17941dff7");
    assert!(hashed(5, "l").as_str().is_some_and(|hash| hash.len() == 40));
    let all = of("", "pattern: '.*',");
    assert!(all.iter().all(|pair| pair["value"]["stringValue"].is_string()), "{all:?}");
}

#[test]
fn groups_become_attributes() {
    let before = [text("url", "https://shop.example/cart?id=7"), text("host", "old")];
    let pattern = r"^(?P<scheme>\w+)://(?P<host>[^/]+)(?P<path>/[^?]*)(?:\?(?P<query>.*))?";
    let extract = format!("{{key: url, pattern: '{pattern}', action: extract}}");
    let expected = [
        before[0].clone(),
        text("host", "shop.example"),
        text("scheme", "https"),
        text("path", "/cart"),
        text("query", "id=7"),
    ];
    assert_eq!(resource(&extract, &before), expected);
    let short = [text("url", "http://x/")];
    let found = resource(&extract, &short);
    assert_eq!(found.last(), Some(&json!({"key": "query", "value": {"stringValue": ""}})), "{found:?}");
    for other in [text("url", "no url"), int("url", 7), text("link", "http://x/")] {
        assert_eq!(resource(&extract, std::slice::from_ref(&other)), std::slice::from_ref(&other));
    }
}

#[test]
fn types_are_converted() {
    for (to, before, after) in [
        ("int", text("k", "-7"), int("k", -7)),
        ("int", text("k", "7.5"), text("k", "7.5")),
        ("int", double("k", 7.9), int("k", 7)),
        ("int", flag("k", true), int("k", 1)),
        ("double", text("k", "7.5"), double("k", 7.5)),
        ("double", int("k", 7), double("k", 7.0)),
        ("double", text("k", "x"), text("k", "x")),
        ("string", int("k", 7), text("k", "7")),
        ("string", double("k", 0.5), text("k", "0.5")),
        ("string", flag("k", false), text("k", "false")),
        ("string", text("k", "x"), text("k", "x")),
    ] {
        let action = format!("{{key: k, converted_type: {to}, action: convert}}");
        assert_eq!(resource(&action, std::slice::from_ref(&before)), [after], "{before} to {to}");
    }
}

#[test]
fn who_sent_it_is_nobodys_to_change() {
    let ours = text("hesper.identity.name", "shop-1");
    let before = [text("a", "1"), ours.clone()];
    for actions in ["{pattern: '.*', action: delete}", "{pattern: '^hesper', action: hash}"] {
        assert!(resource(actions, &before).contains(&ours), "{actions}");
    }
    let copied = resource("{key: a, from_attribute: hesper.identity.name, action: update}", &before);
    assert_eq!(copied, [text("a", "shop-1"), ours]);
}

#[test]
fn a_resource_that_is_not_there_is_made() {
    let step = processor("resource", "{attributes: [{key: a, value: x, action: insert}]}");
    for (signal, name) in [
        (Signal::Traces, "resourceSpans"),
        (Signal::Metrics, "resourceMetrics"),
        (Signal::Logs, "resourceLogs"),
        (Signal::Profiles, "resourceProfiles"),
    ] {
        let made = made(&step, signal, &json!({name: [{}]}), &Origin::default()).expect("left");
        assert_eq!(made[name][0]["resource"]["attributes"], json!([text("a", "x")]), "{signal}");
    }
}

#[test]
fn profiles_may_name_keys_by_their_place() {
    let pair = json!({"keyStrindex": 1, "value": {"stringValueStrindex": 2}});
    let mut request = request(Signal::Profiles, &[pair], &[json!({})]);
    request["dictionary"] = json!({"stringTable": ["", "host", "h-1"]});
    for (action, after) in [
        ("{key: host, action: delete}", Json::Null),
        ("{key: host, value: x, action: update}", json!([text("host", "x")])),
        (
            "{key: host, value: x, action: insert}, {key: host, converted_type: int, action: convert}",
            json!([text("host", "h-1")]),
        ),
    ] {
        let step = processor("resource", &format!("{{attributes: [{action}]}}"));
        let made = made(&step, Signal::Profiles, &request, &Origin::default()).expect("left");
        assert_eq!(made["resourceProfiles"][0]["resource"]["attributes"], after, "{action}");
    }
}

#[test]
fn attributes_are_those_of_spans_points_and_log_records_only() {
    // On the bytes, and decoded.
    let plain = "{actions: [{key: a, value: x, action: upsert}]}";
    let decoded = "{include: {match_type: strict, attributes: [{key: a}]}, actions: [{key: a, value: x, action: \
                   upsert}]}";
    for body in [plain, decoded] {
        let step = processor("attributes", body);
        for (signal, before) in
            [(Signal::Traces, vec![span()]), (Signal::Logs, vec![log()]), (Signal::Metrics, metrics())]
        {
            let replaced = |mut item: Json| {
                let kinds = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
                match kinds.iter().find(|kind| item.get(**kind).is_some()) {
                    Some(kind) => {
                        let points = item[*kind]["dataPoints"].as_array_mut().expect("points");
                        points.iter_mut().for_each(|point| point["attributes"][0] = text("a", "x"));
                    }
                    None => item["attributes"][0] = text("a", "x"),
                }
                item
            };
            let after: Vec<Json> = before.iter().cloned().map(replaced).collect();
            let expected = crate::canonical(signal, &request(signal, &[text("a", "r")], &after));
            let made = made(&step, signal, &request(signal, &[text("a", "r")], &before), &Origin::default());
            assert_eq!(made, Some(expected), "{body} {signal}");
        }
        let profiles = crate::canonical(Signal::Profiles, &everything(Signal::Profiles));
        assert_eq!(made(&step, Signal::Profiles, &profiles, &Origin::default()), Some(profiles));
    }
    assert_eq!(items(&everything(Signal::Metrics)).len(), 5);
}
