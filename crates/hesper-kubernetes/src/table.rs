//! Pods and what they belong to, as the API has told them; no clock and no socket.
//!
//! A pod that was deleted is known for two minutes more, because its last data may still be on the way. When another pod has got its address, the
//! one that was started later is found by it.

use crate::{
    association::{Identifier, identifiers},
    pod::Pod,
    rules::{Attributes, Rules, Value, put},
};
use hesper_collector_config::processors::{Association, MetadataSource};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

/// How long a deleted pod is known.
pub const GRACE: Duration = Duration::from_secs(120);
/// Most pods, and most objects of every other kind. Kubernetes supports 150 000 pods in a cluster.
pub const MOST: usize = 300_000;

/// The tables.
#[derive(Debug)]
pub struct Table {
    rules: Rules,
    associations: Vec<Association>,
    most: usize,
    pods: HashMap<String, Known>,
    /// Uids of pods.
    by: HashMap<Identifier, String>,
    deleted: VecDeque<(Instant, String)>,
    objects: HashMap<(Kind, String), Object>,
    /// Uids of namespaces and nodes by their names.
    names: HashMap<(Kind, String), String>,
    /// Objects that were not kept because there are too many.
    refused: u64,
}

#[derive(Debug)]
struct Known {
    pod: Pod,
    deleted: Option<Instant>,
}

/// Objects besides pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of Kubernetes")]
pub enum Kind {
    Namespace,
    Node,
    ReplicaSet,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
}

/// An object besides pods.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// What owns it: the deployment of a replica set, the cron job of a job.
    pub owner: Option<crate::pod::Owner>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Kind {
    const fn source(self) -> Option<MetadataSource> {
        Some(match self {
            Self::Namespace => MetadataSource::Namespace,
            Self::Node => MetadataSource::Node,
            Self::Deployment => MetadataSource::Deployment,
            Self::StatefulSet => MetadataSource::StatefulSet,
            Self::DaemonSet => MetadataSource::DaemonSet,
            Self::Job => MetadataSource::Job,
            Self::ReplicaSet => return None,
        })
    }
}

impl Table {
    /// Empty tables.
    pub fn new(rules: Rules, associations: Vec<Association>) -> Self {
        Self {
            rules,
            associations,
            most: MOST,
            pods: HashMap::new(),
            by: HashMap::new(),
            deleted: VecDeque::new(),
            objects: HashMap::new(),
            names: HashMap::new(),
            refused: 0,
        }
    }

    /// What is wanted.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How a pod is found.
    pub fn associations(&self) -> &[Association] {
        &self.associations
    }

    /// Pods that are known, deleted ones too.
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// Objects that were not kept because there are too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// A pod was added or has changed. Is it new?
    pub fn put_pod(&mut self, pod: Pod) -> bool {
        let before = self.pods.remove(&pod.uid);
        if let Some(before) = &before {
            self.forget(&before.pod);
        } else if self.pods.len() >= self.most {
            self.refused += 1;
            return false;
        }
        for identifier in identifiers(&self.associations, &pod) {
            let other = self.by.get(&identifier).and_then(|uid| self.pods.get(uid));
            if other.is_none_or(|other| other.pod.started <= pod.started) {
                self.by.insert(identifier, pod.uid.clone());
            }
        }
        let new = before.is_none();
        self.pods.insert(pod.uid.clone(), Known { pod, deleted: None });
        new
    }

    /// A pod was deleted. Was it known?
    pub fn delete_pod(&mut self, uid: &str, now: Instant) -> bool {
        let Some(known) = self.pods.get_mut(uid).filter(|known| known.deleted.is_none()) else {
            return false;
        };
        known.deleted = Some(now);
        self.deleted.push_back((now, uid.to_owned()));
        true
    }

    /// All pods that there are were told: others have been deleted. How many?
    pub fn retain_pods(&mut self, there: &HashSet<String>, now: Instant) -> usize {
        let gone: Vec<String> = self.pods.keys().filter(|uid| !there.contains(*uid)).cloned().collect();
        gone.into_iter().filter(|uid| self.delete_pod(uid, now)).count()
    }

    /// Forgets pods that were deleted [`GRACE`] ago.
    pub fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.deleted.front() {
            if now.saturating_duration_since(*at) < GRACE {
                return;
            }
            let Some((at, uid)) = self.deleted.pop_front() else { return };
            // It may have come back, or been deleted again.
            if self.pods.get(&uid).is_some_and(|known| known.deleted == Some(at))
                && let Some(known) = self.pods.remove(&uid)
            {
                self.forget(&known.pod);
            }
        }
    }

    fn forget(&mut self, pod: &Pod) {
        for identifier in identifiers(&self.associations, pod) {
            if self.by.get(&identifier) == Some(&pod.uid) {
                self.by.remove(&identifier);
            }
        }
    }

    /// An object besides pods was added or has changed.
    pub fn put(&mut self, kind: Kind, object: Object) {
        let key = (kind, object.uid.clone());
        if !self.objects.contains_key(&key) && self.objects.len() >= self.most {
            self.refused += 1;
            return;
        }
        if matches!(kind, Kind::Namespace | Kind::Node) {
            self.names.insert((kind, object.name.clone()), object.uid.clone());
        }
        self.objects.insert(key, object);
    }

    /// It was deleted.
    pub fn delete(&mut self, kind: Kind, uid: &str) {
        let Some(object) = self.objects.remove(&(kind, uid.to_owned())) else { return };
        let name = (kind, object.name);
        if self.names.get(&name).is_some_and(|known| known == uid) {
            self.names.remove(&name);
        }
    }

    /// All objects of a kind were told: others have been deleted.
    pub fn retain(&mut self, kind: Kind, there: &HashSet<String>) {
        let gone = self.objects.keys().filter(|(of, uid)| *of == kind && !there.contains(uid));
        let gone: Vec<String> = gone.map(|(_, uid)| uid.clone()).collect();
        gone.iter().for_each(|uid| self.delete(kind, uid));
    }

    /// The pod of an identifier; none that nobody looks at.
    pub fn pod(&self, identifier: &Identifier) -> Option<&Pod> {
        let known = self.pods.get(self.by.get(identifier)?)?;
        Some(&known.pod).filter(|pod| !pod.ignored)
    }

    /// What is set for a pod, with what is known of what it belongs to.
    pub fn attributes(&self, pod: &Pod) -> Attributes {
        let mut found = pod.attributes.clone();
        let Some(owner) = &pod.owner else { return found };
        let object = |kind, uid: &str| self.objects.get(&(kind, uid.to_owned()));
        let mut of = |kind, name: &str, uid: &str| {
            if self.rules.wants(name) {
                put(&mut found, name, Value::Text(uid.to_owned()));
            }
            found.extend(object(kind, uid).map(|of| self.extract(kind, of)).unwrap_or_default());
        };
        match &*owner.kind {
            "ReplicaSet" => {
                let above = object(Kind::ReplicaSet, &owner.uid).and_then(|set| set.owner.as_ref());
                if let Some(above) = above.filter(|above| above.kind == "Deployment") {
                    of(Kind::Deployment, "k8s.deployment.uid", &above.uid);
                }
            }
            "Job" => {
                let job = object(Kind::Job, &owner.uid);
                of(Kind::Job, "k8s.job.uid", &owner.uid);
                let above = job.and_then(|job| job.owner.as_ref());
                if let Some(above) =
                    above.filter(|above| above.kind == "CronJob" && self.rules.wants("k8s.cronjob.uid"))
                {
                    put(&mut found, "k8s.cronjob.uid", Value::Text(above.uid.clone()));
                }
            }
            "StatefulSet" => of(Kind::StatefulSet, "k8s.statefulset.uid", &owner.uid),
            "DaemonSet" => of(Kind::DaemonSet, "k8s.daemonset.uid", &owner.uid),
            _ => {}
        }
        found
    }

    /// What is set for a namespace or node of this name.
    pub fn of_name(&self, kind: Kind, name: &str) -> Attributes {
        let uid = self.names.get(&(kind, name.to_owned()));
        let Some(object) = uid.and_then(|uid| self.objects.get(&(kind, uid.clone()))) else {
            return Attributes::new();
        };
        let mut found = self.extract(kind, object);
        if kind == Kind::Node && self.rules.wants("k8s.node.uid") {
            put(&mut found, "k8s.node.uid", Value::Text(object.uid.clone()));
        }
        found
    }

    /// The uid of the cluster is that of its first namespace.
    pub fn cluster(&self) -> Option<&str> {
        let uid = self.names.get(&(Kind::Namespace, "kube-system".to_owned()));
        uid.filter(|_| self.rules.wants("k8s.cluster.uid")).map(String::as_str)
    }

    fn extract(&self, kind: Kind, object: &Object) -> Attributes {
        let extract = |source| self.rules.extract(source, &object.labels, &object.annotations);
        kind.source().map(extract).unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn at_most(mut self, most: usize) -> Self {
        self.most = most;
        self
    }
}
