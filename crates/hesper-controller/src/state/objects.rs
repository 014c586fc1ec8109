//! The store's objects, typed: one table per kind, and the records that are needed on every request. Pure.

use hesper_model::{
    entity::{
        Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Enrollment, Entity, Identity, Kind, Service,
        ServiceEdgeRouterPolicy, ServicePolicy, Terminator,
    },
    id::Tag,
};
use serde::{Deserialize, Serialize};
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

/// All objects of one kind by id.
pub(crate) type Table<E> = BTreeMap<String, Arc<Versioned<E>>>;

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
    /// 32 random bytes from which knock keys are derived, lower-case hexadecimal.
    pub(crate) knock_secret: String,
}

impl std::fmt::Debug for RouterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterSecret").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// Everything of one revision. Cheap to clone: the objects themselves are shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    /// The store's revision.
    pub(crate) revision: u64,
    identities: Table<Identity>,
    services: Table<Service>,
    configs: Table<Config>,
    config_types: Table<ConfigType>,
    service_policies: Table<ServicePolicy>,
    edge_routers: Table<EdgeRouter>,
    edge_router_policies: Table<EdgeRouterPolicy>,
    service_edge_router_policies: Table<ServiceEdgeRouterPolicy>,
    terminators: Table<Terminator>,
    enrollments: Table<Enrollment>,
    certificates: Table<Certificate>,
    router_secrets: Table<RouterSecret>,
}

/// An entity that has a table.
pub(crate) trait Tabled: Entity {
    /// Its table.
    fn table(objects: &Objects) -> &Table<Self>;
    /// Its table, to change.
    fn table_mut(objects: &mut Objects) -> &mut Table<Self>;
}

macro_rules! tabled {
    ($($type:ident => $field:ident),+ $(,)?) => {
        $(impl Tabled for $type {
            fn table(objects: &Objects) -> &Table<Self> {
                &objects.$field
            }
            fn table_mut(objects: &mut Objects) -> &mut Table<Self> {
                &mut objects.$field
            }
        })+

        impl Objects {
            fn apply_entity(&mut self, kind: Kind, id: &str, change: Change<'_>) -> Result<(), Unreadable> {
                match kind {
                    $(Kind::$type => apply(&mut self.$field, id, change),)+
                }
            }
        }
    };
}
tabled! {
    Identity => identities,
    Service => services,
    Config => configs,
    ConfigType => config_types,
    ServicePolicy => service_policies,
    EdgeRouter => edge_routers,
    EdgeRouterPolicy => edge_router_policies,
    ServiceEdgeRouterPolicy => service_edge_router_policies,
    Terminator => terminators,
    Enrollment => enrollments,
}

/// A stored object that is not what its key says. The controller stops rather than forget a rule.
#[derive(Debug, thiserror::Error)]
#[error("the stored object {key} cannot be read")]
pub(crate) struct Unreadable {
    key: String,
    source: serde_json::Error,
}

#[derive(Clone, Copy)]
struct Change<'a> {
    key: &'a str,
    revision: u64,
    value: Option<&'a [u8]>,
}

fn apply<E: for<'de> Deserialize<'de>>(table: &mut Table<E>, id: &str, change: Change<'_>) -> Result<(), Unreadable> {
    match change.value {
        Some(bytes) => {
            let entity = serde_json::from_slice(bytes)
                .map_err(|source| Unreadable { key: change.key.to_owned(), source })?;
            table.insert(id.to_owned(), Arc::new(Versioned { entity, mod_revision: change.revision }));
        }
        None => drop(table.remove(id)),
    }
    Ok(())
}

impl Objects {
    /// One entity.
    pub(crate) fn get<E: Tabled>(&self, id: &str) -> Option<&Versioned<E>> {
        E::table(self).get(id).map(AsRef::as_ref)
    }

    /// All entities of a kind, by id.
    pub(crate) fn all<E: Tabled>(&self) -> impl ExactSizeIterator<Item = &E> {
        E::table(self).values().map(|v| &v.entity)
    }

    /// All entities of a kind with their revisions, by id.
    pub(crate) fn versions<E: Tabled>(&self) -> impl ExactSizeIterator<Item = &Versioned<E>> {
        E::table(self).values().map(AsRef::as_ref)
    }

    /// An entity by its name.
    pub(crate) fn by_name<E: Tabled>(&self, name: &str) -> Option<&Versioned<E>> {
        self.versions::<E>().find(|v| v.entity.name() == Some(name))
    }

    /// The record of an issued certificate.
    pub(crate) fn certificate(&self, serial: &str) -> Option<&Versioned<Certificate>> {
        self.certificates.get(serial).map(AsRef::as_ref)
    }

    /// Every issued certificate with its serial.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&str, &Versioned<Certificate>)> {
        self.certificates.iter().map(|(serial, v)| (serial.as_str(), v.as_ref()))
    }

    /// A router's secret.
    pub(crate) fn router_secret(&self, router_id: &str) -> Option<&RouterSecret> {
        self.router_secrets.get(router_id).map(|v| &v.entity)
    }

    /// Takes one change of the store. True when the model depends on it.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub(crate) fn apply(&mut self, key: &str, revision: u64, value: Option<&[u8]>) -> Result<bool, Unreadable> {
        self.revision = self.revision.max(revision);
        let change = Change { key, revision, value };
        if let Some(serial) = key.strip_prefix(CERTIFICATE) {
            return apply(&mut self.certificates, serial, change).map(|()| true);
        }
        if let Some(id) = key.strip_prefix(ROUTER_SECRET) {
            return apply(&mut self.router_secrets, id, change).map(|()| true);
        }
        let Some((prefix, id)) = key.split_once('/') else { return Ok(false) };
        let Some(kind) = Kind::ALL.into_iter().find(|k| k.singular() == prefix) else { return Ok(false) };
        self.apply_entity(kind, id, change).map(|()| kind != Kind::Enrollment)
    }
}
