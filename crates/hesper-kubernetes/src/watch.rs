//! Follows what the API tells, for ever: lists, watches, and begins anew after every error, later each time.

use crate::{
    pod::{Owner, Pod},
    processor::Shared,
    table::{Kind, Object},
};
use futures::{Stream, StreamExt};
use hesper_collector_config::processors::{FieldFilter, K8sAttributes, MetadataSource, Operator};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1 as api,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Config, Event, watcher},
    },
};
use std::{
    collections::HashSet,
    fmt::Debug,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// How often deleted pods are looked through.
const TIDY: Duration = Duration::from_secs(30);

/// What was told.
enum Change<T> {
    Put(T),
    Delete(String),
    /// These uids are all that there are.
    All(HashSet<String>),
}

/// Begins to follow what is wanted. What runs ends with the set.
pub(crate) fn start(client: &Client, settings: &K8sAttributes, shared: &Arc<Shared>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let namespace = settings.filter.namespace.as_deref();
    let (one, config) = (shared.clone(), pods(settings));
    tasks.spawn(follow("pods", watcher(scoped::<api::Pod>(client, namespace), config), move |change| {
        pod(&one, change)
    }));
    let rules = shared.read(|table| table.rules().clone());
    let mut add = Adder { tasks: &mut tasks, shared };
    if rules.wants("k8s.deployment.uid") || rules.wants_of(MetadataSource::Deployment) {
        add.objects(
            "replicasets",
            Kind::ReplicaSet,
            scoped::<PartialObjectMeta<ReplicaSet>>(client, namespace),
            Config::default(),
        );
    }
    if rules.wants_of(MetadataSource::Deployment) {
        add.objects(
            "deployments",
            Kind::Deployment,
            scoped::<PartialObjectMeta<Deployment>>(client, namespace),
            Config::default(),
        );
    }
    if rules.wants_of(MetadataSource::StatefulSet) {
        add.objects(
            "statefulsets",
            Kind::StatefulSet,
            scoped::<PartialObjectMeta<StatefulSet>>(client, namespace),
            Config::default(),
        );
    }
    if rules.wants_of(MetadataSource::DaemonSet) {
        add.objects(
            "daemonsets",
            Kind::DaemonSet,
            scoped::<PartialObjectMeta<DaemonSet>>(client, namespace),
            Config::default(),
        );
    }
    if rules.wants_of(MetadataSource::Job) || rules.wants("k8s.cronjob.uid") {
        add.objects(
            "jobs",
            Kind::Job,
            scoped::<PartialObjectMeta<Job>>(client, namespace),
            Config::default(),
        );
    }
    let named = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
    if rules.wants_of(MetadataSource::Namespace) || rules.wants("k8s.cluster.uid") {
        let config =
            if rules.wants_of(MetadataSource::Namespace) { Config::default() } else { named("kube-system") };
        add.objects(
            "namespaces",
            Kind::Namespace,
            Api::<PartialObjectMeta<api::Namespace>>::all(client.clone()),
            config,
        );
    }
    if rules.wants_of(MetadataSource::Node) || rules.wants("k8s.node.uid") {
        let config = settings.filter.node.as_deref().map(named).unwrap_or_default();
        add.objects("nodes", Kind::Node, Api::<PartialObjectMeta<api::Node>>::all(client.clone()), config);
    }
    let shared = shared.clone();
    tasks.spawn(async move {
        let mut interval = tokio::time::interval(TIDY);
        loop {
            interval.tick().await;
            shared.write(|table| table.expire(Instant::now()));
        }
    });
    tasks
}

struct Adder<'a> {
    tasks: &'a mut JoinSet<()>,
    shared: &'a Arc<Shared>,
}

impl Adder<'_> {
    /// Follows objects of which only the head is wanted.
    fn objects<K>(&mut self, name: &'static str, kind: Kind, api: Api<PartialObjectMeta<K>>, config: Config)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned + Send + 'static,
    {
        let shared = self.shared.clone();
        self.tasks.spawn(follow(name, watcher(api, config), move |change: Change<PartialObjectMeta<K>>| {
            shared.write(|table| match change {
                Change::Put(head) => table.put(kind, object(head)),
                Change::Delete(uid) => table.delete(kind, &uid),
                Change::All(uids) => table.retain(kind, &uids),
            });
        }));
    }
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Which pods are watched.
fn pods(settings: &K8sAttributes) -> Config {
    let filter = &settings.filter;
    let node = filter.node.iter().map(|node| format!("spec.nodeName={node}"));
    let fields: Vec<String> = filter.fields.iter().map(selector).chain(node).collect();
    let labels: Vec<String> = filter.labels.iter().map(selector).collect();
    let mut config = Config::default();
    if !fields.is_empty() {
        config = config.fields(&fields.join(","));
    }
    if !labels.is_empty() {
        config = config.labels(&labels.join(","));
    }
    config
}

fn selector(filter: &FieldFilter) -> String {
    let FieldFilter { key, value, op } = filter;
    match op {
        Operator::Equals => format!("{key}={value}"),
        Operator::NotEquals => format!("{key}!={value}"),
        Operator::Exists => key.clone(),
        Operator::DoesNotExist => format!("!{key}"),
    }
}

fn pod(shared: &Shared, change: Change<api::Pod>) {
    let now = Instant::now();
    match change {
        Change::Put(told) => {
            let known = shared.write(|table| {
                let pod = Pod::read(&told, table.rules())?;
                Some(table.put_pod(pod))
            });
            shared.counters.put(known);
        }
        Change::Delete(uid) => {
            let known = shared.write(|table| table.delete_pod(&uid, now));
            shared.counters.delete(usize::from(known));
        }
        Change::All(uids) => {
            let gone = shared.write(|table| table.retain_pods(&uids, now));
            shared.counters.delete(gone);
            shared.ready.send_replace(true);
        }
    }
}

fn object<K>(head: PartialObjectMeta<K>) -> Object {
    let meta = head.metadata;
    let owners = meta.owner_references.unwrap_or_default();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
    Object {
        uid: meta.uid.unwrap_or_default(),
        name: meta.name.unwrap_or_default(),
        owner: owner.map(|owner| Owner { kind: owner.kind, uid: owner.uid, name: owner.name }),
        labels: meta.labels.unwrap_or_default(),
        annotations: meta.annotations.unwrap_or_default(),
    }
}

async fn follow<T, S>(name: &'static str, stream: S, mut change: impl FnMut(Change<T>))
where
    T: ResourceExt,
    S: Stream<Item = Result<Event<T>, watcher::Error>> + Send,
{
    let mut stream = pin!(stream.default_backoff());
    let (mut there, mut told) = (HashSet::new(), false);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => there.clear(),
            Ok(Event::InitApply(object)) => {
                there.extend(object.uid());
                change(Change::Put(object));
            }
            Ok(Event::InitDone) => {
                if std::mem::take(&mut told) {
                    tracing::info!(objects = name, "Kubernetes tells of them again");
                }
                change(Change::All(std::mem::take(&mut there)));
            }
            Ok(Event::Apply(object)) => change(Change::Put(object)),
            Ok(Event::Delete(object)) => object.uid().into_iter().for_each(|uid| change(Change::Delete(uid))),
            Err(error) => {
                tell(name, &error, told);
                told = true;
            }
        }
    }
}

/// Tells of an error once; it is tried again for ever.
fn tell(name: &str, error: &watcher::Error, told: bool) {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    let (InitialListFailed(cause) | WatchStartFailed(cause) | WatchFailed(cause)) = error else {
        // The watch has become too old, or the like: it begins anew.
        return tracing::debug!(objects = name, %error, "the watch begins anew");
    };
    match cause {
        _ if told => {
            tracing::debug!(objects = name, error = %cause, "Kubernetes still does not tell of them")
        }
        kube::Error::Api(status) if status.code == 403 => tracing::warn!(
            objects = name,
            "Kubernetes does not let us read them: attributes from them are not set. Give the service account get, list and \
             watch on them, or take out what wants them"
        ),
        cause => {
            tracing::warn!(objects = name, error = %cause, "Kubernetes does not tell of them; it is tried again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_collector_config::processors::K8sFilter;

    #[test]
    fn filters_are_selectors() {
        let filter = |key: &str, value: &str, op| FieldFilter { key: key.into(), value: value.into(), op };
        let mut settings = crate::processor::tests::settings("");
        assert_eq!((pods(&settings).field_selector, pods(&settings).label_selector), (None, None));
        settings.filter = K8sFilter {
            node: Some("node-7".into()),
            namespace: None,
            fields: vec![filter("status.phase", "Running", Operator::Equals)],
            labels: vec![
                filter("a", "1", Operator::NotEquals),
                filter("b", "", Operator::Exists),
                filter("c", "", Operator::DoesNotExist),
            ],
        };
        let config = pods(&settings);
        assert_eq!(config.field_selector.as_deref(), Some("status.phase=Running,spec.nodeName=node-7"));
        assert_eq!(config.label_selector.as_deref(), Some("a!=1,b,!c"));
    }
}
