use super::*;
use proptest::prelude::*;

const LINGER: Duration = Duration::from_secs(30);

fn tag(n: u8) -> Tag {
    Tag([n; 8])
}

fn id(name: &str) -> IdentityId {
    IdentityId::new(name)
}

fn open(s: &mut Sessions, who: &str, key: &str, resume: Option<Tag>, fresh: u8) -> Opened {
    let opener = Opener { identity: &id(who), spki_sha256: key, serial: "01" };
    s.open(&opener, resume, tag(fresh)).expect("room for a session")
}

fn gone(expired: Vec<(Tag, IdentityId)>) -> Vec<Tag> {
    expired.into_iter().map(|(tag, _)| tag).collect()
}

#[test]
fn a_session_lingers_and_is_resumed_by_its_own_key_only() {
    let (mut s, t0) = (Sessions::default(), Instant::now());
    let first = open(&mut s, "a", "k", None, 1);
    assert!(!first.resumed && s.get(tag(1)).is_some_and(Session::is_connected));
    s.close(first.tag, first.epoch, t0 + LINGER);
    assert!(!s.get(tag(1)).is_some_and(Session::is_connected));
    assert_eq!(open(&mut s, "b", "k2", Some(tag(1)), 2).tag, tag(2), "another identity");
    assert_eq!(open(&mut s, "a", "other", Some(tag(1)), 3).tag, tag(3), "another key");
    let again = open(&mut s, "a", "k", Some(tag(1)), 4);
    assert!(again.resumed && again.tag == tag(1));
    assert!(s.expire(t0 + LINGER * 2).is_empty(), "connected again");
    s.close(again.tag, again.epoch, t0 + LINGER);
    assert_eq!(gone(s.expire(t0 + LINGER)), [tag(1)]);
    assert!(s.get(tag(1)).is_none());
}

#[test]
fn the_end_of_an_older_watch_changes_nothing() {
    let (mut s, t0) = (Sessions::default(), Instant::now());
    let first = open(&mut s, "a", "k", None, 1);
    let second = open(&mut s, "a", "k", Some(tag(1)), 2);
    s.close(first.tag, first.epoch, t0 + LINGER);
    s.set_attached(first.tag, first.epoch, [(EdgeRouterId::new("r"), 0)]);
    assert!(s.is_current(tag(1), second.epoch) && s.get(tag(1)).is_some_and(|n| n.attached.is_empty()));
    let (old, new) = (s.open_router(EdgeRouterId::new("r")), s.open_router(EdgeRouterId::new("r")));
    s.close_router(&EdgeRouterId::new("r"), old);
    assert!(s.routers().is_online(&EdgeRouterId::new("r")));
    s.set_router_status(&EdgeRouterId::new("r"), new, 3, true, []);
    assert!(
        !s.routers().is_usable(&EdgeRouterId::new("r")) && s.routers().is_online(&EdgeRouterId::new("r"))
    );
}

#[test]
fn after_a_restart_stored_sessions_have_their_grace() {
    let (mut s, t0) = (Sessions::default(), Instant::now());
    s.restore(tag(1), id("a"), t0 + LINGER);
    s.restore(tag(2), id("a"), t0 + LINGER);
    assert_eq!(s.next_expiry(), Some(t0 + LINGER));
    assert_eq!(
        open(&mut s, "b", "k", Some(tag(1)), 9).tag,
        tag(9),
        "a restored session is still its identity's"
    );
    assert!(open(&mut s, "a", "k", Some(tag(1)), 8).resumed);
    assert!(open(&mut s, "c", "k", Some(tag(3)), 7).resumed, "unknown here: taken up under its tag");
    assert_eq!(gone(s.expire(t0 + LINGER)), [tag(2)]);
}

#[test]
fn an_ended_session_does_not_come_back_by_its_token() {
    let (mut s, t0) = (Sessions::default(), Instant::now());
    let opened = open(&mut s, "a", "k", None, 1);
    assert_eq!(s.end(tag(1), t0), Some(opened.epoch));
    assert_eq!(s.end(tag(1), t0), None);
    assert_eq!(open(&mut s, "a", "k", Some(tag(1)), 2).tag, tag(2));
    assert_eq!(s.ended().collect::<Vec<_>>(), [tag(1)]);
    s.expire(t0 + ENDED_KEPT);
    assert!(s.ended().count() == 0 && !s.has_ended(tag(1)));
    assert_eq!(s.end(tag(5), t0), None, "not here, but its token may be out");
    assert_eq!(open(&mut s, "a", "k", Some(tag(5)), 6).tag, tag(6));
}

#[test]
fn only_what_nodes_are_told_moves_the_view() {
    let (mut s, t0) = (Sessions::default(), Instant::now());
    let a = open(&mut s, "a", "k", None, 1);
    s.set_attached(a.tag, a.epoch, [(EdgeRouterId::new("r"), 0)]);
    s.close(a.tag, a.epoch, t0 + LINGER);
    assert_eq!(s.view_version(), 0);
    assert_eq!(s.version(), 3);
    let a = open(&mut s, "a", "k", Some(tag(1)), 2);
    s.set_hosting(a.tag);
    let told = s.view_version();
    s.set_hosting(a.tag);
    assert_eq!(s.view_version(), told);
    s.close(a.tag, a.epoch, t0 + LINGER);
    assert!(s.view_version() > told);
}

#[test]
fn round_trip_times_move_the_paths_only_when_they_change_much() {
    let mut s = Sessions::default();
    let a = open(&mut s, "a", "k", None, 1);
    let epoch = s.open_router(EdgeRouterId::new("r"));
    let version = |s: &Sessions| (s.version(), s.view_version(), s.paths_version());
    let attach = |s: &mut Sessions, rtt| s.set_attached(a.tag, a.epoch, [(EdgeRouterId::new("r"), rtt)]);
    attach(&mut s, 0);
    let seen = version(&s);
    for (rtt, moved) in [(20_000, 1), (21_000, 1), (22_500, 2), (22_500, 2), (0, 3), (100, 4), (550, 4)] {
        attach(&mut s, rtt);
        assert_eq!(version(&s), (seen.0, seen.1, seen.2 + moved), "{rtt}");
    }
    let seen = version(&s);
    let r2 = || EdgeRouterId::new("r2");
    s.set_router_status(&EdgeRouterId::new("r"), epoch, 1, false, [(r2(), 0)]);
    assert_eq!(version(&s), (seen.0 + 1, seen.1, seen.2 + 1), "a dial may wait for a link; no node is told");
    s.set_router_status(&EdgeRouterId::new("r"), epoch, 1, false, [(r2(), 900)]);
    assert_eq!(version(&s), (seen.0 + 1, seen.1, seen.2 + 2));
}

#[test]
fn one_identity_cannot_take_every_session() {
    let mut s = Sessions::default();
    for n in 0..SESSIONS_PER_IDENTITY_MAX {
        open(&mut s, "a", "k", None, n as u8);
    }
    let opener = Opener { identity: &id("a"), spki_sha256: "k", serial: "01" };
    assert_eq!(s.open(&opener, None, tag(200)), Err(TooMany::OfIdentity));
    assert!(s.open(&opener, Some(tag(3)), tag(200)).is_ok_and(|o| o.resumed), "its own are still resumed");
    open(&mut s, "b", "k", None, 201);
    let first = open(&mut s, "a", "k", Some(tag(3)), 0);
    s.close(first.tag, first.epoch, Instant::now());
    assert_eq!(open(&mut s, "a", "k", None, 202).tag, tag(202));
    assert!(s.get(tag(3)).is_none(), "the one that was gone made room");
}

#[derive(Clone, Debug)]
enum Step {
    Open { who: u8, resume: Option<u8>, fresh: u8 },
    Close { watch: usize },
    End { tag: u8 },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..3, proptest::option::of(0u8..12), 0u8..12).prop_map(|(who, resume, fresh)| Step::Open {
            who,
            resume,
            fresh: fresh + 100
        }),
        (0usize..20).prop_map(|watch| Step::Close { watch }),
        (0u8..12).prop_map(|tag| Step::End { tag }),
        (0u64..40).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    #[test]
    fn the_indexes_agree_whatever_happens(steps in proptest::collection::vec(step(), 0..80)) {
        let (mut s, mut now) = (Sessions::default(), Instant::now());
        let mut watches = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Open { who, resume, fresh } => {
                    // Tags are random in life: a fresh one is never one that exists.
                    let fresh = Tag([fresh, n as u8, 0, 0, 0, 0, 0, 0]);
                    let who = id(&who.to_string());
                    let opener = Opener { identity: &who, spki_sha256: who.as_str(), serial: "" };
                    watches.push(s.open(&opener, resume.map(tag), fresh).expect("room"));
                }
                Step::Close { watch } => if let Some(w) = watches.get(watch) { s.close(w.tag, w.epoch, now + LINGER); },
                Step::End { tag: t } => drop(s.end(tag(t), now)),
                Step::Wait { seconds } => { now += Duration::from_secs(seconds); s.expire(now); }
            }
            let lingering = s.nodes.values().filter(|n| !n.is_connected()).count();
            prop_assert_eq!(lingering, s.lingering.len());
            prop_assert_eq!(s.nodes.len(), s.by_identity.values().map(BTreeSet::len).sum::<usize>());
            prop_assert!(s.by_identity.iter().all(|(i, tags)| tags.iter().all(|t| s.nodes[t].identity == *i)));
            prop_assert_eq!(s.ended.len(), s.ended_tags.len());
            prop_assert!(s.ended().all(|t| !s.nodes.contains_key(&t)));
            prop_assert!(s.next_expiry().is_none_or(|at| at <= now + LINGER));
        }
    }
}
