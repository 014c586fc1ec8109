//! Health checks of `host.v1`.

use super::{duration, lenient, part};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::{Value, json};
use std::{fmt, str::FromStr, time::Duration};

/// A check that connects to a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortCheck {
    /// `host:port`.
    pub address: String,
    /// Time between checks.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// A check that takes longer has failed.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// What follows from the results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
}

/// A check that makes an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpCheck {
    /// Where.
    pub url: String,
    /// How; GET unless given.
    #[serde(default)]
    pub method: HttpMethod,
    /// The request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Time between checks.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// A check that takes longer has failed.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// The status that is a pass; 200 unless given.
    #[serde(default = "ok", deserialize_with = "lenient::u16")]
    pub expect_status: u16,
    /// Text that the answer's body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_in_body: Option<String>,
    /// What follows from the results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
}

const fn ok() -> u16 {
    200
}

/// The method of a check's request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// GET
    #[default]
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
}

/// What to do after which results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Action {
    /// Which results count.
    pub trigger: Trigger,
    /// Only after so many of them in a row.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::some_u16")]
    pub consecutive_events: Option<u16>,
    /// Only after they have lasted so long.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    pub duration: Option<Duration>,
    /// What to do.
    pub action: ActionKind,
}

/// The results that an action waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// Failures.
    Fail,
    /// Passes.
    Pass,
    /// A pass after a failure or the other way round.
    Change,
}

/// What an action does to the terminator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Its configured precedence.
    MarkHealthy,
    /// Precedence `failed`.
    MarkUnhealthy,
    /// Adds to its cost.
    IncreaseCost(u16),
    /// Takes from its cost.
    DecreaseCost(u16),
    /// Tells the controller.
    SendEvent,
}

/// Text that is no action.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not an action: mark healthy, mark unhealthy, increase cost N, decrease cost N, send event")]
pub struct InvalidAction(String);

impl FromStr for ActionKind {
    type Err = InvalidAction;
    fn from_str(s: &str) -> Result<Self, InvalidAction> {
        let invalid = || InvalidAction(s.to_owned());
        let words: Vec<_> = s.split_ascii_whitespace().collect();
        let amount = |n: &str| {
            let digits = !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit());
            n.parse().ok().filter(|_| digits).ok_or_else(invalid)
        };
        match words[..] {
            ["mark", "healthy"] => Ok(Self::MarkHealthy),
            ["mark", "unhealthy"] => Ok(Self::MarkUnhealthy),
            ["increase", "cost", n] => amount(n).map(Self::IncreaseCost),
            ["decrease", "cost", n] => amount(n).map(Self::DecreaseCost),
            ["send", "event"] => Ok(Self::SendEvent),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MarkHealthy => f.write_str("mark healthy"),
            Self::MarkUnhealthy => f.write_str("mark unhealthy"),
            Self::IncreaseCost(n) => write!(f, "increase cost {n}"),
            Self::DecreaseCost(n) => write!(f, "decrease cost {n}"),
            Self::SendEvent => f.write_str("send event"),
        }
    }
}

impl Serialize for ActionKind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ActionKind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

fn actions() -> Value {
    json!({
        "type": "array",
        "minItems": 1,
        "maxItems": 20,
        "items": {
            "type": "object",
            "properties": {
                "trigger": {"type": "string", "enum": ["fail", "pass", "change"]},
                "consecutiveEvents": {"type": "integer", "minimum": 0, "maximum": 65535},
                "duration": part::duration(),
                "action": {"type": "string", "format": "health-action"}
            },
            "required": ["trigger", "action"],
            "additionalProperties": false
        }
    })
}

pub(super) fn port_check_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "address": {"type": "string", "format": "host-port"},
            "interval": part::duration(),
            "timeout": part::duration(),
            "actions": actions()
        },
        "required": ["address", "interval", "timeout"],
        "additionalProperties": false
    })
}

pub(super) fn http_check_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "url": {"type": "string", "format": "http-url"},
            "method": {"type": "string", "enum": ["GET", "POST", "PUT", "PATCH"]},
            "body": {"type": "string"},
            "interval": part::duration(),
            "timeout": part::duration(),
            "expectStatus": {"type": "integer", "minimum": 100, "maximum": 599},
            "expectInBody": {"type": "string"},
            "actions": actions()
        },
        "required": ["url", "interval", "timeout"],
        "additionalProperties": false
    })
}
