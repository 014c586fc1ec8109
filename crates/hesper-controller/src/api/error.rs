//! Refusals as the API gives them: a status, a stable code, a message that says what to do.

use crate::state::WriteError;
use hesper_model::entity::Kind;
use http::StatusCode;
use serde_json::{Value, json};
use std::fmt;

/// Why a request was refused. What the caller may not know goes to the log, never into the message.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    cause: Option<Box<Cause>>,
    /// Seconds to wait, for 429.
    pub(crate) retry_after: Option<u64>,
}

#[derive(Debug)]
struct Cause {
    field: String,
    value: Value,
    reason: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    /// An error without a cause.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), cause: None, retry_after: None }
    }

    /// One field's value was refused.
    pub(crate) fn field(field: impl Into<String>, value: Value, reason: impl Into<String>) -> Self {
        let (field, reason) = (field.into(), reason.into());
        let message = format!("{field} {reason}");
        let cause = Some(Box::new(Cause { field, value, reason }));
        Self { cause, ..Self::new(StatusCode::BAD_REQUEST, "INVALID_FIELD", message) }
    }

    /// The body as a whole was refused.
    pub(crate) fn body(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "COULD_NOT_VALIDATE", message)
    }

    /// The filter was refused.
    pub(crate) fn filter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_FILTER", message)
    }

    /// There is no such entity.
    pub(crate) fn not_found(kind: Kind, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is no {kind} with id {id}"))
    }

    /// The request contradicts what is there.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    /// One field's value contradicts what is there.
    pub(crate) fn conflict_field(field: &str, value: Value, reason: String) -> Self {
        Self { status: StatusCode::CONFLICT, code: "CONFLICT", ..Self::field(field, value, reason) }
    }

    /// Nobody is logged in with this token.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    /// Logged in, but not allowed.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// Too many attempts.
    pub(crate) fn too_many(message: impl Into<String>, retry_after: u64) -> Self {
        let base = Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message);
        Self { retry_after: Some(retry_after), ..base }
    }

    /// Our own failure. The operator reads why in the log.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(error), "a request failed inside the controller");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNHANDLED", "the controller failed; its log says why")
    }

    /// The body of the answer.
    pub(crate) fn body_json(&self, request_id: &str) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message, "requestId": request_id });
        if let Some(Cause { field, value, reason }) = self.cause.as_deref() {
            error["cause"] = json!({ "field": field, "value": value, "reason": reason });
        }
        json!({ "error": error, "meta": {} })
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Conflict(key) => {
                Self::conflict(format!("{key} was changed by somebody else: read it again and retry"))
            }
            WriteError::Store(_) | WriteError::NotApplied => Self::internal(&error),
        }
    }
}

/// An error and its sources on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
