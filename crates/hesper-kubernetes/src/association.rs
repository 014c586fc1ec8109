//! How the pod of a resource is found.
//!
//! The associations are asked in order. The first one all of whose sources yield a value is used, whether there is such a pod or not.

use crate::pod::{Pod, canonical};
use hesper_collector_config::processors::{Association, AssociationSource};
use hesper_telemetry::process::value::get_text;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use std::net::IpAddr;

/// What a pod is found by: names of attributes, or none for the sender's address, with values.
pub type Identifier = Vec<(Option<String>, String)>;

/// What identifies the pod of a resource; `None` when no association yields a value.
pub fn identify(rules: &[Association], attributes: &[KeyValue], peer: Option<IpAddr>) -> Option<Identifier> {
    let peer = peer.map(|ip| ip.to_canonical().to_string());
    let text = |name: &str| get_text(attributes, name).filter(|text| !text.is_empty());
    if rules.is_empty() {
        let host = text("host.name").filter(|name| name.parse::<IpAddr>().is_ok());
        let said = text("k8s.pod.ip").or_else(|| text("ip")).map(canonical);
        let ip = said.or(peer).or_else(|| host.map(canonical))?;
        return Some(vec![(None, ip)]);
    }
    let value = |source: &AssociationSource| match source {
        AssociationSource::Connection => Some((None, peer.clone()?)),
        AssociationSource::ResourceAttribute(name) => {
            let text = text(name)?;
            // In Kubernetes it may be an address; a name finds no pod.
            let fits = name != "host.name" || text.parse::<IpAddr>().is_ok();
            Some((Some(name.clone()), canonical(text))).filter(|_| fits)
        }
    };
    rules.iter().find_map(|rule| {
        let values: Option<Identifier> = rule.sources.iter().map(value).collect();
        values.filter(|values| !values.is_empty())
    })
}

/// Everything that a pod is found by.
pub fn identifiers(rules: &[Association], pod: &Pod) -> Vec<Identifier> {
    if rules.is_empty() {
        return pod.ips.iter().map(|ip| vec![(None, ip.clone())]).collect();
    }
    let mut all: Vec<Identifier> = Vec::new();
    for rule in rules {
        // Sources may have several values, such as the ids of containers: every combination counts.
        let mut some: Vec<Identifier> = vec![Vec::new()];
        for source in &rule.sources {
            let (name, values) = match source {
                AssociationSource::Connection => (None, pod.ips.clone()),
                AssociationSource::ResourceAttribute(name) => (Some(name.clone()), values(pod, name)),
            };
            let extended = some.iter().flat_map(|identifier| {
                values.iter().map(|value| [&identifier[..], &[(name.clone(), value.clone())]].concat())
            });
            some = extended.collect();
        }
        all.extend(some.into_iter().filter(|identifier| !identifier.is_empty()));
    }
    all
}

/// The values that an attribute has for a pod.
fn values(pod: &Pod, name: &str) -> Vec<String> {
    let one = |value: &str| Some(canonical(value)).filter(|value| !value.is_empty()).into_iter().collect();
    match name {
        "k8s.namespace.name" => one(&pod.namespace),
        "k8s.pod.name" => one(&pod.name),
        "k8s.pod.uid" => one(&pod.uid),
        "k8s.node.name" => one(&pod.node),
        "k8s.pod.ip" | "host.name" | "ip" => pod.ips.clone(),
        "container.id" => {
            let runs = pod.containers.iter().flat_map(|container| container.runs.values());
            runs.map(|run| run.id.clone()).filter(|id| !id.is_empty()).collect()
        }
        name => pod
            .attributes
            .iter()
            .find_map(|(known, value)| match value {
                crate::rules::Value::Text(text) if known == name => Some(one(text)),
                _ => None,
            })
            .unwrap_or_default(),
    }
}
