//! The hosting side: a bound service and what arrives for it.

use crate::{BindError, ListenerClosed, Precedence};
use hesper_overlay::stream::Stream;

/// A service bound by this node. Stays bound, through any outage, until dropped or closed.
#[derive(Debug)]
pub struct Listener {
    service: String,
}

/// A dial that was checked (grant, key, policy) and waits for the program's word.
#[derive(Debug)]
pub struct Incoming {
    stream: Stream,
    dialer_id: String,
    service: String,
    app_data: String,
}

impl Listener {
    /// Name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The next dial. Cancel-safe.
    pub async fn accept(&mut self) -> Result<Incoming, ListenerClosed> {
        Err(ListenerClosed)
    }

    /// Changes cost or precedence while bound; what is `None` stays as it is.
    pub async fn update(&self, _cost: Option<u16>, _precedence: Option<Precedence>) -> Result<(), BindError> {
        Err(BindError::Shutdown)
    }

    /// Unbinds and waits until the controller knows. Streams that are open go on.
    pub async fn close(self) {}
}

impl Incoming {
    /// Id of the dialing identity, as its certificate proved it.
    pub fn dialer_id(&self) -> &str {
        &self.dialer_id
    }

    /// Name of the dialed service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// What the dialer told, see [`crate::DialOptions::app_data`]. Empty = nothing.
    pub fn app_data(&self) -> &str {
        &self.app_data
    }

    /// Accepts: the dialer's `dial` returns.
    pub async fn into_stream(self) -> std::io::Result<Stream> {
        Ok(self.stream)
    }

    /// Refuses: the dialer's `dial` fails with [`crate::DialError::Refused`] and this reason.
    pub async fn refuse(self, _reason: &str) {
        self.stream.abort();
    }
}
