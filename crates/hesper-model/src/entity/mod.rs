//! The entities of the model, as the management API shows them and the store keeps them.

mod enrollment;
mod identity;
mod policy;
mod router;
mod service;

pub use enrollment::{Enrollment, EnrollmentMethod, EnrollmentState};
pub use identity::{Identity, IdentityType, Permission};
pub use policy::{EdgeRouterPolicy, PolicyType, ServiceEdgeRouterPolicy, ServicePolicy};
pub use router::EdgeRouter;
pub use service::{Config, ConfigType, Precedence, Service, Terminator, TerminatorStrategy};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::BTreeMap, fmt};
use time::OffsetDateTime;

/// Free-form tags on an entity.
pub type Tags = BTreeMap<String, Value>;

/// The kinds of entity, each with its names in URLs, commands and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`Identity`]
    Identity,
    /// [`Service`]
    Service,
    /// [`Config`]
    Config,
    /// [`ConfigType`]
    ConfigType,
    /// [`ServicePolicy`]
    ServicePolicy,
    /// [`EdgeRouter`]
    EdgeRouter,
    /// [`EdgeRouterPolicy`]
    EdgeRouterPolicy,
    /// [`ServiceEdgeRouterPolicy`]
    ServiceEdgeRouterPolicy,
    /// [`Terminator`]
    Terminator,
    /// [`Enrollment`]
    Enrollment,
}

impl Kind {
    /// Every kind, in the order in which a model is built.
    pub const ALL: [Self; 10] = [
        Self::ConfigType,
        Self::Config,
        Self::Identity,
        Self::Service,
        Self::EdgeRouter,
        Self::ServicePolicy,
        Self::EdgeRouterPolicy,
        Self::ServiceEdgeRouterPolicy,
        Self::Terminator,
        Self::Enrollment,
    ];

    /// Singular as typed in commands: `edge-router-policy`.
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Service => "service",
            Self::Config => "config",
            Self::ConfigType => "config-type",
            Self::ServicePolicy => "service-policy",
            Self::EdgeRouter => "edge-router",
            Self::EdgeRouterPolicy => "edge-router-policy",
            Self::ServiceEdgeRouterPolicy => "service-edge-router-policy",
            Self::Terminator => "terminator",
            Self::Enrollment => "enrollment",
        }
    }

    /// Plural as in URLs and `list`: `edge-router-policies`.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Identity => "identities",
            Self::Service => "services",
            Self::Config => "configs",
            Self::ConfigType => "config-types",
            Self::ServicePolicy => "service-policies",
            Self::EdgeRouter => "edge-routers",
            Self::EdgeRouterPolicy => "edge-router-policies",
            Self::ServiceEdgeRouterPolicy => "service-edge-router-policies",
            Self::Terminator => "terminators",
            Self::Enrollment => "enrollments",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.singular())
    }
}

/// What every entity has.
pub trait Entity: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its kind.
    const KIND: Kind;
    /// Its id as text.
    fn id(&self) -> &str;
    /// Its name, unique among its kind; terminators and enrollments have none.
    fn name(&self) -> Option<&str>;
    /// When it was last written.
    fn updated_at(&self) -> OffsetDateTime;
}

macro_rules! entity {
    ($type:ty, $kind:ident, named) => {
        entity!(@ $type, $kind, |e| Some(e.name.as_str()));
    };
    ($type:ty, $kind:ident, unnamed) => {
        entity!(@ $type, $kind, |_e| None);
    };
    (@ $type:ty, $kind:ident, |$e:ident| $name:expr) => {
        impl $crate::entity::Entity for $type {
            const KIND: $crate::entity::Kind = $crate::entity::Kind::$kind;
            fn id(&self) -> &str {
                self.id.as_str()
            }
            fn name(&self) -> Option<&str> {
                let $e = self;
                $name
            }
            fn updated_at(&self) -> time::OffsetDateTime {
                self.updated_at
            }
        }
    };
}
pub(crate) use entity;
