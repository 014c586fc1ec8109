//! What nodes and routers ask over gRPC.

use crate::state::State;
use hesper_model::id::{EdgeRouterId, IdentityId};
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Sessions of nodes and routers, and the grants given to them.
#[derive(Default)]
pub(crate) struct Control {}

impl Control {
    /// Is the router's watch open?
    pub(crate) fn router_is_online(&self, _id: &EdgeRouterId) -> bool {
        false
    }
    /// Has the identity an open watch?
    pub(crate) fn identity_is_online(&self, _id: &IdentityId) -> bool {
        false
    }
    /// Is one of the identity's sessions attached to a router?
    pub(crate) fn identity_is_attached(&self, _id: &IdentityId) -> bool {
        false
    }
}

/// The gRPC services, to be merged with the REST routes.
pub(crate) fn routes(_state: Arc<State>) -> axum::Router {
    axum::Router::new()
}

/// Starts the background tasks; they end when `stop` is cancelled.
pub(crate) fn spawn(_state: &Arc<State>, _tasks: &TaskTracker, _stop: &CancellationToken) {}
