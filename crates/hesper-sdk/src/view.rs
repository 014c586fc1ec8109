//! What a node knows about itself and its services.

use hesper_proto::control::{Service, ServiceHost};

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
    /// Can this node do its work? The controller may be gone: what is known still works.
    ///
    /// # Errors
    /// What is missing.
    pub fn health(&self) -> Result<(), String> {
        if self.revision == 0 {
            Err("the controller has not answered yet".into())
        } else if self.attached.is_empty() {
            Err("not attached to any edge router".into())
        } else {
            Ok(())
        }
    }

    /// The service of this name (or id).
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.name == name).or_else(|| self.services.iter().find(|s| s.id == name))
    }
}

/// What a controller tells of services soon after a watch was opened. It may just have been started: hosts of before that it does not
/// know are about to come back to it. From then on its word counts.
pub(crate) struct Settling {
    /// Hosts of before that it has not yet spoken of.
    before: Vec<Service>,
    told: Vec<Service>,
}

impl Settling {
    /// `before`: what the last watch told.
    pub(crate) fn new(before: Vec<Service>) -> Self {
        Self { told: before.clone(), before }
    }

    /// What is told, with the hosts that are awaited where the service may still be dialed.
    pub(crate) fn take(&mut self, mut told: Vec<Service>) -> Vec<Service> {
        self.told.clone_from(&told);
        for service in &mut told {
            let Some(before) = self.before.iter_mut().find(|s| s.id == service.id) else { continue };
            let is_told = |h: &ServiceHost| {
                service.hosts.iter().any(|t| (&t.identity_id, &t.instance) == (&h.identity_id, &h.instance))
            };
            before.hosts.retain(|h| service.may_dial && !is_told(h));
            service.hosts.extend(before.hosts.iter().cloned());
            service
                .hosts
                .sort_by(|a, b| (&a.identity_name, &a.instance).cmp(&(&b.identity_name, &b.instance)));
        }
        told
    }

    /// What was told last, when nobody is awaited any more.
    pub(crate) fn end(self) -> Vec<Service> {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(may_dial: bool, hosts: &[&str]) -> Vec<Service> {
        let host = |name: &&str| ServiceHost {
            identity_id: format!("id-{name}"),
            identity_name: (*name).to_owned(),
            instance: (*name).to_owned(),
            ..ServiceHost::default()
        };
        let hosts = hosts.iter().map(host).collect();
        vec![Service { id: "s".into(), may_dial, hosts, ..Service::default() }]
    }

    #[test]
    fn hosts_of_before_are_awaited_until_the_controller_has_spoken_of_them() {
        let mut settling = Settling::new(service(true, &["a", "b"]));
        assert_eq!(settling.take(service(true, &[])), service(true, &["a", "b"]));
        assert_eq!(
            settling.take(service(true, &["b", "c"])),
            service(true, &["a", "b", "c"]),
            "each once, in order"
        );
        assert_eq!(settling.take(service(true, &["c"])), service(true, &["a", "c"]), "b came, and left");
        assert_eq!(settling.end(), service(true, &["c"]));
    }

    #[test]
    fn where_nothing_may_be_dialed_any_more_nobody_is_awaited() {
        let mut settling = Settling::new(service(true, &["a"]));
        assert_eq!(settling.take(service(false, &[])), service(false, &[]));
        assert_eq!(settling.take(service(true, &[])), service(true, &[]));
        assert_eq!(settling.take(Vec::new()), []);
        assert_eq!(
            Settling::new(Vec::new()).take(service(true, &["a"])),
            service(true, &["a"]),
            "the first watch"
        );
    }
}
