//! What can go wrong, told apart by what its reader can do about it.

use hesper_pki::identity_file::IdentityFileError;
use std::{io, time::Duration};

/// Why a context could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The identity file cannot be used.
    #[error("the identity cannot be used")]
    Identity(#[from] IdentityFileError),
    /// It names no identity (but a router or a controller).
    #[error("{0} is not an identity of a node")]
    NotAnIdentity(String),
    /// It was not called inside a tokio runtime.
    #[error("there is no tokio runtime here")]
    NoRuntime,
    /// The controller's address or the credentials do not make a connection.
    #[error("the controller's address cannot be used")]
    Controller(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a node was not ready in time.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotReady {
    /// The controller was not reached.
    #[error("the controller was not reached within {waited:?}: {reason}")]
    Controller {
        /// How long.
        waited: Duration,
        /// The last failure.
        reason: String,
    },
    /// No policy gives this identity a router.
    #[error("identity {0} may use no edge router; create an edge-router policy that names it")]
    NoRouters(String),
    /// No router was reached.
    #[error("no router of {routers:?} was reached within {waited:?}: {reason}")]
    Routers {
        /// Their names.
        routers: Vec<String>,
        /// How long.
        waited: Duration,
        /// The last failure.
        reason: String,
    },
}

/// Why a dial failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// There is no such service, or no policy lets this identity dial it; the two look alike.
    #[error("{message}")]
    Denied {
        /// From the controller.
        message: String,
    },
    /// Nobody hosts the service now.
    #[error("{message}")]
    NoTerminators {
        /// From the controller.
        message: String,
    },
    /// No router joins the two sides, by policy or because it is not reachable.
    #[error("{message}")]
    NoRoute {
        /// What is missing.
        message: String,
    },
    /// The hosting side said no, or its target could not be reached.
    #[error("{message}")]
    Refused {
        /// From the hosting side.
        message: String,
    },
    /// The deadline passed.
    #[error("no stream to service {service} within {after:?}; last: {last}")]
    Timeout {
        /// The service.
        service: String,
        /// The deadline.
        after: Duration,
        /// What was being waited for.
        last: String,
    },
    /// The controller cannot be reached and no grant is at hand.
    #[error("the controller cannot be reached: {message}")]
    Unavailable {
        /// The last failure.
        message: String,
    },
    /// The context was shut down.
    #[error("the context is shut down")]
    Shutdown,
}

/// The kinds of [`DialError`], for mapping (an HTTP proxy answers 403, 404, 502, 503, 504).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialErrorKind {
    /// No such service or no permission (403; 404 when the name is not among the services of the view).
    Denied,
    /// Nobody hosts it (503).
    NoTerminators,
    /// No router in common (502).
    NoRoute,
    /// The hosting side refused (502).
    Refused,
    /// Too slow (504).
    Timeout,
    /// No controller (503).
    Unavailable,
    /// Shut down (503).
    Shutdown,
}

impl DialErrorKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Denied,
        Self::NoTerminators,
        Self::NoRoute,
        Self::Refused,
        Self::Timeout,
        Self::Unavailable,
        Self::Shutdown,
    ];

    /// A stable word for it, for metrics and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NoTerminators => "no-terminators",
            Self::NoRoute => "no-route",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Shutdown => "shutdown",
        }
    }
}

impl DialError {
    /// What kind of failure it is.
    pub fn kind(&self) -> DialErrorKind {
        match self {
            Self::Denied { .. } => DialErrorKind::Denied,
            Self::NoTerminators { .. } => DialErrorKind::NoTerminators,
            Self::NoRoute { .. } => DialErrorKind::NoRoute,
            Self::Refused { .. } => DialErrorKind::Refused,
            Self::Timeout { .. } => DialErrorKind::Timeout,
            Self::Unavailable { .. } => DialErrorKind::Unavailable,
            Self::Shutdown => DialErrorKind::Shutdown,
        }
    }
}

impl From<DialError> for io::Error {
    fn from(e: DialError) -> Self {
        let kind = match e.kind() {
            DialErrorKind::Denied => io::ErrorKind::PermissionDenied,
            DialErrorKind::Timeout => io::ErrorKind::TimedOut,
            DialErrorKind::Refused => io::ErrorKind::ConnectionRefused,
            _ => io::ErrorKind::NotConnected,
        };
        Self::new(kind, e)
    }
}

/// Why a bind failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BindError {
    /// There is no such service, or no policy lets this identity bind it.
    #[error("{message}")]
    Denied {
        /// From the controller.
        message: String,
    },
    /// The controller refused the request itself.
    #[error("{message}")]
    Invalid {
        /// From the controller.
        message: String,
    },
    /// The controller cannot be reached.
    #[error("the controller cannot be reached: {message}")]
    Unavailable {
        /// The last failure.
        message: String,
    },
    /// The context was shut down.
    #[error("the context is shut down")]
    Shutdown,
}

/// Nothing more will come: the listener was closed or its context shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the listener is closed")]
pub struct ListenerClosed;
