//! The gRPC services over loopback, with a store on disk; only TLS is left out: a layer puts the caller in.

use super::{
    Settings, routes, spawn,
    testing::{identity, mesh, policy},
};
use crate::{
    metrics::Metrics,
    state::{Authority, CERTIFICATE, Certificate, Changes, State},
};
use hesper_model::{
    entity::{Identity, PolicyType, ServicePolicy, Terminator},
    id::{IdentityId, Tag},
};
use hesper_observe::{audit::Audit, metrics::Registry};
use hesper_pki::{
    ca::CertificateAuthority,
    credentials::PeerIdentity,
    csr, key,
    spiffe::{SpiffeId, SpiffeRole},
    token::{GrantClaims, PassClaims, Signer},
};
use hesper_proto::{
    SESSION_METADATA,
    control::{
        Attached, BindRequest, DialRequest, DialResponse, NodeHello, NodeReport, NodeState, NodeUpdate,
        RenewRequest, Revoked, RouterHello, RouterReport, RouterRevoked, RouterState, RouterUpdate,
        node_control_client::NodeControlClient, node_report, node_update,
        router_control_client::RouterControlClient, router_report, router_update,
    },
};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

const TRUST_DOMAIN: &str = "mesh.test";
const CALLER: &str = "test-caller";
const KEY: &str = "test-key";
/// Far more than anything here takes; a test that meets it has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// A controller without its HTTP side.
struct World {
    dir: tempfile::TempDir,
    state: Arc<State>,
    url: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        CertificateAuthority::create(TRUST_DOMAIN, now).unwrap().save(&dir.path().join("pki")).unwrap();
        Signer::generate().unwrap().save(&dir.path().join("tokens.key")).unwrap();
        let world = Self::start(dir).await;
        let entities = mesh().0;
        let mut changes = Changes::default();
        entities.identities.iter().for_each(|e| changes.create(e));
        entities.services.iter().for_each(|e| changes.create(e));
        entities.configs.iter().for_each(|e| changes.create(e));
        entities.config_types.iter().for_each(|e| changes.create(e));
        entities.service_policies.iter().for_each(|e| changes.create(e));
        entities.edge_routers.iter().for_each(|e| changes.create(e));
        entities.edge_router_policies.iter().for_each(|e| changes.create(e));
        entities.service_edge_router_policies.iter().for_each(|e| changes.create(e));
        for (role, ids) in [
            (SpiffeRole::Identity, ["dialer", "binder", "stranger"]),
            (SpiffeRole::Router, ["r1", "r2", "r3"]),
        ] {
            ids.iter().for_each(|id| certify(&mut changes, role, id));
        }
        world.state.commit(changes).await.unwrap();
        world
    }

    async fn start(dir: tempfile::TempDir) -> Self {
        let store = hesper_store::open_sqlite(&dir.path().join("hesper.db")).unwrap();
        let authority = Authority {
            ca: CertificateAuthority::load(&dir.path().join("pki")).unwrap(),
            signer: Signer::load(&dir.path().join("tokens.key")).unwrap(),
            trust_domain: TRUST_DOMAIN.into(),
            ctrl_url: "https://localhost:1280".into(),
        };
        let audit = Audit::open(&dir.path().join("audit.jsonl")).unwrap();
        let mut state = State::load(store, authority, audit, Metrics::new(Registry::new())).await.unwrap();
        state.control.settings = Settings { leaf_validity: Duration::from_secs(3600), ..Settings::default() };
        let (state, stop, tasks) = (Arc::new(state), CancellationToken::new(), TaskTracker::new());
        let follower = (state.clone(), stop.clone());
        tasks.spawn(async move { follower.0.follow(&follower.1).await.unwrap() });
        spawn(&state, &tasks, &stop);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = routes(state.clone()).layer(axum::middleware::map_request(as_caller));
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stopped).await.unwrap() });
        Self { dir, state, url, stop, tasks }
    }

    /// Stops, and starts again on the same store.
    async fn restart(self) -> Self {
        self.stop.cancel();
        self.tasks.close();
        timeout(DEADLINE, self.tasks.wait()).await.expect("everything ends");
        self.state.store.close().await;
        Self::start(self.dir).await
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url.clone()).unwrap().connect_lazy()
    }

    async fn node(&self, who: &str) -> Node {
        self.resume(who, "").await.unwrap()
    }

    async fn resume(&self, who: &str, token: &str) -> Result<Node, Status> {
        open(self.channel(), who, token).await
    }

    async fn router(&self, id: &str) -> Router {
        let (reports, from) = mpsc::channel(8);
        let hello = RouterHello { addresses: vec![format!("{id}.test:3022")], client: "test".into() };
        reports.send(RouterReport { report: Some(router_report::Report::Hello(hello)) }).await.unwrap();
        let mut client = RouterControlClient::new(self.channel());
        let updates = client.watch(call(id, ReceiverStream::new(from))).await.unwrap().into_inner();
        let mut router = Router { _reports: reports, updates };
        let first = router.next().await.unwrap();
        assert!(
            matches!(first, router_update::Update::State(RouterState { router_id, .. }) if router_id == id)
        );
        router
    }

    /// Dialer and binder online and attached to `r1`, service `s` bound.
    async fn hosted(&self) -> (Node, Node, Router) {
        let router = self.router("r1").await;
        let (mut dialer, mut binder) = (self.node("dialer").await, self.node("binder").await);
        for node in [&mut dialer, &mut binder] {
            node.attach(&["r1"]).await;
        }
        binder.bind("s", "").await.unwrap();
        (dialer, binder, router)
    }

    async fn delete_policy(&self, id: &str) {
        assert!(self.state.delete::<ServicePolicy>(id).await.unwrap());
    }

    async fn disable(&self, id: &str) {
        let old = self.state.get::<Identity>(id).unwrap();
        let mut changes = Changes::default();
        changes.update(&old, &Identity { disabled: true, ..old.entity.clone() });
        self.state.commit(changes).await.unwrap();
    }

    fn terminators(&self) -> Vec<String> {
        self.state.model().terminators().map(|t| t.id.to_string()).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.state.subscribe();
        let wait = async {
            while !holds(self) {
                changes.changed().await.unwrap();
            }
        };
        timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what}"));
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap()
    }
}

/// The caller is who the test says, with the certificate that was stored for it.
async fn as_caller(mut request: axum::extract::Request) -> axum::extract::Request {
    let header =
        |name| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let (who, key) = (header(CALLER), header(KEY));
    let role = if who.starts_with('r') { SpiffeRole::Router } else { SpiffeRole::Identity };
    let peer = (!who.is_empty()).then(|| PeerIdentity {
        id: SpiffeId::new(TRUST_DOMAIN, role, &who).unwrap(),
        spki_sha256: if key.is_empty() { format!("key-of-{who}") } else { key },
        serial: format!("serial-of-{who}"),
        not_after: OffsetDateTime::now_utc() + Duration::from_secs(3600),
    });
    request.extensions_mut().insert(peer);
    request
}

fn certify(changes: &mut Changes, role: SpiffeRole, id: &str) {
    let subject = SpiffeId::new(TRUST_DOMAIN, role, id).unwrap().to_string();
    let certificate = Certificate {
        subject,
        spki_sha256: format!("key-of-{id}"),
        not_after: OffsetDateTime::now_utc() + Duration::from_secs(3600),
        revoked: false,
    };
    changes.create_record(format!("{CERTIFICATE}serial-of-{id}"), &certificate);
}

fn call<T>(who: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(CALLER, MetadataValue::try_from(who).unwrap());
    request
}

/// A node with an open watch.
struct Node {
    who: String,
    client: NodeControlClient<Channel>,
    reports: mpsc::Sender<NodeReport>,
    updates: Streaming<NodeUpdate>,
    state: NodeState,
}

async fn open(channel: Channel, who: &str, token: &str) -> Result<Node, Status> {
    let (reports, from) = mpsc::channel(8);
    let hello = NodeHello { session_token: token.into(), client: "test".into() };
    reports.send(NodeReport { report: Some(node_report::Report::Hello(hello)) }).await.unwrap();
    let mut client = NodeControlClient::new(channel);
    let updates = client.watch(call(who, ReceiverStream::new(from))).await?.into_inner();
    let mut node = Node { who: who.into(), client, reports, updates, state: NodeState::default() };
    let first = node.next().await?;
    let node_update::Update::State(state) = first else { panic!("the state comes first: {first:?}") };
    node.state = state;
    Ok(node)
}

impl Node {
    async fn next(&mut self) -> Result<node_update::Update, Status> {
        let update = timeout(DEADLINE, self.updates.message()).await.expect("an update")?;
        Ok(update.expect("the watch goes on").update.expect("an update"))
    }

    async fn next_state(&mut self) -> Result<&NodeState, Status> {
        loop {
            if let node_update::Update::State(state) = self.next().await? {
                self.state = state;
                return Ok(&self.state);
            }
        }
    }

    async fn state_where(&mut self, holds: impl Fn(&NodeState) -> bool) {
        while !holds(&self.state) {
            self.next_state().await.unwrap();
        }
    }

    async fn revoked(&mut self) -> Revoked {
        loop {
            match self.next().await.unwrap() {
                node_update::Update::Revoked(revoked) => return revoked,
                node_update::Update::State(state) => self.state = state,
            }
        }
    }

    /// The status that ends the watch.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    async fn attach(&mut self, routers: &[&str]) {
        let attached = Attached { router_ids: routers.iter().map(ToString::to_string).collect() };
        self.reports
            .send(NodeReport { report: Some(node_report::Report::Attached(attached)) })
            .await
            .unwrap();
    }

    fn tag(&self) -> Tag {
        Tag::from_slice(&self.state.session.as_ref().unwrap().tag).unwrap()
    }

    fn token(&self) -> &str {
        &self.state.session.as_ref().unwrap().token
    }

    async fn dial(&mut self, request: DialRequest) -> Result<DialResponse, Status> {
        let mut request = call(&self.who, request);
        let tag = MetadataValue::try_from(self.tag().to_string()).unwrap();
        request.metadata_mut().insert(SESSION_METADATA, tag);
        Ok(timeout(DEADLINE, self.client.dial(request)).await.expect("an answer")?.into_inner())
    }

    async fn bind(&mut self, service: &str, instance: &str) -> Result<String, Status> {
        let request =
            BindRequest { service: service.into(), instance: instance.into(), ..BindRequest::default() };
        let answer = self.client.bind(call(&self.who, request));
        Ok(timeout(DEADLINE, answer).await.expect("an answer")?.into_inner().terminator_id)
    }
}

/// A router with an open watch.
struct Router {
    _reports: mpsc::Sender<RouterReport>,
    updates: Streaming<RouterUpdate>,
}

impl Router {
    async fn next(&mut self) -> Result<router_update::Update, Status> {
        let update = timeout(DEADLINE, self.updates.message()).await.expect("an update")?;
        Ok(update.expect("the watch goes on").update.expect("an update"))
    }

    async fn revoked(&mut self) -> RouterRevoked {
        loop {
            if let router_update::Update::Revoked(revoked) = self.next().await.unwrap() {
                return revoked;
            }
        }
    }
}

fn ask(service: &str) -> DialRequest {
    DialRequest { service: service.into(), ..DialRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_removed_ends_the_grant_at_binder_dialer_and_router() {
    let world = World::new().await;
    let (mut dialer, mut binder, mut router) = world.hosted().await;
    dialer.state_where(|s| s.services.iter().any(|s| !s.hosts.is_empty())).await;
    assert_eq!(dialer.state.routers[0].addresses, ["r1.test:3022"]);
    let answer = dialer.dial(ask("s-name")).await.unwrap();
    assert_eq!((answer.binder_id.as_str(), &answer.router_ids[..]), ("binder", &["r1".to_owned()][..]));
    let now = super::unix_now();
    let grant: GrantClaims = world.state.verifier().verify(&answer.grant, now).unwrap();
    assert_eq!(
        (grant.jti.as_str(), grant.sub.as_str(), grant.aud.as_str()),
        (&*answer.grant_id, "dialer", "binder")
    );
    assert_eq!((grant.cnf.as_str(), grant.exp), ("key-of-dialer", answer.expires_at));
    let pass: PassClaims = world.state.verifier().verify(&answer.pass, now).unwrap();
    assert_eq!((pass.a, pass.b, pass.jti), (dialer.tag(), binder.tag(), answer.grant_id.clone()));

    world.delete_policy("dialer-Dial").await;
    for revoked in [binder.revoked().await, dialer.revoked().await] {
        assert_eq!(revoked.grant_ids, [answer.grant_id.clone()]);
        assert!(revoked.reason.contains("no Dial service-policy"), "{}", revoked.reason);
    }
    let told = router.revoked().await;
    assert_eq!(told.pass_ids, [answer.grant_id.clone()]);
    assert!(!told.reason.contains("name"), "a router learns no names: {}", told.reason);
    dialer.state_where(|s| s.services.is_empty()).await;
    assert_eq!(dialer.dial(ask("s")).await.unwrap_err().code(), Code::NotFound);
    let renewal = DialRequest { terminator_id: answer.terminator_id, ..ask("s") };
    assert_eq!(dialer.dial(renewal).await.unwrap_err().code(), Code::NotFound);
    // A router that was away is told when it is back.
    assert_eq!(world.router("r1").await.revoked().await.pass_ids, [answer.grant_id.clone()]);
    let audit = world.audit();
    assert!(audit.contains("dialer-Dial") && audit.contains("no Dial service-policy has both"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_is_told_what_was_revoked_meanwhile() {
    let world = World::new().await;
    let (mut dialer, binder, _router) = world.hosted().await;
    let answer = dialer.dial(ask("s")).await.unwrap();
    let token = binder.token().to_owned();
    drop(binder);
    let mut presence = world.state.control.view.subscribe();
    while world.state.control.identity_is_online(&IdentityId::new("binder")) {
        timeout(DEADLINE, presence.changed()).await.expect("binder offline").unwrap();
    }
    world.delete_policy("dialer-Dial").await;
    dialer.revoked().await;
    let mut binder = world.resume("binder", &token).await.unwrap();
    assert_eq!(binder.revoked().await.grant_ids, [answer.grant_id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_controller_loses_no_session_and_no_terminator() {
    let world = World::new().await;
    let (dialer, mut binder, _router) = world.hosted().await;
    let terminator = binder.bind("s", "").await.unwrap();
    assert_eq!(world.terminators(), [terminator.clone()], "bound twice, stored once");
    let (tag, token) = (binder.tag(), binder.token().to_owned());
    drop((dialer, binder));
    let world = world.restart().await;
    let _router = world.router("r1").await;
    assert_eq!(world.terminators(), [terminator.clone()]);
    let mut dialer = world.node("dialer").await;
    let offline = dialer.dial(ask("s")).await.unwrap_err();
    assert!(
        offline.code() == Code::Unavailable && offline.message().contains("no online terminators"),
        "{offline}"
    );
    // Somebody else with the token gets a session of its own.
    assert_ne!(world.resume("stranger", &token).await.unwrap().tag(), tag);
    let mut binder = world.resume("binder", &token).await.unwrap();
    assert_eq!(binder.tag(), tag);
    binder.attach(&["r1"]).await;
    assert_eq!(binder.bind("s", "").await.unwrap(), terminator);
    assert_eq!(dialer.dial(ask("s")).await.unwrap().binder_tag, tag.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_forbidden_services_answer_byte_for_byte_alike() {
    let world = World::new().await;
    let (_dialer, _binder, _router) = world.hosted().await;
    let mut stranger = world.node("stranger").await;
    let forbidden = stranger.dial(ask("s-name")).await.unwrap_err();
    let unbindable = stranger.bind("s-name", "").await.unwrap_err();
    assert!(world.state.delete::<hesper_model::entity::Service>("s").await.unwrap());
    let unknown = stranger.dial(ask("s-name")).await.unwrap_err();
    let missing = stranger.bind("s-name", "").await.unwrap_err();
    for (a, b) in [(forbidden, unknown), (unbindable, missing)] {
        assert_eq!((a.code(), a.message(), a.details()), (b.code(), b.message(), b.details()));
        assert!(a.code() == Code::NotFound && a.message().contains("ask for a"), "{a}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_identity_loses_everything_at_once_and_nobody_else_does() {
    let world = World::new().await;
    let (mut dialer, mut binder, mut router) = world.hosted().await;
    let answer = dialer.dial(ask("s")).await.unwrap();
    let tag = binder.tag();
    world.disable("binder").await;
    let end = binder.end().await;
    assert!(
        end.code() == Code::PermissionDenied && end.message().contains("binder-name' is disabled"),
        "{end}"
    );
    assert_eq!(dialer.revoked().await.grant_ids, [answer.grant_id.clone()]);
    let (mut passes, mut sessions) = (Vec::new(), Vec::new());
    while passes.is_empty() || sessions.is_empty() {
        let told = router.revoked().await;
        passes.extend(told.pass_ids);
        sessions.extend(told.session_tags);
    }
    assert_eq!((passes, sessions), (vec![answer.grant_id], vec![tag.0.to_vec()]));
    world.until("its terminators go", |w| w.terminators().is_empty()).await;
    let refused = world.resume("binder", binder.token()).await.err().expect("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    dialer.state_where(|s| s.services.iter().all(|s| s.hosts.is_empty())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_or_missing_certificate_is_nobody() {
    let world = World::new().await;
    let mut stranger = world.node("stranger").await;
    let old = world.state.records().certificate("serial-of-stranger").unwrap().clone();
    let mut changes = Changes::default();
    let revoked = Certificate { revoked: true, ..old.entity };
    changes.update_record(format!("{CERTIFICATE}serial-of-stranger"), old.mod_revision, &revoked);
    world.state.commit(changes).await.unwrap();
    let end = stranger.end().await;
    assert!(end.code() == Code::Unauthenticated && end.message().contains("was revoked"), "{end}");
    for (who, code) in [
        ("stranger", Code::Unauthenticated),
        ("nobody", Code::Unauthenticated),
        ("r1", Code::PermissionDenied),
    ] {
        assert_eq!(world.resume(who, "").await.err().map(|s| s.code()), Some(code), "{who}");
    }
    let mut client = NodeControlClient::new(world.channel());
    let anonymous = client.dial(Request::new(ask("s"))).await.unwrap_err();
    assert!(anonymous.code() == Code::Unauthenticated && anonymous.message().contains("client certificate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_waits_for_a_binder_that_is_about_to_attach() {
    let world = World::new().await;
    let _router = world.router("r1").await;
    let (mut dialer, mut binder) = (world.node("dialer").await, world.node("binder").await);
    binder.bind("s", "").await.unwrap();
    let dial = async { dialer.dial(ask("s")).await };
    let attach = async {
        while world.state.control.waiting.available_permits() == super::WAITING_MAX {
            tokio::task::yield_now().await;
        }
        binder.attach(&["r1"]).await;
    };
    let (dialed, ()) = tokio::join!(dial, attach);
    assert_eq!(dialed.unwrap().router_ids, ["r1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_policy_removed_takes_the_terminators_and_unbind_its_own_only() {
    let world = World::new().await;
    let (mut dialer, mut binder, _router) = world.hosted().await;
    let second = binder.bind("s", "i").await.unwrap();
    let unbind =
        |who: &str, id: &str| call(who, hesper_proto::control::UnbindRequest { terminator_id: id.into() });
    assert_eq!(dialer.client.unbind(unbind("dialer", &second)).await.unwrap_err().code(), Code::NotFound);
    binder.client.unbind(unbind("binder", &second)).await.unwrap();
    assert_eq!(world.terminators().len(), 1);
    let update = hesper_proto::control::UpdateTerminatorRequest {
        terminator_id: world.terminators()[0].clone(),
        cost: Some(9),
        precedence: "failed".into(),
    };
    binder.client.update_terminator(call("binder", update)).await.unwrap();
    assert_eq!(world.state.get::<Terminator>(&world.terminators()[0]).unwrap().entity.cost, 9);
    world.delete_policy("binder-Bind").await;
    world.until("its terminators go", |w| w.terminators().is_empty()).await;
    binder.state_where(|s| s.services.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_keeps_the_key() {
    let world = World::new().await;
    let (own, other) = (key::generate().unwrap(), key::generate().unwrap());
    let mut changes = Changes::default();
    let record = Certificate {
        subject: format!("spiffe://{TRUST_DOMAIN}/identity/dialer"),
        spki_sha256: own.spki_sha256(),
        not_after: OffsetDateTime::now_utc() + Duration::from_secs(60),
        revoked: false,
    };
    changes.create_record(format!("{CERTIFICATE}own"), &record);
    world.state.commit(changes).await.unwrap();
    let mut client = NodeControlClient::new(world.channel());
    let request = |key: &key::PrivateKey| {
        let mut request = call("dialer", RenewRequest { csr_der: csr::make(key).unwrap() });
        request.metadata_mut().insert(KEY, MetadataValue::try_from(own.spki_sha256()).unwrap());
        request
    };
    let renewed = client.renew(request(&own)).await.unwrap().into_inner();
    let chain = hesper_pki::pem::certificates(&renewed.chain_pem).unwrap();
    let leaf = PeerIdentity::of(&chain[0]).unwrap();
    assert_eq!((leaf.id.id.as_str(), leaf.spki_sha256.clone()), ("dialer", own.spki_sha256()));
    assert!(
        leaf.not_after < OffsetDateTime::now_utc() + Duration::from_secs(3700),
        "as long as the settings say"
    );
    assert!(world.state.records().certificate(&leaf.serial).is_some());
    let refused = client.renew(request(&other)).await.unwrap_err();
    assert!(refused.message().contains("another key"), "{refused}");
    assert!(world.audit().contains("KEY_CHANGED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_nodes_get_one_update_each() {
    const NODES: usize = 1000;
    /// Streams on one connection: below the 200 that a server takes.
    const SHARED_BY: usize = 100;
    let world = World::new().await;
    let names: Vec<String> = (0..NODES).map(|n| format!("node{n}")).collect();
    for some in names.chunks(SHARED_BY) {
        let mut changes = Changes::default();
        for name in some {
            changes.create(&identity(name));
            certify(&mut changes, SpiffeRole::Identity, name);
        }
        world.state.commit(changes).await.unwrap();
    }
    let mut nodes = Vec::new();
    for some in names.chunks(SHARED_BY) {
        let channel = world.channel();
        let opened = some.iter().map(|name| open(channel.clone(), name, ""));
        nodes.extend(futures::future::join_all(opened).await.into_iter().map(Result::unwrap));
    }
    assert_eq!(world.state.control.lock().sessions.count().0, NODES);
    // Whatever the opening stirred up has been told: a change that concerns nobody here says nothing new.
    let all = ServicePolicy {
        identity_roles: super::testing::roles("#all"),
        ..policy(PolicyType::Dial, "everybody")
    };
    let mut changes = Changes::default();
    changes.create(&all);
    let revision = world.state.commit(changes).await.unwrap();
    let updates = nodes.iter_mut().map(|node| async move {
        let state = node.next_state().await.unwrap();
        (state.revision, state.services.len())
    });
    for (told, services) in futures::future::join_all(updates).await {
        assert!(told >= revision && services == 1, "{told} {services}");
    }
    // And not a second one: the next thing that each is told is the next change.
    world.delete_policy("everybody-Dial").await;
    let updates = nodes.iter_mut().map(|node| async move { node.next_state().await.unwrap().services.len() });
    assert!(futures::future::join_all(updates).await.into_iter().all(|services| services == 0));
}
