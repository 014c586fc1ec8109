//! Stored records that are no entities but are needed on every request, and how stored bytes become changes. Pure.

use hesper_model::{entity::Kind, id::Tag};
use hesper_policy::Change as ModelChange;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::Arc};
use time::OffsetDateTime;

/// Prefix of certificate records.
pub(crate) const CERTIFICATE: &str = "certificate/";
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

/// A certificate that this controller issued: `certificate/<serial>`. A serial without a record is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    /// SPIFFE id.
    pub(crate) subject: String,
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hexadecimal.
    pub(crate) spki_sha256: String,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) not_after: OffsetDateTime,
    /// Withdrawn before its end.
    #[serde(default)]
    pub(crate) revoked: bool,
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
    certificates: Arc<BTreeMap<String, Versioned<Certificate>>>,
    router_secrets: Arc<BTreeMap<String, RouterSecret>>,
}

impl Records {
    /// The record of an issued certificate.
    pub(crate) fn certificate(&self, serial: &str) -> Option<&Versioned<Certificate>> {
        self.certificates.get(serial)
    }

    /// Every issued certificate with its serial.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&str, &Versioned<Certificate>)> {
        self.certificates.iter().map(|(serial, record)| (serial.as_str(), record))
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
                table.insert(serial.to_owned(), record);
            }
            None => drop(table.remove(serial)),
        }
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

fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Unreadable> {
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
