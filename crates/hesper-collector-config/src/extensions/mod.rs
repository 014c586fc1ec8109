//! Extensions: who calls, who we are, where queues are kept.

mod basicauth;
mod bearertokenauth;
mod file_storage;
mod headers_setter;
mod health_check;
mod oidc;

pub use basicauth::{BasicAuth, BasicAuthClient, BasicAuthServer};
pub use bearertokenauth::BearerTokenAuth;
pub use file_storage::{FileStorage, WhenFull};
pub use headers_setter::{HeaderAction, HeaderSource, HeadersSetter, SetHeader};
pub use health_check::{HealthCheck, HealthResponses};
pub use oidc::{Oidc, OidcProvider};

use crate::{reader::Wanted, section::Section};

/// An extension with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Extension {
    /// `basicauth`
    BasicAuth(BasicAuth),
    /// `bearertokenauth`
    BearerTokenAuth(BearerTokenAuth),
    /// `file_storage`
    FileStorage(FileStorage),
    /// `headers_setter`
    HeadersSetter(HeadersSetter),
    /// `health_check`
    HealthCheck(Box<HealthCheck>),
    /// `oidc`
    Oidc(Oidc),
}

/// The types that there are.
pub(crate) const TYPES: &[&str] =
    &["basicauth", "bearertokenauth", "file_storage", "headers_setter", "health_check", "oidc"];

pub(crate) fn read(kind: &str, s: &Section<'_>) -> Option<Extension> {
    Some(match kind {
        "basicauth" => Extension::BasicAuth(basicauth::read(s)),
        "bearertokenauth" => Extension::BearerTokenAuth(bearertokenauth::read(s)),
        "file_storage" => Extension::FileStorage(file_storage::read(s)),
        "headers_setter" => Extension::HeadersSetter(headers_setter::read(s)),
        "health_check" => Extension::HealthCheck(Box::new(health_check::read(s))),
        "oidc" => Extension::Oidc(oidc::read(s)),
        _ => return None,
    })
}

impl Extension {
    /// Can it be what a component refers to?
    pub(crate) const fn serves(&self, wanted: Wanted) -> bool {
        match self {
            Self::BasicAuth(BasicAuth::Server(_)) | Self::Oidc(_) => matches!(wanted, Wanted::ServerAuth),
            Self::BasicAuth(BasicAuth::Client(_)) | Self::HeadersSetter(_) => {
                matches!(wanted, Wanted::ClientAuth)
            }
            Self::BearerTokenAuth(_) => matches!(wanted, Wanted::ServerAuth | Wanted::ClientAuth),
            Self::FileStorage(_) => matches!(wanted, Wanted::Storage),
            Self::HealthCheck(_) => false,
        }
    }
}
