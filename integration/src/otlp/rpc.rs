//! `google.rpc.Status` and its details, as failures of OTLP carry them over gRPC and HTTP (google/rpc/status.proto, error_details.proto).

use prost::Message;
use prost_types::Any;
use serde_json::Value;
use std::time::Duration;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// A failure.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// A code of gRPC.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// [`RpcStatus::retry_delay`] and [`RpcStatus::violations`] read them.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

impl RpcStatus {
    /// One without details.
    pub fn new(code: tonic::Code, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: Vec::new() }
    }

    /// Adds when to come again.
    #[must_use]
    pub fn with_retry(mut self, after: Duration) -> Self {
        let info = RetryInfo { retry_delay: after.try_into().ok() };
        self.details.push(Any { type_url: RETRY_INFO.into(), value: info.encode_to_vec() });
        self
    }

    /// Reads the body of a failure over HTTP.
    ///
    /// # Panics
    /// When it is none in the encoding that its type names.
    #[track_caller]
    pub fn of_body(content_type: &str, body: &[u8]) -> Self {
        match content_type {
            "application/x-protobuf" => Self::decode(body).expect("a google.rpc.Status in protobuf"),
            "application/json" => Self::of_json(&serde_json::from_slice(body).expect("JSON")),
            other => panic!("{other} is no encoding of OTLP: {}", String::from_utf8_lossy(body)),
        }
    }

    #[track_caller]
    fn of_json(json: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let code = json["code"].as_i64().and_then(|code| code.try_into().ok()).unwrap_or_default();
        let details = json["details"].as_array().into_iter().flatten();
        let details = details.map(|detail| {
            let value = match detail["@type"].as_str() {
                Some(RETRY_INFO) => {
                    RetryInfo { retry_delay: text(&detail["retryDelay"]).parse().ok() }.encode_to_vec()
                }
                Some(BAD_REQUEST) => {
                    let found = detail["fieldViolations"].as_array().into_iter().flatten();
                    let field_violations = found
                        .map(|v| FieldViolation {
                            field: text(&v["field"]),
                            description: text(&v["description"]),
                        })
                        .collect();
                    BadRequest { field_violations }.encode_to_vec()
                }
                other => panic!("a detail of type {other:?}"),
            };
            Any { type_url: text(&detail["@type"]), value }
        });
        Self { code, message: text(&json["message"]), details: details.collect() }
    }

    /// Its code.
    pub fn code(&self) -> tonic::Code {
        self.code.into()
    }

    /// When it may be tried again; none: it says nothing of that.
    pub fn retry_delay(&self) -> Option<Duration> {
        let delay = self.detail::<RetryInfo>(RETRY_INFO)?.retry_delay?;
        delay.try_into().ok()
    }

    /// What is wrong with the request, if it says so.
    pub fn violations(&self) -> Vec<String> {
        let found = self.detail::<BadRequest>(BAD_REQUEST).unwrap_or_default().field_violations;
        found.into_iter().map(|violation| violation.description).collect()
    }

    fn detail<D: Message + Default>(&self, name: &str) -> Option<D> {
        let any = self.details.iter().find(|any| any.type_url == name)?;
        D::decode(&any.value[..]).ok()
    }
}

impl From<RpcStatus> for tonic::Status {
    fn from(status: RpcStatus) -> Self {
        if status.details.is_empty() {
            return Self::new(status.code(), status.message);
        }
        Self::with_details(status.code(), status.message.clone(), status.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_say_the_same() {
        let status =
            RpcStatus::new(tonic::Code::Unavailable, "later").with_retry(Duration::from_millis(1500));
        let json = format!(
            r#"{{"code":14,"message":"later","details":[{{"@type":"{RETRY_INFO}","retryDelay":"1.5s"}}]}}"#
        );
        assert_eq!(RpcStatus::of_body("application/json", json.as_bytes()), status);
        assert_eq!(RpcStatus::of_body("application/x-protobuf", &status.encode_to_vec()), status);
        assert_eq!((status.retry_delay(), status.violations()), (Some(Duration::from_millis(1500)), vec![]));
        let json = format!(
            r#"{{"code":3,"details":[{{"@type":"{BAD_REQUEST}","fieldViolations":[{{"field":"","description":"byte 7"}}]}}]}}"#
        );
        let status = RpcStatus::of_body("application/json", json.as_bytes());
        assert_eq!(
            (status.code(), status.violations()),
            (tonic::Code::InvalidArgument, vec!["byte 7".into()])
        );
    }
}
