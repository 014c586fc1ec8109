//! Verifiers that change one thing about another one.

use crate::spiffe;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{sync::Arc, time::Duration};

/// Everything but the certificate itself is the other verifier's business.
macro_rules! signatures_of {
    ($inner:tt) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.$inner.verify_tls12_signature(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.$inner.verify_tls13_signature(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$inner.supported_verify_schemes()
        }
    };
}

/// Says which CAs are trusted.
#[derive(Debug)]
pub(super) struct Hinting {
    pub(super) verifier: Arc<WebPkiServerVerifier>,
    pub(super) hints: Vec<DistinguishedName>,
}

impl ServerCertVerifier for Hinting {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.verify_server_cert(leaf, others, name, ocsp, now)
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.hints)
    }

    signatures_of!(verifier);
}

/// Checks everything but whether the certificate is valid *now*: it is looked at as of the middle of its life.
#[derive(Debug)]
pub(super) struct AnyTime<V>(pub(super) V);

impl<V: ServerCertVerifier> ServerCertVerifier for AnyTime<V> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let then = middle_of_life(leaf).unwrap_or(now);
        self.0.verify_server_cert(leaf, others, name, ocsp, then)
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.0.root_hint_subjects()
    }

    signatures_of!(0);
}

fn middle_of_life(leaf: &CertificateDer<'_>) -> Option<UnixTime> {
    let parsed = spiffe::parse(leaf).ok()?;
    let validity = parsed.validity();
    let middle = i64::midpoint(validity.not_before.timestamp(), validity.not_after.timestamp());
    Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(middle).ok()?)))
}
