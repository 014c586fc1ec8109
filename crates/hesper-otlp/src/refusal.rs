//! Why a receiver does not take a request, and what it answers: one table for both transports.

use crate::{
    limits::Limits,
    status::{Code, Status},
};
use std::time::Duration;

/// Why a request is not taken. Texts are for the sender: they name the thing and the next step, and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The bytes are no request: [`Malformed`](crate::Malformed), [`JsonError`](crate::json::JsonError), or a broken compression.
    Malformed(String),
    /// More bytes than the limit, before or after decompression.
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// A `Content-Type` that is not one of the two.
    MediaType(String),
    /// A compression that the receiver does not have.
    Compression(String),
    /// Another HTTP method than POST.
    Method(String),
    /// A path of no signal, or of one that is in no pipeline.
    NotServed(String),
    /// No credentials or wrong ones.
    Unauthenticated(String),
    /// The sender is known, and may not.
    Denied(String),
    /// The sender has sent more than it may; later it may again.
    Quota {
        /// Which one.
        reason: String,
        /// When to come again.
        after: Duration,
    },
    /// The receiver has no room just now: memory, queue or disk.
    Overloaded {
        /// What is full.
        reason: String,
        /// When to come again.
        after: Duration,
    },
    /// The receiver was not told what to do with it; somebody has to.
    NotConfigured(String),
    /// A fault of the receiver that will not pass by itself.
    Internal(String),
}

impl Refusal {
    /// Larger than these limits allow.
    pub fn too_large(limits: &Limits, decompressed: bool) -> Self {
        Self::TooLarge { limit: if decompressed { limits.decompressed } else { limits.request } }
    }

    /// The status of the HTTP response; its body is [`Refusal::status`] in the encoding of the request.
    pub fn http(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Unauthenticated(_) => 401,
            Self::Denied(_) => 403,
            Self::NotServed(_) => 404,
            Self::Method(_) => 405,
            Self::TooLarge { .. } => 413,
            Self::MediaType(_) | Self::Compression(_) => 415,
            Self::Quota { .. } => 429,
            Self::Internal(_) => 500,
            Self::NotConfigured(_) => 501,
            Self::Overloaded { .. } => 503,
        }
    }

    /// The status over gRPC, with its details.
    pub fn status(&self) -> Status {
        match self {
            Self::Malformed(reason) => Status::bad_request("", reason.as_str()),
            Self::MediaType(found) => Status::new(
                Code::InvalidArgument,
                format!("Content-Type {found:?} is not application/x-protobuf and not application/json"),
            ),
            Self::TooLarge { limit } => Status::new(
                Code::ResourceExhausted,
                format!("the request has more than {limit} bytes; send smaller batches"),
            ),
            Self::Compression(found) => Status::new(
                Code::Unimplemented,
                format!("compression {found:?} is not supported; use gzip or none"),
            ),
            Self::Method(found) => Status::new(Code::Unimplemented, format!("{found} is not POST")),
            Self::NotServed(path) => Status::new(
                Code::Unimplemented,
                format!("nothing is received at {path}: its signal is in no pipeline"),
            ),
            Self::Unauthenticated(reason) => Status::new(Code::Unauthenticated, reason.as_str()),
            Self::Denied(reason) => Status::new(Code::PermissionDenied, reason.as_str()),
            Self::Quota { reason, after } => {
                Status::new(Code::ResourceExhausted, reason.as_str()).with_retry(*after)
            }
            Self::Overloaded { reason, after } => {
                Status::new(Code::Unavailable, reason.as_str()).with_retry(*after)
            }
            Self::NotConfigured(reason) => Status::new(Code::FailedPrecondition, reason.as_str()),
            Self::Internal(reason) => Status::new(Code::Internal, reason.as_str()),
        }
    }

    /// After how long the sender may try again; over HTTP it is the `Retry-After`. `None`: the same request will never be taken.
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Quota { after, .. } | Self::Overloaded { after, .. } => Some(*after),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::{self, Retry};
    use std::time::SystemTime;

    fn all() -> Vec<(Refusal, u16, Code)> {
        let (text, after) = (|| "x".to_owned(), Duration::from_secs(2));
        vec![
            (Refusal::Malformed(text()), 400, Code::InvalidArgument),
            (Refusal::TooLarge { limit: 5 }, 413, Code::ResourceExhausted),
            (Refusal::MediaType(text()), 415, Code::InvalidArgument),
            (Refusal::Compression(text()), 415, Code::Unimplemented),
            (Refusal::Method(text()), 405, Code::Unimplemented),
            (Refusal::NotServed(text()), 404, Code::Unimplemented),
            (Refusal::Unauthenticated(text()), 401, Code::Unauthenticated),
            (Refusal::Denied(text()), 403, Code::PermissionDenied),
            (Refusal::Quota { reason: text(), after }, 429, Code::ResourceExhausted),
            (Refusal::Overloaded { reason: text(), after }, 503, Code::Unavailable),
            (Refusal::NotConfigured(text()), 501, Code::FailedPrecondition),
            (Refusal::Internal(text()), 500, Code::Internal),
        ]
    }

    #[test]
    fn both_transports_answer_as_the_specification_says() {
        for (refusal, http, code) in all() {
            assert_eq!((refusal.http(), refusal.status().code()), (http, code), "{refusal:?}");
            assert!(!refusal.status().message.is_empty());
        }
        let malformed = Refusal::Malformed("byte 3".into()).status();
        assert_eq!(malformed.violations()[0].description, "byte 3", "check 35");
    }

    #[test]
    fn clients_of_both_transports_try_again_in_the_same_cases() {
        for (refusal, http, _) in all() {
            let expected = match refusal.after() {
                None => Retry::Never,
                after => Retry::Again { after },
            };
            assert_eq!(retry::after_grpc(&refusal.status()), expected, "{refusal:?}");
            let header = refusal.after().map(retry::write_retry_after);
            assert_eq!(
                retry::after_http(http, header.as_deref(), SystemTime::UNIX_EPOCH),
                expected,
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn the_limit_that_was_passed_is_named() {
        let limits = Limits { request: 10, decompressed: 20, ..Limits::default() };
        assert!(Refusal::too_large(&limits, false).status().message.contains("10 bytes"));
        assert!(Refusal::too_large(&limits, true).status().message.contains("20 bytes"));
    }
}
