//! A node without manners: it has an identity and speaks the protocols, but decides itself what it shows to whom.
//!
//! The SDK asks for a grant, shows its pass and dials by it. A hostile dialer may mix: other grants, none, another service, no pass.

use hesper_client::channel::ControlChannel;
use hesper_model::id::{IdentityId, Tag};
use hesper_overlay::{
    attach::AttachTarget,
    node::{Node, NodeOptions, PassError},
    passes::Pass,
    peer::{OpenError, Peer},
    stream::Stream,
};
use hesper_pki::{credentials::SharedCredentials, identity_file::IdentityFile};
use hesper_proto::{
    SESSION_METADATA,
    control::{
        AttachPoint, DialRequest, DialResponse, NodeHello, NodeReport, NodeState, node_control_client,
        node_report, node_update::Update,
    },
    overlay::{DialHeader, RenewGrant},
};
use std::{path::Path, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module. Needs a tokio runtime.
pub struct HostileNode {
    node: Node,
    control: ControlChannel,
    session_token: String,
    routers: Vec<AttachPoint>,
    /// The session, and with it the tag, lives as long as the watch.
    watch: JoinHandle<()>,
}

/// What a stream is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of the dialed service.
    pub service_id: String,
    /// Of the dialed terminator.
    pub terminator_id: String,
    /// The token.
    pub grant: String,
}

impl From<&DialResponse> for Ask {
    fn from(honest: &DialResponse) -> Self {
        let DialResponse { service_id, terminator_id, grant, .. } = honest.clone();
        Self { service_id, terminator_id, grant }
    }
}

impl HostileNode {
    /// Opens a session with the controller and attaches to its routers.
    ///
    /// # Panics
    /// When controller or router do not let it.
    pub async fn start(identity: &str) -> Self {
        let file = IdentityFile::load(Path::new(identity)).expect("an identity file");
        let credentials = SharedCredentials::new(file.credentials().expect("credentials"));
        let control = ControlChannel::new(&file.controllers(), credentials.clone()).expect("a channel");
        let (state, watch) = timeout(PATIENCE, watch(&control)).await.expect("a state in time");
        let session = state.session.expect("a session");
        let options = NodeOptions {
            credentials,
            tag: Tag::from_slice(&session.tag).expect("a tag"),
            session_token: session.token.clone(),
            outage_grace: Duration::ZERO,
        };
        let node = Node::new(options).expect("a node");
        node.set_routers(state.routers.iter().map(target).collect());
        let mut attached = node.attached();
        let waited = timeout(PATIENCE, attached.wait_for(|routers| routers.iter().any(|r| r.attached)));
        assert!(waited.await.is_ok(), "not attached: {:?}", node.attached().borrow());
        Self { node, control, session_token: session.token, routers: state.routers, watch }
    }

    /// The routers that it was given, and with what to knock there.
    pub fn routers(&self) -> &[AttachPoint] {
        &self.routers
    }

    /// Its tag.
    pub fn tag(&self) -> Tag {
        self.node.tag()
    }

    /// The token that proves its tag to routers.
    pub fn session_token(&self) -> &str {
        &self.session_token
    }

    /// What the controller gives it for dialing a service, as it gives it to anybody.
    ///
    /// # Panics
    /// When the controller refuses, or says nothing.
    pub async fn grant(&self, service: &str) -> DialResponse {
        let mut client = node_control_client::NodeControlClient::new(self.control.channel());
        let mut request =
            tonic::Request::new(DialRequest { service: service.into(), ..DialRequest::default() });
        let session = self.node.tag().to_string().parse().expect("metadata");
        request.metadata_mut().insert(SESSION_METADATA, session);
        timeout(PATIENCE, client.dial(request)).await.expect("an answer").expect("a grant").into_inner()
    }

    /// Shows a pass to the routers, as an honest node does before it dials.
    ///
    /// # Errors
    /// What the routers said.
    pub async fn show_pass(&self, honest: &DialResponse) -> Result<(), PassError> {
        let pass = Pass {
            peer: Tag::from_slice(&honest.binder_tag).expect("a tag"),
            purpose: honest.terminator_id.clone(),
            token: honest.pass.clone(),
            paths: honest.paths.iter().map(|path| path.router_ids.clone()).collect(),
            exp: honest.expires_at,
        };
        self.node.present(pass).await.map(drop)
    }

    /// A connection to a hosting node, by whatever way leads there.
    ///
    /// # Errors
    /// None does, or the peer is another.
    pub async fn connect(&self, binder: &str, tag: Tag) -> Result<Peer, OpenError> {
        self.node.connect_peer(&IdentityId::new(binder), tag).await
    }

    /// The pass shown, the connection made.
    ///
    /// # Panics
    /// When either fails.
    pub async fn connect_by(&self, honest: &DialResponse) -> Peer {
        self.show_pass(honest).await.expect("an open pair");
        let tag = Tag::from_slice(&honest.binder_tag).expect("a tag");
        self.connect(&honest.binder_id, tag).await.expect("a peer")
    }
}

impl Drop for HostileNode {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Asks for a stream.
///
/// # Errors
/// Why there is none.
pub async fn open(peer: &Peer, ask: &Ask) -> Result<Stream, OpenError> {
    open_within(peer, ask, PATIENCE).await
}

/// As [`open`], in another time.
///
/// # Errors
/// Why there is none.
pub async fn open_within(peer: &Peer, ask: &Ask, within: Duration) -> Result<Stream, OpenError> {
    let header = DialHeader {
        service_id: ask.service_id.clone(),
        terminator_id: ask.terminator_id.clone(),
        grant: ask.grant.clone(),
        ..DialHeader::default()
    };
    peer.open(header, Box::new(()), within).await
}

/// Asks for a longer life of the open streams of a service and terminator.
pub fn renew(peer: &Peer, ask: &Ask) {
    peer.renew(RenewGrant {
        service_id: ask.service_id.clone(),
        terminator_id: ask.terminator_id.clone(),
        grant: ask.grant.clone(),
    });
}

async fn watch(control: &ControlChannel) -> (NodeState, JoinHandle<()>) {
    let (reports, stream) = mpsc::channel(1);
    let hello = node_report::Report::Hello(NodeHello::default());
    reports.send(NodeReport { report: Some(hello) }).await.expect("room");
    let mut client = node_control_client::NodeControlClient::new(control.channel());
    let mut updates = client.watch(ReceiverStream::new(stream)).await.expect("a watch").into_inner();
    let state = loop {
        match updates.message().await.expect("an update").and_then(|update| update.update) {
            Some(Update::State(state)) => break state,
            Some(_) => {}
            None => panic!("the controller ended the watch"),
        }
    };
    let rest = async move {
        let _open = reports;
        while updates.message().await.is_ok_and(|update| update.is_some()) {}
    };
    (state, tokio::spawn(rest))
}

fn target(point: &AttachPoint) -> AttachTarget {
    AttachTarget {
        router_id: point.router_id.clone(),
        name: point.name.clone(),
        addresses: point.addresses.clone(),
        tag: Tag::from_slice(&point.tag).expect("a tag"),
        knock_key_id: point.knock_key_id[..].try_into().expect("eight bytes"),
        knock_key: point.knock_key[..].try_into().expect("32 bytes"),
    }
}
