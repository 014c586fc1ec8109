//! The model: every entity at one revision.

use crate::{
    index::{Index, Memo},
    senders::{self, Senders},
    table::Table,
};
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
use std::{collections::HashMap, sync::Arc};

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
            memos: Memos,
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
                next.memos = self.memos.of_next(self, &next);
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

    /// Service policies by whom they have.
    pub(crate) fn service_access(&self) -> &Index<ServicePolicy> {
        self.memos.service_access.get(|| Index::new(self.service_policies.iter(), self.services.iter()))
    }

    /// Edge-router policies by whom they have.
    pub(crate) fn router_access(&self) -> &Index<EdgeRouterPolicy> {
        let make = || Index::new(self.edge_router_policies.iter(), self.edge_routers.iter());
        self.memos.router_access.get(make)
    }

    /// Service-edge-router policies by what they have.
    pub(crate) fn service_routers(&self) -> &Index<ServiceEdgeRouterPolicy> {
        let make = || Index::new(self.service_edge_router_policies.iter(), self.edge_routers.iter());
        self.memos.service_routers.get(make)
    }

    /// The `otlp.v1` configs, by their ids.
    pub(crate) fn senders(&self) -> &Senders {
        self.memos.senders.get(|| senders::read(self.configs.iter()))
    }

    /// The terminators of a service, in the order of their ids.
    pub fn terminators_of(&self, service: &ServiceId) -> impl Iterator<Item = &Arc<Terminator>> {
        let by_service = self.memos.terminators.get(|| {
            let mut by_service: HashMap<_, Vec<_>> = HashMap::new();
            for terminator in self.terminators() {
                let of_service: &mut Vec<_> = by_service.entry(terminator.service_id.clone()).or_default();
                of_service.push(Arc::clone(terminator));
            }
            by_service
        });
        by_service.get(service).into_iter().flatten()
    }

    /// Have both the very same entities of this kind? Cheap, because a change shares what it does not touch.
    pub fn shares<T: Stored>(&self, other: &Self) -> bool {
        std::ptr::eq(T::table(self), T::table(other))
    }
}

/// What is looked up often.
#[derive(Clone, Debug, Default)]
struct Memos {
    service_access: Memo<Index<ServicePolicy>>,
    router_access: Memo<Index<EdgeRouterPolicy>>,
    service_routers: Memo<Index<ServiceEdgeRouterPolicy>>,
    terminators: Memo<HashMap<ServiceId, Vec<Arc<Terminator>>>>,
    senders: Memo<Senders>,
}

impl Memos {
    /// Those that are still true after a change, and room for the others.
    fn of_next(&self, before: &Model, after: &Model) -> Self {
        fn kept<T>(memo: &Memo<T>, same: bool) -> Memo<T> {
            if same { memo.clone() } else { Memo::default() }
        }
        let routers = after.shares::<EdgeRouter>(before);
        let services = after.shares::<Service>(before);
        Self {
            service_access: kept(&self.service_access, services && after.shares::<ServicePolicy>(before)),
            router_access: kept(&self.router_access, routers && after.shares::<EdgeRouterPolicy>(before)),
            service_routers: kept(
                &self.service_routers,
                routers && after.shares::<ServiceEdgeRouterPolicy>(before),
            ),
            terminators: kept(&self.terminators, after.shares::<Terminator>(before)),
            senders: kept(&self.senders, after.shares::<Config>(before)),
        }
    }
}
