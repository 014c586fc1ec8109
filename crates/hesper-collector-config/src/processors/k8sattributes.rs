//! `k8sattributes`: which pod sent this.
//!
//! `strict` is ours: outside Kubernetes it stops the program; without it there is a warning, and data passes as it is.

use super::actions::reserved;
use crate::{
    Pattern,
    common::{anchored, pattern},
    remark::Topic,
    section::Section,
};
use std::time::Duration;

/// What is added and how pods are found.
#[derive(Clone, Debug, PartialEq)]
pub struct K8sAttributes {
    /// How the API is asked.
    pub auth_type: K8sAuth,
    /// The context of the kubeconfig.
    pub context: Option<String>,
    /// Only note the address of the sender, ask nobody.
    pub passthrough: bool,
    /// Attributes that are set, as they are called in OTLP.
    pub metadata: Vec<String>,
    /// Attributes from labels.
    pub labels: Vec<ExtractRule>,
    /// Attributes from annotations.
    pub annotations: Vec<ExtractRule>,
    /// Take annotations that begin with `resource.opentelemetry.io/`?
    pub otel_annotations: bool,
    /// Make the name of the deployment from that of the replica set, without asking for replica sets?
    pub deployment_name_from_replicaset: bool,
    /// Which pods are watched.
    pub filter: K8sFilter,
    /// How the pod of a resource is found: the first rule that yields a value. Empty: the Collector's order.
    pub associations: Vec<Association>,
    /// Names of pods that are left out, as expressions.
    pub exclude: Vec<Pattern>,
    /// Begin only when the pods are known?
    pub wait_for_metadata: bool,
    /// How long to wait for that (10 s).
    pub wait_for_metadata_timeout: Duration,
    /// Stop outside Kubernetes?
    pub strict: bool,
}

/// How the API is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum K8sAuth {
    /// With the token of the pod's service account.
    ServiceAccount,
    /// With a kubeconfig.
    KubeConfig,
    /// With nothing.
    None,
}

/// Which pods are watched.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct K8sFilter {
    /// Those of this node; `node_from_env_var` is resolved.
    pub node: Option<String>,
    /// Those of this namespace.
    pub namespace: Option<String>,
    /// Those whose fields are so.
    pub fields: Vec<FieldFilter>,
    /// Those whose labels are so.
    pub labels: Vec<FieldFilter>,
}

/// A field or label of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFilter {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What is asked.
    pub op: Operator,
}

/// What is asked of a field or label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It is that value.
    Equals,
    /// It is not.
    NotEquals,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// An attribute from a label or an annotation.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtractRule {
    /// The attribute; `$1` and so on are groups of the expression. None: the default name for what it is from.
    pub tag_name: Option<String>,
    /// The label.
    pub key: Option<String>,
    /// All labels whose name matches; anchored at both ends.
    pub key_regex: Option<Pattern>,
    /// Whose labels.
    pub from: MetadataSource,
}

/// Whose labels or annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of Kubernetes")]
pub enum MetadataSource {
    Pod,
    Namespace,
    Node,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
}

/// One way to find the pod: all sources must yield a value and agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// One to four sources.
    pub sources: Vec<AssociationSource>,
}

/// Where the value comes from by which a pod is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssociationSource {
    /// The address of the sender.
    Connection,
    /// An attribute of the resource.
    ResourceAttribute(String),
}

/// Most sources of one association, as in the Collector.
const MAX_SOURCES: usize = 4;
/// What is set when nothing is written.
const DEFAULT_METADATA: [&str; 6] = [
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.pod.start_time",
    "k8s.deployment.name",
    "k8s.node.name",
];
const METADATA: [&str; 33] = [
    "container.id",
    "container.image.name",
    "container.image.repo_digests",
    "container.image.tag",
    "container.image.tags",
    "k8s.cluster.uid",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.cronjob.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.deployment.name",
    "k8s.deployment.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.node.uid",
    "k8s.pod.hostname",
    "k8s.pod.ip",
    "k8s.pod.name",
    "k8s.pod.start_time",
    "k8s.pod.startTime",
    "k8s.pod.uid",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "k8s.cluster.name",
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.version",
];
const SOURCES: [(&str, MetadataSource); 7] = [
    ("pod", MetadataSource::Pod),
    ("namespace", MetadataSource::Namespace),
    ("node", MetadataSource::Node),
    ("deployment", MetadataSource::Deployment),
    ("statefulset", MetadataSource::StatefulSet),
    ("daemonset", MetadataSource::DaemonSet),
    ("job", MetadataSource::Job),
];

pub(crate) fn read(s: &Section<'_>) -> K8sAttributes {
    let auth = [
        ("serviceAccount", K8sAuth::ServiceAccount),
        ("kubeConfig", K8sAuth::KubeConfig),
        ("none", K8sAuth::None),
    ];
    let mut found = K8sAttributes {
        auth_type: s.one_of("auth_type", &auth, K8sAuth::ServiceAccount),
        context: s.text("context"),
        passthrough: s.flag("passthrough", false),
        metadata: DEFAULT_METADATA.map(str::to_owned).into(),
        labels: Vec::new(),
        annotations: Vec::new(),
        otel_annotations: false,
        deployment_name_from_replicaset: false,
        filter: s.section("filter", filter).unwrap_or_default(),
        associations: s.sections("pod_association", association),
        exclude: s
            .section("exclude", |s| s.sections("pods", excluded))
            .map_or_else(default_exclude, |pods| pods.into_iter().flatten().collect()),
        wait_for_metadata: s.flag("wait_for_metadata", false),
        wait_for_metadata_timeout: s.duration("wait_for_metadata_timeout", Duration::from_secs(10)),
        strict: s.flag("strict", false),
    };
    s.section("extract", |s| extract(s, &mut found));
    s.duration("watch_sync_period", Duration::ZERO);
    s.idle("watch_sync_period", "the watch itself keeps what is known up to date");
    found
}

fn default_exclude() -> Vec<Pattern> {
    ["jaeger-agent", "jaeger-collector"].iter().filter_map(|name| Pattern::new(name).ok()).collect()
}

fn excluded(s: &Section<'_>) -> Option<Pattern> {
    s.require("name", "write the name of the pods, an expression");
    s.scalar("name").and_then(|scalar| pattern(s, scalar))
}

fn extract(s: &Section<'_>, found: &mut K8sAttributes) {
    if s.is_set("metadata") {
        found.metadata = s
            .some_of("metadata", &METADATA.map(|name| (name, name)))
            .into_iter()
            .map(str::to_owned)
            .collect();
        if found.metadata.iter().any(|name| name == "k8s.cluster.name") {
            let reason = "k8s.cluster.name is never set: Kubernetes does not know what its cluster is called";
            s.remark(Topic::NoEffect, "metadata", reason, "set it by a processor resource");
        }
    }
    found.labels = s.sections("labels", rule);
    found.annotations = s.sections("annotations", rule);
    found.otel_annotations = s.flag("otel_annotations", false);
    found.deployment_name_from_replicaset = s.flag("deployment_name_from_replicaset", false);
}

fn rule(s: &Section<'_>) -> ExtractRule {
    s.unsupported("regex", "it was removed from the Collector too: take the part out with a later processor");
    let rule = ExtractRule {
        tag_name: s.text("tag_name"),
        key: s.text("key"),
        key_regex: s.scalar("key_regex").and_then(|scalar| anchored(s, scalar, "^(?:", ")$")),
        from: s.one_of("from", &SOURCES, MetadataSource::Pod),
    };
    rule.tag_name.iter().for_each(|name| reserved(s, "tag_name", name));
    if s.is_set("key") == s.is_set("key_regex") {
        s.fault(&s.place, format!("{} needs key or key_regex", s.what), "write one of them");
    }
    rule
}

fn filter(s: &Section<'_>) -> K8sFilter {
    let mut node = s.text("node").filter(|node| !node.is_empty());
    if let Some(name) = s.text("node_from_env_var").filter(|name| !name.is_empty()) {
        match s.reader.variable(&name).filter(|value| !value.is_empty()) {
            Some(value) => node = Some(value),
            None => {
                let reason = format!("{name} is not set in the environment: pods of every node are watched");
                let next = "set it from the downward API (spec.nodeName)";
                s.remark(Topic::Source, "node_from_env_var", reason, next);
            }
        }
    }
    K8sFilter {
        node,
        namespace: s.text("namespace").filter(|namespace| !namespace.is_empty()),
        fields: s.sections("fields", |s| {
            field(
                s,
                &[("", Operator::Equals), ("equals", Operator::Equals), ("not-equals", Operator::NotEquals)],
            )
        }),
        labels: s.sections("labels", |s| {
            field(
                s,
                &[
                    ("", Operator::Equals),
                    ("equals", Operator::Equals),
                    ("not-equals", Operator::NotEquals),
                    ("exists", Operator::Exists),
                    ("does-not-exist", Operator::DoesNotExist),
                ],
            )
        }),
    }
}

fn field(s: &Section<'_>, operators: &[(&'static str, Operator)]) -> FieldFilter {
    FieldFilter {
        key: s.needed("key", "write its name"),
        value: s.text_or("value", ""),
        op: s.one_of("op", operators, Operator::Equals),
    }
}

fn association(s: &Section<'_>) -> Association {
    let mut sources: Vec<AssociationSource> = s.sections("sources", source).into_iter().flatten().collect();
    // `from` and `name` in the association itself are the older form.
    if s.is_set("from") {
        sources.extend(source(s));
    } else {
        s.open("name");
    }
    if sources.len() > MAX_SOURCES {
        s.refuse("sources", format_args!("more than {MAX_SOURCES}"), "leave some out");
    }
    if sources.is_empty() && !s.is_set("sources") && !s.is_set("from") {
        s.fault(&s.place, format!("{} has no sources", s.what), "add sources: [{from: connection}]");
    }
    Association { sources }
}

fn source(s: &Section<'_>) -> Option<AssociationSource> {
    s.require("from", "write connection or resource_attribute");
    let name = s.text("name");
    match s.choice("from", &[("connection", false), ("resource_attribute", true)])? {
        false => Some(AssociationSource::Connection),
        true => {
            s.require("name", "write the name of the attribute");
            name.map(AssociationSource::ResourceAttribute)
        }
    }
}
