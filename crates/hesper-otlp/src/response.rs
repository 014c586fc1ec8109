//! The answer to a request that was taken: `Export<Signal>ServiceResponse`, the same in form for all signals.

use crate::{Encoding, Signal};
use prost::Message;
use serde_json::{Map, Value, json};

/// What the server did not take, or a warning (OTLP specification, "Partial Success").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// How many spans, data points, log records or profiles were rejected; 0 for a warning. They must not be sent again.
    pub rejected: i64,
    /// Why, for people.
    pub message: String,
}

/// Why there is no response to give or to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It does not fit however short its message is.
    #[error("the response has {len} bytes, more than the limit of {limit}; raise the limit on responses")]
    TooLarge {
        /// Bytes of the shortest one.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The server's answer is no OTLP.
    #[error(
        "the answer to {signal} is no OTLP response: {reason}; does the address belong to an OTLP receiver?"
    )]
    Unreadable {
        /// Of which request.
        signal: Signal,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<Partial>,
}

#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// What the end of a message that was shortened says.
const SHORTENED: &str = " … (shortened)";

impl PartialSuccess {
    /// The body that says so; `None` is full success. The message is shortened when the body would be longer than `limit`.
    ///
    /// # Errors
    /// When not even the shortened one fits: the request is answered with RESOURCE_EXHAUSTED or 500 then.
    pub fn encode(
        of: Option<&Self>,
        signal: Signal,
        encoding: Encoding,
        limit: usize,
    ) -> Result<Vec<u8>, ResponseError> {
        let body = write(of, signal, encoding);
        let Some(partial) = of.filter(|_| body.len() > limit) else { return fits(body, limit) };
        // JSON writes some characters with six: whatever is kept, it fits if a sixth of the limit is.
        let mut keep = (limit / 6).saturating_sub(128).min(partial.message.len());
        while !partial.message.is_char_boundary(keep) {
            keep -= 1;
        }
        let kept = &partial.message[..keep];
        let shorter = Self { message: format!("{kept}{SHORTENED}"), ..*partial };
        fits(write(Some(&shorter), signal, encoding), limit)
    }

    /// Reads the body of a success. A partial success that says nothing is full success.
    ///
    /// # Errors
    /// When it is no such response.
    pub fn decode(signal: Signal, encoding: Encoding, body: &[u8]) -> Result<Option<Self>, ResponseError> {
        let unreadable = |reason: String| ResponseError::Unreadable { signal, reason };
        let partial = match encoding {
            Encoding::Protobuf => {
                let response = Response::decode(body).map_err(|error| unreadable(error.to_string()))?;
                response.partial_success.map(|p| Self { rejected: p.rejected, message: p.message })
            }
            Encoding::Json => {
                let value = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
                read_json(signal, &value).map_err(|reason| unreadable(reason.to_owned()))?
            }
        };
        Ok(partial.filter(|partial| *partial != Self::default()))
    }
}

fn fits(body: Vec<u8>, limit: usize) -> Result<Vec<u8>, ResponseError> {
    if body.len() <= limit { Ok(body) } else { Err(ResponseError::TooLarge { len: body.len(), limit }) }
}

fn write(partial: Option<&PartialSuccess>, signal: Signal, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => {
            let partial_success =
                partial.map(|p| Partial { rejected: p.rejected, message: p.message.clone() });
            Response { partial_success }.encode_to_vec()
        }
        Encoding::Json => {
            let Some(partial) = partial else { return b"{}".to_vec() };
            let mut object = Map::new();
            if partial.rejected != 0 {
                object.insert(rejected_key(signal).into(), partial.rejected.to_string().into());
            }
            if !partial.message.is_empty() {
                object.insert("errorMessage".into(), partial.message.as_str().into());
            }
            json!({ "partialSuccess": object }).to_string().into_bytes()
        }
    }
}

/// The JSON name of the rejected items.
fn rejected_key(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
        Signal::Profiles => "rejectedProfiles",
    }
}

fn read_json(signal: Signal, value: &Value) -> Result<Option<PartialSuccess>, &'static str> {
    let response = value.as_object().ok_or("it is no object")?;
    let Some(partial) = response.get("partialSuccess").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let partial = partial.as_object().ok_or("partialSuccess is no object")?;
    let rejected = match partial.get(rejected_key(signal)) {
        None | Some(Value::Null) => Some(0),
        Some(Value::String(text)) => text.parse().ok(),
        Some(other) => other.as_i64(),
    };
    let message = match partial.get("errorMessage") {
        None | Some(Value::Null) => "",
        Some(text) => text.as_str().ok_or("errorMessage is no text")?,
    };
    let rejected = rejected.ok_or("the number of rejected items is no whole number")?;
    Ok(Some(PartialSuccess { rejected, message: message.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RESPONSE_LEN;

    const BOTH: [Encoding; 2] = [Encoding::Protobuf, Encoding::Json];

    fn encode(of: Option<&PartialSuccess>, signal: Signal, encoding: Encoding) -> Vec<u8> {
        PartialSuccess::encode(of, signal, encoding, RESPONSE_LEN).expect("short")
    }

    #[test]
    fn check_29_full_success_says_nothing() {
        assert_eq!(encode(None, Signal::Logs, Encoding::Protobuf), b"");
        assert_eq!(encode(None, Signal::Logs, Encoding::Json), b"{}");
        for body in ["{}", r#"{"partialSuccess":{}}"#, r#"{"partialSuccess":null,"other":1}"#] {
            assert_eq!(PartialSuccess::decode(Signal::Logs, Encoding::Json, body.as_bytes()), Ok(None));
        }
        for body in [&b""[..], b"\x0a\x00"] {
            assert_eq!(PartialSuccess::decode(Signal::Logs, Encoding::Protobuf, body), Ok(None));
        }
    }

    #[test]
    fn check_31_partial_success_names_the_items_of_its_signal() {
        let partial = PartialSuccess { rejected: 3, message: "too old".into() };
        let json = |signal| String::from_utf8(encode(Some(&partial), signal, Encoding::Json)).expect("text");
        for (signal, name) in [
            (Signal::Traces, "rejectedSpans"),
            (Signal::Metrics, "rejectedDataPoints"),
            (Signal::Logs, "rejectedLogRecords"),
            (Signal::Profiles, "rejectedProfiles"),
        ] {
            let expected = format!(r#"{{"partialSuccess":{{"errorMessage":"too old","{name}":"3"}}}}"#);
            assert_eq!(json(signal), expected);
            for encoding in BOTH {
                let body = encode(Some(&partial), signal, encoding);
                assert_eq!(PartialSuccess::decode(signal, encoding, &body), Ok(Some(partial.clone())));
            }
        }
        let number = br#"{"partialSuccess":{"rejectedSpans":3,"errorMessage":"too old"}}"#;
        assert_eq!(PartialSuccess::decode(Signal::Traces, Encoding::Json, number), Ok(Some(partial)));
    }

    #[test]
    fn check_32_a_warning_rejects_nothing() {
        let warning = PartialSuccess { rejected: 0, message: "old client".into() };
        for encoding in BOTH {
            let body = encode(Some(&warning), Signal::Traces, encoding);
            assert_eq!(PartialSuccess::decode(Signal::Traces, encoding, &body), Ok(Some(warning.clone())));
        }
    }

    #[test]
    fn check_50_a_long_message_is_shortened_to_fit() {
        for (text, encoding) in [("é", BOTH[0]), ("é", BOTH[1]), ("\u{1}", BOTH[1])] {
            let long = PartialSuccess { rejected: 1, message: text.repeat(9000) };
            let body = PartialSuccess::encode(Some(&long), Signal::Logs, encoding, 8192).expect("shortened");
            assert!(body.len() <= 8192);
            let read = PartialSuccess::decode(Signal::Logs, encoding, &body).expect("read").expect("partial");
            assert_eq!(read.rejected, 1);
            assert!(read.message.ends_with(SHORTENED) && read.message.len() > 1000);
            let none = PartialSuccess::encode(Some(&long), Signal::Logs, encoding, 10);
            assert!(matches!(none, Err(ResponseError::TooLarge { limit: 10, .. })));
        }
    }

    #[test]
    fn an_answer_that_is_no_response_is_an_error() {
        for body in ["<html>", "[]", r#"{"partialSuccess":7}"#, r#"{"partialSuccess":{"rejectedSpans":"x"}}"#]
        {
            let error = PartialSuccess::decode(Signal::Traces, Encoding::Json, body.as_bytes());
            assert!(matches!(error, Err(ResponseError::Unreadable { .. })), "{body}");
        }
        assert!(PartialSuccess::decode(Signal::Traces, Encoding::Protobuf, b"<html>").is_err());
    }
}
