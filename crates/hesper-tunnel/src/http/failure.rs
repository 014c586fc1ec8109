//! Why a request was not served, told apart by status, and in the body by reason.

use super::Body;
use crate::names::ResolveError;
use bytes::Bytes;
use hesper_sdk::{DialError, DialErrorKind};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};

/// A request that was not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The request itself.
    #[error("{0}")]
    BadRequest(String),
    /// A page of another site asked, or by another name.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing here.
    #[error("{0}")]
    NotFound(String),
    /// GET and HEAD only.
    #[error("only GET and HEAD are answered here")]
    Method,
    /// The name.
    #[error(transparent)]
    Name(#[from] ResolveError),
    /// The dial.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The target, after the stream was open.
    #[error("{0}")]
    Target(String),
    /// Too slow.
    #[error("{0}")]
    Timeout(String),
    /// More tunnels than this node carries.
    #[error("{0}")]
    Busy(String),
}

impl Failure {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Name(ResolveError::Ambiguous { .. }) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) | Self::Name(ResolveError::Forbidden { .. }) => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::Name(ResolveError::Unknown { .. }) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Name(ResolveError::NoInstance { .. }) | Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Dial(error) => match error.kind() {
                DialErrorKind::Denied => StatusCode::FORBIDDEN,
                DialErrorKind::NoRoute | DialErrorKind::Refused => StatusCode::BAD_GATEWAY,
                DialErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
                DialErrorKind::NoTerminators | DialErrorKind::Unavailable | DialErrorKind::Shutdown => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            },
            Self::Target(_) => StatusCode::BAD_GATEWAY,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// A stable word, for metrics and the `x-hesper-error` header.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not-found",
            Self::Method => "method",
            Self::Name(ResolveError::Unknown { .. }) => "unknown-service",
            Self::Name(ResolveError::Forbidden { .. }) => "denied",
            Self::Name(ResolveError::Ambiguous { .. }) => "ambiguous",
            Self::Name(ResolveError::NoInstance { .. }) => "no-instance",
            Self::Dial(error) => dial_word(error),
            Self::Target(_) => "target",
            Self::Timeout(_) => "timeout",
            Self::Busy(_) => "busy",
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let status = self.status();
        let mut response = super::text(status, format!("{self}\n"));
        response.headers_mut().insert("x-hesper-error", HeaderValue::from_static(self.word()));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

/// A stable word for why a dial failed.
pub(crate) fn dial_word(error: &DialError) -> &'static str {
    error.kind().as_str()
}

/// A whole body.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
