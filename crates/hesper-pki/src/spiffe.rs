//! SPIFFE ids: `spiffe://<trust domain>/<identity|router|controller>/<id>`, the name inside a leaf certificate.
//!
//! Source: the SPIFFE ID and X.509-SVID specifications (exactly one URI SAN in a leaf, §2 of X.509-SVID).

use rustls_pki_types::CertificateDer;
use std::{fmt, str::FromStr};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

/// Longest trust domain, in bytes (SPIFFE ID §2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// Longest id in the path, in bytes.
const MAX_ID: usize = 128;

/// What kind of party a certificate names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpiffeRole {
    /// A node: dials and binds.
    Identity,
    /// An edge router.
    Router,
    /// A controller.
    Controller,
}

impl SpiffeRole {
    /// The first path segment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Router => "router",
            Self::Controller => "controller",
        }
    }
}

/// The name of a party.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    /// The mesh it belongs to.
    pub trust_domain: String,
    /// What it is.
    pub role: SpiffeRole,
    /// Its opaque id.
    pub id: String,
}

impl SpiffeId {
    /// A checked name: lower-case letters, digits, `.`, `-`, `_` in the trust domain; letters, digits, `.`, `-`, `_` in the id.
    pub fn new(trust_domain: &str, role: SpiffeRole, id: &str) -> Result<Self, InvalidSpiffeId> {
        check_trust_domain(trust_domain)?;
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(allowed) || id == "." || id == ".." {
            return Err(InvalidSpiffeId::Id);
        }
        Ok(Self { trust_domain: trust_domain.to_owned(), role, id: id.to_owned() })
    }

    /// The name of an identity in the same trust domain.
    pub fn identity(&self, id: &str) -> Result<Self, InvalidSpiffeId> {
        Self::new(&self.trust_domain, SpiffeRole::Identity, id)
    }

    /// The name of a router in the same trust domain.
    pub fn router(&self, id: &str) -> Result<Self, InvalidSpiffeId> {
        Self::new(&self.trust_domain, SpiffeRole::Router, id)
    }
}

/// Refuses text that cannot be a trust domain.
pub fn check_trust_domain(text: &str) -> Result<(), InvalidSpiffeId> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
    if text.is_empty() || text.len() > MAX_TRUST_DOMAIN || !text.bytes().all(allowed) {
        return Err(InvalidSpiffeId::TrustDomain);
    }
    Ok(())
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.trust_domain, self.role.as_str(), self.id)
    }
}

/// Why text is not a SPIFFE id of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpiffeId {
    /// Not `spiffe://` with two path segments.
    #[error("a SPIFFE id looks like spiffe://TRUST-DOMAIN/identity/ID")]
    Shape,
    /// A bad trust domain.
    #[error("a trust domain is 1 to 255 lower-case letters, digits, '.', '-' or '_'")]
    TrustDomain,
    /// An unknown first segment.
    #[error("the first path segment of a SPIFFE id is identity, router or controller")]
    Role,
    /// A bad id.
    #[error("the id in a SPIFFE id is 1 to 128 letters, digits, '.', '-' or '_'")]
    Id,
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let rest = text.strip_prefix("spiffe://").ok_or(InvalidSpiffeId::Shape)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidSpiffeId::Shape);
        };
        let role = match role {
            "identity" => SpiffeRole::Identity,
            "router" => SpiffeRole::Router,
            "controller" => SpiffeRole::Controller,
            _ => return Err(InvalidSpiffeId::Role),
        };
        Self::new(domain, role, id)
    }
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not an X.509 certificate.
    #[error("the certificate cannot be parsed")]
    Unreadable,
    /// None, or several, URI names.
    #[error("the certificate must have exactly one URI name, it has {0}")]
    UriNames(usize),
    /// The URI is no SPIFFE id of ours.
    #[error("the certificate's name {uri:?} is not valid")]
    Name {
        /// What the certificate says.
        uri: String,
        /// What is wrong with it.
        #[source]
        source: InvalidSpiffeId,
    },
}

/// The party that a leaf certificate names. It proves nothing: the caller has verified the chain and the handshake.
pub fn of_leaf(leaf: &CertificateDer<'_>) -> Result<SpiffeId, LeafError> {
    of_parsed(&parse(leaf)?)
}

/// Parses one certificate, refusing bytes after it.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, LeafError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(LeafError::Unreadable),
    }
}

pub(crate) fn of_parsed(certificate: &X509Certificate<'_>) -> Result<SpiffeId, LeafError> {
    let uri = only_uri(certificate)?;
    uri.parse().map_err(|source| LeafError::Name { uri: uri.to_owned(), source })
}

/// The single URI subject alternative name.
pub(crate) fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, LeafError> {
    let names = certificate.subject_alternative_name().map_err(|_| LeafError::Unreadable)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|san| &san.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris[..] {
        [uri] => Ok(uri),
        _ => Err(LeafError::UriNames(uris.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back() {
        for text in
            ["spiffe://mesh.example/identity/aB3-_.x", "spiffe://m/router/r1", "spiffe://m/controller/c"]
        {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn every_other_shape_is_refused() {
        use InvalidSpiffeId::*;
        for (text, why) in [
            ("", Shape),
            ("https://m/identity/a", Shape),
            ("SPIFFE://m/identity/a", Shape),
            ("spiffe://m/identity", Shape),
            ("spiffe://m/identity/a/b", Shape),
            ("spiffe://m/identity/a/", Shape),
            ("spiffe:///identity/a", TrustDomain),
            ("spiffe://M/identity/a", TrustDomain),
            ("spiffe://m:1/identity/a", TrustDomain),
            ("spiffe://u@m/identity/a", TrustDomain),
            ("spiffe://m/Identity/a", Role),
            ("spiffe://m//a", Role),
            ("spiffe://m/identity/", Id),
            ("spiffe://m/identity/..", Id),
            ("spiffe://m/identity/a%2e", Id),
            ("spiffe://m/identity/a?b", Id),
            ("spiffe://m/identity/é", Id),
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(why), "{text}");
        }
        assert_eq!(SpiffeId::new("m", SpiffeRole::Identity, &"a".repeat(129)), Err(Id));
        assert_eq!(SpiffeId::new(&"a".repeat(256), SpiffeRole::Identity, "a"), Err(TrustDomain));
    }
}
