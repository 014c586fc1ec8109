//! Stored records that are no entities but are needed on every request, and how stored bytes become changes. Pure.

use super::certificates::{Certificate, CertificateRefusal, Certificates};
use hesper_model::{entity::Kind, id::Tag};
use hesper_pki::rotation::Rotation;
use hesper_policy::Change as ModelChange;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::Arc};
use time::OffsetDateTime;

/// Prefix of certificate records.
pub(crate) const CERTIFICATE: &str = "certificate/";
/// Key of the CAs that count and the one that issues.
pub(crate) const CA_ROTATION: &str = "ca-rotation";
/// Prefix of router secrets.
pub(crate) const ROUTER_SECRET: &str = "router-secret/";

/// An object with the revision at which it was last written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Versioned<E> {
    /// The object.
    pub(crate) entity: E,
    /// The revision of its last write.
    pub(crate) mod_revision: u64,
}

/// What a router and the controller share: `router-secret/<router id>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouterSecret {
    /// The router's tag, for its whole life.
    pub(crate) tag: Tag,
    /// From it knock keys are derived.
    pub(crate) knock_secret: [u8; 32],
}

impl std::fmt::Debug for RouterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterSecret").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// The records of one revision. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    certificates: Arc<Certificates>,
    router_secrets: Arc<BTreeMap<String, RouterSecret>>,
    rotation: Option<Arc<Versioned<Rotation>>>,
}

impl Records {
    /// The record of an issued certificate.
    pub(crate) fn certificate(&self, serial: &str) -> Option<&Versioned<Certificate>> {
        self.certificates.get(serial)
    }

    /// Do both have the very same certificates and CAs? Cheap: a change shares what it does not touch.
    pub(crate) fn same_certificates(&self, other: &Self) -> bool {
        let same_rotation = match (&self.rotation, &other.rotation) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same_rotation && Arc::ptr_eq(&self.certificates, &other.certificates)
    }

    /// Every issued certificate with its serial, in no order.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&str, &Versioned<Certificate>)> {
        self.certificates.iter()
    }

    /// The certificates issued to a subject, with their serials.
    pub(crate) fn certificates_of(
        &self,
        subject: &str,
    ) -> impl Iterator<Item = (&str, &Versioned<Certificate>)> {
        self.certificates.of_subject(subject)
    }

    /// Does the certificate with this serial, or a later one for the same subject and key, still count? Whether its subject
    /// exists and is enabled is another question.
    ///
    /// # Errors
    /// It was revoked, has expired, or was never issued here.
    pub(crate) fn check_certificate(
        &self,
        subject: &str,
        spki_sha256: &str,
        serial: &str,
        now: OffsetDateTime,
    ) -> Result<(), CertificateRefusal> {
        self.certificates.check(subject, spki_sha256, serial, |c| self.trusts(c), now)
    }

    /// Which CAs count and which one issues; none before the first rotation.
    pub(crate) fn rotation(&self) -> Option<&Versioned<Rotation>> {
        self.rotation.as_deref()
    }

    /// Is the CA of this certificate trusted?
    pub(crate) fn trusts(&self, certificate: &Certificate) -> bool {
        let issuer = certificate.issuer.as_str();
        issuer.is_empty() || self.rotation().is_none_or(|rotation| rotation.entity.trusts(issuer))
    }

    /// A router's secret.
    pub(crate) fn router_secret(&self, router_id: &str) -> Option<&RouterSecret> {
        self.router_secrets.get(router_id)
    }
}

/// A stored object that is not what its key says. The controller stops rather than forget a rule.
#[derive(Debug, thiserror::Error)]
#[error("the stored object {key} cannot be read")]
pub(crate) struct Unreadable {
    key: String,
    source: serde_json::Error,
}

/// What one stored change means.
pub(super) enum Meaning {
    /// Changes the model.
    Model(ModelChange),
    /// Changed the records.
    Records,
    /// Neither: read from the store when needed.
    Other,
}

/// Reads one change; records are applied at once.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn read(
    records: &mut Records,
    key: &str,
    revision: u64,
    value: Option<&[u8]>,
) -> Result<Meaning, Unreadable> {
    if let Some(serial) = key.strip_prefix(CERTIFICATE) {
        let table = Arc::make_mut(&mut records.certificates);
        match value {
            Some(bytes) => {
                let record = Versioned { entity: decode(key, bytes)?, mod_revision: revision };
                table.put(serial, record);
            }
            None => table.remove(serial),
        }
        return Ok(Meaning::Records);
    }
    if key == CA_ROTATION {
        let read = |bytes| Ok(Arc::new(Versioned { entity: decode(key, bytes)?, mod_revision: revision }));
        records.rotation = value.map(read).transpose()?;
        return Ok(Meaning::Records);
    }
    if let Some(id) = key.strip_prefix(ROUTER_SECRET) {
        let table = Arc::make_mut(&mut records.router_secrets);
        match value {
            Some(bytes) => drop(table.insert(id.to_owned(), decode(key, bytes)?)),
            None => drop(table.remove(id)),
        }
        return Ok(Meaning::Records);
    }
    let Some((prefix, id)) = key.split_once('/') else { return Ok(Meaning::Other) };
    let Some(kind) = Kind::ALL.into_iter().find(|k| k.singular() == prefix) else {
        return Ok(Meaning::Other);
    };
    match value {
        Some(bytes) => entity(kind, key, bytes).map(Meaning::Model),
        None => Ok(Meaning::Model(ModelChange::Delete(kind, id.to_owned()))),
    }
}

pub(super) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(bytes).map_err(|source| Unreadable { key: key.to_owned(), source })
}

fn entity(kind: Kind, key: &str, bytes: &[u8]) -> Result<ModelChange, Unreadable> {
    Ok(match kind {
        Kind::Identity => ModelChange::Identity(decode(key, bytes)?),
        Kind::Service => ModelChange::Service(decode(key, bytes)?),
        Kind::Config => ModelChange::Config(decode(key, bytes)?),
        Kind::ConfigType => ModelChange::ConfigType(decode(key, bytes)?),
        Kind::ServicePolicy => ModelChange::ServicePolicy(decode(key, bytes)?),
        Kind::EdgeRouter => ModelChange::EdgeRouter(decode(key, bytes)?),
        Kind::EdgeRouterPolicy => ModelChange::EdgeRouterPolicy(decode(key, bytes)?),
        Kind::ServiceEdgeRouterPolicy => ModelChange::ServiceEdgeRouterPolicy(decode(key, bytes)?),
        Kind::Terminator => ModelChange::Terminator(decode(key, bytes)?),
        Kind::Enrollment => ModelChange::Enrollment(decode(key, bytes)?),
    })
}
