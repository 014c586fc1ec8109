//! Role attributes on entities, and the roles by which a policy names them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// One entry of a policy's role list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `#all`: every entity of the kind.
    All,
    /// `#attribute`: entities that carry the role attribute.
    Attribute(String),
    /// `@id`: that entity. The CLI accepts `@name` and sends the id.
    Entity(String),
}

/// Why a role, a role list or a role attribute was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRole {
    /// Neither `#` nor `@` in front.
    #[error(
        "role entries must be prefixed with # (to indicate role attributes) or @ (to indicate a name or id), got '{0}'"
    )]
    NoPrefix(String),
    /// A bare `#` or `@`.
    #[error("role entry '{0}' names nothing")]
    Empty(String),
    /// `#all` beside other roles.
    #[error("if using #all, it should be the only role specified")]
    AllNotAlone,
    /// An attribute that looks like a role.
    #[error("role attribute '{0}' may not be empty or start with # or @")]
    InvalidAttribute(String),
}

impl FromStr for Role {
    type Err = InvalidRole;
    fn from_str(s: &str) -> Result<Self, InvalidRole> {
        match s.split_at_checked(1) {
            Some(("#" | "@", "")) => Err(InvalidRole::Empty(s.into())),
            Some(("#", "all")) => Ok(Self::All),
            Some(("#", rest)) => Ok(Self::Attribute(rest.into())),
            Some(("@", rest)) => Ok(Self::Entity(rest.into())),
            _ => Err(InvalidRole::NoPrefix(s.into())),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("#all"),
            Self::Attribute(a) => write!(f, "#{a}"),
            Self::Entity(id) => write!(f, "@{id}"),
        }
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The roles of one side of a policy. `#all` stands alone in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Checks that `#all` stands alone.
    ///
    /// # Errors
    /// [`InvalidRole::AllNotAlone`].
    pub fn new(roles: impl IntoIterator<Item = Role>) -> Result<Self, InvalidRole> {
        let roles: BTreeSet<Role> = roles.into_iter().collect();
        if roles.len() > 1 && roles.contains(&Role::All) {
            return Err(InvalidRole::AllNotAlone);
        }
        Ok(Self(roles))
    }

    /// Parses each entry, then [`Roles::new`].
    ///
    /// # Errors
    /// The first entry that is no role, or `#all` beside others.
    pub fn parse<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, InvalidRole> {
        let roles = entries.into_iter().map(|e| e.as_ref().parse()).collect::<Result<Vec<_>, _>>()?;
        Self::new(roles)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = &Role> {
        self.0.iter()
    }

    /// True when there is no entry: such a side matches nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids named by `@` entries.
    pub fn entities(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|r| match r {
            Role::Entity(id) => Some(id.as_str()),
            Role::All | Role::Attribute(_) => None,
        })
    }

    /// The same roles without the `@id` entry, as after the deletion of that entity.
    #[must_use]
    pub fn without_entity(&self, id: &str) -> Self {
        Self(self.0.iter().filter(|r| !matches!(r, Role::Entity(e) if e == id)).cloned().collect())
    }

    /// Does an entity with this id and these attributes belong to the roles?
    ///
    /// `@id` and `#all` match whatever the semantic; the `#attribute` entries match when any (AnyOf) or all (AllOf) of them
    /// are among the entity's attributes. No entries, or no attribute entries under AllOf, match nothing.
    pub fn matches(&self, semantic: Semantic, id: &str, attributes: &BTreeSet<String>) -> bool {
        if self.0.contains(&Role::All) || self.names(id) {
            return true;
        }
        let mut wanted = self.0.iter().filter_map(|r| match r {
            Role::Attribute(a) => Some(attributes.contains(a)),
            Role::All | Role::Entity(_) => None,
        });
        match semantic {
            Semantic::AnyOf => wanted.any(|has| has),
            Semantic::AllOf => wanted.next().is_some_and(|first| first && wanted.all(|has| has)),
        }
    }

    /// Is there an `@id` entry for this id? A look-up, not a search: a policy may name thousands. `@` entries sort last.
    fn names(&self, id: &str) -> bool {
        matches!(self.0.last(), Some(Role::Entity(_))) && self.0.contains(&Role::Entity(id.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(Vec::<Role>::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// How the `#attribute` entries of a role list combine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Semantic {
    /// One of the attributes is enough.
    #[default]
    AnyOf,
    /// Every attribute is needed.
    AllOf,
}

impl fmt::Display for Semantic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Checks one role attribute: not empty, no `#` or `@` in front.
///
/// # Errors
/// [`InvalidRole::InvalidAttribute`].
pub fn check_attribute(attribute: &str) -> Result<(), InvalidRole> {
    if attribute.is_empty() || attribute.starts_with(['#', '@']) {
        return Err(InvalidRole::InvalidAttribute(attribute.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn match_table() {
        use Semantic::{AllOf, AnyOf};
        type Row = (&'static [&'static str], Semantic, &'static str, &'static [&'static str], bool);
        let table: &[Row] = &[
            (&[], AnyOf, "i", &["a"], false),
            (&[], AllOf, "i", &["a"], false),
            (&["#all"], AllOf, "i", &[], true),
            (&["#a"], AnyOf, "i", &["a", "b"], true),
            (&["#a", "#c"], AnyOf, "i", &["a"], true),
            (&["#a", "#c"], AllOf, "i", &["a"], false),
            (&["#a", "#c"], AllOf, "i", &["a", "b", "c"], true),
            (&["@i", "#c"], AllOf, "i", &[], true),
            (&["@j"], AllOf, "i", &["a"], false),
            (&["@j", "#a"], AllOf, "i", &["a"], true),
        ];
        for (roles, semantic, id, attributes, expected) in table {
            let parsed = Roles::parse(*roles).expect("valid roles");
            assert_eq!(
                parsed.matches(*semantic, id, &attrs(attributes)),
                *expected,
                "{roles:?} {semantic} {id} {attributes:?}"
            );
        }
    }

    #[test]
    fn bad_roles_are_named() {
        assert_eq!(Roles::parse(["a"]), Err(InvalidRole::NoPrefix("a".into())));
        assert_eq!(Roles::parse([""]), Err(InvalidRole::NoPrefix(String::new())));
        assert_eq!(Roles::parse(["#"]), Err(InvalidRole::Empty("#".into())));
        assert_eq!(Roles::parse(["#all", "#a"]), Err(InvalidRole::AllNotAlone));
        assert_eq!(Roles::parse(["é"]), Err(InvalidRole::NoPrefix("é".into())));
        assert!(
            check_attribute("#a").is_err()
                && check_attribute("").is_err()
                && check_attribute("kubeA.services").is_ok()
        );
    }
}
