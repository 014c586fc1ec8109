//! Enrollment: a one-time token and a fresh key become an identity file.

use crate::{
    clock::{self, Clocks},
    connect::{ConnectError, ControllerUrl, InvalidControllerUrl, connect},
};
use bytes::Bytes;
use hesper_pki::{
    credentials::{Credentials, CredentialsError},
    csr::{self, CsrError},
    digest::sha256_hex,
    identity_file::IdentityFile,
    key::{self, KeyError, PrivateKey},
    pem,
    spiffe::{SpiffeId, SpiffeRole},
    tls,
    token::{self, EnrollmentClaims, EnrollmentMethod, TokenError},
};
use hesper_trace::TraceContext;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;
use tracing::Instrument;

/// Where to redeem a token.
pub const ENROLL_PATH: &str = "/edge/client/v1/enroll";
/// Largest answer read.
const MAX_ANSWER: usize = 64 * 1024;
/// Deadline of the request, after the connection is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Refusals that no repetition of the same request will change.
const FINAL: [&str; 3] = ["INVALID_ENROLLMENT_TOKEN", EXPIRED, "ENROLLMENT_ALREADY_REDEEMED"];
/// The refusal of a token whose time is over.
const EXPIRED: &str = "ENROLLMENT_EXPIRED";

/// A fresh identity.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// To be written to disk.
    pub identity_file: IdentityFile,
    /// Whom the certificate names.
    pub id: SpiffeId,
    /// What was enrolled.
    pub method: EnrollmentMethod,
    /// End of the certificate's validity.
    pub not_after: OffsetDateTime,
}

/// Why there is no identity. Each names what to check or to do next.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The token's time is over.
    #[error("the enrollment token is too old; ask for a new one (hesper create enrollment)")]
    Expired(#[source] TokenError),
    /// By one of two clocks the token, or a certificate, is not valid; by the other it is.
    #[error("the enrollment token or the certificates are not valid at this time: {clocks}")]
    Clocks {
        /// Both.
        clocks: Clocks,
        /// Whether the key may have a certificate already.
        redeemed: bool,
    },
    /// Not an enrollment token.
    #[error("the enrollment token is not usable; check that the file is whole")]
    Token(#[source] TokenError),
    /// The token names an address that is none.
    #[error("the enrollment token names no usable controller")]
    Url(#[from] InvalidControllerUrl),
    /// No key.
    #[error("no private key for the identity")]
    Key(#[from] KeyError),
    /// No request.
    #[error("no certification request for the key")]
    Csr(#[from] CsrError),
    /// Nobody there.
    #[error("no controller could be reached ({tried})")]
    Unreachable {
        /// The URLs tried.
        tried: String,
        /// Why the last of them failed.
        #[source]
        source: ConnectError,
    },
    /// Somebody else is there.
    #[error(
        "the server at {url} does not belong to the network that issued this token; check the token and the address, and that nothing intercepts the connection; if the network's certificate authority has been rotated since the token was made, ask for a new one"
    )]
    OtherCa {
        /// The address.
        url: String,
        /// What was expected.
        #[source]
        source: ConnectError,
    },
    /// The request was sent, the answer did not arrive: the token may be used up already, by this key.
    #[error(
        "the answer of {url} was lost; run the same command again: the same key may redeem the token again"
    )]
    LostAnswer {
        /// The address.
        url: String,
        /// How.
        #[source]
        source: LostAnswer,
    },
    /// The controller said no.
    #[error("the controller refused: {message} ({code})")]
    Refused {
        /// Its code, for example `ENROLLMENT_EXPIRED`.
        code: String,
        /// Its reason.
        message: String,
    },
    /// The controller said something that is not an answer.
    #[error("{url} gave an answer that is not one of a Hesper controller (HTTP status {status})")]
    NotAnAnswer {
        /// The address.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The controller gave a certificate that makes no credentials.
    #[error("the controller's certificate is not usable")]
    Credentials(#[from] CredentialsError),
    /// The controller gave a certificate for somebody else, or of another CA.
    #[error("the controller's certificate is not the one asked for: {0}")]
    OtherCertificate(String),
}

/// What became of the key of an enrollment that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFate {
    /// It was not shown to any controller.
    Unused,
    /// The controller has said that this token gets it no certificate.
    Refused,
    /// It may have a certificate: only with this key can the token be redeemed again.
    Unknown,
}

impl KeyFate {
    /// Whether it may be thrown away. A key that is not `new` may have redeemed the token in an earlier try, whatever has kept
    /// this one from the controller.
    pub fn is_over(self, new: bool) -> bool {
        match self {
            Self::Unused => new,
            Self::Refused => true,
            Self::Unknown => false,
        }
    }
}

impl EnrollError {
    /// What became of the key.
    pub fn key_fate(&self) -> KeyFate {
        match self {
            Self::Expired(_)
            | Self::Clocks { redeemed: false, .. }
            | Self::Token(_)
            | Self::Url(_)
            | Self::Key(_)
            | Self::Csr(_)
            | Self::Unreachable { .. }
            | Self::OtherCa { .. } => KeyFate::Unused,
            Self::Refused { code, .. } if FINAL.contains(&code.as_str()) => KeyFate::Refused,
            Self::LostAnswer { .. }
            | Self::Clocks { .. }
            | Self::Refused { .. }
            | Self::NotAnAnswer { .. }
            | Self::Credentials(_)
            | Self::OtherCertificate(_) => KeyFate::Unknown,
        }
    }
}

/// How an answer got lost.
#[derive(Debug, thiserror::Error)]
pub enum LostAnswer {
    /// The connection broke.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The answer broke off, or is larger than any answer.
    #[error("the answer broke off or is too large")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Silence.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
}

/// Redeems a token with a fresh key.
pub async fn enroll(jwt: &str, now: OffsetDateTime) -> Result<Enrolled, EnrollError> {
    // The token first: a bad one costs no key.
    check_token(jwt, now).await?;
    enroll_with_key(jwt, key::generate()?, now).await
}

/// Redeems a token with this key. Again with the same token and key it gives the same certificate.
pub async fn enroll_with_key(
    jwt: &str,
    key: PrivateKey,
    now: OffsetDateTime,
) -> Result<Enrolled, EnrollError> {
    let claims = check_token(jwt, now).await?;
    let (controllers, urls) = controllers(&claims)?;
    let body = serde_json::json!({ "token": jwt.trim(), "csr": csr::to_pem(&csr::make(&key)?) });
    let (url, stream) = reach(&urls, &claims.ca_sha256).await?;
    let answer = post(url, stream, body.to_string()).await?;
    let credentials = match check(&claims, &answer, &key, now) {
        Err(EnrollError::Credentials(CredentialsError::Tls(fault))) if tls::time_fault(&fault).is_some() => {
            let clocks = clocks(&urls, &claims.ca_sha256).await;
            let unusable = EnrollError::Credentials(CredentialsError::Tls(fault));
            return Err(clocks.map_or(unusable, |clocks| EnrollError::Clocks { clocks, redeemed: true }));
        }
        other => other?,
    };
    Ok(Enrolled {
        identity_file: IdentityFile::new(&controllers, &answer.cert, &key, &credentials.ca_pem),
        id: credentials.id.clone(),
        method: claims.em,
        not_after: credentials.not_after,
    })
}

/// Reads a token: shape, algorithm, claims, time. Its signature is the controller's business. When by this machine's clock its time is
/// over, the controller is asked for its own.
///
/// # Errors
/// [`EnrollError::Token`], [`EnrollError::Expired`], [`EnrollError::Clocks`].
pub async fn check_token(jwt: &str, now: OffsetDateTime) -> Result<EnrollmentClaims, EnrollError> {
    let secs = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let expired = match token::read_enrollment(jwt, secs) {
        Err(expired @ TokenError::Expired { .. }) => expired,
        other => return other.map_err(EnrollError::Token),
    };
    if let Ok(claims) = token::read_enrollment(jwt, 0)
        && let Ok((_, urls)) = controllers(&claims)
        && let Some(clocks) = clocks(&urls, &claims.ca_sha256).await
        && u64::try_from(clocks.controller.unix_timestamp()).is_ok_and(|there| there < claims.exp)
    {
        return Err(EnrollError::Clocks { clocks, redeemed: false });
    }
    Err(EnrollError::Expired(expired))
}

/// This machine's clock and the controller's, if they differ.
async fn clocks(urls: &[ControllerUrl], ca_sha256: &str) -> Option<Clocks> {
    clock::ask(urls, tls::pinned_clock_client(ca_sha256)).await.filter(Clocks::differ)
}

/// The controllers of a token, as text and read.
fn controllers(claims: &EnrollmentClaims) -> Result<(Vec<String>, Vec<ControllerUrl>), InvalidControllerUrl> {
    let texts = if claims.ctrls.is_empty() { vec![claims.iss.clone()] } else { claims.ctrls.clone() };
    let urls = texts.iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
    Ok((texts, urls))
}

/// The first controller that answers and shows the CA of the token.
async fn reach<'a>(
    urls: &'a [ControllerUrl],
    ca_sha256: &str,
) -> Result<(&'a ControllerUrl, TlsStream<TcpStream>), EnrollError> {
    let mut config = tls::pinned_client(ca_sha256);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let mut failure = None;
    for url in urls {
        match connect(url, config.clone()).await {
            Ok(stream) => return Ok((url, stream)),
            Err(source) if source.is_other_ca() => {
                return Err(EnrollError::OtherCa { url: url.to_string(), source });
            }
            Err(source) if source.time_fault().is_some() => {
                if let Some(clocks) = clocks(std::slice::from_ref(url), ca_sha256).await {
                    return Err(EnrollError::Clocks { clocks, redeemed: false });
                }
                failure = Some(source);
            }
            Err(source) => failure = Some(source),
        }
    }
    let tried = urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let source = failure.unwrap_or_else(|| ConnectError::Name { host: String::new() });
    Err(EnrollError::Unreachable { tried, source })
}

/// What the controller gives.
#[derive(Serialize, Deserialize)]
struct Answer {
    cert: String,
    ca: String,
}

#[derive(Deserialize)]
struct Envelope {
    data: Option<Answer>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    code: String,
    message: String,
}

async fn post(
    url: &ControllerUrl,
    stream: TlsStream<TcpStream>,
    body: String,
) -> Result<Answer, EnrollError> {
    let span = hesper_trace::entry(None, || {
        tracing::info_span!(
            "POST",
            otel.kind = "client",
            "http.request.method" = "POST",
            "url.template" = ENROLL_PATH,
            "server.address" = url.host(),
            "server.port" = url.port(),
        )
    });
    let exchange = timeout(ANSWER_TIMEOUT, exchange(url, stream, body)).instrument(span.clone()).await;
    let exchange = exchange.unwrap_or(Err(LostAnswer::Timeout));
    match &exchange {
        Ok((status, ..)) => {
            hesper_trace::set(&span, "http.response.status_code", i64::from(status.as_u16()));
            if !status.is_success() {
                hesper_trace::fail(&span, status);
            }
        }
        Err(lost) => hesper_trace::fail(&span, lost),
    }
    drop(span);
    let (status, date, body) =
        exchange.map_err(|source| EnrollError::LostAnswer { url: url.to_string(), source })?;
    let envelope: Option<Envelope> = serde_json::from_slice(&body).ok();
    match envelope {
        Some(Envelope { data: Some(answer), .. }) if status.is_success() => Ok(answer),
        Some(Envelope { error: Some(error), .. }) if error.code == EXPIRED => {
            // Here it was still good: by which clock?
            let clocks = date.map(|controller| Clocks { here: OffsetDateTime::now_utc(), controller });
            match clocks.filter(Clocks::differ) {
                Some(clocks) => Err(EnrollError::Clocks { clocks, redeemed: false }),
                None => Err(EnrollError::Refused { code: error.code, message: error.message }),
            }
        }
        Some(Envelope { error: Some(error), .. }) => {
            Err(EnrollError::Refused { code: error.code, message: error.message })
        }
        _ => Err(EnrollError::NotAnAnswer { url: url.to_string(), status }),
    }
}

/// One request on one connection.
async fn exchange(
    url: &ControllerUrl,
    stream: TlsStream<TcpStream>,
    body: String,
) -> Result<(StatusCode, Option<OffsetDateTime>, Bytes), LostAnswer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::post(ENROLL_PATH)
        .header(header::HOST, url.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| LostAnswer::Body(e.into()))?;
    if let Some(trace) = TraceContext::current() {
        trace.write(request.headers_mut());
    }
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let date = answer.headers().get(header::DATE).and_then(|date| clock::parse_date(date.to_str().ok()?));
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(LostAnswer::Body)?;
        Ok((status, date, body.to_bytes()))
    };
    tokio::pin!(answer);
    // The connection only moves while it is polled. It may end first, with the answer already there.
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

/// The certificate must be for this key and this subject, and of the CA that the token names.
fn check(
    claims: &EnrollmentClaims,
    answer: &Answer,
    key: &PrivateKey,
    now: OffsetDateTime,
) -> Result<Credentials, EnrollError> {
    let credentials = Credentials::from_pem(&answer.cert, &key.to_pem(), &answer.ca)?;
    credentials.check_chain(now)?;
    let role = match claims.em {
        EnrollmentMethod::Ott => SpiffeRole::Identity,
        EnrollmentMethod::Erott => SpiffeRole::Router,
    };
    if credentials.id.role != role || credentials.id.id != claims.sub {
        return Err(EnrollError::OtherCertificate(format!("it names {}", credentials.id)));
    }
    let ca = pem::certificates(&credentials.ca_pem).map_err(CredentialsError::Ca)?;
    if !ca.iter().any(|der| sha256_hex(der) == claims.ca_sha256) {
        return Err(EnrollError::OtherCertificate("it comes with another CA".into()));
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_may_have_a_certificate_is_told_from_one_that_has_none() {
        let refused = |code: &str| EnrollError::Refused { code: code.into(), message: String::new() };
        let lost = EnrollError::LostAnswer { url: String::new(), source: LostAnswer::Timeout };
        let unreachable = EnrollError::Unreachable {
            tried: String::new(),
            source: ConnectError::Name { host: String::new() },
        };
        for (error, fate) in [
            (unreachable, KeyFate::Unused),
            (EnrollError::Token(TokenError::Signature), KeyFate::Unused),
            (refused("ENROLLMENT_ALREADY_REDEEMED"), KeyFate::Refused),
            (refused("ENROLLMENT_EXPIRED"), KeyFate::Refused),
            (refused("INVALID_ENROLLMENT_TOKEN"), KeyFate::Refused),
            (refused("CONFLICT"), KeyFate::Unknown),
            (refused("INTERNAL"), KeyFate::Unknown),
            (lost, KeyFate::Unknown),
        ] {
            assert_eq!(error.key_fate(), fate, "{error}");
        }
        for (fate, new, over) in [
            (KeyFate::Unused, true, true),
            (KeyFate::Unused, false, false),
            (KeyFate::Refused, false, true),
            (KeyFate::Unknown, true, false),
        ] {
            assert_eq!(fate.is_over(new), over, "{fate:?} {new}");
        }
    }
}
