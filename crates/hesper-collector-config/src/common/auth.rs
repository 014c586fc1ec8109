//! `auth: {authenticator: ID}`.

use crate::{id::Id, reader::Wanted, section::Section};

/// Who authenticates: the caller at a receiver, us at an exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The extension; it is there, in `service.extensions`, and of the right kind.
    pub authenticator: Id,
    /// Parameters of the URL that the authenticator of an HTTP receiver may look at.
    pub request_params: Vec<String>,
}

/// Reads `auth` of a section. `auth` that names nobody is a fault: it must not mean that everybody may come in.
pub(crate) fn auth(s: &Section<'_>, wanted: Wanted) -> Option<Auth> {
    s.section("auth", |s| {
        s.require("authenticator", "name an extension, or leave auth out");
        let authenticator = s.reference("authenticator", wanted);
        let request_params = match wanted {
            Wanted::ServerAuth => s.texts("request_params"),
            Wanted::ClientAuth | Wanted::Storage => Vec::new(),
        };
        authenticator.map(|authenticator| Auth { authenticator, request_params })
    })
    .flatten()
}
