//! Targets of the mesh for the `prometheus` receiver: one for each identity that hosts a service which this identity may dial, with
//! the labels that `hesper tunnel run` gives Prometheus. They follow the mesh at once.

use hesper_collector_config::receivers::HesperSd;
use hesper_model::config::ScrapeV1;
use hesper_sdk::{Context, NodeView, Service, ServiceHost};
use hesper_telemetry::scrape::{Discovery, Found};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// Finds targets where this identity is on the mesh; nowhere without one.
pub(crate) struct MeshDiscovery(pub(crate) Option<Context>);

impl Discovery for MeshDiscovery {
    fn watch(&self, wanted: &HesperSd) -> watch::Receiver<Arc<Found>> {
        let (sender, receiver) = watch::channel(Arc::default());
        let Some(ctx) = &self.0 else { return receiver };
        let (mut views, wanted) = (ctx.state(), wanted.clone());
        tokio::spawn(async move {
            loop {
                let now = Arc::new(found(&views.borrow_and_update(), &wanted));
                sender.send_if_modified(|before| {
                    let news = *before != now;
                    *before = now;
                    news
                });
                tokio::select! {
                    changed = views.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }
}

/// The targets of a view, by service, identity and instance.
fn found(view: &NodeView, wanted: &HesperSd) -> Found {
    let mut services: Vec<&Service> = view.services.iter().filter(|service| service.may_dial).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let mut found = Vec::new();
    for service in services {
        let mut hosts: Vec<&ServiceHost> = service.hosts.iter().collect();
        hosts.sort_by(|a, b| (&a.identity_name, &a.instance).cmp(&(&b.identity_name, &b.instance)));
        hosts.dedup_by(|a, b| (&a.identity_id, &a.instance) == (&b.identity_id, &b.instance));
        let hosts = hosts.into_iter().filter(|host| wants(wanted, service, host));
        found.extend(hosts.map(|host| target(service, host)));
    }
    found
}

fn wants(wanted: &HesperSd, service: &Service, host: &ServiceHost) -> bool {
    let has = |attributes: &[String]| attributes.iter().any(|a| wanted.attributes.contains(a));
    (wanted.services.is_empty() || wanted.services.contains(&service.name))
        && (wanted.attributes.is_empty() || has(&service.role_attributes) || has(&host.role_attributes))
}

fn target(service: &Service, host: &ServiceHost) -> BTreeMap<String, String> {
    let config = service.configs.get(ScrapeV1::NAME);
    let scrape: ScrapeV1 = config.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut labels = scrape.labels.clone();
    for attribute in service.role_attributes.iter().chain(&host.role_attributes) {
        let attribute: String =
            attribute.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        labels.insert(format!("__meta_hesper_attr_{attribute}"), "true".into());
    }
    let instance = if host.instance.is_empty() { &host.identity_name } else { &host.instance };
    labels.insert("__address__".into(), format!("hesper://{}@{}", encoded(instance), encoded(&service.name)));
    labels.insert("__meta_hesper_service".into(), service.name.clone());
    labels.insert("__meta_hesper_identity".into(), host.identity_name.clone());
    labels.insert("__meta_hesper_instance".into(), host.instance.clone());
    labels.insert("__metrics_path__".into(), scrape.path.clone());
    labels.insert("__scheme__".into(), scrape.scheme.to_string());
    labels
}

/// A name in an endpoint: what could be taken for its grammar is percent-encoded (RFC 3986, 2.1).
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_collector_config::Endpoint;

    fn host(name: &str, attributes: &[&str]) -> ServiceHost {
        ServiceHost {
            identity_id: format!("id-{name}"),
            identity_name: name.into(),
            instance: name.into(),
            role_attributes: attributes.iter().map(ToString::to_string).collect(),
        }
    }

    fn view() -> NodeView {
        let service = |name: &str, may_dial, hosts| Service {
            id: format!("id-{name}"),
            name: name.into(),
            may_dial,
            hosts,
            role_attributes: vec!["scrape".into()],
            ..Service::default()
        };
        let services = vec![
            service("web/metrics", true, vec![host("b@1", &["eu-west"]), host("a", &[])]),
            service("hidden", false, vec![host("c", &[])]),
        ];
        NodeView { services, ..NodeView::default() }
    }

    fn addresses(wanted: &HesperSd) -> Vec<String> {
        found(&view(), wanted).iter().map(|labels| labels["__address__"].clone()).collect()
    }

    #[test]
    fn each_host_that_may_be_dialed_is_a_target() {
        let all = addresses(&HesperSd::default());
        assert_eq!(all, ["hesper://a@web%2Fmetrics", "hesper://b%401@web%2Fmetrics"]);
        let endpoint = Endpoint::parse(&all[1]).expect("an endpoint");
        assert!(matches!(endpoint, Endpoint::Mesh { service, instance: Some(instance), .. }
            if service == "web/metrics" && instance == "b@1"));
        let labels = &found(&view(), &HesperSd::default())[1];
        for (label, value) in [
            ("__meta_hesper_service", "web/metrics"),
            ("__meta_hesper_identity", "b@1"),
            ("__meta_hesper_attr_eu_west", "true"),
            ("__meta_hesper_attr_scrape", "true"),
            ("__metrics_path__", "/metrics"),
            ("__scheme__", "http"),
        ] {
            assert_eq!(labels[label], value, "{label}");
        }
    }

    #[test]
    fn only_what_is_wanted() {
        let wanted = |services: &[&str], attributes: &[&str]| HesperSd {
            services: services.iter().map(ToString::to_string).collect(),
            attributes: attributes.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(addresses(&wanted(&["hidden"], &[])), [""; 0]);
        assert_eq!(addresses(&wanted(&[], &["eu-west"])), ["hesper://b%401@web%2Fmetrics"]);
        assert_eq!(addresses(&wanted(&["web/metrics"], &["scrape"])).len(), 2);
    }
}
