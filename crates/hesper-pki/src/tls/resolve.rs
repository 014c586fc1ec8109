//! Which certificate to show: the current one, read at each handshake.

use crate::credentials::SharedCredentials;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::sync::Arc;

/// How much to show.
#[derive(Clone, Copy, Debug)]
pub(super) enum Presented {
    /// The chain as issued.
    Chain,
    /// The chain and the roots.
    ChainAndRoots,
}

/// Shows the current credentials, to whoever asks.
#[derive(Debug)]
pub(super) struct Present(pub(super) SharedCredentials, pub(super) Presented);

impl Present {
    fn now(&self) -> Arc<CertifiedKey> {
        let current = self.0.current();
        match self.1 {
            Presented::Chain => current.certified.clone(),
            Presented::ChainAndRoots => current.certified_with_roots.clone(),
        }
    }
}

impl ResolvesServerCert for Present {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(match self.1 {
            Presented::Chain => self.now(),
            Presented::ChainAndRoots => self.0.current().shown_to(hello.certificate_authorities()),
        })
    }
}

impl ResolvesClientCert for Present {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
