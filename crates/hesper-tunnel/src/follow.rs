//! The node's view with what is computed from it, kept current.

use crate::names::Names;
use hesper_sdk::{Context, NodeView};
use std::sync::Arc;
use tokio::sync::watch;

/// A view and its names.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The view.
    pub view: Arc<NodeView>,
    /// The names in it.
    pub names: Names,
}

impl Known {
    /// Computes what follows from a view.
    pub fn of(view: Arc<NodeView>) -> Self {
        Self { names: Names::of(&view), view }
    }

    /// Can this node do its work? The controller may be gone: what is known still works.
    ///
    /// # Errors
    /// What is missing.
    pub fn health(&self) -> Result<(), String> {
        self.view.health()
    }
}

/// Follows the context in the background for as long as somebody holds the receiver.
pub fn follow(ctx: &Context) -> watch::Receiver<Arc<Known>> {
    let mut state = ctx.state();
    let (sender, receiver) = watch::channel(Arc::new(Known::of(state.borrow_and_update().clone())));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
            let view = state.borrow_and_update().clone();
            sender.send_replace(Arc::new(Known::of(view)));
        }
    });
    receiver
}
