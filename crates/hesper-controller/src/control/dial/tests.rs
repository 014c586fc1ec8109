use super::*;
use crate::control::{
    sessions::{Epoch, Opener},
    testing::{Mesh, mesh},
};
use hesper_model::{
    entity::{Precedence, TerminatorStrategy},
    id::EdgeRouterId,
};
use rand::{SeedableRng, rngs::StdRng};

const DIALER: Tag = Tag([1; 8]);
const BINDER: Tag = Tag([2; 8]);

struct World {
    mesh: Mesh,
    sessions: Sessions,
    routers: Vec<(EdgeRouterId, Epoch)>,
    binder: Epoch,
}

fn r(id: &str) -> EdgeRouterId {
    EdgeRouterId::new(id)
}

fn open(sessions: &mut Sessions, who: &str, tag: Tag) -> Epoch {
    let id = IdentityId::new(who);
    let opener = Opener { identity: &id, spki_sha256: who, serial: "" };
    sessions.open(&opener, None, tag).expect("room").epoch
}

/// The session of this tag under another watch.
fn open_again(sessions: &mut Sessions, who: &str, tag: Tag) -> Epoch {
    let id = IdentityId::new(who);
    let opener = Opener { identity: &id, spki_sha256: who, serial: "" };
    sessions.open(&opener, Some(tag), Tag([77; 8])).expect("room").epoch
}

/// Everything works: two routers, the binder attached to both, the dialer to `r2`.
fn world() -> World {
    let mut sessions = Sessions::default();
    let dialer = open(&mut sessions, "dialer", DIALER);
    let binder = open(&mut sessions, "binder", BINDER);
    let routers: Vec<_> = ["r1", "r2"].map(|id| (r(id), sessions.open_router(r(id)))).into();
    sessions.set_attached(BINDER, binder, [(r("r1"), 0), (r("r2"), 0)]);
    sessions.set_attached(DIALER, dialer, [(r("r2"), 0)]);
    World { mesh: mesh().hosted("t", "", Some(BINDER)), sessions, routers, binder }
}

impl World {
    fn dial(self, request: DialRequest) -> Result<Route, Refused> {
        self.dial_as("dialer", request)
    }
    fn dial_as(self, who: &str, request: DialRequest) -> Result<Route, Refused> {
        let model = self.mesh.model(1);
        let identity = model.identity(&IdentityId::new(who)).expect("known").clone();
        let dialer = Dialer { identity: &identity, tag: DIALER };
        route(&model, &self.sessions, &dialer, &request, &|_| 0, &mut StdRng::seed_from_u64(1))
    }
}

fn ask(service: &str) -> DialRequest {
    DialRequest { service: service.into(), ..DialRequest::default() }
}

#[test]
fn a_dial_names_the_binder_and_the_routers_own_ones_first() {
    for name in ["s", "s-name"] {
        let route = world().dial(ask(name)).expect("a route");
        assert_eq!((route.terminator.as_str(), route.binder_tag), ("t", BINDER));
        assert_eq!(route.paths[..route.told], [vec![r("r2")], vec![r("r1")]]);
        assert_eq!(route.paths.len(), 4);
        assert!(route.rule.to_string().contains("dialer-Dial"));
    }
}

#[test]
fn refusals_name_what_is_missing() {
    let mut offline = world();
    offline.sessions.close(BINDER, offline.binder, std::time::Instant::now());
    let mut detached = world();
    detached.sessions.set_attached(BINDER, detached.binder, []);
    let mut draining = world();
    for (id, epoch) in draining.routers.clone() {
        draining.sessions.set_router_status(&id, epoch, 0, true, []);
    }
    let mut dark = world();
    for (id, epoch) in dark.routers.clone() {
        dark.sessions.close_router(&id, epoch);
    }
    let change = |f: fn(Mesh) -> Mesh| {
        let w = world();
        World { mesh: f(w.mesh), ..w }
    };
    let avoid = DialRequest { avoid_terminator_ids: vec!["t".into()], ..ask("s") };
    let table = [
        (change(Mesh::without_dial), ask("s"), Code::NotFound, "INVALID_SERVICE", "ask for a Dial", false),
        (
            change(Mesh::without_bind),
            ask("s"),
            Code::Unavailable,
            "NO_ONLINE_TERMINATORS",
            "may not bind",
            false,
        ),
        (
            change(Mesh::without_erp),
            ask("s"),
            Code::FailedPrecondition,
            "NO_PATH",
            "no edge-router-policy",
            false,
        ),
        (
            change(Mesh::without_serp),
            ask("s"),
            Code::FailedPrecondition,
            "NO_PATH",
            "service-edge-router",
            false,
        ),
        (
            World { mesh: mesh(), ..world() },
            ask("s"),
            Code::Unavailable,
            "NO_TERMINATORS",
            "no node hosts",
            false,
        ),
        (
            world(),
            DialRequest { instance: "x".into(), ..ask("s") },
            Code::Unavailable,
            "NO_TERMINATORS",
            "instanceId 'x'",
            false,
        ),
        (
            World { sessions: Sessions::default(), ..world() },
            ask("s"),
            Code::Unavailable,
            "NO_ONLINE_TERMINATORS",
            "not connected",
            false,
        ),
        (offline, ask("s"), Code::Unavailable, "NO_ONLINE_TERMINATORS", "not connected", true),
        (detached, ask("s"), Code::Unavailable, "NO_PATH", "is online, not attached", true),
        (draining, ask("s"), Code::Unavailable, "NO_PATH", "is draining", true),
        (dark, ask("s"), Code::Unavailable, "NO_PATH", "is offline", true),
        (world(), avoid, Code::Unavailable, "NO_ONLINE_TERMINATORS", "just failed", false),
        (
            world(),
            DialRequest { terminator_id: "gone".into(), ..ask("s") },
            Code::Unavailable,
            "NO_TERMINATORS",
            "is gone",
            false,
        ),
    ];
    for (world, request, status, code, text, passing) in table {
        let refused = world.dial(request).expect_err(text);
        assert_eq!((refused.status, refused.code, refused.passing), (status, code, passing), "{refused:?}");
        assert!(refused.message.contains(text), "{text}: {}", refused.message);
    }
}

/// The dialer may use `r1` only and is there, the binder `r2` only.
fn apart() -> World {
    let mut w = world();
    w.mesh = w.mesh.routers_of("dialer", "@r1").routers_of("binder", "@r2");
    let [dialer, binder] = [(DIALER, "dialer", "r1"), (BINDER, "binder", "r2")].map(|(tag, who, at)| {
        let epoch = open_again(&mut w.sessions, who, tag);
        w.sessions.set_attached(tag, epoch, [(r(at), 1_000)]);
        epoch
    });
    assert_ne!(dialer, binder);
    w
}

#[test]
fn two_linked_routers_join_what_no_router_has_in_common() {
    let refused = apart().dial(ask("s")).expect_err("no link");
    assert_eq!((refused.code, refused.passing), ("NO_PATH", true));
    assert!(
        refused
            .message
            .ends_with("(for this node: 'r1-name' is attached; for the host: 'r2-name' is attached)"),
        "{}",
        refused.message
    );
    let mut linked = apart();
    for ((id, epoch), other) in linked.routers.clone().into_iter().zip(["r2", "r1"]) {
        linked.sessions.set_router_status(&id, epoch, 1, false, [(r(other), 300)]);
    }
    let route = linked.dial(ask("s")).expect("over the link");
    assert_eq!((route.paths, route.told), (vec![vec![r("r1"), r("r2")]], 1));
}

#[test]
fn unknown_and_forbidden_look_alike() {
    let (known, unknown) = ("s-name", "x-name");
    let forbidden = world().dial_as("stranger", ask(known)).expect_err("no policy");
    let missing = world().dial_as("stranger", ask(unknown)).expect_err("no service");
    assert_ne!(forbidden.operator_rule(), missing.operator_rule());
    let bytes = |refused: Refused, asked: &str| {
        let status = tonic::Status::from(refused);
        let text = status.message().replace(asked, "?");
        let detail = String::from_utf8_lossy(status.details()).replace(asked, "?");
        (status.code(), text, detail)
    };
    assert_eq!(bytes(forbidden, known), bytes(missing, unknown));
    let renewal = DialRequest { terminator_id: "t".into(), ..ask("s") };
    assert_eq!(world().dial_as("stranger", renewal).expect_err("no policy").code, "INVALID_SERVICE");
}

#[test]
fn a_renewal_outlives_the_binders_watch_but_not_its_policy() {
    let renewal = || DialRequest { terminator_id: "t".into(), ..ask("s") };
    let mut lingering = world();
    lingering.sessions.close(BINDER, lingering.binder, std::time::Instant::now());
    assert_eq!(lingering.dial(renewal()).expect("renewed").told, 2);
    let mut detached = world();
    detached.sessions.set_attached(BINDER, detached.binder, []);
    assert_eq!(detached.dial(renewal()).expect("renewed").told, 4, "those that policy allows");
    let w = world();
    assert!(World { mesh: w.mesh.without_bind(), ..w }.dial(renewal()).is_err());
    let other = DialRequest { service: "other".into(), ..renewal() };
    assert_eq!(world().dial(other).expect_err("not its service").code, "INVALID_SERVICE");
}

#[test]
fn the_best_reachable_terminator_is_taken() {
    let two = |f: fn(&mut Mesh)| {
        let mut w = world();
        w.mesh = w.mesh.hosted("u", "i", Some(BINDER));
        f(&mut w.mesh);
        w
    };
    let by_cost = two(|m| m.0.terminators[0].cost = 9).dial(ask("s")).expect("a route");
    assert_eq!(by_cost.terminator.as_str(), "u", "a dial without an instance reaches named ones too");
    let by_precedence =
        two(|m| m.0.terminators[1].precedence = Precedence::Failed).dial(ask("s")).expect("a route");
    assert_eq!(by_precedence.terminator.as_str(), "t");
    let by_instance = two(|_| ()).dial(DialRequest { instance: "i".into(), ..ask("s") }).expect("a route");
    assert_eq!(by_instance.terminator.as_str(), "u");
    let mut named_later = two(|m| m.0.terminators[1].instance = "stranger-name".into());
    let posing = DialRequest { instance: "stranger-name".into(), ..ask("s") };
    named_later.mesh.0.identities.retain(|i| i.id.as_str() != "stranger");
    assert_eq!(named_later.dial(posing.clone()).expect("nobody's name").terminator.as_str(), "u");
    let taken = two(|m| m.0.terminators[1].instance = "stranger-name".into());
    assert_eq!(taken.dial(posing).expect_err("another's name").code, "NO_TERMINATORS");
    let avoided = DialRequest { avoid_terminator_ids: vec!["u".into()], ..ask("s") };
    assert_eq!(two(|m| m.0.terminators[0].cost = 9).dial(avoided).expect("a route").terminator.as_str(), "t");
    let sticky = DialRequest { sticky_terminator_id: "t".into(), ..ask("s") };
    let kept = two(|m| {
        m.0.terminators[0].cost = 9;
        m.0.services[0].terminator_strategy = TerminatorStrategy::Sticky;
    });
    assert_eq!(kept.dial(sticky).expect("a route").terminator.as_str(), "t");
    let unreachable_first = two(|m| {
        m.0.terminators[1].session = Some(Tag([8; 8]));
        m.0.terminators[0].cost = 9;
    });
    assert_eq!(unreachable_first.dial(ask("s")).expect("a route").terminator.as_str(), "t");
}

#[test]
fn the_way_and_the_users_count_as_the_static_cost_does() {
    let mut w = world();
    w.mesh = w.mesh.hosted("far", "", Some(Tag([3; 8])));
    let far = open(&mut w.sessions, "binder", Tag([3; 8]));
    w.sessions.set_attached(Tag([3; 8]), far, [(r("r2"), 30_000)]);
    let near = open_again(&mut w.sessions, "binder", BINDER);
    w.sessions.set_attached(BINDER, near, [(r("r2"), 10_000)]);
    let model = w.mesh.model(1);
    let identity = model.identity(&IdentityId::new("dialer")).expect("known").clone();
    let dialer = Dialer { identity: &identity, tag: DIALER };
    for (of_near, expected) in [(0, "t"), (19, "t"), (21, "far"), (2 * 21, "far")] {
        let cost = |id: &TerminatorId| if id.as_str() == "t" { of_near } else { 0 };
        let route = route(&model, &w.sessions, &dialer, &ask("s"), &cost, &mut StdRng::seed_from_u64(1));
        assert_eq!(route.expect("a route").terminator.as_str(), expected, "{of_near}");
    }
}

#[test]
fn only_what_the_dialer_may_dial_can_fail_for_it() {
    let model = world().mesh.model(1);
    let failed = |who: &str, service: &str| {
        let identity = model.identity(&IdentityId::new(who)).expect("known");
        let request = DialRequest { avoid_terminator_ids: vec!["t".into(), "x".into()], ..ask(service) };
        failures(&model, identity, &request).len()
    };
    assert_eq!((failed("dialer", "s"), failed("stranger", "s"), failed("dialer", "other")), (1, 0, 0));
}

#[test]
fn a_session_is_the_callers_own() {
    let mut w = world();
    let (dialer, binder) = (IdentityId::new("dialer"), IdentityId::new("binder"));
    assert_eq!(own_session(&w.sessions, &dialer, Some(DIALER)), Ok(DIALER));
    assert_eq!(own_session(&w.sessions, &dialer, Some(BINDER)).expect_err("not its own").code, "NO_SESSION");
    open(&mut w.sessions, "binder", Tag([4; 8]));
    assert_eq!(own_session(&w.sessions, &binder, None), Ok(Tag([4; 8])), "the newest");
    assert!(own_session(&w.sessions, &IdentityId::new("stranger"), None).is_err_and(|r| r.passing));
}
