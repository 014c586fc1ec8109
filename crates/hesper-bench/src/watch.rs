//! A node's conversation with the controller, and no more: for measuring controllers and routers without the nodes' own cost.

use anyhow::{Context, Result};
use hesper_client::channel::ControlChannel;
use hesper_pki::{credentials::SharedCredentials, identity_file::IdentityFile};
use hesper_proto::control::{
    Attached, AttachedRouter, NodeHello, NodeReport, NodeState, NodeUpdate,
    node_control_client::NodeControlClient, node_report, node_update,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, transport::Channel};

/// How long the controller may take to answer one of thousands.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open watch.
pub(crate) struct Watch {
    /// Of the identity.
    pub(crate) credentials: SharedCredentials,
    /// The first state.
    pub(crate) first: NodeState,
    client: NodeControlClient<Channel>,
    updates: Streaming<NodeUpdate>,
    /// Open for as long as the session is.
    reports: mpsc::Sender<NodeReport>,
}

impl Watch {
    /// Connects and waits for the first state.
    pub(crate) async fn open(file: &IdentityFile) -> Result<Self> {
        let credentials = SharedCredentials::new(file.credentials()?);
        let channel = ControlChannel::new(&file.controllers(), credentials.clone())?;
        let mut client = NodeControlClient::new(channel.channel());
        let (reports, stream) = mpsc::channel(4);
        let hello = NodeHello { session_token: String::new(), client: "hesper-bench".into() };
        reports.send(NodeReport { report: Some(node_report::Report::Hello(hello)) }).await?;
        let opening = async {
            let mut updates = client.watch(ReceiverStream::new(stream)).await?.into_inner();
            let first = next(&mut updates).await?;
            anyhow::Ok((updates, first))
        };
        let (updates, first) =
            tokio::time::timeout(PATIENCE, opening).await.context("no state from the controller")??;
        Ok(Self { credentials, first, client, updates, reports })
    }

    /// The next state.
    pub(crate) async fn next(&mut self) -> Result<NodeState> {
        next(&mut self.updates).await
    }

    /// Tells the controller that the node is attached to this router.
    pub(crate) async fn report_attached(&self, router_id: &str) -> Result<()> {
        let routers = vec![AttachedRouter { router_id: router_id.to_owned(), rtt_micros: 0 }];
        let report = node_report::Report::Attached(Attached { routers });
        Ok(self.reports.send(NodeReport { report: Some(report) }).await?)
    }

    /// The client and a request in the name of this session.
    pub(crate) fn request<T>(&self, message: T) -> Result<(NodeControlClient<Channel>, Request<T>)> {
        let session = self.first.session.as_ref().context("no session")?;
        let tag: String = session.tag.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut request = Request::new(message);
        request.metadata_mut().insert(hesper_proto::SESSION_METADATA, tag.parse()?);
        Ok((self.client.clone(), request))
    }
}

async fn next(updates: &mut Streaming<NodeUpdate>) -> Result<NodeState> {
    loop {
        let update = updates.message().await?.context("the controller ended the watch")?;
        if let Some(node_update::Update::State(state)) = update.update {
            return Ok(state);
        }
    }
}
