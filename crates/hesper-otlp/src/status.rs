//! Failures as peers say them: google.rpc.Status with its details, in protobuf and JSON, and codes of gRPC as HTTP statuses and back.
//!
//! Over gRPC the encoded message travels in `grpc-status-details-bin`; over HTTP it is the body of every 4xx and 5xx.

mod code;
mod json;

pub use code::Code;

use crate::Encoding;
use prost::Message;
use std::time::Duration;

/// What the type URLs of details begin with.
const TYPE_URL: &str = "type.googleapis.com/";

/// google.rpc.Status.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// A [`Code`]; clients must not act on it over HTTP.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For the developer, in English.
    #[prost(string, tag = "2")]
    pub message: String,
    /// [`BadRequest`] and [`RetryInfo`] among others.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

/// google.rpc.BadRequest: what in the request is wrong.
#[derive(Clone, PartialEq, Message)]
pub struct BadRequest {
    /// All that was found.
    #[prost(message, repeated, tag = "1")]
    pub field_violations: Vec<FieldViolation>,
}

/// google.rpc.BadRequest.FieldViolation.
#[derive(Clone, PartialEq, Message)]
pub struct FieldViolation {
    /// The path of the field, with dots.
    #[prost(string, tag = "1")]
    pub field: String,
    /// Why it is wrong.
    #[prost(string, tag = "2")]
    pub description: String,
}

/// google.rpc.RetryInfo: that the same request may be sent again, and when.
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    /// Wait at least so long.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<prost_types::Duration>,
}

/// A detail that has a name.
trait Detail: Message + Default {
    const NAME: &'static str;
}

impl Detail for BadRequest {
    const NAME: &'static str = "google.rpc.BadRequest";
}

impl Detail for RetryInfo {
    const NAME: &'static str = "google.rpc.RetryInfo";
}

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into(), details: Vec::new() }
    }

    /// A request that cannot be read: INVALID_ARGUMENT with a [`BadRequest`] that names the field.
    pub fn bad_request(field: impl Into<String>, description: impl Into<String>) -> Self {
        let description = description.into();
        let mut status = Self::new(Code::InvalidArgument, description.clone());
        status.push(&BadRequest {
            field_violations: vec![FieldViolation { field: field.into(), description }],
        });
        status
    }

    /// Adds a [`RetryInfo`].
    #[must_use]
    pub fn with_retry(mut self, delay: Duration) -> Self {
        // A delay beyond what the message can say (10000 years) is said without a time.
        self.push(&RetryInfo { retry_delay: delay.try_into().ok() });
        self
    }

    /// The code, with unknown numbers as [`Code::Unknown`].
    pub fn code(&self) -> Code {
        Code::of(self.code)
    }

    /// What the first [`BadRequest`] says, if there is one.
    pub fn violations(&self) -> Vec<FieldViolation> {
        self.detail::<BadRequest>().map(|detail| detail.field_violations).unwrap_or_default()
    }

    /// The delay of the first [`RetryInfo`]: `None` without one, zero when it names no delay or a negative one.
    pub fn retry_delay(&self) -> Option<Duration> {
        let delay = self.detail::<RetryInfo>()?.retry_delay.unwrap_or_default();
        Some(delay.try_into().unwrap_or_default())
    }

    /// As the body of an HTTP response; as protobuf it is also the value of `grpc-status-details-bin`.
    pub fn to_bytes(&self, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Protobuf => self.encode_to_vec(),
            Encoding::Json => self.to_json().to_string().into_bytes(),
        }
    }

    /// Reads a body. `None` when it is none: proxies between the peers answer with pages of their own.
    pub fn from_bytes(encoding: Encoding, body: &[u8]) -> Option<Self> {
        match encoding {
            Encoding::Protobuf => Self::decode(body).ok(),
            Encoding::Json => Self::from_json(&serde_json::from_slice(body).ok()?),
        }
    }

    fn push<D: Detail>(&mut self, detail: &D) {
        let type_url = format!("{TYPE_URL}{}", D::NAME);
        self.details.push(prost_types::Any { type_url, value: detail.encode_to_vec() });
    }

    fn detail<D: Detail>(&self) -> Option<D> {
        let named = |any: &&prost_types::Any| any.type_url.rsplit('/').next() == Some(D::NAME);
        self.details.iter().find(named).and_then(|any| D::decode(&any.value[..]).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_that_of_google_rpc() {
        let status = Status::new(Code::Unavailable, "no").with_retry(Duration::from_millis(1500));
        let detail = b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x0a\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01";
        let expected = [b"\x08\x0e\x12\x02no\x1a", &[detail.len() as u8][..], &detail[..]].concat();
        assert_eq!(status.to_bytes(Encoding::Protobuf), expected);
    }

    #[test]
    fn both_encodings_bring_back_what_was_said() {
        let bad = Status::bad_request("resourceSpans[0]", "byte 7: cut short");
        let busy = Status::new(Code::ResourceExhausted, "too much").with_retry(Duration::from_millis(250));
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            let read =
                |status: &Status| Status::from_bytes(encoding, &status.to_bytes(encoding)).expect("read");
            assert_eq!(read(&bad), bad);
            assert_eq!(read(&bad).violations()[0].field, "resourceSpans[0]");
            assert_eq!(read(&busy).retry_delay(), Some(Duration::from_millis(250)));
        }
    }

    #[test]
    fn a_body_that_is_no_status_is_none() {
        assert_eq!(Status::from_bytes(Encoding::Json, b"<html>"), None);
        assert_eq!(Status::from_bytes(Encoding::Json, b"[]"), None);
        assert_eq!(Status::from_bytes(Encoding::Protobuf, b"<html>"), None);
        assert_eq!(Status::from_bytes(Encoding::Protobuf, b""), Some(Status::default()));
    }

    #[test]
    fn a_negative_or_absent_delay_is_no_delay() {
        let mut status = Status::default();
        status.push(&RetryInfo { retry_delay: None });
        assert_eq!(status.retry_delay(), Some(Duration::ZERO));
        let mut status = Status::default();
        status.push(&RetryInfo { retry_delay: Some(prost_types::Duration { seconds: -1, nanos: 0 }) });
        assert_eq!(status.retry_delay(), Some(Duration::ZERO));
        assert_eq!(Status::default().retry_delay(), None);
        let long = Status::default().with_retry(Duration::MAX);
        assert_eq!(long.retry_delay(), Some(Duration::ZERO));
    }
}
