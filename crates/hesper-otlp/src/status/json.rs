//! Status as JSON, by the proto3 mapping: details carry their type beside their fields, durations are texts of seconds.

use super::{BadRequest, Detail, FieldViolation, RetryInfo, Status, TYPE_URL};
use prost::Message;
use serde_json::{Map, Value, json};
use std::time::Duration;

impl Status {
    /// Details of other types are left out: their fields are not known here.
    pub(super) fn to_json(&self) -> Value {
        let details: Vec<Value> = self.details.iter().filter_map(detail_to_json).collect();
        let mut object = Map::new();
        if self.code != 0 {
            object.insert("code".into(), self.code.into());
        }
        if !self.message.is_empty() {
            object.insert("message".into(), self.message.as_str().into());
        }
        if !details.is_empty() {
            object.insert("details".into(), details.into());
        }
        object.into()
    }

    /// `None` when it is no object. Members that cannot be read are as good as absent: nobody acts on them.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        let code = object.get("code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
        let mut status =
            Self { code: code.unwrap_or_default(), message: text(object, "message"), ..Self::default() };
        for detail in list(object, "details").filter_map(Value::as_object) {
            match text(detail, "@type").rsplit('/').next() {
                Some(BadRequest::NAME) => status.push(&bad_request_from_json(detail)),
                Some(RetryInfo::NAME) => status.push(&RetryInfo {
                    retry_delay: seconds(&text(detail, "retryDelay")).and_then(|delay| delay.try_into().ok()),
                }),
                _ => {}
            }
        }
        Some(status)
    }
}

fn detail_to_json(any: &prost_types::Any) -> Option<Value> {
    let name = any.type_url.rsplit('/').next()?;
    let of_type = format!("{TYPE_URL}{name}");
    match name {
        BadRequest::NAME => {
            let detail = BadRequest::decode(&any.value[..]).ok()?;
            let violation = |v: &FieldViolation| json!({"field": v.field, "description": v.description});
            let violations: Vec<Value> = detail.field_violations.iter().map(violation).collect();
            Some(json!({"@type": of_type, "fieldViolations": violations}))
        }
        RetryInfo::NAME => {
            let delay = RetryInfo::decode(&any.value[..]).ok()?.retry_delay.unwrap_or_default();
            let delay = Duration::try_from(delay).unwrap_or_default();
            let text = format!("{}.{:09}s", delay.as_secs(), delay.subsec_nanos());
            Some(json!({"@type": of_type, "retryDelay": text}))
        }
        _ => None,
    }
}

fn bad_request_from_json(detail: &Map<String, Value>) -> BadRequest {
    let violation = |v: &Map<String, Value>| FieldViolation {
        field: text(v, "field"),
        description: text(v, "description"),
    };
    let violations = list(detail, "fieldViolations").filter_map(Value::as_object).map(violation);
    BadRequest { field_violations: violations.collect() }
}

fn list<'a>(object: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Value> {
    object.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text(object: &Map<String, Value>, name: &str) -> String {
    object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Reads `1.5s`.
fn seconds(text: &str) -> Option<Duration> {
    let number: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;

    #[test]
    fn details_have_their_type_beside_their_fields() {
        let status = Status::bad_request("spans", "bad").with_retry(Duration::from_millis(1500));
        let expected = json!({"code": 3, "message": "bad", "details": [
            {"@type": "type.googleapis.com/google.rpc.BadRequest",
             "fieldViolations": [{"field": "spans", "description": "bad"}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500000000s"},
        ]});
        assert_eq!(status.to_json(), expected);
        assert_eq!(Status::from_json(&expected), Some(status));
    }

    #[test]
    fn what_cannot_be_read_is_as_good_as_absent() {
        let odd = json!({"code": "x", "message": 7, "details": [1, {"@type": "x/google.rpc.RetryInfo", "retryDelay": "-1s"}]});
        let read = Status::from_json(&odd).expect("an object");
        assert_eq!((read.code(), read.message.as_str()), (Code::Ok, ""));
        assert_eq!(read.retry_delay(), Some(Duration::ZERO));
    }
}
