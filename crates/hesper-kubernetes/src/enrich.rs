//! Sets the attributes of the pod on a resource.

use crate::{
    association::identify,
    pod::Pod,
    rules::{Attributes, Value as Found},
    table::{Kind, Table},
};
use hesper_telemetry::process::value::{attribute, get, get_text, text_value};
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use std::net::IpAddr;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The pod was found.
    Found,
    /// There is no such pod.
    Missed,
    /// Nothing says which pod.
    Unknown,
}

/// Only notes the address of the sender, for a gateway that can ask.
pub(crate) fn pass(table: &Table, attributes: &mut Vec<KeyValue>, peer: Option<IpAddr>) {
    let identifier = identify(table.associations(), attributes, peer).unwrap_or_default();
    if let Some((_, ip)) = identifier.into_iter().find(|(name, _)| name.is_none()) {
        set(attributes, "k8s.pod.ip", Found::Text(ip));
    }
}

/// Finds the pod and sets what is not set yet.
pub(crate) fn enrich(table: &Table, attributes: &mut Vec<KeyValue>, peer: Option<IpAddr>) -> Outcome {
    let identifier = identify(table.associations(), attributes, peer);
    if let Some((_, ip)) = identifier.iter().flatten().find(|(name, _)| name.is_none()) {
        set(attributes, "k8s.pod.ip", Found::Text(ip.clone()));
    }
    let pod = identifier.as_ref().and_then(|identifier| table.pod(identifier));
    if let Some(pod) = pod {
        set_container(table, pod, attributes);
        set_all(attributes, table.attributes(pod));
    }
    for (kind, name, of_pod) in [
        (Kind::Namespace, "k8s.namespace.name", pod.map(|pod| &pod.namespace)),
        (Kind::Node, "k8s.node.name", pod.map(|pod| &pod.node)),
    ] {
        if let Some(name) = get_text(attributes, name).or(of_pod.map(String::as_str)) {
            let found = table.of_name(kind, name);
            set_all(attributes, found);
        }
    }
    if let Some(uid) = table.cluster() {
        set(attributes, "k8s.cluster.uid", Found::Text(uid.to_owned()));
    }
    match (identifier, pod) {
        (_, Some(_)) => Outcome::Found,
        (Some(_), None) => Outcome::Missed,
        (None, None) => Outcome::Unknown,
    }
}

/// The container that the resource names, or the only one.
fn set_container(table: &Table, pod: &Pod, attributes: &mut Vec<KeyValue>) {
    let (name, id) = (get_text(attributes, "k8s.container.name"), get_text(attributes, "container.id"));
    let container = match (name.filter(|name| !name.is_empty()), id.filter(|id| !id.is_empty())) {
        (Some(name), _) => pod.containers.iter().find(|container| container.name == name),
        (None, Some(id)) => {
            pod.containers.iter().find(|container| container.runs.values().any(|run| run.id == id))
        }
        (None, None) => pod.containers.first().filter(|_| pod.containers.len() == 1),
    };
    let Some(container) = container else { return };
    let run = match restarts(attributes) {
        Some(count) => container.runs.get(&count),
        // The one that runs now.
        None => container.runs.values().next_back(),
    };
    // A label of the pod says better than the image which version it is.
    let version = |(name, _): &(String, Found)| name == "service.version";
    let better = pod.attributes.iter().any(version);
    let found = container.attributes.iter().filter(|found| !(better && version(found)));
    set_all(attributes, found.cloned().collect());
    if let Some(run) = run {
        if !run.id.is_empty() && table.rules().wants("container.id") {
            set(attributes, "container.id", Found::Text(run.id.clone()));
        }
        if let Some(digest) =
            run.digest.clone().filter(|_| table.rules().wants("container.image.repo_digests"))
        {
            set(attributes, "container.image.repo_digests", Found::List(vec![digest]));
        }
    }
}

/// How often the container was started again, if the resource says it.
fn restarts(attributes: &[KeyValue]) -> Option<i64> {
    match get(attributes, "k8s.container.restart_count")? {
        Value::IntValue(count) => Some(*count),
        Value::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}

fn set_all(attributes: &mut Vec<KeyValue>, found: Attributes) {
    found.into_iter().for_each(|(name, value)| set(attributes, &name, value));
}

/// Sets an attribute that is not there, or says nothing.
fn set(attributes: &mut Vec<KeyValue>, name: &str, found: Found) {
    let says = |value: &Value| !matches!(value, Value::StringValue(text) if text.is_empty());
    if get(attributes, name).is_some_and(says) {
        return;
    }
    let value = match found {
        Found::Text(text) => text_value(text),
        Found::List(texts) => {
            let values = texts.into_iter().map(text_value).collect();
            AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }
        }
    };
    attributes.retain(|pair| pair.key != name);
    attributes.push(attribute(name, value));
}
