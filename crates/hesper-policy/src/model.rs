//! The model: every entity at one revision.

use crate::table::Table;
use hesper_model::{
    entity::{
        Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Enrollment, Entity, Identity, Kind, Service,
        ServiceEdgeRouterPolicy, ServicePolicy, Terminator,
    },
    id::{
        ConfigId, ConfigTypeId, EdgeRouterId, EdgeRouterPolicyId, EnrollmentId, IdentityId,
        ServiceEdgeRouterPolicyId, ServiceId, ServicePolicyId, TerminatorId,
    },
};
use std::sync::Arc;

macro_rules! model {
    ($($field:ident: $type:ident, $id:ident, $one:ident $(, $by_name:ident)?;)+) => {
        /// The entities a [`Model`] is built from, in any order.
        #[derive(Clone, Debug, Default)]
        pub struct Entities {
            $(#[doc = concat!("Every [`", stringify!($type), "`].")] pub $field: Vec<$type>,)+
        }

        /// One change of the model.
        #[derive(Clone, Debug)]
        pub enum Change {
            $(#[doc = concat!("Adds or replaces one [`", stringify!($type), "`].")] $type(Box<$type>),)+
            /// Removes the entity of this kind with this id, if there is one.
            Delete(Kind, String),
        }

        $(impl From<$type> for Change {
            fn from(entity: $type) -> Self {
                Self::$type(Box::new(entity))
            }
        })+

        /// Every entity at one revision: immutable, cheap to clone and to share.
        #[derive(Clone, Debug, Default)]
        pub struct Model {
            revision: u64,
            $($field: Arc<Table<$type>>,)+
        }

        $(impl Stored for $type {
            fn table(model: &Model) -> &Table<Self> {
                &model.$field
            }
        })+

        impl Model {
            /// The model of these entities at this revision.
            pub fn build(revision: u64, entities: Entities) -> Self {
                let mut model = Self { revision, ..Self::default() };
                $({
                    let table = Arc::make_mut(&mut model.$field);
                    entities.$field.into_iter().for_each(|e| table.put(e));
                })+
                model
            }

            /// The model after these changes. Tables that no change touches are shared with this one.
            #[must_use]
            pub fn with(&self, revision: u64, changes: impl IntoIterator<Item = Change>) -> Self {
                let mut next = Self { revision, ..self.clone() };
                for change in changes {
                    match change {
                        $(Change::$type(e) => Arc::make_mut(&mut next.$field).put(*e),)+
                        Change::Delete(kind, id) => match kind {
                            $(Kind::$type => Arc::make_mut(&mut next.$field).delete(&id),)+
                        },
                    }
                }
                next
            }

            $(
                #[doc = concat!("Every [`", stringify!($type), "`], in the order of their ids.")]
                pub fn $field(&self) -> impl ExactSizeIterator<Item = &Arc<$type>> {
                    self.$field.iter()
                }
                #[doc = concat!("The [`", stringify!($type), "`] with this id.")]
                pub fn $one(&self, id: &$id) -> Option<&Arc<$type>> {
                    self.$field.get(id.as_str())
                }
                $(
                    #[doc = concat!("The [`", stringify!($type), "`] with this name.")]
                    pub fn $by_name(&self, name: &str) -> Option<&Arc<$type>> {
                        self.$field.named(name)
                    }
                )?
            )+
        }
    };
}

model! {
    identities: Identity, IdentityId, identity, identity_by_name;
    services: Service, ServiceId, service, service_by_name;
    configs: Config, ConfigId, config, config_by_name;
    config_types: ConfigType, ConfigTypeId, config_type, config_type_by_name;
    service_policies: ServicePolicy, ServicePolicyId, service_policy, service_policy_by_name;
    edge_routers: EdgeRouter, EdgeRouterId, edge_router, edge_router_by_name;
    edge_router_policies: EdgeRouterPolicy, EdgeRouterPolicyId, edge_router_policy, edge_router_policy_by_name;
    service_edge_router_policies: ServiceEdgeRouterPolicy, ServiceEdgeRouterPolicyId, service_edge_router_policy, service_edge_router_policy_by_name;
    terminators: Terminator, TerminatorId, terminator;
    enrollments: Enrollment, EnrollmentId, enrollment;
}

/// An entity that the model keeps a table of.
pub trait Stored: Entity {
    /// Its table.
    fn table(model: &Model) -> &Table<Self>;
}

impl Model {
    /// The revision of the store that it shows.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The table of one kind of entity.
    pub fn table<T: Stored>(&self) -> &Table<T> {
        T::table(self)
    }

    /// The service with this id, else the one with this name.
    pub fn service_by_id_or_name(&self, text: &str) -> Option<&Arc<Service>> {
        self.services.get(text).or_else(|| self.services.named(text))
    }

    /// The configs of a service, each with its type, in the order of the types' names.
    pub fn configs_of(&self, service: &Service) -> Vec<(&Arc<ConfigType>, &Arc<Config>)> {
        let mut configs: Vec<_> = service
            .configs
            .iter()
            .filter_map(|id| self.config(id))
            .filter_map(|config| Some((self.config_type(&config.config_type_id)?, config)))
            .collect();
        configs.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        configs
    }

    /// The service policies of either model that the other has not, if all other tables of policies, services and routers are the
    /// very same. A change shares what it does not touch, so this is cheap to tell.
    pub(crate) fn changed_policies(&self, after: &Self) -> Option<Vec<Arc<ServicePolicy>>> {
        let same = Arc::ptr_eq(&self.services, &after.services)
            && Arc::ptr_eq(&self.configs, &after.configs)
            && Arc::ptr_eq(&self.config_types, &after.config_types)
            && Arc::ptr_eq(&self.edge_routers, &after.edge_routers)
            && Arc::ptr_eq(&self.edge_router_policies, &after.edge_router_policies);
        if !same {
            return None;
        }
        if Arc::ptr_eq(&self.service_policies, &after.service_policies) {
            return Some(Vec::new());
        }
        let not_in = |other: &'_ Self, policy: &Arc<ServicePolicy>| {
            !other.service_policy(&policy.id).is_some_and(|there| Arc::ptr_eq(there, policy))
        };
        let gone = self.service_policies().filter(|p| not_in(after, p));
        Some(gone.chain(after.service_policies().filter(|p| not_in(self, p))).cloned().collect())
    }

    /// The terminators of a service, in the order of their ids.
    pub fn terminators_of<'a>(&'a self, service: &'a ServiceId) -> impl Iterator<Item = &'a Arc<Terminator>> {
        self.terminators().filter(move |t| t.service_id == *service)
    }
}
