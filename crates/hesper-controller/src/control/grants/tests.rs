use super::*;
use crate::control::testing::{Mesh, mesh};
use hesper_model::id::ServiceId;
use proptest::prelude::*;
use serde_json::json;

fn grant(id: &str, dialer: &str, routers: &[&str], expires_at: u64) -> Grant {
    Grant {
        id: id.into(),
        pair: Pair {
            dialer: IdentityId::new(dialer),
            service: ServiceId::new("s"),
            binder: IdentityId::new("binder"),
        },
        terminator: TerminatorId::new("t"),
        dialer_tag: Tag([1; 8]),
        binder_tag: Tag([2; 8]),
        reach: Reach::Paths {
            paths: routers.iter().map(|r| r.split('-').map(EdgeRouterId::new).collect()).collect(),
            told: 1,
        },
        terms: None,
        expires_at,
    }
}

fn ledger(grants: impl IntoIterator<Item = Grant>) -> Ledger {
    let mut ledger = Ledger::default();
    grants.into_iter().for_each(|g| ledger.issue(g).expect("room"));
    ledger
}

#[test]
fn a_grant_is_revoked_once_to_both_ends_and_its_routers_when_a_rule_goes() {
    for (change, reason) in [
        (Mesh::without_dial as fn(Mesh) -> Mesh, "no Dial service-policy"),
        (Mesh::without_bind, "no Bind service-policy"),
        (Mesh::without_serp, "no service-edge-router-policy"),
        (|m: Mesh| m.disabled("dialer"), "is disabled"),
        (|m: Mesh| m.disabled("binder"), "is disabled"),
    ] {
        let mut ledger = ledger([grant("g", "dialer", &["r1", "r2"], 300)]);
        assert_eq!(ledger.recheck(&mesh().model(1)), []);
        let model = change(mesh()).model(2);
        let revoked = ledger.recheck(&model);
        let [r] = &revoked[..] else { panic!("{revoked:?}") };
        assert!(r.reason.contains(reason), "{}", r.reason);
        assert_eq!((r.sessions.len(), r.routers.len()), (2, 2));
        assert_eq!(ledger.recheck(&model), [], "only once");
        assert_eq!(ledger.recheck(&mesh().model(3)), [], "a rule that returns brings no grant back");
        assert_eq!(ledger.revoked_for_session(Tag([1; 8])).len(), 1);
        assert_eq!(ledger.revoked_for_session(Tag([9; 8])), []);
        assert_eq!(ledger.revoked_for_router(&EdgeRouterId::new("r1")).len(), 1);
        ledger.expire(300 + REVOKED_KEPT);
        assert_eq!((ledger.len(), ledger.revoked_for_session(Tag([2; 8])).len()), (0, 0));
    }
}

#[test]
fn a_grant_ends_when_its_terms_are_others_and_a_new_one_may_follow() {
    let allowing = |signal: &str| json!({"rules": [{"identities": ["#dialers"], "signals": [signal]}]});
    let model = |data| mesh().sending(data).model(2);
    let on_terms = |id: &str, model: &Model| {
        let plain = grant(id, "dialer", &["r1", "r2"], 300);
        let given = judge(model, &plain.pair).expect("allowed");
        Grant { terms: given.terms, ..plain }
    };
    let (traces, logs) = (model(allowing("traces")), model(allowing("logs")));
    let mut ledger = ledger([on_terms("plain", &mesh().model(1)), on_terms("traces", &traces)]);
    let ended = |revoked: Vec<Revocation>| revoked.into_iter().map(|r| r.id).collect::<Vec<_>>();
    let revoked = ledger.recheck(&traces);
    assert!(revoked[0].reason.contains("may send") && revoked[0].sessions.len() == 2, "{revoked:?}");
    assert_eq!(ended(revoked), ["plain"]);
    ledger.issue(on_terms("logs", &logs)).expect("room");
    assert_eq!(ended(ledger.recheck(&logs)), ["traces"]);
    assert_eq!(ended(ledger.recheck(&mesh().model(4))), ["logs"]);
    assert_eq!(ended(ledger.recheck(&logs)), [""; 0]);
}

/// `r1` is given to the dialer, `r2` to the binder.
fn apart() -> Mesh {
    mesh().routers_of("dialer", "@r1").routers_of("binder", "@r2")
}

fn router_set(ids: &[&str]) -> BTreeSet<EdgeRouterId> {
    ids.iter().map(|id| EdgeRouterId::new(*id)).collect()
}

#[test]
fn losing_one_router_closes_the_pass_there_only() {
    let mut ledger = ledger([grant("g", "dialer", &["r1", "r2"], 300)]);
    let revoked = ledger.recheck(&mesh().router_disabled("r1").model(2));
    let [r] = &revoked[..] else { panic!("{revoked:?}") };
    assert!(r.sessions.is_empty(), "{r:?}");
    assert_eq!(r.routers, router_set(&["r1"]));
    let both = ledger.recheck(&mesh().router_disabled("r1").router_disabled("r2").model(3));
    let [r] = &both[..] else { panic!("{both:?}") };
    assert_eq!(r.sessions.len(), 2, "with the last router the grant ends");
    assert_eq!(r.routers, router_set(&["r2"]));
}

#[test]
fn a_router_is_closed_when_it_is_lost_to_the_end_that_used_it() {
    let mut ledger =
        ledger([grant("g", "dialer", &["r1-r2"], 300), grant("h", "dialer", &["r1", "r2-r1"], 300)]);
    let revoked = ledger.recheck(&apart().model(2));
    let [r] = &revoked[..] else { panic!("{revoked:?}") };
    assert_eq!((r.id.as_str(), r.sessions.len(), &r.routers), ("h", 0, &router_set(&["r1", "r2"])));
    assert!(ledger.is_live("h"), "policy still allows the dial over other routers");
    assert_eq!(ledger.revoked_for_router(&EdgeRouterId::new("r2")), ["h"]);
}

#[test]
fn a_pass_of_unknown_ways_ends_wherever_policy_ends_it() {
    let anywhere = Reach::Anywhere(Arc::new(router_set(&["r1", "r2", "r3"])));
    let mut ledger = ledger([Grant { reach: anywhere, ..grant("g", "dialer", &[], 300) }]);
    let revoked = ledger.recheck(&apart().model(2));
    let [r] = &revoked[..] else { panic!("{revoked:?}") };
    assert_eq!((r.sessions.len(), &r.routers), (0, &router_set(&["r3"])));
    let revoked = ledger.recheck(&mesh().without_dial().model(3));
    assert_eq!((revoked[0].sessions.len(), &revoked[0].routers), (2, &router_set(&["r1", "r2"])));
}

#[test]
fn reported_grants_are_decided_at_once_and_known_ones_left_alone() {
    let reported = |id: &str, dialer: &str| Grant {
        reach: Reach::Anywhere(Arc::new(router_set(&["r1"]))),
        ..grant(id, dialer, &[], 300)
    };
    let mut ledger = ledger([grant("known", "dialer", &["r2"], 300)]);
    let revoked = ledger.adopt(
        vec![reported("g", "dialer"), reported("h", "deleted"), reported("known", "deleted")],
        &mesh().model(1),
    );
    let [r] = &revoked[..] else { panic!("{revoked:?}") };
    assert_eq!((r.id.as_str(), r.sessions.len(), &r.routers), ("h", 2, &router_set(&["r1"])));
    assert!(r.reason.contains("no identity 'deleted'") && ledger.is_live("g") && ledger.is_live("known"));
    assert_eq!(ledger.lease_ids(), ["known"]);
    assert!(ledger.lease("known").is_some() && ledger.lease("g").is_none());
}

#[test]
fn a_round_has_what_is_new_or_everything_and_nothing_that_comes_after_it() {
    let mut ledger = ledger([grant("g", "dialer", &["r1"], 300)]);
    let sizes = |round: &Round| (round.pairs.len(), round.fresh.len());
    assert_eq!(sizes(&ledger.round(false)), (1, 1));
    assert_eq!(sizes(&ledger.round(false)), (0, 0));
    ledger.issue(grant("h", "other", &["r1"], 300)).expect("room");
    let round = ledger.round(true);
    assert_eq!(sizes(&round), (2, 1));
    ledger.issue(grant("later", "dialer", &["r1"], 300)).expect("room");
    let pair = grant("g", "dialer", &[], 0).pair;
    let revoked = ledger.settle(&pair, &Err("it was denied then".into()), round.until);
    assert_eq!(revoked.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["g"]);
    assert!(ledger.is_live("later") && ledger.is_live("h"));
}

#[test]
fn a_session_that_ends_takes_its_grants() {
    let mut ledger = ledger([grant("g", "dialer", &["r1"], 300)]);
    assert_eq!(ledger.revoke_session(Tag([7; 8]), "gone"), []);
    assert_eq!(ledger.revoke_session(Tag([2; 8]), "gone").len(), 1);
    assert_eq!(ledger.revoke_session(Tag([1; 8]), "gone"), []);
}

#[test]
fn what_was_revoked_is_told_to_those_who_are_away_for_longer_than_it_would_have_lived() {
    let mut ledger = ledger([grant("g", "dialer", &["r1"], 300), grant("h", "dialer", &["r1"], 300)]);
    assert_eq!(ledger.recheck(&mesh().without_dial().model(2)).len(), 2);
    assert!(ledger.per_dialer.is_empty(), "it counts for nobody");
    ledger.expire(300 + REVOKED_KEPT - 1);
    assert_eq!(ledger.revoked_for_router(&EdgeRouterId::new("r1")).len(), 2);
    assert_eq!(ledger.revoked_for_session(Tag([2; 8])).len(), 2);
    ledger.expire(300 + REVOKED_KEPT);
    assert_eq!((ledger.len(), ledger.kept), (0, 0));
}

/// As it comes out of the store again.
fn started_again(records: Vec<(String, Option<Remembered>)>) -> Ledger {
    let mut ledger = Ledger::default();
    for (id, record) in records {
        let text = serde_json::to_string(&record.expect("a record to write")).unwrap();
        ledger.restore(id, serde_json::from_str(&text).unwrap());
    }
    ledger
}

#[test]
fn what_was_revoked_outlives_the_controller() {
    let mut before = ledger([grant("g", "dialer", &["r1"], 300), grant("h", "other", &["r1"], 300)]);
    assert!(!before.is_unwritten(), "what lives is not written down");
    before.revoke_session(Tag([1; 8]), "gone");
    let records = before.take_unwritten(10);
    assert_eq!(records.len(), 2);
    assert!(!before.is_unwritten());
    let mut ledger = started_again(records);
    let r1 = EdgeRouterId::new("r1");
    let (mut told, mut known) = (ledger.revoked_for_router(&r1), before.revoked_for_router(&r1));
    told.sort();
    known.sort();
    assert_eq!(told, known);
    assert_eq!(ledger.revoked_for_session(Tag([2; 8])).len(), 2);
    assert_eq!(ledger.revoked_for_router(&EdgeRouterId::new("r2")), [""; 0]);
    assert!(!ledger.is_live("g") && ledger.per_dialer.is_empty() && ledger.users.is_empty());
    assert!(!ledger.is_unwritten(), "it is written already");
    // Until nobody can honour it any more.
    ledger.expire(300 + REVOKED_KEPT - 1);
    assert_eq!(ledger.len(), 2);
    ledger.expire(300 + REVOKED_KEPT);
    assert_eq!(
        ledger.take_unwritten(10),
        [("g".to_owned(), None), ("h".to_owned(), None)],
        "records to delete"
    );
    assert_eq!((ledger.len(), ledger.kept), (0, 0));
}

#[test]
fn a_record_that_could_not_be_written_waits() {
    let mut ledger = ledger((0..5).map(|n| grant(&n.to_string(), "dialer", &["r1"], 300)));
    ledger.revoke_session(Tag([1; 8]), "gone");
    let some = ledger.take_unwritten(3);
    assert_eq!(some.len(), 3);
    ledger.put_back(some.into_iter().map(|(id, _)| id));
    assert_eq!(ledger.take_unwritten(10).len(), 5);
}

#[test]
fn what_lapsed_behind_an_outage_is_decided_and_remembered_if_denied() {
    let reported = |id: &str, dialer: &str| Grant {
        reach: Reach::Anywhere(Arc::new(router_set(&["r1"]))),
        ..grant(id, dialer, &[], 300)
    };
    let (mut ledger, model) = (Ledger::default(), mesh().model(1));
    for _ in 0..2 {
        let revoked = ledger.judge_lapsed(vec![reported("g", "dialer"), reported("h", "deleted")], &model);
        let [r] = &revoked[..] else { panic!("{revoked:?}") };
        assert_eq!((r.id.as_str(), r.sessions.len(), &r.routers), ("h", 2, &router_set(&["r1"])));
    }
    // A router that comes back later than the binder honours its pass for a moment, too.
    assert_eq!(ledger.revoked_for_router(&EdgeRouterId::new("r1")), ["h"]);
    assert_eq!((ledger.len(), ledger.take_unwritten(10).len()), (1, 1));
    ledger.expire(300 + REVOKED_KEPT);
    assert_eq!((ledger.len(), ledger.kept), (0, 0));
}

#[test]
fn one_dialer_cannot_fill_the_ledger() {
    let mut ledger =
        ledger((0..GRANTS_PER_DIALER_MAX).map(|n| grant(&n.to_string(), "dialer", &["r1"], 300)));
    assert_eq!(ledger.issue(grant("more", "dialer", &["r1"], 300)), Err(Full::OfDialer));
    assert_eq!(ledger.refused(), 1);
    assert_eq!(ledger.issue(grant("other", "other", &["r1"], 400)), Ok(()));
    ledger.expire(300);
    assert!(ledger.len() == 1 && ledger.is_live("other"));
    assert_eq!(ledger.issue(grant("more", "dialer", &["r1"], 500)), Ok(()));
}

proptest! {
    #[test]
    fn the_indexes_agree_whatever_happens(steps in proptest::collection::vec((0u8..6, 0u64..20, 0u8..3), 0..80)) {
        let mut ledger = Ledger::default();
        for (n, (what, at, who)) in steps.into_iter().enumerate() {
            match what {
                0 | 1 => ledger.issue(grant(&n.to_string(), &who.to_string(), &["r1"], at)).expect("room"),
                2 => ledger.expire(at),
                3 => {
                    let tag = Tag([1 + who % 2; 8]);
                    let of_session = |e: &&Entry| [e.grant.dialer_tag, e.grant.binder_tag].contains(&tag);
                    let live = ledger.entries.values().filter(|e| e.revoked.is_none()).filter(of_session);
                    let expected: BTreeSet<_> = live.map(|e| e.grant.id.clone()).collect();
                    let revoked = ledger.revoke_session(tag, "gone").into_iter().map(|r| r.id).collect();
                    prop_assert_eq!(expected, revoked);
                    let told = ledger.revoked_for_session(tag).len();
                    prop_assert_eq!(told, ledger.entries.values().filter(of_session).count());
                }
                _ => ledger.withdraw(&at.to_string()),
            }
            prop_assert_eq!(ledger.entries.len(), ledger.by_expiry.len());
            prop_assert_eq!(2 * ledger.entries.len(), ledger.by_session.values().map(BTreeSet::len).sum::<usize>());
            prop_assert!(ledger.by_session.values().flatten().all(|id| ledger.entries.contains_key(id)));
            prop_assert_eq!(ledger.entries.len() - ledger.kept, ledger.by_pair.values().map(BTreeSet::len).sum::<usize>());
            prop_assert_eq!(ledger.newest.len(), ledger.users.values().sum::<usize>());
            prop_assert!(ledger.newest.values().all(|id| ledger.entries.contains_key(id)));
            prop_assert_eq!(ledger.entries.len() - ledger.kept, ledger.per_dialer.values().sum::<usize>());
        }
        ledger.expire(20 + REVOKED_KEPT);
        prop_assert!(ledger.len() == 0 && ledger.kept == 0 && ledger.per_dialer.is_empty() && ledger.newest.is_empty());
        prop_assert!(ledger.by_pair.is_empty() && ledger.by_session.is_empty());
    }
}
