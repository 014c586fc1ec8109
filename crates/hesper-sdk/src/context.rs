//! The handle that programs hold.

use crate::{BindError, BindOptions, ContextError, DialError, DialOptions, Listener, NodeView, NotReady};
use hesper_overlay::stream::Stream;
use hesper_pki::identity_file::IdentityFile;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// One identity on the overlay. Cheap to clone; the last clone dropped, or [`Context::shutdown`], ends it.
#[derive(Clone, Debug)]
pub struct Context {
    view: watch::Receiver<Arc<NodeView>>,
}

impl Context {
    /// Reads an identity file and starts. Renewed certificates are written back to it. Needs a tokio runtime.
    pub fn from_identity_file(path: &Path) -> Result<Self, ContextError> {
        Self::from_identity(IdentityFile::load(path)?, Some(path.to_owned()))
    }

    /// Starts with an identity from memory; with a `path`, renewed certificates are written there. Needs a tokio runtime.
    pub fn from_identity(identity: IdentityFile, _path: Option<PathBuf>) -> Result<Self, ContextError> {
        identity.credentials()?;
        Ok(Self { view: watch::channel(Arc::default()).1 })
    }

    /// Waits until the controller has answered and a router is attached.
    pub async fn ready(&self, deadline: Duration) -> Result<(), NotReady> {
        Err(NotReady::Controller { waited: deadline, reason: String::new() })
    }

    /// What the node knows now, and each change.
    pub fn state(&self) -> watch::Receiver<Arc<NodeView>> {
        self.view.clone()
    }

    /// Opens a stream to a service: its name, or `instance@name`.
    pub async fn dial(&self, service: &str) -> Result<Stream, DialError> {
        self.dial_with(service, DialOptions::default()).await
    }

    /// The same with options; an instance in the options wins over one in the name.
    pub async fn dial_with(&self, _service: &str, _options: DialOptions) -> Result<Stream, DialError> {
        Err(DialError::Shutdown)
    }

    /// Hosts a service.
    pub async fn bind(&self, service: &str) -> Result<Listener, BindError> {
        self.bind_with(service, BindOptions::default()).await
    }

    /// The same with options.
    pub async fn bind_with(&self, _service: &str, _options: BindOptions) -> Result<Listener, BindError> {
        Err(BindError::Shutdown)
    }

    /// Unbinds everything, lets what is written be delivered for a moment, and ends.
    pub async fn shutdown(&self) {}
}
