//! What is the same in every request: addresses, headers, credentials.

use super::{BuildError, Hop, answer::BASE64, pieces::Piece};
use crate::{
    auth::ClientAuth,
    origin::{FORWARDED_HEADER, Forwarded, Origin},
};
use base64::Engine;
use hesper_collector_config::{Endpoint, Headers};
use hesper_trace::TraceContext;
use http::{HeaderMap, HeaderName, HeaderValue, uri::Authority};
use std::sync::Arc;

/// How we call ourselves.
pub(crate) const USER_AGENT: &str = concat!("hesper/", env!("CARGO_PKG_VERSION"));

/// Whom we send to and as whom.
pub(crate) struct Party {
    /// `exporter 'NAME': ENDPOINT`, for messages.
    pub(crate) to: String,
    pub(crate) auth: Option<Arc<dyn ClientAuth>>,
    /// Is it told whose data it is?
    forwards: bool,
}

impl Party {
    /// Checks that credentials stay secret.
    pub(crate) fn new(
        name: &str,
        endpoint: &Endpoint,
        encrypted: bool,
        auth: Option<Arc<dyn ClientAuth>>,
        hop: Hop,
    ) -> Result<Self, BuildError> {
        let unix = endpoint.underlay().is_some_and(|address| address.is_unix());
        let secret = encrypted || endpoint.is_mesh() || unix;
        if !secret && auth.as_ref().is_some_and(|auth| auth.needs_secrecy()) {
            return Err(BuildError(format!(
                "exporter '{name}': its credentials would go to {endpoint} without TLS, readable to anybody on the way; \
                 leave tls.insecure out, or send to hesper://SERVICE, which is encrypted by itself"
            )));
        }
        let to = format!("exporter '{name}': {endpoint}");
        Ok(Self { to, auth, forwards: hop == Hop::Gateway && endpoint.is_mesh() })
    }

    /// Adds what hangs on the batch: whose it is, and credentials.
    ///
    /// # Errors
    /// There are no credentials now.
    pub(crate) async fn sign(&self, headers: &mut HeaderMap, piece: &Piece<'_>) -> Result<(), String> {
        if let Some(context) = TraceContext::current() {
            context.write(headers);
        }
        if let (true, Some(batch)) = (self.forwards, piece.id) {
            let origin = Origin { traces: Vec::new(), ..piece.origin.clone() };
            let forwarded = Forwarded { origin, batch };
            let value = HeaderValue::from_str(&BASE64.encode(forwarded.encode()));
            headers.insert(FORWARDED_HEADER, value.map_err(|error| error.to_string())?);
        }
        match &self.auth {
            Some(auth) => {
                auth.apply(headers, piece.origin).await.map_err(|error| format!("{}: {error}", self.to))
            }
            None => Ok(()),
        }
    }
}

/// Puts the headers of the settings in; values are secret. `binary`: names in `-bin` have their values encoded, as gRPC wants it.
pub(crate) fn add_headers(
    into: &mut HeaderMap,
    headers: &Headers,
    binary: bool,
    name: &str,
) -> Result<(), BuildError> {
    for (header, value) in headers {
        let refused =
            || BuildError(format!("exporter '{name}': header '{header}' cannot be sent; change it"));
        let key = HeaderName::try_from(header.as_str()).map_err(|_| refused())?;
        let encoded = (binary && key.as_str().ends_with("-bin")).then(|| BASE64.encode(value.expose()));
        let text = encoded.as_deref().unwrap_or(value.expose());
        let mut value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| refused())?;
        value.set_sensitive(true);
        into.insert(key, value);
    }
    Ok(())
}

/// The authority of requests: host and port, or the service of the mesh.
pub(crate) fn authority(endpoint: &Endpoint, name: &str) -> Result<Authority, BuildError> {
    let text = match endpoint {
        Endpoint::Mesh { service, .. } => as_host(service),
        Endpoint::Underlay(address) if address.is_unix() || address.host.is_empty() => "localhost".into(),
        Endpoint::Underlay(address) => address.authority(),
    };
    let refused = |error| BuildError(format!("exporter '{name}': {text} is no authority of a URL: {error}"));
    Authority::try_from(text.as_str()).map_err(refused)
}

/// Any name as a host of a URL: what no host may have becomes a dash. Nobody finds a service by it.
fn as_host(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-._~".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_destination_has_an_authority() {
        for (endpoint, expected) in [
            ("x.example:4317", "x.example:4317"),
            ("[::1]:4317", "[::1]:4317"),
            ("https://x.example", "x.example"),
            ("unix:///run/x.sock", "localhost"),
            (":4317", "localhost"),
            ("hesper://traces", "traces"),
            ("hesper://a%40b@c%2Fd%20e", "c-d-e"),
            ("hesper://sp\u{fc}ren", "sp-ren"),
        ] {
            let parsed = Endpoint::parse(endpoint).expect(endpoint);
            assert_eq!(authority(&parsed, "x").expect(endpoint).as_str(), expected, "{endpoint}");
        }
    }
}
