//! The decisions beside a naive reference, for models drawn at random.

use super::{bind, candidate, dial};
use crate::{Change, Changed, Entities, Model, services_for, terminators::choose, testing::*};
use hesper_model::{
    entity::{Kind, PolicyType, Precedence, ServicePolicy, TerminatorStrategy},
    role::{Role, Roles, Semantic},
};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

const ATTRIBUTES: [&str; 3] = ["a", "b", "c"];

fn some_roles(prefix: &'static str) -> impl Strategy<Value = Roles> {
    let role = prop_oneof![
        prop::sample::select(ATTRIBUTES.to_vec()).prop_map(|a| Role::Attribute(a.into())),
        (0..3).prop_map(move |n| Role::Entity(id(&format!("{prefix}{n}")))),
    ];
    prop_oneof![
        1 => Just(Roles::new([Role::All]).expect("alone")),
        4 => prop::collection::vec(role, 0..3).prop_map(|list| Roles::new(list).expect("no #all")),
    ]
}

fn some_attributes() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(ATTRIBUTES.to_vec(), 0..3)
}

fn some_policy() -> impl Strategy<Value = ServicePolicy> {
    (0..1_000_u32, any::<bool>(), any::<bool>(), some_roles("i"), some_roles("s")).prop_map(
        |(n, dial, all, identity_roles, service_roles)| ServicePolicy {
            identity_roles,
            service_roles,
            semantic: if all { Semantic::AllOf } else { Semantic::AnyOf },
            ..service_policy(
                &format!("p{n}"),
                if dial { PolicyType::Dial } else { PolicyType::Bind },
                &[],
                &[],
            )
        },
    )
}

fn some_entities() -> impl Strategy<Value = Entities> {
    let three = || prop::collection::vec((some_attributes(), prop::bool::weighted(0.1)), 3);
    (three(), three(), prop::collection::vec(some_policy(), 0..5)).prop_map(
        |(identities, services, mut policies)| {
            policies.sort_by(|a, b| a.id.cmp(&b.id));
            policies.dedup_by(|a, b| a.id == b.id);
            let mut entities = Entities { service_policies: policies, ..Entities::default() };
            for (n, (attrs, disabled)) in identities.iter().enumerate() {
                let mut i = identity(&format!("i{n}"), attrs);
                i.disabled = *disabled;
                entities.identities.push(i);
            }
            entities.services =
                services.iter().enumerate().map(|(n, (attrs, _))| service(&format!("s{n}"), attrs)).collect();
            entities
        },
    )
}

/// Straight from the sentence in the documentation, over sets.
fn naive(entities: &Entities, type_: PolicyType, identity: usize, service: usize) -> bool {
    let side = |roles: &Roles, semantic, id: &str, attributes: &std::collections::BTreeSet<String>| {
        let text: Vec<String> = roles.iter().map(ToString::to_string).collect();
        let wanted: Vec<_> = text.iter().filter_map(|r| r.strip_prefix('#')).map(str::to_owned).collect();
        let has: Vec<bool> = wanted.iter().map(|a| attributes.contains(a)).collect();
        text.contains(&"#all".to_owned())
            || text.contains(&format!("@{id}"))
            || match semantic {
                Semantic::AnyOf => has.contains(&true),
                Semantic::AllOf => !has.is_empty() && !has.contains(&false),
            }
    };
    let (identity, service) = (&entities.identities[identity], &entities.services[service]);
    !identity.disabled
        && entities.service_policies.iter().any(|p| {
            p.type_ == type_
                && side(&p.identity_roles, p.semantic, identity.id.as_str(), &identity.role_attributes)
                && side(&p.service_roles, p.semantic, service.id.as_str(), &service.role_attributes)
        })
}

fn allowed(model: &Model) -> Vec<(usize, usize, bool, bool)> {
    let pairs = (0..3).flat_map(|i| (0..3).map(move |s| (i, s)));
    pairs
        .map(|(i, s)| {
            (
                i,
                s,
                dial(model, &format!("i{i}"), &format!("s{s}")).0,
                bind(model, &format!("i{i}"), &format!("s{s}")).0,
            )
        })
        .collect()
}

proptest! {
    #[test]
    fn decide_agrees_with_a_naive_reference(entities in some_entities()) {
        let model = Model::build(1, entities.clone());
        for (i, s, dial, bind) in allowed(&model) {
            prop_assert_eq!(dial, naive(&entities, PolicyType::Dial, i, s));
            prop_assert_eq!(bind, naive(&entities, PolicyType::Bind, i, s));
            let listed = services_for(&model, &identity_id(&format!("i{i}"))).into_iter().find(|(id, ..)| *id == service_id(&format!("s{s}")));
            prop_assert_eq!(listed.map(|(_, d, b)| (d, b)), (dial || bind).then_some((dial, bind)));
        }
    }

    #[test]
    fn the_next_model_decides_as_one_built_anew_and_knows_whom_it_concerns(old in some_entities(), new in some_entities()) {
        let before = Model::build(1, old.clone());
        let allowed_before = allowed(&before);
        let gone = old.service_policies.iter().filter(|p| new.service_policies.iter().all(|n| n.id != p.id));
        let gone = gone.map(|p| Change::Delete(Kind::ServicePolicy, p.id.to_string()));
        // What is equal stays the very same, as in the store.
        let identities = new.identities.iter().zip(&old.identities).filter(|(n, o)| n != o).map(|(n, _)| n.clone().into());
        let services = new.services.iter().zip(&old.services).filter(|(n, o)| n != o).map(|(n, _)| n.clone().into());
        let policies = new.service_policies.iter().filter(|p| !old.service_policies.contains(p)).cloned().map(Into::into);
        let changes: Vec<Change> = gone.chain(identities).chain(services).chain(policies).collect();
        let after = before.with(2, changes);
        let changed = Changed::between(&before, &after);
        for (was, (i, s, dial, bind)) in allowed_before.into_iter().zip(allowed(&after)) {
            prop_assert_eq!(dial, naive(&new, PolicyType::Dial, i, s));
            prop_assert_eq!(bind, naive(&new, PolicyType::Bind, i, s));
            let (who, what) = (identity_id(&format!("i{i}")), service_id(&format!("s{s}")));
            let nobody = identity_id("nobody");
            prop_assert!(!was.2 || dial || changed.may_end(&after, &who, &what, &who));
            prop_assert!(!was.3 || bind || changed.may_end(&after, &who, &what, &who));
            let identity = after.identity(&who).expect("it is in both");
            let concerned = changed.policies_concern(identity) || changed.services().any(|id| *id == what);
            prop_assert!((was.2, was.3) == (dial, bind) || concerned || old.identities[i] != new.identities[i]);
            prop_assert!(!changed.may_end(&after, &nobody, &what, &who) || !changed.takes_nothing());
        }
    }

    #[test]
    fn another_policy_never_takes_away(entities in some_entities(), policy in some_policy()) {
        let before = Model::build(1, entities);
        prop_assume!(before.service_policy(&policy.id).is_none());
        let after = before.with(2, [policy.into()]);
        prop_assert!(Changed::between(&before, &after).takes_nothing());
        for (old, new) in allowed(&before).into_iter().zip(allowed(&after)) {
            prop_assert!(old.2 <= new.2 && old.3 <= new.3);
        }
    }

    #[test]
    fn the_order_of_policies_does_not_matter(entities in some_entities()) {
        let mut reversed = entities.clone();
        reversed.service_policies.reverse();
        let (a, b) = (Model::build(1, entities), Model::build(1, reversed));
        for (i, s, ..) in allowed(&a) {
            let (i, s) = (format!("i{i}"), format!("s{s}"));
            prop_assert_eq!(dial(&a, &i, &s), dial(&b, &i, &s), "the same rule as well");
        }
    }

    #[test]
    fn the_disabled_are_denied_everything(mut entities in some_entities(), which in 0..3_usize) {
        entities.identities[which].disabled = true;
        let model = Model::build(1, entities);
        for (i, _, dial, bind) in allowed(&model) {
            prop_assert!(i != which || !(dial || bind));
        }
    }

    /// Each candidate's share of many draws is within five standard deviations of what its strategy says.
    #[test]
    fn the_shares_are_as_the_strategy_says(costs in prop::collection::vec(0..400_u32, 1..6), strategy in 0..4_u8, seed: u64) {
        const DRAWS: u32 = 4_000;
        let strategy = [TerminatorStrategy::Smartrouting, TerminatorStrategy::Weighted, TerminatorStrategy::Random,
            TerminatorStrategy::Sticky][usize::from(strategy)];
        let mut all: Vec<_> = costs.iter().map(|cost| candidate("t", *cost, Precedence::Default)).collect();
        all.push(candidate("unhealthy", 0, Precedence::Failed));
        let lowest = costs.iter().min().expect("one");
        let weight = |cost: &u32| match strategy {
            TerminatorStrategy::Random => 1.0,
            TerminatorStrategy::Weighted => 1.0 / f64::from(*cost.max(&1)),
            TerminatorStrategy::Smartrouting | TerminatorStrategy::Sticky => if cost == lowest { 1.0 } else { 0.0 },
        };
        let total: f64 = costs.iter().map(weight).sum();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut drawn = vec![0_u32; all.len()];
        for _ in 0..DRAWS {
            drawn[choose(&all, strategy, None, &mut rng).expect("one")] += 1;
        }
        prop_assert_eq!(drawn.pop(), Some(0), "unhealthy ones only when nothing else is there");
        for (cost, drawn) in costs.iter().zip(drawn) {
            let share = weight(cost) / total;
            let (expected, deviation) = (share * f64::from(DRAWS), (share * (1.0 - share) * f64::from(DRAWS)).sqrt());
            prop_assert!((f64::from(drawn) - expected).abs() <= 5.0 * deviation + 1.0, "{drawn} instead of {expected}");
        }
    }

    #[test]
    fn the_choice_is_among_the_best(costs in prop::collection::vec((0..5_u32, 0..3_u8), 1..6), strategy in 0..4_u8, seed: u64) {
        let precedence = |n| [Precedence::Required, Precedence::Default, Precedence::Failed][usize::from(n)];
        let strategy = [TerminatorStrategy::Smartrouting, TerminatorStrategy::Weighted, TerminatorStrategy::Random,
            TerminatorStrategy::Sticky][usize::from(strategy)];
        let all: Vec<_> = costs.iter().map(|(cost, p)| candidate("t", *cost, precedence(*p))).collect();
        let chosen = choose(&all, strategy, None, &mut StdRng::seed_from_u64(seed)).expect("one");
        prop_assert!(all.iter().all(|c| all[chosen].precedence <= c.precedence));
    }
}
