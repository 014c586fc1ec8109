//! Which policies have whom, looked up instead of searched. Made from a model when first asked for, and shared by all later models
//! whose policies are the same.
//!
//! An index only narrows the search: whether a policy has an entity is always said by [`Roles::matches`].

use hesper_model::{
    entity::{
        EdgeRouter, EdgeRouterPolicy, Entity, Identity, Service, ServiceEdgeRouterPolicy, ServicePolicy,
    },
    role::{Role, Roles, Semantic},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

/// Something that policies name by its id or its attributes.
pub(crate) trait Member: Entity {
    fn attributes(&self) -> &BTreeSet<String>;
}

macro_rules! member {
    ($($type:ty)+) => {
        $(impl Member for $type {
            fn attributes(&self) -> &BTreeSet<String> {
                &self.role_attributes
            }
        })+
    };
}

member!(Identity Service EdgeRouter);

/// A policy: whoever it has on its left side may use what it has on its right side.
pub(crate) trait Policy: Entity {
    type Left: Member;
    type Right: Member;
    fn left(&self) -> &Roles;
    fn right(&self) -> &Roles;
    fn semantic(&self) -> Semantic;

    fn has_left(&self, member: &Self::Left) -> bool {
        self.left().matches(self.semantic(), member.id(), member.attributes())
    }
    fn has_right(&self, member: &Self::Right) -> bool {
        self.right().matches(self.semantic(), member.id(), member.attributes())
    }
}

macro_rules! policy {
    ($($policy:ident: $left:ident $left_roles:ident, $right:ident $right_roles:ident;)+) => {
        $(impl Policy for $policy {
            type Left = $left;
            type Right = $right;
            fn left(&self) -> &Roles {
                &self.$left_roles
            }
            fn right(&self) -> &Roles {
                &self.$right_roles
            }
            fn semantic(&self) -> Semantic {
                self.semantic
            }
        })+
    };
}

policy! {
    ServicePolicy: Identity identity_roles, Service service_roles;
    EdgeRouterPolicy: Identity identity_roles, EdgeRouter edge_router_roles;
    ServiceEdgeRouterPolicy: Service service_roles, EdgeRouter edge_router_roles;
}

/// The policies that name a member by one of its roles, each list in the order of their ids.
#[derive(Debug)]
struct Side<P> {
    all: Vec<Arc<P>>,
    by_attribute: HashMap<String, Vec<Arc<P>>>,
    by_id: HashMap<String, Vec<Arc<P>>>,
}

impl<P> Side<P> {
    fn new<'a>(policies: impl Iterator<Item = &'a Arc<P>>, roles: impl Fn(&P) -> &Roles) -> Self
    where
        P: 'a,
    {
        let mut side = Self { all: Vec::new(), by_attribute: HashMap::new(), by_id: HashMap::new() };
        for policy in policies {
            for role in roles(policy).iter() {
                let list = match role {
                    Role::All => &mut side.all,
                    Role::Attribute(attribute) => side.by_attribute.entry(attribute.clone()).or_default(),
                    Role::Entity(id) => side.by_id.entry(id.clone()).or_default(),
                };
                list.push(Arc::clone(policy));
            }
        }
        side
    }

    /// Every policy that may have the member is in one of them.
    fn lists(&self, member: &impl Member) -> impl Iterator<Item = &[Arc<P>]> {
        let by_attribute = member.attributes().iter().filter_map(|a| self.by_attribute.get(a));
        let lists = std::iter::once(&self.all).chain(self.by_id.get(member.id())).chain(by_attribute);
        lists.map(Vec::as_slice)
    }

    fn len_for(&self, member: &impl Member) -> usize {
        self.lists(member).map(<[_]>::len).sum()
    }
}

/// The policies of one kind by whom they have, and what each has on its right side.
#[derive(Debug)]
pub(crate) struct Index<P: Policy> {
    left: Side<P>,
    right: Side<P>,
    members: HashMap<String, Vec<Arc<P::Right>>>,
}

impl<P: Policy> Index<P> {
    /// The index of these policies, over everything that they may have on their right side.
    pub(crate) fn new<'a>(
        policies: impl Iterator<Item = &'a Arc<P>> + Clone,
        right: impl Iterator<Item = &'a Arc<P::Right>>,
    ) -> Self {
        let mut index = Self {
            left: Side::new(policies.clone(), P::left),
            right: Side::new(policies, P::right),
            members: HashMap::new(),
        };
        for member in right {
            let role_holder: &P::Right = member;
            for policy in index.right.lists(role_holder).flatten().filter(|p| p.has_right(member)) {
                let members = index.members.entry(policy.id().to_owned()).or_default();
                // More than one of its roles may name the member.
                if !members.last().is_some_and(|last| Arc::ptr_eq(last, member)) {
                    members.push(Arc::clone(member));
                }
            }
        }
        index
    }

    /// The policies that have the member on their left side; one may come more than once.
    pub(crate) fn of<'a>(&'a self, member: &'a P::Left) -> impl Iterator<Item = &'a Arc<P>> {
        self.left.lists(member).flatten().filter(|p| p.has_left(member))
    }

    /// What the policy has on its right side, in the order of their ids.
    pub(crate) fn members(&self, policy: &P) -> &[Arc<P::Right>] {
        self.members.get(policy.id()).map_or(&[], Vec::as_slice)
    }

    /// Everything that policies give to the member, in the order of their ids.
    pub(crate) fn given(&self, member: &P::Left) -> Vec<&Arc<P::Right>> {
        let given = self.of(member).flat_map(|policy| self.members(policy));
        given.map(|right| (right.id(), right)).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Of the policies that have both, and that count, the one with the lowest id.
    pub(crate) fn first(
        &self,
        left: &P::Left,
        right: &P::Right,
        counts: impl Fn(&P) -> bool,
    ) -> Option<&Arc<P>> {
        let allows = |p: &&Arc<P>| counts(p) && p.has_left(left) && p.has_right(right);
        let first_of = |list: &'_ [Arc<P>]| list.iter().position(|p| allows(&p));
        let narrow_left = self.left.len_for(left) <= self.right.len_for(right);
        let lists: Vec<_> =
            if narrow_left { self.left.lists(left).collect() } else { self.right.lists(right).collect() };
        let firsts = lists.into_iter().filter_map(|list| list.get(first_of(list)?));
        firsts.min_by(|a, b| a.id().cmp(b.id()))
    }
}

/// Something made from a model when first asked for.
#[derive(Debug)]
pub(crate) struct Memo<T>(Arc<OnceLock<T>>);

impl<T> Memo<T> {
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(make)
    }
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Arc::new(OnceLock::new()))
    }
}

impl<T> Clone for Memo<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
