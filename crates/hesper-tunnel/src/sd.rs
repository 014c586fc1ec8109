//! Prometheus' HTTP service discovery: one target per hosting identity of each service that this identity may dial.
//!
//! A target is a name that the proxy resolves back to exactly that host: `<instance>.<service>.hesper:80`, with ids for names
//! where names would be ambiguous or no hostname. The order is by service, identity and instance, so that a target keeps its
//! index. (<https://prometheus.io/docs/prometheus/latest/http_sd/>)

use crate::{
    names::{DOMAIN, Names, ResolveError, Resolved},
    service::Configs,
};
use hesper_model::config::Scheme;
use hesper_sdk::{NodeView, Service, ServiceHost};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One target group of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Always one `host:port`.
    pub targets: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Which targets are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only services with one of these names; empty = all.
    pub services: BTreeSet<String>,
    /// Only services, or hosting identities, with one of these role attributes; empty = all.
    pub attributes: BTreeSet<String>,
}

/// Why the query of a request was refused: what is misspelt must not mean everything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// No such parameter.
    #[error("no parameter '{0}': /sd knows service=NAME and role=%23ATTRIBUTE, each as often as needed")]
    Parameter(String),
    /// A role that is no `#attribute`.
    #[error("role '{0}' is no role attribute: write #ATTRIBUTE, in a URL %23ATTRIBUTE")]
    Role(String),
}

impl Query {
    /// Reads the query of a URL: `service=NAME` and `role=%23ATTRIBUTE`, each as often as needed.
    ///
    /// # Errors
    /// An unknown parameter or a role that is no attribute.
    pub fn parse(query: &str) -> Result<Self, InvalidQuery> {
        let mut parsed = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "service" => parsed.services.insert(value.into_owned()),
                "role" => match value.strip_prefix('#').filter(|a| !a.is_empty()) {
                    Some(attribute) => parsed.attributes.insert(attribute.to_owned()),
                    None => return Err(InvalidQuery::Role(value.into_owned())),
                },
                _ => return Err(InvalidQuery::Parameter(key.into_owned())),
            };
        }
        Ok(parsed)
    }

    fn wants(&self, service: &Service, host: &ServiceHost) -> bool {
        let has = |attributes: &[String]| attributes.iter().any(|a| self.attributes.contains(a));
        (self.services.is_empty() || self.services.contains(&service.name))
            && (self.attributes.is_empty() || has(&service.role_attributes) || has(&host.role_attributes))
    }
}

/// The target groups of a view.
pub fn targets(view: &NodeView, names: &Names, query: &Query) -> Vec<Group> {
    let mut services: Vec<_> = view.services.iter().filter(|s| s.may_dial).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let mut groups = Vec::new();
    for service in services {
        let configs = Configs::of(service);
        let mut hosts: Vec<_> = service.hosts.iter().collect();
        hosts.sort_by(|a, b| (&a.identity_name, &a.instance).cmp(&(&b.identity_name, &b.instance)));
        hosts.dedup_by(|a, b| (&a.identity_id, &a.instance) == (&b.identity_id, &b.instance));
        for host in hosts.into_iter().filter(|h| query.wants(service, h)) {
            if let Some(name) = name_of(names, service, host) {
                groups.push(group(&name, service, host, &configs));
            }
        }
    }
    groups
}

fn group(name: &str, service: &Service, host: &ServiceHost, configs: &Configs) -> Group {
    let scrape = &configs.scrape;
    let port = match scrape.scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let mut labels = scrape.labels.clone();
    for attribute in service.role_attributes.iter().chain(&host.role_attributes) {
        labels.insert(format!("__meta_hesper_attr_{}", sanitised(attribute)), "true".into());
    }
    labels.insert("__meta_hesper_service".into(), service.name.clone());
    labels.insert("__meta_hesper_identity".into(), host.identity_name.clone());
    labels.insert("__meta_hesper_instance".into(), host.instance.clone());
    labels.insert("__metrics_path__".into(), scrape.path.clone());
    labels.insert("__scheme__".into(), scrape.scheme.to_string());
    Group { targets: vec![format!("{name}:{port}")], labels }
}

/// The first form of name that stands for exactly this host. A host that cannot be told apart keeps its name, so that its scrape
/// fails with the reason instead of silently not being there.
fn name_of(names: &Names, service: &Service, host: &ServiceHost) -> Option<String> {
    let label = if host.instance.is_empty() { &host.identity_name } else { &host.instance };
    let forms = [
        (label, &service.name),
        (&host.identity_id, &service.name),
        (label, &service.id),
        (&host.identity_id, &service.id),
    ];
    let forms = forms.map(|(label, service)| format!("{label}.{service}{DOMAIN}"));
    let alone = service.hosts.len() == 1;
    let means_it = |name: &&String| match names.resolve(name, 80) {
        Ok(Resolved { service: found, instance, .. }) => {
            found == service.name
                && instance.unwrap_or_default() == host.instance
                && (alone || !host.instance.is_empty())
        }
        Err(ResolveError::NoInstance { identity, service: found }) => {
            found == service.name && identity == host.identity_name
        }
        Err(_) => false,
    };
    forms.iter().filter(|name| is_hostname(name)).find(means_it).cloned()
}

/// May it stand in a URL as a host?
fn is_hostname(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    })
}

/// As part of a label name: anything but letters, digits and `_` becomes `_`.
fn sanitised(attribute: &str) -> String {
    attribute.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{host, service, view};
    use proptest::prelude::*;
    use serde_json::json;

    fn names_in(view: &NodeView, query: &str) -> Vec<String> {
        let query = Query::parse(query).expect("valid");
        targets(view, &Names::of(view), &query).into_iter().flat_map(|g| g.targets).collect()
    }

    #[test]
    fn a_target_carries_every_label() {
        let mut kube = host("kubeA.reflect.id", "kubeA.reflect.id");
        kube.role_attributes = vec!["region.eu".into()];
        let view = view(vec![
            service("kubeA.reflect.scrape.svc").attributes(&["scrape", "a-b"]).hosts([kube]).config(
                "scrape.v1",
                json!({"path": "/m", "scheme": "https", "labels": {"team": "x", "__meta_hesper_service": "fake"}}),
            ),
        ]);
        let groups = targets(&view, &Names::of(&view), &Query::default());
        assert_eq!(
            serde_json::to_value(groups).expect("JSON"),
            json!([{"targets": ["kubeA.reflect.id.kubeA.reflect.scrape.svc.hesper:443"], "labels": {
                "__meta_hesper_service": "kubeA.reflect.scrape.svc", "__meta_hesper_identity": "kubeA.reflect.id",
                "__meta_hesper_instance": "kubeA.reflect.id", "__meta_hesper_attr_scrape": "true", "__meta_hesper_attr_a_b": "true",
                "__meta_hesper_attr_region_eu": "true", "__metrics_path__": "/m", "__scheme__": "https", "team": "x"}}])
        );
    }

    #[test]
    fn only_hosted_services_that_may_be_dialed_in_stable_order() {
        let view = view(vec![
            service("z").hosts([host("b", "b"), host("a", "a"), host("a", "a")]),
            service("a").hosts([host("x", "")]),
            service("hidden").hosts([host("x", "")]).bind_only(),
            service("empty"),
        ]);
        assert_eq!(names_in(&view, ""), ["x.a.hesper:80", "a.z.hesper:80", "b.z.hesper:80"]);
        assert_eq!(names_in(&NodeView::default(), ""), [""; 0]);
    }

    #[test]
    fn filters_are_any_of() {
        let mut eu = host("eu", "eu");
        eu.role_attributes = vec!["eu".into()];
        let view = view(vec![
            service("one").attributes(&["scrape"]).hosts([host("a", "a")]),
            service("two").hosts([eu, host("us", "us")]),
        ]);
        assert_eq!(names_in(&view, "role=%23scrape"), ["a.one.hesper:80"]);
        assert_eq!(names_in(&view, "role=%23scrape&role=%23eu"), ["a.one.hesper:80", "eu.two.hesper:80"]);
        assert_eq!(names_in(&view, "service=two&role=%23scrape"), [""; 0]);
        assert_eq!(names_in(&view, "service=two").len(), 2);
        assert_eq!(Query::parse("services=two"), Err(InvalidQuery::Parameter("services".into())));
        assert_eq!(Query::parse("role=scrape"), Err(InvalidQuery::Role("scrape".into())));
    }

    #[test]
    fn ambiguous_and_odd_names_give_way_to_ids() {
        let view = view(vec![
            service("metrics").hosts([host("a.b", "a.b"), host("odd name", "odd name")]),
            service("b.metrics").hosts([host("a", "a")]),
        ]);
        assert_eq!(names_in(&view, "service=b.metrics"), ["a-id.b.metrics.hesper:80"]);
        assert_eq!(
            names_in(&view, "service=metrics"),
            ["a.b-id.metrics.hesper:80"],
            "an id with a blank is no hostname"
        );
    }

    #[test]
    fn hosts_that_cannot_be_told_apart_are_listed_all_the_same() {
        let view = view(vec![service("svc").hosts([host("a", ""), host("b", "")])]);
        assert_eq!(names_in(&view, ""), ["a.svc.hesper:80", "b.svc.hesper:80"]);
        assert!(matches!(Names::of(&view).resolve("a.svc.hesper", 80), Err(ResolveError::NoInstance { .. })));
    }

    proptest! {
        #[test]
        fn every_target_resolves_back_to_its_host_or_says_why(
            services in prop::collection::btree_map("[ab](\\.[ab])?", prop::collection::vec(("[ab](\\.[ab])?", prop::option::of("[ab](\\.[ab])?")), 0..4), 0..5)
        ) {
            let view = view(services.iter().map(|(name, hosts)| {
                service(name).hosts(hosts.iter().map(|(identity, instance)| host(identity, instance.as_deref().unwrap_or_default())))
            }).collect());
            let names = Names::of(&view);
            for group in targets(&view, &names, &Query::default()) {
                let name = group.targets[0].trim_end_matches(":80");
                match names.resolve(name, 80) {
                    Ok(resolved) => {
                        prop_assert_eq!(&resolved.service, &group.labels["__meta_hesper_service"]);
                        prop_assert_eq!(&resolved.instance.unwrap_or_default(), &group.labels["__meta_hesper_instance"]);
                    }
                    Err(ResolveError::NoInstance { identity, .. }) => prop_assert_eq!(&identity, &group.labels["__meta_hesper_identity"]),
                    Err(other) => prop_assert!(false, "{name}: {other}"),
                }
            }
        }
    }
}
