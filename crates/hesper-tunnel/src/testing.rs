//! Views for tests.

use hesper_sdk::{NodeView, Service, ServiceHost};
use serde_json::Value;

/// A service that may be dialed and bound; its id is its name with `-id` behind it.
pub(crate) fn service(name: &str) -> ServiceBuilder {
    ServiceBuilder(Service {
        id: format!("{name}-id"),
        name: name.into(),
        may_dial: true,
        may_bind: true,
        terminator_strategy: "smartrouting".into(),
        ..Service::default()
    })
}

pub(crate) struct ServiceBuilder(pub(crate) Service);

impl ServiceBuilder {
    pub(crate) fn config(mut self, type_: &str, data: Value) -> Self {
        self.0.configs.insert(type_.into(), data.to_string());
        self
    }

    pub(crate) fn hosts(mut self, hosts: impl IntoIterator<Item = ServiceHost>) -> Self {
        self.0.hosts = hosts.into_iter().collect();
        self
    }

    pub(crate) fn attributes(mut self, attributes: &[&str]) -> Self {
        self.0.role_attributes = attributes.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    pub(crate) fn bind_only(mut self) -> Self {
        self.0.may_dial = false;
        self
    }

    pub(crate) fn dial_only(mut self) -> Self {
        self.0.may_bind = false;
        self
    }
}

pub(crate) fn host(identity: &str, instance: &str) -> ServiceHost {
    ServiceHost {
        identity_id: format!("{identity}-id"),
        identity_name: identity.into(),
        instance: instance.into(),
        role_attributes: Vec::new(),
    }
}

pub(crate) fn view(services: Vec<ServiceBuilder>) -> NodeView {
    NodeView {
        revision: 1,
        identity_id: "me-id".into(),
        identity_name: "me".into(),
        connected: true,
        attached: Vec::new(),
        services: services.into_iter().map(|s| s.0).collect(),
    }
}
