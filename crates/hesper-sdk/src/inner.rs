//! What a context shares with its tasks.

use crate::{
    ContextOptions, NodeView,
    grants::Leases,
    status::{self, Failure},
};
use hesper_client::{
    channel::ControlChannel,
    keeper::Keeper,
    rpc::{self, Rpc},
};
use hesper_overlay::node::{AttachState, Node};
use hesper_pki::credentials::SharedCredentials;
use hesper_proto::{SESSION_METADATA, control::node_control_client::NodeControlClient};
use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, transport::Channel};

/// How long the controller may take to answer one call. It waits up to two seconds itself for somebody who is about to come back.
const CALL_DEADLINE: Duration = Duration::from_secs(8);

/// The session with the controller, and the node that lives by it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) node: Arc<Node>,
    /// Counts the watches: each one that was opened may have found a controller that knows nothing of what we bound.
    pub(crate) watch: u64,
    /// Is that watch open now?
    pub(crate) connected: bool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) credentials: SharedCredentials,
    pub(crate) keeper: Keeper,
    pub(crate) options: ContextOptions,
    pub(crate) control: ControlChannel,
    pub(crate) view: watch::Sender<Arc<NodeView>>,
    pub(crate) session: watch::Sender<Option<Session>>,
    pub(crate) attached: watch::Sender<Vec<AttachState>>,
    pub(crate) leases: Leases,
    /// Nodes of sessions that were replaced: they live until their streams are over.
    pub(crate) retired: Mutex<Vec<Arc<Node>>>,
    /// Ends the listeners; they still need the session for saying so.
    pub(crate) unbinding: CancellationToken,
    pub(crate) listeners: TaskTracker,
    /// Ends everything.
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
    problem: Mutex<String>,
    /// The controller's own no to the last watch: this identity is disabled, its certificate revoked.
    refusal: watch::Sender<Option<Status>>,
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn new(keeper: Keeper, control: ControlChannel, options: ContextOptions) -> Self {
        let closing = CancellationToken::new();
        Self {
            credentials: keeper.credentials().clone(),
            keeper,
            options,
            control,
            view: watch::Sender::default(),
            session: watch::Sender::new(None),
            attached: watch::Sender::default(),
            leases: Leases::default(),
            retired: Mutex::default(),
            unbinding: closing.child_token(),
            listeners: TaskTracker::new(),
            closing,
            tasks: TaskTracker::new(),
            problem: Mutex::new("not yet tried".into()),
            refusal: watch::Sender::new(None),
        }
    }

    /// Runs until the context is closed.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = closing.cancelled_owned() => {}
                () = task => {}
            }
        });
    }

    pub(crate) fn client(&self) -> NodeControlClient<Channel> {
        NodeControlClient::new(self.control.channel())
    }

    /// Is the watch open?
    pub(crate) fn connected(&self) -> bool {
        self.session.borrow().as_ref().is_some_and(|s| s.connected)
    }

    /// The session, once the watch is open.
    pub(crate) async fn connected_session(&self) -> Session {
        let mut sessions = self.session.subscribe();
        loop {
            if let Some(session) = sessions.borrow_and_update().clone().filter(|s| s.connected) {
                return session;
            }
            if sessions.changed().await.is_err() {
                // The sender is in `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The watch that is open now.
    pub(crate) fn open_watch(&self) -> Option<u64> {
        self.session.borrow().as_ref().filter(|s| s.connected).map(|s| s.watch)
    }

    /// The last reason why the controller was not reached.
    pub(crate) fn problem(&self) -> String {
        lock(&self.problem).clone()
    }

    pub(crate) fn set_problem(&self, text: &str) {
        text.clone_into(&mut lock(&self.problem));
    }

    /// Takes note of the controller's no, or that there is none any more. It is no outage: what was granted before ends, also if
    /// the routers have already cut this node off and no word of the other side comes through.
    pub(crate) fn set_refusal(&self, refusal: Option<Status>) {
        if refusal.is_some() {
            self.nodes().iter().for_each(|node| node.revoke_all());
            self.leases.all().iter().for_each(|lease| lease.revoke());
        }
        self.refusal.send_replace(refusal);
    }

    /// The controller's no, once it says it.
    pub(crate) async fn refused(&self) -> Status {
        let mut refusals = self.refusal.subscribe();
        match refusals.wait_for(Option::is_some).await.map(|refusal| refusal.clone()) {
            Ok(Some(refusal)) => refusal,
            // The sender is in `self`.
            _ => std::future::pending().await,
        }
    }

    pub(crate) fn change_view(&self, change: impl FnOnce(&mut NodeView)) {
        self.view.send_if_modified(|view| {
            let mut new = NodeView::clone(view);
            change(&mut new);
            let changed = **view != new;
            if changed {
                *view = Arc::new(new);
            }
            changed
        });
    }

    /// Every node that is still in use.
    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        let current = self.session.borrow().as_ref().map(|s| s.node.clone());
        lock(&self.retired).iter().cloned().chain(current).collect()
    }
}

/// Calls the controller for one session, with a deadline.
pub(crate) async fn call<M, T, F>(
    rpc: Rpc,
    session: &Session,
    message: M,
    ask: impl FnOnce(Request<M>) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut request = Request::new(message);
    if let Ok(tag) = session.node.tag().to_string().parse() {
        request.metadata_mut().insert(SESSION_METADATA, tag);
    }
    let in_time = |request| async move {
        timeout(CALL_DEADLINE, ask(request)).await.unwrap_or_else(|_| Err(status::timeout()))
    };
    Ok(rpc::call(rpc, request, in_time).await?.into_inner())
}
