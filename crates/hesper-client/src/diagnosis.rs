//! Why controller and node refuse each other's certificates, in words that say what to do.
//!
//! In TLS 1.3 a client is done before the server has looked at its certificate, so a refusal may reach a caller as any kind of broken
//! connection. Here nothing is sent, and the refusal is what comes.

use crate::{
    clock::{self, Clocks, shown},
    connect::{ConnectError, ControllerUrl, connect},
};
use hesper_pki::{
    credentials::{Credentials, SharedCredentials},
    spiffe::SpiffeRole,
    tls::{self, TimeFault},
};
use rustls::{AlertDescription, CertificateError, Error};
use std::{fmt, io, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{io::AsyncReadExt, time::timeout};

/// How long a controller may take to refuse a certificate.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// Why certificates are refused. [`fmt::Display`] says it and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// The clocks differ.
    Clocks(Clocks),
    /// The own certificate has ended: it was not renewed in time.
    Expired {
        /// Whose.
        id: String,
        /// The next step.
        next: String,
        /// When it ended.
        at: OffsetDateTime,
    },
    /// The controller's certificate has ended.
    ControllerExpired(Option<OffsetDateTime>),
    /// The CA of the own certificate is not trusted any more.
    CaGivenUp {
        /// Whose.
        id: String,
        /// The next step.
        next: String,
    },
    /// The controller's certificate is of a CA that is not known here.
    UnknownCa {
        /// The controller.
        url: String,
        /// The next step.
        next: String,
    },
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clocks(clocks) => write!(f, "certificates are not valid at this time: {clocks}"),
            Self::Expired { id, next, at } => write!(
                f,
                "the certificate of {id} expired at {}: it could not be renewed in time; {next}",
                shown(*at)
            ),
            Self::ControllerExpired(at) => {
                let at = at.map(|at| format!(" at {}", shown(at))).unwrap_or_default();
                write!(
                    f,
                    "the controller's certificate expired{at}: it renews it by itself, its log says why not"
                )
            }
            Self::CaGivenUp { id, next } => write!(
                f,
                "the controller no longer trusts the CA that issued the certificate of {id}: the CA was rotated meanwhile; {next}"
            ),
            Self::UnknownCa { url, next } => write!(
                f,
                "the certificate of the controller at {url} is of a CA that is not known here: another server answers there, or the \
                 CA was rotated while this was away; then {next}"
            ),
        }
    }
}

/// Looks for a reason; none when the certificates are accepted, or when something else is wrong.
pub async fn diagnose(urls: &[ControllerUrl], credentials: &SharedCredentials) -> Option<Diagnosis> {
    let current = credentials.current();
    for url in urls {
        let Some(error) = refusal(url, credentials).await else { continue };
        let unknown = || Diagnosis::UnknownCa { url: url.to_string(), next: next_step(&current) };
        return match (tls::time_fault(&error), &error) {
            (Some(fault), _) => Some(of_time(url, &current, fault).await),
            (_, Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Some(unknown()),
            (_, Error::AlertReceived(AlertDescription::UnknownCA)) => {
                Some(Diagnosis::CaGivenUp { id: current.id.to_string(), next: next_step(&current) })
            }
            _ => None,
        };
    }
    None
}

async fn of_time(url: &ControllerUrl, current: &Credentials, fault: TimeFault) -> Diagnosis {
    let clocks = match tls::clock_client(&current.ca_pem) {
        Ok(config) => clock::ask(std::slice::from_ref(url), config).await,
        Err(_) => None,
    };
    let own =
        || Diagnosis::Expired { id: current.id.to_string(), next: next_step(current), at: current.not_after };
    match (clocks.filter(Clocks::differ), fault) {
        // A clock that is wrong by a minute does not end a certificate of last week.
        (Some(clocks), TimeFault::ToldSo) if current.not_after <= clocks.controller.min(clocks.here) => own(),
        (Some(clocks), _) => Diagnosis::Clocks(clocks),
        (None, TimeFault::ToldSo) => own(),
        (None, TimeFault::PeerExpired(at) | TimeFault::PeerNotYetValid(at)) => {
            Diagnosis::ControllerExpired(at)
        }
    }
}

fn next_step(current: &Credentials) -> String {
    let method = if current.id.role == SpiffeRole::Router { "erott" } else { "ott" };
    format!(
        "ask for a new token (hesper create enrollment {method} {} -o FILE.jwt) and enroll again",
        current.id.id
    )
}

/// What TLS has against the two certificates.
async fn refusal(url: &ControllerUrl, credentials: &SharedCredentials) -> Option<Error> {
    match connect(url, Arc::new(tls::controller_client(credentials.clone()))).await {
        Ok(mut stream) => match timeout(REFUSAL_DEADLINE, stream.read_u8()).await {
            Ok(Err(error)) => of_io(&error),
            Ok(Ok(_)) | Err(_) => None,
        },
        Err(ConnectError::Tls { source, .. }) => Some(source),
        Err(_) => None,
    }
}

fn of_io(error: &io::Error) -> Option<Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned()
}
