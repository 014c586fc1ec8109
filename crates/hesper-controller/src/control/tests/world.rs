//! A controller without its HTTP side, and the nodes and routers that talk to it.

use super::super::{Control, Settings, routes, spawn, testing::mesh};
use crate::{
    ca::Cas,
    metrics::Metrics,
    state::{Authority, CERTIFICATE, Certificate, Changes, State},
};
use hesper_model::{
    entity::{EdgeRouterPolicy, Identity, ServicePolicy},
    id::Tag,
};
use hesper_observe::{
    events::{Events, Retention},
    metrics::Registry,
};
use hesper_pki::{
    ca::CertificateAuthority,
    credentials::PeerIdentity,
    spiffe::{SpiffeId, SpiffeRole},
    token::Signer,
};
use hesper_proto::{
    SESSION_METADATA,
    control::{
        Attached, AttachedRouter, BindRequest, DialRequest, DialResponse, Link, NodeHello, NodeReport,
        NodeState, NodeUpdate, Revoked, RouterHello, RouterReport, RouterRevoked, RouterState, RouterStatus,
        RouterUpdate, node_control_client::NodeControlClient, node_report, node_update,
        router_control_client::RouterControlClient, router_report, router_update,
    },
};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

pub(super) const TRUST_DOMAIN: &str = "mesh.test";
const CALLER: &str = "test-caller";
pub(super) const KEY: &str = "test-key";
/// Far more than anything here takes; a test that meets it has failed.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// A controller without its HTTP side.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) state: Arc<State>,
    pub(super) url: String,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    settings: Settings,
}

impl World {
    pub(super) async fn new() -> Self {
        let settings = Settings { leaf_validity: Duration::from_secs(3600), ..Settings::default() };
        Self::with(settings).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        CertificateAuthority::create(TRUST_DOMAIN, now).unwrap().save(&dir.path().join("pki")).unwrap();
        Signer::generate().unwrap().save(&dir.path().join("tokens.key")).unwrap();
        let world = Self::start(dir, settings).await;
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

    pub(super) async fn start(dir: tempfile::TempDir, settings: Settings) -> Self {
        let store = hesper_store::open_sqlite(dir.path().join("hesper.db")).unwrap();
        let authority = Authority {
            cas: Cas::load(&dir.path().join("pki")).unwrap(),
            signer: Signer::load(&dir.path().join("tokens.key")).unwrap(),
            trust_domain: TRUST_DOMAIN.into(),
            ctrl_url: "https://localhost:1280".into(),
        };
        let events = Events::open(&dir.path().join("audit.jsonl"), Retention::default()).unwrap();
        let mut state = State::load(store, authority, events, Metrics::new(Registry::new())).await.unwrap();
        state.control.settings = settings;
        let (state, stop, tasks) = (Arc::new(state), CancellationToken::new(), TaskTracker::new());
        let follower = (state.clone(), stop.clone());
        tasks.spawn(async move { follower.0.follow(&follower.1).await.unwrap() });
        spawn(&state, &tasks, &stop);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = routes(state.clone()).layer(axum::middleware::map_request(as_caller));
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stopped).await.unwrap() });
        Self { dir, state, url, stop, tasks, settings }
    }

    /// Stops, and starts again on the same store.
    pub(super) async fn restart(self) -> Self {
        self.restart_after(|_| async {}).await
    }

    /// Stops, lets somebody change the store, and starts again on it.
    pub(super) async fn restart_after<F: Future<Output = ()>>(
        self,
        meanwhile: impl FnOnce(Arc<dyn hesper_store::Store>) -> F,
    ) -> Self {
        self.stop.cancel();
        self.tasks.close();
        timeout(DEADLINE, self.tasks.wait()).await.expect("everything ends");
        meanwhile(self.state.store.clone()).await;
        self.state.store.close().await;
        Self::start(self.dir, self.settings).await
    }

    pub(super) fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url.clone()).unwrap().connect_lazy()
    }

    pub(super) async fn node(&self, who: &str) -> Node {
        self.resume(who, "").await.unwrap()
    }

    pub(super) async fn resume(&self, who: &str, token: &str) -> Result<Node, Status> {
        open(self.channel(), who, token).await
    }

    pub(super) async fn router(&self, id: &str) -> Router {
        let (reports, from) = mpsc::channel(8);
        let hello = RouterHello { addresses: vec![format!("{id}.test:3022")], client: "test".into() };
        reports.send(RouterReport { report: Some(router_report::Report::Hello(hello)) }).await.unwrap();
        let mut client = RouterControlClient::new(self.channel());
        let updates = client.watch(call(id, ReceiverStream::new(from))).await.unwrap().into_inner();
        let mut router = Router { reports, updates, state: RouterState::default() };
        let first = router.next().await.unwrap();
        let router_update::Update::State(state) = first else { panic!("the state comes first: {first:?}") };
        assert_eq!(state.router_id, id);
        router.state = state;
        router
    }

    /// Dialer and binder online and attached to `r1`, service `s` bound.
    pub(super) async fn hosted(&self) -> (Node, Node, Router) {
        let router = self.router("r1").await;
        let (mut dialer, mut binder) = (self.node("dialer").await, self.node("binder").await);
        for node in [&mut dialer, &mut binder] {
            node.attach(&["r1"]).await;
        }
        binder.bind("s", "").await.unwrap();
        (dialer, binder, router)
    }

    pub(super) async fn delete_policy(&self, id: &str) {
        assert!(self.state.delete::<ServicePolicy>(id).await.unwrap());
    }

    /// Gives the dialer `r1` only, and the binder `r2` only.
    pub(super) async fn separate(&self) {
        let policies = mesh().routers_of("dialer", "@r1").routers_of("binder", "@r2").0.edge_router_policies;
        let mut changes = Changes::default();
        policies.iter().for_each(|p| changes.create(p));
        self.state.commit(changes).await.unwrap();
        assert!(self.state.delete::<EdgeRouterPolicy>("erp").await.unwrap());
    }

    pub(super) async fn disable(&self, id: &str) {
        self.set_disabled(id, true).await;
    }

    pub(super) async fn enable(&self, id: &str) {
        self.set_disabled(id, false).await;
    }

    async fn set_disabled(&self, id: &str, disabled: bool) {
        let old = self.state.get::<Identity>(id).unwrap();
        let mut changes = Changes::default();
        changes.update(&old, &Identity { disabled, ..old.entity.clone() });
        self.state.commit(changes).await.unwrap();
    }

    pub(super) fn terminators(&self) -> Vec<String> {
        self.state.model().terminators().map(|t| t.id.to_string()).collect()
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.state.subscribe();
        let wait = async {
            while !holds(self) {
                changes.changed().await.unwrap();
            }
        };
        timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what}"));
    }

    /// The same of what no revision of the store tells.
    pub(super) async fn until_here(&self, what: &str, holds: impl Fn(&Control) -> bool) {
        let wait = async {
            while !holds(&self.state.control) {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what}"));
    }

    pub(super) fn audit(&self) -> String {
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

pub(super) fn certify(changes: &mut Changes, role: SpiffeRole, id: &str) {
    let subject = SpiffeId::new(TRUST_DOMAIN, role, id).unwrap().to_string();
    let certificate = Certificate {
        subject,
        spki_sha256: format!("key-of-{id}"),
        issuer: String::new(),
        not_before: None,
        not_after: OffsetDateTime::now_utc() + Duration::from_secs(3600),
        revoked: false,
    };
    changes.create_record(format!("{CERTIFICATE}serial-of-{id}"), &certificate);
}

pub(super) fn call<T>(who: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(CALLER, MetadataValue::try_from(who).unwrap());
    request
}

/// The same from this session.
pub(super) fn from_session<T>(who: &str, session: Tag, message: T) -> Request<T> {
    let mut request = call(who, message);
    request.metadata_mut().insert(SESSION_METADATA, MetadataValue::try_from(session.to_string()).unwrap());
    request
}

/// A node with an open watch.
pub(super) struct Node {
    pub(super) who: String,
    pub(super) client: NodeControlClient<Channel>,
    pub(super) reports: mpsc::Sender<NodeReport>,
    pub(super) updates: Streaming<NodeUpdate>,
    pub(super) state: NodeState,
}

pub(super) async fn open(channel: Channel, who: &str, token: &str) -> Result<Node, Status> {
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
    pub(super) async fn next(&mut self) -> Result<node_update::Update, Status> {
        let update = timeout(DEADLINE, self.updates.message()).await.expect("an update")?;
        Ok(update.expect("the watch goes on").update.expect("an update"))
    }

    pub(super) async fn next_state(&mut self) -> Result<&NodeState, Status> {
        loop {
            if let node_update::Update::State(state) = self.next().await? {
                self.state = state;
                return Ok(&self.state);
            }
        }
    }

    pub(super) async fn state_where(&mut self, holds: impl Fn(&NodeState) -> bool) {
        while !holds(&self.state) {
            self.next_state().await.unwrap();
        }
    }

    pub(super) async fn revoked(&mut self) -> Revoked {
        loop {
            match self.next().await.unwrap() {
                node_update::Update::Revoked(revoked) => return revoked,
                node_update::Update::State(state) => self.state = state,
                node_update::Update::Reroute(_) => {}
            }
        }
    }

    /// Grants to be renewed for better ways.
    pub(super) async fn reroute(&mut self) -> Vec<String> {
        loop {
            match self.next().await.unwrap() {
                node_update::Update::Reroute(reroute) => return reroute.grant_ids,
                node_update::Update::State(state) => self.state = state,
                node_update::Update::Revoked(revoked) => panic!("{revoked:?}"),
            }
        }
    }

    /// The status that ends the watch.
    pub(super) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    pub(super) async fn attach(&mut self, routers: &[&str]) {
        let of = |id: &&str| AttachedRouter { router_id: (*id).to_owned(), rtt_micros: 0 };
        let attached = Attached { routers: routers.iter().map(of).collect() };
        self.reports
            .send(NodeReport { report: Some(node_report::Report::Attached(attached)) })
            .await
            .unwrap();
    }

    pub(super) fn tag(&self) -> Tag {
        Tag::from_slice(&self.state.session.as_ref().unwrap().tag).unwrap()
    }

    pub(super) fn token(&self) -> &str {
        &self.state.session.as_ref().unwrap().token
    }

    pub(super) async fn dial(&mut self, request: DialRequest) -> Result<DialResponse, Status> {
        let request = from_session(&self.who, self.tag(), request);
        Ok(timeout(DEADLINE, self.client.dial(request)).await.expect("an answer")?.into_inner())
    }

    pub(super) async fn bind(&mut self, service: &str, instance: &str) -> Result<String, Status> {
        let request =
            BindRequest { service: service.into(), instance: instance.into(), ..BindRequest::default() };
        let answer = self.client.bind(call(&self.who, request));
        Ok(timeout(DEADLINE, answer).await.expect("an answer")?.into_inner().terminator_id)
    }
}

/// A router with an open watch.
pub(super) struct Router {
    reports: mpsc::Sender<RouterReport>,
    pub(super) updates: Streaming<RouterUpdate>,
    pub(super) state: RouterState,
}

impl Router {
    pub(super) async fn next(&mut self) -> Result<router_update::Update, Status> {
        let update = timeout(DEADLINE, self.updates.message()).await.expect("an update")?;
        Ok(update.expect("the watch goes on").update.expect("an update"))
    }

    pub(super) async fn revoked(&mut self) -> RouterRevoked {
        loop {
            match self.next().await.unwrap() {
                router_update::Update::Revoked(revoked) => return revoked,
                router_update::Update::State(state) => self.state = state,
            }
        }
    }

    pub(super) async fn state_where(&mut self, holds: impl Fn(&RouterState) -> bool) -> RouterState {
        while !holds(&self.state) {
            if let router_update::Update::State(state) = self.next().await.unwrap() {
                self.state = state;
            }
        }
        self.state.clone()
    }

    /// Its links, with their round-trip times in microseconds.
    pub(super) async fn report(&self, draining: bool, links: &[(&str, u32)]) {
        let link = |(id, rtt): &(&str, u32)| Link { router_id: (*id).to_owned(), rtt_micros: *rtt };
        let status = RouterStatus { attached: Vec::new(), draining, links: links.iter().map(link).collect() };
        let report = RouterReport { report: Some(router_report::Report::Status(status)) };
        self.reports.send(report).await.unwrap();
    }
}
