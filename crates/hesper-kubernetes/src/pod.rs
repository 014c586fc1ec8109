//! What is kept of a pod: what it is found by, what it belongs to, and the attributes that are set.

use crate::{
    image::{Image, repo_digest},
    rules::{Attributes, Rules, Value, put},
};
use hesper_collector_config::processors::MetadataSource;
use k8s_openapi::{api::core::v1 as api, jiff::Timestamp};
use std::collections::BTreeMap;

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The node that it runs on.
    pub node: String,
    /// Its addresses, as they are written canonically; none for a pod in the network of its host, where many pods have the same.
    pub ips: Vec<String>,
    /// When it was started; of two pods with the same address the later one has it.
    pub started: Option<Timestamp>,
    /// Nobody looks at it.
    pub ignored: bool,
    /// What it belongs to.
    pub owner: Option<Owner>,
    /// The hash that its deployment gave to its replica set.
    pub template_hash: Option<String>,
    /// What is set, as far as the pod says it.
    pub attributes: Attributes,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// What a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `ReplicaSet` and so on.
    pub kind: String,
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What is set when it is known that this container is meant.
    pub attributes: Attributes,
    /// Its runs by the count of restarts: id and digest of the image.
    pub runs: BTreeMap<i64, Run>,
}

/// A run of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Its id, without the runtime that stands before it.
    pub id: String,
    /// The image with its digest.
    pub digest: Option<String>,
}

impl Pod {
    /// Reads a pod; `None` when it has no uid.
    pub fn read(pod: &api::Pod, rules: &Rules) -> Option<Self> {
        let (meta, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
        let uid = meta.uid.clone().filter(|uid| !uid.is_empty())?;
        let (labels, annotations) = (some(&meta.labels), some(&meta.annotations));
        let name = meta.name.clone().unwrap_or_default();
        let host = spec.and_then(|spec| spec.host_network).unwrap_or(false);
        let mut read = Self {
            uid,
            ignored: rules.ignores(&name, &annotations),
            name,
            namespace: meta.namespace.clone().unwrap_or_default(),
            node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            ips: if host { Vec::new() } else { ips(status) },
            started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            owner: owner(pod),
            template_hash: labels.get("pod-template-hash").cloned(),
            attributes: Vec::new(),
            containers: Vec::new(),
        };
        if !read.ignored {
            read.attributes = read.own(pod, rules, &labels);
            for (name, value) in rules.extract(MetadataSource::Pod, &labels, &annotations) {
                put(&mut read.attributes, &name, value);
            }
            read.containers = containers(pod, &read, rules);
        }
        Some(read)
    }

    fn own(&self, pod: &api::Pod, rules: &Rules, labels: &BTreeMap<String, String>) -> Attributes {
        let mut found = Attributes::new();
        let mut set = |wanted: &str, name: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| rules.wants(wanted) && !value.is_empty()) {
                put(&mut found, name, Value::Text(value.to_owned()));
            }
        };
        let spec = pod.spec.as_ref();
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        let started = pod.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        for (name, value) in [
            ("k8s.pod.name", Some(&*self.name)),
            ("k8s.pod.uid", Some(&*self.uid)),
            ("k8s.namespace.name", Some(&*self.namespace)),
            ("service.namespace", Some(&*self.namespace)),
            ("k8s.node.name", Some(&*self.node)),
            ("k8s.pod.hostname", spec.and_then(|spec| spec.hostname.as_deref())),
            ("k8s.pod.ip", ip),
            ("k8s.pod.start_time", started.as_deref()),
        ] {
            set(name, name, value);
        }
        set("k8s.pod.startTime", "k8s.pod.start_time", started.as_deref());
        if let Some(owner) = &self.owner {
            let (name, uid) = match &*owner.kind {
                "ReplicaSet" => ("k8s.replicaset.name", "k8s.replicaset.uid"),
                "StatefulSet" => ("k8s.statefulset.name", "k8s.statefulset.uid"),
                "DaemonSet" => ("k8s.daemonset.name", "k8s.daemonset.uid"),
                "Job" => ("k8s.job.name", "k8s.job.uid"),
                _ => ("", ""),
            };
            set(name, name, Some(&owner.name));
            set(uid, uid, Some(&owner.uid));
        }
        set("k8s.deployment.name", "k8s.deployment.name", self.deployment(rules));
        set("k8s.cronjob.name", "k8s.cronjob.name", self.cron_job());
        let label = |name: &str| labels.get(name).map(String::as_str);
        let owner = self.owner.as_ref().map(|owner| owner.name.as_str());
        let service = label("app.kubernetes.io/instance").or_else(|| label("app.kubernetes.io/name"));
        let named = service.or_else(|| self.deployment(rules)).or_else(|| self.cron_job()).or(owner);
        set("service.name", "service.name", named.or(Some(&self.name)));
        set("service.version", "service.version", label("app.kubernetes.io/version"));
        found
    }

    /// The deployment of the replica set that the pod belongs to: its name without the hash at its end. Only replica sets of deployments
    /// have the hash as a label of their pods.
    fn deployment(&self, rules: &Rules) -> Option<&str> {
        let replica_set = self.owner.as_ref().filter(|owner| owner.kind == "ReplicaSet")?;
        let (name, hash) = replica_set.name.rsplit_once('-')?;
        let is_hash = match &self.template_hash {
            Some(label) => label == hash,
            None => {
                rules.deployment_by_name
                    && hash.len() == 10
                    && hash.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            }
        };
        Some(name).filter(|_| is_hash)
    }

    /// The cron job of the job that the pod belongs to: its name without the number at its end.
    fn cron_job(&self) -> Option<&str> {
        let job = self.owner.as_ref().filter(|owner| owner.kind == "Job")?;
        let (name, number) = job.name.rsplit_once('-')?;
        Some(name).filter(|_| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    }
}

/// What owns a pod; the one that controls it, if several do.
fn owner(pod: &api::Pod) -> Option<Owner> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first())?;
    Some(Owner { kind: owner.kind.clone(), uid: owner.uid.clone(), name: owner.name.clone() })
}

/// An address as it is written canonically; other texts as they are.
pub(crate) fn canonical(ip: &str) -> String {
    ip.parse::<std::net::IpAddr>().map_or_else(|_| ip.to_owned(), |ip| ip.to_canonical().to_string())
}

fn ips(status: Option<&api::PodStatus>) -> Vec<String> {
    let Some(status) = status else { return Vec::new() };
    let more = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let mut ips: Vec<String> = status.pod_ip.iter().chain(more).map(|ip| canonical(ip)).collect();
    ips.retain(|ip| !ip.is_empty());
    ips.sort_unstable();
    ips.dedup();
    ips
}

fn some(pairs: &Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    pairs.clone().unwrap_or_default()
}

const OF_CONTAINERS: [&str; 8] = [
    "container.id",
    "container.image.name",
    "container.image.repo_digests",
    "container.image.tag",
    "container.image.tags",
    "k8s.container.name",
    "service.instance.id",
    "service.version",
];

fn containers(pod: &api::Pod, of: &Pod, rules: &Rules) -> Vec<Container> {
    if !OF_CONTAINERS.iter().any(|name| rules.wants(name)) {
        return Vec::new();
    }
    let spec = pod.spec.as_ref();
    let usual = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let first = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let mut found: Vec<Container> = Vec::new();
    for container in usual.iter().chain(first) {
        let attributes = image_attributes(container, of, rules);
        found.push(Container { name: container.name.clone(), attributes, runs: BTreeMap::new() });
    }
    let status = pod.status.as_ref();
    let usual = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let first = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    for status in usual.iter().chain(first) {
        let Some(container) = found.iter_mut().find(|container| container.name == status.name) else {
            continue;
        };
        let id = status.container_id.as_deref().unwrap_or_default();
        let id = id.split_once("://").map_or(id, |(_, id)| id).to_owned();
        let digest = repo_digest(&status.image_id).map(str::to_owned);
        container.runs.insert(i64::from(status.restart_count), Run { id, digest });
    }
    found
}

fn image_attributes(container: &api::Container, of: &Pod, rules: &Rules) -> Attributes {
    let mut found = Attributes::new();
    let mut set = |name: &str, value: Value| {
        if rules.wants(name) {
            put(&mut found, name, value);
        }
    };
    set("k8s.container.name", Value::Text(container.name.clone()));
    let instance = format!("{}.{}.{}", of.namespace, of.name, container.name);
    set("service.instance.id", Value::Text(instance));
    if let Some(image) = container.image.as_deref().and_then(Image::parse) {
        set("container.image.name", Value::Text(image.repository.to_owned()));
        let tag = image.tag_or_latest();
        if !tag.is_empty() {
            set("container.image.tag", Value::Text(tag.to_owned()));
            set("container.image.tags", Value::List(vec![tag.to_owned()]));
        }
        if let Some(version) = image.version() {
            set("service.version", Value::Text(version));
        }
    }
    found
}
