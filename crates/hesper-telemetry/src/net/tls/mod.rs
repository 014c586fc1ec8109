//! TLS of listeners and of clients, on rustls with ring.
//!
//! Certificates, keys and CAs come from files that are looked at again (`crate::watched`): each handshake uses what they say
//! then, and streams that live go on. Sessions are not resumed where a certificate was checked, since a resumed one is not
//! checked again.

mod client;
mod files;
mod pinned;
mod server;

pub use client::ClientTlsLayer;
pub use server::ServerTlsLayer;

use hesper_collector_config::TlsVersion;
use rustls::{
    SupportedProtocolVersion,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};
use std::sync::{Arc, LazyLock};

/// HTTP/2, as ALPN names it.
pub const H2: &[u8] = b"h2";
/// HTTP/1.1, as ALPN names it.
pub const HTTP1: &[u8] = b"http/1.1";

/// Settings that cannot be used; the text names the file, the reason and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub(crate) String);

impl From<String> for TlsError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

fn versions(min: TlsVersion, max: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
    all.into_iter().filter(|(version, _)| (min..=max).contains(version)).map(|(_, known)| known).collect()
}
