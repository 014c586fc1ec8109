//! Why a controller could not be talked to, in words that say what to do.

use super::Client;
use hesper_client::clock::{self, Clocks};
use hesper_pki::tls;
use rustls::CertificateError;

impl Client {
    pub(super) async fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_timeout() {
            return anyhow::anyhow!(
                "the controller at {} did not answer within {} s",
                self.base,
                self.timeout.as_secs()
            );
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        if tls_error(error).is_some_and(|fault| tls::time_fault(fault).is_some())
            && let Some(clocks) = self.clocks().await
        {
            return anyhow::anyhow!(
                "the certificate of the controller at {} is not valid at this time: {clocks}",
                self.base
            );
        }
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => anyhow::anyhow!(
                "the certificate of the controller at {} is not from the trusted authority: check the address and --ca, or log in again",
                self.base
            ),
            _ => anyhow::anyhow!("cannot talk to the controller at {}: {cause}", self.base),
        }
    }

    /// This machine's clock and the controller's, if they differ.
    async fn clocks(&self) -> Option<Clocks> {
        let url = self.base.as_str().parse().ok()?;
        clock::ask(&[url], tls::clock_client(&self.ca_pem).ok()?).await.filter(Clocks::differ)
    }
}

/// The TLS error at the root of another. An [`io::Error`](std::io::Error) does not give the error it carries as its source.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match carried {
        Some(carried) => tls_error(carried),
        None => tls_error(error.source()?),
    }
}
