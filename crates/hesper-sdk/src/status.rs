//! What the controller's refusals mean to a program.

use crate::{BindError, DialError};
use hesper_proto::control::Refusal;
use prost::Message;
use tonic::{Code, Status};

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The call never got an answer of the controller itself.
    pub(crate) unreachable: bool,
    code: Code,
    refusal: String,
    message: String,
}

/// The refusal says that the node has no session there: its watch is about to be opened.
const NO_SESSION: &str = "NO_SESSION";

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let refusal = Refusal::decode(status.details()).unwrap_or_default();
        let answered = !refusal.code.is_empty();
        let transport = matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled | Code::Internal
        );
        let message = if answered { refusal.message } else { text(&status) };
        Self { unreachable: transport && !answered, code: status.code(), refusal: refusal.code, message }
    }
}

/// The message of a status that is not a refusal; of a broken connection, the causes say more.
pub(crate) fn text(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(e) = source {
        let more = e.to_string();
        if !text.contains(&more) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&more);
        }
        source = e.source();
    }
    if text.is_empty() { format!("{:?}", status.code()) } else { text }
}

/// Nobody answered in time.
pub(crate) fn timeout() -> Status {
    Status::deadline_exceeded("no answer from the controller")
}

impl Failure {
    /// The session is about to come; worth another try.
    pub(crate) fn no_session(&self) -> bool {
        self.refusal == NO_SESSION
    }

    /// No terminator is left.
    pub(crate) fn no_terminators(&self) -> bool {
        matches!(self.refusal.as_str(), "NO_TERMINATORS" | "NO_ONLINE_TERMINATORS")
    }

    /// Policy is against it.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(
            (self.refusal.as_str(), self.code),
            ("INVALID_SERVICE", _) | ("NO_PATH", Code::FailedPrecondition)
        )
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// For a dial.
    pub(crate) fn into_dial(self) -> DialError {
        let message = self.message;
        match (self.refusal.as_str(), self.code) {
            _ if self.unreachable => DialError::Unavailable { message },
            ("NO_TERMINATORS" | "NO_ONLINE_TERMINATORS", _) => DialError::NoTerminators { message },
            ("NO_PATH", _) => DialError::NoRoute { message },
            (_, Code::NotFound | Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument) => {
                DialError::Denied { message }
            }
            _ => DialError::Unavailable { message },
        }
    }

    /// For a bind.
    pub(crate) fn into_bind(self) -> BindError {
        let message = self.message;
        match self.code {
            _ if self.unreachable => BindError::Unavailable { message },
            Code::NotFound | Code::PermissionDenied | Code::Unauthenticated => BindError::Denied { message },
            Code::InvalidArgument | Code::AlreadyExists | Code::ResourceExhausted => {
                BindError::Invalid { message }
            }
            _ => BindError::Unavailable { message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DialErrorKind;

    fn refused(code: Code, refusal: &str) -> Failure {
        let detail = Refusal { code: refusal.into(), rule: String::new(), message: "why".into() };
        Status::with_details(code, "outer", detail.encode_to_vec().into()).into()
    }

    #[test]
    fn refusals_become_kinds() {
        for (code, refusal, kind) in [
            (Code::NotFound, "INVALID_SERVICE", DialErrorKind::Denied),
            (Code::Unavailable, "NO_TERMINATORS", DialErrorKind::NoTerminators),
            (Code::Unavailable, "NO_ONLINE_TERMINATORS", DialErrorKind::NoTerminators),
            (Code::Unavailable, "NO_PATH", DialErrorKind::NoRoute),
            (Code::FailedPrecondition, "NO_PATH", DialErrorKind::NoRoute),
            (Code::FailedPrecondition, "NO_SESSION", DialErrorKind::Unavailable),
            (Code::Internal, "INTERNAL", DialErrorKind::Unavailable),
        ] {
            let failure = refused(code, refusal);
            assert!(!failure.unreachable, "{refusal}");
            let of_policy =
                refusal == "INVALID_SERVICE" || code == Code::FailedPrecondition && refusal == "NO_PATH";
            assert_eq!(failure.is_denied(), of_policy, "{refusal}");
            let error = failure.into_dial();
            assert_eq!(error.kind(), kind, "{refusal}");
            assert!(error.to_string().contains("why"));
        }
        assert!(matches!(refused(Code::NotFound, "INVALID_SERVICE").into_bind(), BindError::Denied { .. }));
        assert!(matches!(refused(Code::AlreadyExists, "CONFLICT").into_bind(), BindError::Invalid { .. }));
    }

    #[test]
    fn a_broken_connection_is_not_a_refusal() {
        let failure = Failure::from(Status::unavailable("tcp connect error"));
        assert!(failure.unreachable);
        assert_eq!(failure.into_dial().kind(), DialErrorKind::Unavailable);
        assert!(Failure::from(timeout()).unreachable);
        let denied = Failure::from(Status::unauthenticated("the certificate was revoked"));
        assert!(!denied.unreachable);
        assert_eq!(denied.into_dial().kind(), DialErrorKind::Denied);
    }
}
