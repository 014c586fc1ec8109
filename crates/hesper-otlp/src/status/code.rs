//! The codes of gRPC, and HTTP statuses for them.

/// google.rpc.Code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are gRPC's own, and its documentation rules")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// Every code, at the index of its number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code of a number; numbers that gRPC does not have are [`Code::Unknown`].
    pub fn of(number: i32) -> Self {
        let index = usize::try_from(number).ok();
        index.and_then(|index| Self::ALL.get(index)).copied().unwrap_or(Self::Unknown)
    }

    /// The name of gRPC, as in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The HTTP status with which a gateway passes on a failure that it got over gRPC; the Collector's table, so that whether
    /// it may be sent again stays the same but for RESOURCE_EXHAUSTED without RetryInfo.
    pub fn http(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::Unimplemented => 404,
            Self::ResourceExhausted => 429,
            Self::Cancelled
            | Self::DeadlineExceeded
            | Self::Aborted
            | Self::OutOfRange
            | Self::Unavailable
            | Self::DataLoss => 503,
            _ => 500,
        }
    }

    /// The code with which a gateway passes on a failure that it got over HTTP. What may be sent again over HTTP
    /// becomes UNAVAILABLE, but for 429, which needs a [`RetryInfo`](super::RetryInfo) beside it to stay so.
    pub fn of_http(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            400 | 411 | 415 | 422 => Self::InvalidArgument,
            401 | 407 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 | 405 | 501 => Self::Unimplemented,
            413 | 429 => Self::ResourceExhausted,
            502..=504 => Self::Unavailable,
            500 => Self::Internal,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_agree() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(Code::of(number as i32), code);
        }
        assert_eq!(Code::of(17), Code::Unknown);
        assert_eq!(Code::of(-1), Code::Unknown);
    }

    #[test]
    fn check_45_codes_as_http_statuses() {
        let of = |http| Code::ALL.into_iter().filter(|code| code.http() == http).collect::<Vec<_>>();
        assert_eq!(of(503).len(), 6);
        let same = [
            (429, Code::ResourceExhausted),
            (400, Code::InvalidArgument),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
        ];
        for (http, code) in same {
            assert_eq!(of(http), [code]);
            assert_eq!(Code::of_http(http), code);
        }
        assert_eq!(Code::of_http(503), Code::Unavailable);
        assert_eq!(Code::of_http(413), Code::ResourceExhausted);
        assert_eq!(Code::of_http(418), Code::Unknown);
    }
}
