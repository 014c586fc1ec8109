//! Was a certificate refused because of the time? Then a clock may be wrong, and its owner should hear so.

use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

/// What a handshake has against the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFault {
    /// By this machine's clock the peer's certificate has ended.
    PeerExpired(Option<OffsetDateTime>),
    /// By this machine's clock the peer's certificate has not begun.
    PeerNotYetValid(Option<OffsetDateTime>),
    /// By the peer's clock our certificate has ended, or has not begun.
    ToldSo,
}

/// The fault of a handshake's error, if it is one of time.
pub fn time_fault(error: &Error) -> Option<TimeFault> {
    match error {
        Error::InvalidCertificate(CertificateError::Expired) => Some(TimeFault::PeerExpired(None)),
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Some(TimeFault::PeerExpired(instant(*not_after)))
        }
        Error::InvalidCertificate(CertificateError::NotValidYet) => Some(TimeFault::PeerNotYetValid(None)),
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            Some(TimeFault::PeerNotYetValid(instant(*not_before)))
        }
        Error::AlertReceived(AlertDescription::CertificateExpired) => Some(TimeFault::ToldSo),
        _ => None,
    }
}

fn instant(at: UnixTime) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(at.as_secs()).ok()?).ok()
}
