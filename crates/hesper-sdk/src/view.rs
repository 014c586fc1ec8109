//! What a node knows about itself and its services.

use hesper_proto::control::Service;

/// A node's whole state at one moment, published on every change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    /// Revision of the controller's model that it reflects; 0 = nothing heard yet.
    pub revision: u64,
    /// Id of this identity; empty until the controller was reached.
    pub identity_id: String,
    /// Name of this identity.
    pub identity_name: String,
    /// Is the controller reachable now?
    pub connected: bool,
    /// Names of the routers that the node is attached to now, in order of preference.
    pub attached: Vec<String>,
    /// Services that this identity may dial or bind, ordered by name. Kept during an outage.
    pub services: Vec<Service>,
}

impl NodeView {
    /// The service of this name (or id).
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.name == name).or_else(|| self.services.iter().find(|s| s.id == name))
    }
}
