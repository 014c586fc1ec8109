//! Events as OTLP log records (OpenTelemetry's logs data model and semantic conventions). Pure.
//!
//! The event's name is `hesper.` and its kind; attributes have the names of the semantic conventions where there is one, else they are under
//! [`PREFIX`]: `mesh.identity.name`, `mesh.service.name`, `mesh.rule`, and every further field of the event in snake case. (What begins with
//! `hesper.` gateways vouch for, and take out of what anybody else says.)

use super::{
    event::Event,
    kind::{Kind, Outcome},
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value},
    logs::v1::{LogRecord, SeverityNumber},
};
use serde_json::Value;
use time::OffsetDateTime;

/// What names of events begin with.
pub const NAME_PREFIX: &str = "hesper.";
/// What our own attributes begin with.
pub const PREFIX: &str = "mesh.";

/// Fields that the semantic conventions have a name for.
const CONVENTIONS: [(&str, &str); 4] = [
    ("code", "error.type"),
    ("remote", "client.address"),
    ("session", "session.id"),
    ("client", "user_agent.original"),
];

/// The record of an event, which is observed at `now`.
pub fn log_record(event: &Event, now: OffsetDateTime) -> LogRecord {
    let severity = severity(event.kind(), event.outcome());
    let (trace_id, span_id, flags) = match event.trace() {
        Some(trace) => (trace.trace_id.to_vec(), trace.span_id.to_vec(), u32::from(trace.flags)),
        None => Default::default(),
    };
    LogRecord {
        time_unix_nano: nanos(event.happened_at()),
        observed_time_unix_nano: nanos(now),
        severity_number: severity.into(),
        severity_text: match severity {
            SeverityNumber::Error => "ERROR",
            SeverityNumber::Warn => "WARN",
            _ => "INFO",
        }
        .to_owned(),
        body: Some(text(&event.to_string())),
        attributes: attributes(event),
        dropped_attributes_count: 0,
        flags,
        trace_id,
        span_id,
        event_name: format!("{NAME_PREFIX}{}", event.kind()),
    }
}

/// What is refused or failed, and what an operator may have to look after, stands out.
fn severity(kind: Kind, outcome: Outcome) -> SeverityNumber {
    match outcome {
        Outcome::Failure => SeverityNumber::Error,
        Outcome::Denied => SeverityNumber::Warn,
        Outcome::Success if kind.is_trouble() => SeverityNumber::Warn,
        Outcome::Success => SeverityNumber::Info,
    }
}

fn attributes(event: &Event) -> Vec<KeyValue> {
    let own = |name: &str| format!("{PREFIX}{name}");
    let known = [
        ("event.namespace", Some(event.kind().namespace())),
        ("outcome", Some(event.outcome().name())),
        ("actor", event.who()),
        ("identity.id", event.about().id.as_deref()),
        ("identity.name", event.about().name.as_deref()),
        ("service.id", event.of_service().id.as_deref()),
        ("service.name", event.of_service().name.as_deref()),
        ("rule", event.decided_by()),
    ];
    let known = known.into_iter().filter_map(|(name, value)| Some((own(name), text(value?))));
    let further = event.fields().iter().filter_map(|(name, value)| {
        let convention = CONVENTIONS.iter().find(|(field, _)| field == name);
        let key = convention.map_or_else(|| own(&snake(name)), |(_, attribute)| (*attribute).to_owned());
        Some((key, any(value)?))
    });
    known
        .chain(further)
        .map(|(key, value)| KeyValue { key, value: Some(value), ..KeyValue::default() })
        .collect()
}

/// `entityType` is `entity_type`.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) }
}

/// Null is no attribute.
fn any(value: &Value) -> Option<AnyValue> {
    let value = match value {
        Value::Null => return None,
        Value::Bool(yes) => any_value::Value::BoolValue(*yes),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => any_value::Value::IntValue(whole),
            None => any_value::Value::DoubleValue(number.as_f64()?),
        },
        Value::String(text) => any_value::Value::StringValue(text.clone()),
        Value::Array(values) => {
            any_value::Value::ArrayValue(ArrayValue { values: values.iter().filter_map(any).collect() })
        }
        Value::Object(fields) => {
            let pair = |(key, value): (&String, &Value)| {
                Some(KeyValue { key: key.clone(), value: Some(any(value)?), ..KeyValue::default() })
            };
            any_value::Value::KvlistValue(KeyValueList { values: fields.iter().filter_map(pair).collect() })
        }
    };
    Some(AnyValue { value: Some(value) })
}

/// Nanoseconds since the epoch; what is before it is the epoch.
fn nanos(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Denial, Named, TraceContext};
    use std::collections::BTreeMap;
    use time::macros::datetime;

    fn told(record: &LogRecord) -> BTreeMap<String, String> {
        let shown = |value: &AnyValue| match &value.value {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        record.attributes.iter().map(|a| (a.key.clone(), shown(a.value.as_ref().expect("a value")))).collect()
    }

    #[test]
    fn a_denial_is_a_warning_with_who_what_and_why() {
        let denial = Denial {
            identity: Named::new("i1", "alice"),
            service: Named::new("s1", "web"),
            rule: "no policy".into(),
        };
        let event = Event::denied(Kind::Dial, denial)
            .at(datetime!(2026-03-04 05:06:07.5 UTC))
            .trace_context(Some(TraceContext { trace_id: [7; 16], span_id: [8; 8], flags: 1 }))
            .field("code", "INVALID_SERVICE")
            .field("renewal", false)
            .field("entityType", Value::Null)
            .field("keySha256", "ab");
        let record = log_record(&event, datetime!(2026-03-04 05:06:08 UTC));
        assert_eq!(
            (record.time_unix_nano, record.observed_time_unix_nano),
            (1_772_600_767_500_000_000, 1_772_600_768_000_000_000)
        );
        assert_eq!(
            (record.severity_number, record.severity_text.as_str()),
            (SeverityNumber::Warn as i32, "WARN")
        );
        assert_eq!(record.event_name, "hesper.dial");
        assert_eq!(record.body, Some(text("dial denied: identity 'alice', service 'web': no policy")));
        assert_eq!((record.trace_id, record.span_id, record.flags), (vec![7; 16], vec![8; 8], 1));
        let record = log_record(&event, datetime!(2026-03-04 05:06:08 UTC));
        let expected = [
            ("mesh.event.namespace", "circuit"),
            ("mesh.outcome", "denied"),
            ("mesh.identity.id", "i1"),
            ("mesh.identity.name", "alice"),
            ("mesh.service.id", "s1"),
            ("mesh.service.name", "web"),
            ("mesh.rule", "no policy"),
            ("error.type", "INVALID_SERVICE"),
            ("mesh.renewal", "Some(BoolValue(false))"),
            ("mesh.key_sha256", "ab"),
        ];
        assert_eq!(told(&record), expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn severity_follows_outcome_and_kind() {
        for (event, severity) in [
            (Event::success(Kind::RouterOnline), SeverityNumber::Info),
            (Event::success(Kind::RouterOffline), SeverityNumber::Warn),
            (Event::success(Kind::QueueFull), SeverityNumber::Warn),
            (Event::failure(Kind::Renew), SeverityNumber::Error),
        ] {
            let record = log_record(&event, OffsetDateTime::UNIX_EPOCH);
            assert_eq!(record.severity_number, severity as i32, "{event}");
            assert!(record.trace_id.is_empty() && record.span_id.is_empty());
        }
    }

    #[test]
    fn values_keep_their_types() {
        let value = serde_json::json!({ "n": -3, "x": 0.5, "list": ["a", null, true] });
        let event = Event::success(Kind::Change).field("value", value);
        let record = log_record(&event, OffsetDateTime::UNIX_EPOCH);
        let shown = &told(&record)["mesh.value"];
        for part in ["IntValue(-3)", "DoubleValue(0.5)", "BoolValue(true)", "StringValue(\"a\")"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
