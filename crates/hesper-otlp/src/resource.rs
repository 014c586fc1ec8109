//! What the resources of a request say of themselves: for policy that allows a sender some names only.

use crate::{
    Signal,
    schema::number,
    validate::{checked, inside, string_table},
    wire::{Entry, Value},
};

/// Everything that one resource says under one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// Every text. Honest resources have one at most; of several, readers do not agree which one counts.
    pub texts: Vec<&'a str>,
    /// There is also a value that is no text, or no plain one.
    pub others: bool,
}

impl<'a> Said<'a> {
    /// What a rule on names has to hold for: every text, and `None` for a resource that says nothing, or something that is no text.
    pub fn names(&self) -> impl Iterator<Item = Option<&'a str>> {
        let nameless = self.others || self.texts.is_empty();
        self.texts.clone().into_iter().map(Some).chain(nameless.then_some(None))
    }
}

/// What each resource of a payload says under a key, such as `service.name`, in their order. The payload is one that
/// [`validate`](crate::validate()) accepted.
///
/// A rule on names should hold for all texts and refuse others: then it holds for whatever a reader makes of a resource that names
/// itself several times, in pieces, or in profiles by a place in the string table.
pub fn said<'a>(signal: Signal, payload: &'a [u8], key: &str) -> impl Iterator<Item = Said<'a>> {
    let mut names = Vec::new();
    if signal == Signal::Profiles {
        let entries = string_table(payload).enumerate();
        names.extend(
            entries.filter(|(_, name)| &payload[name.range()] == key.as_bytes()).map(|(i, _)| i as u32),
        );
    }
    let key = key.as_bytes().to_vec();
    let named = move |field: Entry| match field.value {
        Value::Len => field.number == number::KEY && payload[field.range()] == key,
        Value::Varint(index) => {
            field.number == number::KEY_STRINDEX && names.binary_search(&(index as u32)).is_ok()
        }
        _ => false,
    };
    inside(payload, 0..payload.len(), number::RESOURCES).map(move |holder| {
        let mut said = Said::default();
        for resource in inside(payload, holder.range(), number::RESOURCE) {
            for pair in inside(payload, resource.range(), number::ATTRIBUTES) {
                if checked(payload, pair.range()).any(&named) {
                    add(&mut said, payload, &pair);
                }
            }
        }
        said
    })
}

fn add<'a>(said: &mut Said<'a>, payload: &'a [u8], pair: &Entry) {
    let before = said.texts.len();
    for value in inside(payload, pair.range(), number::VALUE) {
        for variant in checked(payload, value.range()) {
            match std::str::from_utf8(&payload[variant.range()]) {
                Ok(text) if variant.number == number::STRING_VALUE && variant.value == Value::Len => {
                    said.texts.push(text)
                }
                _ => said.others = true,
            }
        }
    }
    said.others |= said.texts.len() == before;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use serde_json::{Value as Json, json};

    fn of(signal: Signal, request: &Json) -> Vec<(Vec<String>, bool)> {
        let payload = json::decode(signal, request.to_string().as_bytes()).expect("a request");
        let said = said(signal, &payload, "service.name");
        said.map(|said| (said.texts.into_iter().map(str::to_owned).collect(), said.others)).collect()
    }

    fn resource(values: &[Json]) -> Json {
        let pair = |value: &Json| json!({"key": "service.name", "value": value});
        let mut pairs: Vec<Json> = values.iter().map(pair).collect();
        pairs.push(json!({"key": "host.name", "value": {"stringValue": "h"}}));
        json!({"resource": {"attributes": pairs}})
    }

    #[test]
    fn each_resource_says_its_name() {
        let (a, b) = (json!({"stringValue": "a"}), json!({"stringValue": "b"}));
        let holders = json!([
            resource(std::slice::from_ref(&a)),
            {},
            resource(&[]),
            resource(&[a, b]),
            resource(&[json!({"intValue": 7})]),
            resource(&[json!({})])
        ]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = [
            (names(&["a"]), false),
            (names(&[]), false),
            (names(&[]), false),
            (names(&["a", "b"]), false),
            (names(&[]), true),
            (names(&[]), true),
        ];
        for (signal, name) in [
            (Signal::Traces, "resourceSpans"),
            (Signal::Metrics, "resourceMetrics"),
            (Signal::Logs, "resourceLogs"),
        ] {
            assert_eq!(of(signal, &json!({ name: holders })), expected);
        }
    }

    #[test]
    fn a_resource_without_a_plain_name_has_none_among_its_names() {
        for (texts, others, names) in [
            (vec!["a"], false, vec![Some("a")]),
            (vec!["a", "b"], false, vec![Some("a"), Some("b")]),
            (vec!["a"], true, vec![Some("a"), None]),
            (vec![], true, vec![None]),
            (vec![], false, vec![None]),
        ] {
            assert_eq!(Said { texts, others }.names().collect::<Vec<_>>(), names);
        }
    }

    #[test]
    fn profiles_may_name_the_key_by_its_place() {
        let pair = json!({"keyStrindex": 1, "value": {"stringValue": "hidden"}});
        let request = json!({"resourceProfiles": [{"resource": {"attributes": [pair]}}],
            "dictionary": {"stringTable": ["", "service.name"]}});
        assert_eq!(of(Signal::Profiles, &request), [(vec!["hidden".to_owned()], false)]);
    }
}
