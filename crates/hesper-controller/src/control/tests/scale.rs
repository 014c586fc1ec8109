//! What a change of policy costs with ten thousand connected nodes. A measurement, run by hand:
//! `cargo test --release -p hesper-controller --lib scale -- --ignored --nocapture`.

use super::super::{
    grants::{Grant, Ledger, Pair, Reach, verdict},
    revoke::concerned,
    sessions::{Opener, Sessions},
    testing::{identity, mesh, policy, roles, router, service},
    view::{Picture, Presence, RouterKeys, Told, same},
};
use hesper_model::{
    entity::PolicyType,
    id::{IdentityId, ServiceId, ServicePolicyId, Tag, TerminatorId},
};
use hesper_policy::{Changed, Model};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const NODES: u64 = 10_000;
/// Services, each with a Dial and a Bind policy of its own.
const SERVICES: u64 = 200;
const ROUTERS: u64 = 10;
/// Attributes that nodes have one of: each opens two services.
const GROUPS: u64 = 100;

fn model() -> Model {
    let mut m = mesh().0;
    m.identities = (0..NODES)
        .map(|n| {
            let mut i = identity(&format!("n{n}"));
            i.role_attributes = [format!("g{}", n % GROUPS)].into();
            i
        })
        .collect();
    m.services = (0..SERVICES).map(|n| service(&format!("s{n}"))).collect();
    m.edge_routers = (0..ROUTERS).map(|n| router(&format!("r{n}"))).collect();
    m.service_policies = (0..SERVICES)
        .flat_map(|n| {
            [PolicyType::Dial, PolicyType::Bind].map(|type_| {
                let mut p = policy(type_, "x");
                p.id = ServicePolicyId::new(format!("{type_}{n}"));
                p.name = p.id.to_string();
                p.identity_roles = roles(&format!("#g{}", n % GROUPS));
                p.service_roles = roles(&format!("@s{n}"));
                p
            })
        })
        .collect();
    Model::build(1, m)
}

fn tag(n: u64) -> Tag {
    Tag(n.to_be_bytes())
}

fn grant(model: &Model, n: u64) -> Grant {
    Grant {
        id: n.to_string(),
        pair: Pair {
            dialer: IdentityId::new(format!("n{n}")),
            service: ServiceId::new(format!("s{}", n % GROUPS)),
            binder: IdentityId::new(format!("n{}", n % GROUPS)),
        },
        terminator: TerminatorId::new(n.to_string()),
        dialer_tag: tag(n),
        binder_tag: tag(n % GROUPS),
        reach: Reach::Paths { paths: model.edge_routers().map(|r| vec![r.id.clone()]).collect(), told: 2 },
        terms: None,
        expires_at: u64::MAX,
    }
}

fn measured<R>(what: &str, act: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let result = act();
    let took = start.elapsed();
    println!("{what}: {took:?}");
    (result, took)
}

#[test]
#[ignore = "a measurement"]
fn a_policy_change_with_ten_thousand_nodes() {
    let (mut sessions, mut ledger) = (Sessions::default(), Ledger::default());
    let before = model();
    for n in 0..NODES {
        let who = IdentityId::new(format!("n{n}"));
        sessions.open(&Opener { identity: &who, spki_sha256: "k", serial: "1" }, None, tag(n)).unwrap();
        ledger.issue(grant(&before, n)).unwrap();
    }
    let change = hesper_policy::Change::Delete(hesper_model::entity::Kind::ServicePolicy, "Dial7".into());
    let (after, _) = measured("next model", || before.with(2, [change]));
    let picture = |model: &Model, before: Option<&Picture>| {
        let keys = RouterKeys { tag: Tag([9; 8]), secret: [7; 32] };
        Picture::new(Arc::new(model.clone()), &Presence::of(&sessions), |_| Some(keys), before)
    };
    let states = |picture: &Picture| -> Vec<_> {
        let of = |n| {
            let identity = IdentityId::new(format!("n{n}"));
            picture.node_state(&Told { identity: &identity, tag: tag(n), token: "jwt" }, &[])
        };
        (0..NODES).map(|n| of(n).expect("known")).collect()
    };
    let asked = |picture: &Picture, before: &Picture| {
        let same = |n| picture.is_same_for(&IdentityId::new(format!("n{n}")), before.key());
        (0..NODES).filter(|n| !same(*n)).count() as u64
    };
    let picture_before = picture(&before, None);
    let old = states(&picture_before);
    ledger.round(false);
    let (revoked, revoking) = measured("the grants that it concerns decided again", || {
        let changed = Changed::between(&before, &after);
        let round = ledger.round(!changed.takes_nothing());
        let until = round.until;
        let pairs = concerned(round, &changed, &after);
        pairs.iter().map(|p| ledger.settle(p, &verdict(&after, p), until).len() as u64).sum::<u64>()
    });
    measured("all 10,000 grants decided again", || ledger.recheck(&after));
    let (new, painting) = measured("the picture", || picture(&after, Some(&picture_before)));
    let (told, asking) =
        measured("10,000 nodes asked whether it concerns them", || asked(&new, &picture_before));
    let moved = after.with(3, [router("r0").into(), service("s7").into()]);
    let next = picture(&moved, Some(&new));
    let (none, _) =
        measured("and whether a router and a service that say the same do", || asked(&next, &new));
    let (new, all) = measured("10,000 states, if it concerned all", || states(&new));
    let changed = old.iter().zip(&new).filter(|(old, new)| !same(old, new)).count() as u64;
    let share = u32::try_from(NODES / told).unwrap();
    println!(
        "of one core: revoked after {revoking:?}, told after {:?}; {:?} if it concerned all",
        revoking + painting + asking + all / share,
        revoking + painting + all
    );
    assert_eq!((revoked, changed, told, none), (NODES / GROUPS, NODES / GROUPS, NODES / GROUPS, 0));
}

#[test]
#[ignore = "a measurement"]
fn all_of_ten_thousand_sessions_end_at_once() {
    let (mut ledger, model) = (Ledger::default(), model());
    (0..NODES).for_each(|n| ledger.issue(grant(&model, n)).unwrap());
    let (revoked, _) = measured("10,000 sessions ended", || {
        (0..NODES)
            .map(|n| ledger.revoke_session(tag(n), "its identity was disabled").len() as u64)
            .sum::<u64>()
    });
    let (told, _) = measured("10,000 sessions back, and told", || {
        (0..NODES).map(|n| ledger.revoked_for_session(tag(n)).len() as u64).sum::<u64>()
    });
    // Each as its dialer's and as its binder's; the first hundred bind for all, one of them each for itself.
    assert_eq!((revoked, told), (NODES, 2 * NODES - GROUPS));
}
