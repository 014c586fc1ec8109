//! Asking a server on this machine over plain HTTP.

use anyhow::Result;
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use std::time::Duration;

/// A client without a proxy and without TLS.
///
/// # Errors
/// It cannot be made.
pub(crate) fn client(deadline: Duration) -> Result<reqwest::ClientBuilder> {
    // reqwest wants to know its TLS beforehand, whether it is used or not, and panics without.
    let tls = ClientConfig::builder_with_provider(hesper_pki::tls::provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(deadline).no_proxy())
}
