//! The table of what may be declared: for each kind its fields, and for each field what it holds, what it means when it is
//! left out, and how the management API calls it.

use hesper_model::entity::{Kind, Permission};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt};

/// The kinds that are declared, each after those it refers to. Terminators are made by nodes when they bind, enrollments
/// by `create`.
pub const KINDS: [Kind; 8] = [
    Kind::ConfigType,
    Kind::Config,
    Kind::Identity,
    Kind::EdgeRouter,
    Kind::Service,
    Kind::ServicePolicy,
    Kind::EdgeRouterPolicy,
    Kind::ServiceEdgeRouterPolicy,
];

/// An entity by kind and name. Ordered as [`KINDS`], then by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The name, unique among its kind.
    pub name: String,
}

impl Key {
    /// Of this kind, with this name.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    fn rank(&self) -> usize {
        KINDS.iter().position(|k| *k == self.kind).unwrap_or(KINDS.len())
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.rank(), &self.name).cmp(&(other.rank(), &other.name))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.kind, self.name)
    }
}

/// The fields of an entity in named form, without its name.
pub type Fields = BTreeMap<&'static str, Value>;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Free text.
    Text,
    /// Yes or no.
    Bool,
    /// A whole number from 0 to this.
    Integer(u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words.
    SomeOf(&'static [&'static str]),
    /// Role attributes, without `#`.
    Attributes,
    /// Roles: `@name`, `#attribute` or `#all`, of this kind.
    Roles(Kind),
    /// The name of one entity of this kind.
    Name(Kind),
    /// Names of entities of this kind.
    Names(Kind),
    /// A mapping of anything.
    Object,
    /// Free-form tags; [`SET_TAG`](crate::SET_TAG) is ours.
    Tags,
}

/// What a field means when it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// That is a fault.
    Refused,
    /// The default of [`Field::default`].
    Default,
    /// Whatever it is now: what an operator set by hand in an emergency, or another tool, is not undone by silence.
    AsItIs,
}

/// One field of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in files.
    pub name: &'static str,
    /// Its name in the management API.
    pub api: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// What it means when it is left out.
    pub absent: Absent,
    /// Is it given at creation and never again?
    pub fixed: bool,
    default: &'static str,
}

impl Field {
    const fn new(name: &'static str, shape: Shape, default: &'static str) -> Self {
        Self { name, api: name, shape, absent: Absent::Default, fixed: false, default }
    }
    const fn required(name: &'static str, shape: Shape) -> Self {
        Self { absent: Absent::Refused, ..Self::new(name, shape, "") }
    }
    const fn as_it_is(name: &'static str, shape: Shape, default: &'static str) -> Self {
        Self { absent: Absent::AsItIs, ..Self::new(name, shape, default) }
    }

    /// What a new entity has when the field is left out.
    pub fn default(&self) -> Value {
        match (self.shape, self.default) {
            (Shape::Bool, text) => json!(text == "true"),
            (Shape::Integer(_), _) => json!(0),
            (Shape::Attributes | Shape::SomeOf(_) | Shape::Roles(_) | Shape::Names(_), _) => json!([]),
            (Shape::Tags, _) => Value::Object(Map::new()),
            (Shape::Text | Shape::OneOf(_) | Shape::Name(_) | Shape::Object, "") => Value::Null,
            (_, text) => json!(text),
        }
    }

    /// The kind that it refers to.
    pub fn refers_to(&self) -> Option<Kind> {
        match self.shape {
            Shape::Roles(kind) | Shape::Name(kind) | Shape::Names(kind) => Some(kind),
            _ => None,
        }
    }
}

const PRECEDENCES: &[&str] = &["required", "default", "failed"];
const STRATEGIES: &[&str] = &["smartrouting", "weighted", "random", "sticky"];
const TARGETS: &[&str] = &["service", "router", "other"];
/// A week, as the management API has it.
const MAX_IDLE_MILLIS: u64 = 7 * 24 * 3600 * 1000;

const ATTRIBUTES: Field = Field::new("roleAttributes", Shape::Attributes, "");
const DISABLED: Field = Field::as_it_is("disabled", Shape::Bool, "false");
const TAGS: Field = Field::as_it_is("tags", Shape::Tags, "");
const SEMANTIC: Field = Field::new("semantic", Shape::OneOf(&["AnyOf", "AllOf"]), "AnyOf");
const IDENTITIES: Field = Field::new("identityRoles", Shape::Roles(Kind::Identity), "");
const SERVICES: Field = Field::new("serviceRoles", Shape::Roles(Kind::Service), "");
const ROUTERS: Field = Field::new("edgeRouterRoles", Shape::Roles(Kind::EdgeRouter), "");

const CONFIG_TYPE: &[Field] =
    &[Field::new("target", Shape::OneOf(TARGETS), ""), Field::new("schema", Shape::Object, ""), TAGS];
const CONFIG: &[Field] = &[
    Field {
        api: "configTypeId",
        fixed: true,
        ..Field::required("configType", Shape::Name(Kind::ConfigType))
    },
    Field::required("data", Shape::Object),
    TAGS,
];
const IDENTITY: &[Field] = &[
    Field::new("isAdmin", Shape::Bool, "false"),
    Field::new("permissions", Shape::SomeOf(Permission::WORDS), ""),
    ATTRIBUTES,
    DISABLED,
    Field::new("defaultHostingCost", Shape::Integer(u16::MAX as u64), ""),
    Field::new("defaultHostingPrecedence", Shape::OneOf(PRECEDENCES), "default"),
    Field::as_it_is("externalId", Shape::Text, ""),
    TAGS,
];
const EDGE_ROUTER: &[Field] = &[
    ATTRIBUTES,
    DISABLED,
    Field::new("cost", Shape::Integer(u16::MAX as u64), ""),
    Field::new("noTraversal", Shape::Bool, "false"),
    Field::new("isTunnelerEnabled", Shape::Bool, "false"),
    TAGS,
];
const SERVICE: &[Field] = &[
    Field::new("configs", Shape::Names(Kind::Config), ""),
    ATTRIBUTES,
    Field::new("terminatorStrategy", Shape::OneOf(STRATEGIES), "smartrouting"),
    Field::new("encryptionRequired", Shape::Bool, "true"),
    Field::new("maxIdleTimeMillis", Shape::Integer(MAX_IDLE_MILLIS), ""),
    TAGS,
];
const SERVICE_POLICY: &[Field] =
    &[Field::required("type", Shape::OneOf(&["Dial", "Bind"])), SEMANTIC, IDENTITIES, SERVICES, TAGS];
const EDGE_ROUTER_POLICY: &[Field] = &[SEMANTIC, IDENTITIES, ROUTERS, TAGS];
const SERVICE_EDGE_ROUTER_POLICY: &[Field] = &[SEMANTIC, SERVICES, ROUTERS, TAGS];

/// The fields of a kind besides its name, in the order in which they are written. Empty for kinds that are not declared.
pub const fn of(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::ConfigType => CONFIG_TYPE,
        Kind::Config => CONFIG,
        Kind::Identity => IDENTITY,
        Kind::EdgeRouter => EDGE_ROUTER,
        Kind::Service => SERVICE,
        Kind::ServicePolicy => SERVICE_POLICY,
        Kind::EdgeRouterPolicy => EDGE_ROUTER_POLICY,
        Kind::ServiceEdgeRouterPolicy => SERVICE_EDGE_ROUTER_POLICY,
        Kind::Terminator | Kind::Enrollment => &[],
    }
}

/// The field of this name.
pub(crate) fn named(kind: Kind, name: &str) -> Option<&'static Field> {
    of(kind).iter().find(|f| f.name == name)
}

/// Is there such a config type in every Hesper?
pub(crate) fn is_builtin(name: &str) -> bool {
    hesper_model::config::builtin().iter().any(|t| t.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_after_what_they_refer_to() {
        for (rank, kind) in KINDS.into_iter().enumerate() {
            for needed in of(kind).iter().filter_map(Field::refers_to) {
                let before = KINDS.iter().position(|k| *k == needed).expect("a declared kind");
                assert!(before < rank, "{kind} is made before {needed}");
            }
        }
    }

    #[test]
    fn the_defaults_are_those_of_a_new_entity() {
        assert_eq!(named(Kind::Service, "encryptionRequired").map(Field::default), Some(json!(true)));
        assert_eq!(
            named(Kind::Service, "terminatorStrategy").map(Field::default),
            Some(json!("smartrouting"))
        );
        assert_eq!(named(Kind::Identity, "externalId").map(Field::default), Some(Value::Null));
        assert_eq!(named(Kind::Identity, "tags").map(Field::default), Some(json!({})));
    }
}
