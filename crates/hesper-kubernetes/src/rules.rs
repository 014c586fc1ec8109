//! What is wanted: names of attributes, and attributes from labels and annotations.

use hesper_collector_config::{
    Pattern,
    processors::{ExtractRule, K8sAttributes, MetadataSource},
};
use hesper_telemetry::process::value::is_reserved;
use std::collections::{BTreeMap, BTreeSet};

/// An annotation with this value makes a pod that nobody looks at.
const IGNORE: &str = "opentelemetry.io/k8s-processor/ignore";
/// Annotations that are attributes by themselves.
const OTEL_ANNOTATION: &str = "resource.opentelemetry.io/";

/// A value that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

/// Attributes that are set.
pub type Attributes = Vec<(String, Value)>;

/// The settings, made ready.
#[derive(Clone, Debug)]
pub struct Rules {
    metadata: BTreeSet<String>,
    labels: Vec<ExtractRule>,
    annotations: Vec<ExtractRule>,
    otel_annotations: bool,
    exclude: Vec<Pattern>,
    /// Is the name of a replica set without a hash from its label still one of a deployment's?
    pub(crate) deployment_by_name: bool,
}

impl Rules {
    /// Of settings.
    pub fn new(settings: &K8sAttributes) -> Self {
        Self {
            metadata: settings.metadata.iter().cloned().collect(),
            labels: settings.labels.clone(),
            annotations: settings.annotations.clone(),
            otel_annotations: settings.otel_annotations,
            exclude: settings.exclude.clone(),
            deployment_by_name: settings.deployment_name_from_replicaset,
        }
    }

    /// Is this attribute wanted?
    pub fn wants(&self, name: &str) -> bool {
        self.metadata.contains(name)
    }

    /// Are labels or annotations of such an object wanted?
    pub fn wants_of(&self, source: MetadataSource) -> bool {
        self.labels.iter().chain(&self.annotations).any(|rule| rule.from == source)
    }

    /// Is a pod left out, by its name or because it says so?
    pub fn ignores(&self, name: &str, annotations: &BTreeMap<String, String>) -> bool {
        let says = annotations.get(IGNORE).is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
        says || self.exclude.iter().any(|pattern| pattern.regex().is_match(name))
    }

    /// Attributes from the labels and annotations of an object.
    pub fn extract(
        &self,
        source: MetadataSource,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Attributes {
        let mut found = Attributes::new();
        for (rules, pairs, kind) in
            [(&self.labels, labels, "label"), (&self.annotations, annotations, "annotation")]
        {
            for rule in rules.iter().filter(|rule| rule.from == source) {
                extract(rule, pairs, &default_name(source, kind), &mut found);
            }
        }
        if self.otel_annotations && source == MetadataSource::Pod {
            let named = annotations
                .iter()
                .filter_map(|(key, value)| Some((key.strip_prefix(OTEL_ANNOTATION)?, value)));
            named.for_each(|(name, value)| put(&mut found, name, Value::Text(value.clone())));
        }
        found
    }
}

/// Sets an attribute; the last one counts.
pub(crate) fn put(attributes: &mut Attributes, name: &str, value: Value) {
    if name.is_empty() || is_reserved(name) {
        return;
    }
    match attributes.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value,
        None => attributes.push((name.to_owned(), value)),
    }
}

/// What stands before the label's key where no name is given. The names are as old as the objects are in the Collector.
fn default_name(source: MetadataSource, kind: &str) -> String {
    match source {
        MetadataSource::Pod => format!("k8s.pod.{kind}s."),
        MetadataSource::Namespace => format!("k8s.namespace.{kind}s."),
        MetadataSource::Node => format!("k8s.node.{kind}s."),
        MetadataSource::Deployment => format!("k8s.deployment.{kind}."),
        MetadataSource::StatefulSet => format!("k8s.statefulset.{kind}."),
        MetadataSource::DaemonSet => format!("k8s.daemonset.{kind}."),
        MetadataSource::Job => format!("k8s.job.{kind}."),
    }
}

fn extract(rule: &ExtractRule, pairs: &BTreeMap<String, String>, default: &str, found: &mut Attributes) {
    if let Some((key, value)) = rule.key.as_ref().and_then(|key| pairs.get_key_value(key)) {
        let name = rule.tag_name.clone().unwrap_or_else(|| format!("{default}{key}"));
        put(found, &name, Value::Text(value.clone()));
    }
    let Some(pattern) = &rule.key_regex else { return };
    for (key, value) in pairs {
        let Some(groups) = pattern.regex().captures(key) else { continue };
        let name = match &rule.tag_name {
            None => format!("{default}{key}"),
            Some(template) => {
                let mut name = String::new();
                groups.expand(template, &mut name);
                name
            }
        };
        put(found, &name, Value::Text(value.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn rule(tag: Option<&str>, key: Option<&str>, regex: Option<&str>, from: MetadataSource) -> ExtractRule {
        ExtractRule {
            tag_name: tag.map(str::to_owned),
            key: key.map(str::to_owned),
            key_regex: regex.map(|text| Pattern::new(&format!("^(?:{text})$")).expect("an expression")),
            from,
        }
    }

    fn rules(labels: Vec<ExtractRule>, annotations: Vec<ExtractRule>) -> Rules {
        Rules {
            metadata: BTreeSet::new(),
            labels,
            annotations,
            otel_annotations: true,
            exclude: vec![Pattern::new("jaeger-agent").expect("an expression")],
            deployment_by_name: false,
        }
    }

    #[test]
    fn labels_and_annotations_become_attributes() {
        use MetadataSource::{Deployment, Namespace, Pod};
        let labels =
            pairs(&[("app.kubernetes.io/name", "shop"), ("app.kubernetes.io/part", "cart"), ("team", "a")]);
        let annotations = pairs(&[
            ("owner", "me"),
            ("resource.opentelemetry.io/tier", "1"),
            ("resource.opentelemetry.io/hesper.x", "y"),
        ]);
        for (rule, expected) in [
            (rule(Some("t"), Some("team"), None, Pod), vec![("t", "a")]),
            (rule(None, Some("team"), None, Pod), vec![("k8s.pod.labels.team", "a")]),
            (rule(None, Some("none"), None, Pod), vec![]),
            (rule(None, Some("team"), None, Namespace), vec![]),
            (
                rule(Some("app.$1"), None, Some(r"app\.kubernetes\.io/(\w+)"), Pod),
                vec![("app.name", "shop"), ("app.part", "cart")],
            ),
            (rule(None, None, Some("te.*"), Pod), vec![("k8s.pod.labels.team", "a")]),
            (rule(Some("hesper.$1"), None, Some("(team)"), Pod), vec![]),
        ] {
            let mut expected: Attributes =
                expected.into_iter().map(|(k, v)| (k.to_owned(), Value::Text(v.to_owned()))).collect();
            expected.push(("tier".into(), Value::Text("1".into())));
            assert_eq!(
                rules(vec![rule.clone()], vec![]).extract(Pod, &labels, &annotations),
                expected,
                "{rule:?}"
            );
        }
        let both = rules(
            vec![rule(None, Some("team"), None, Deployment)],
            vec![rule(None, Some("owner"), None, Deployment)],
        );
        let names: Vec<String> =
            both.extract(Deployment, &labels, &annotations).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["k8s.deployment.label.team", "k8s.deployment.annotation.owner"]);
        assert!(both.wants_of(Deployment) && !both.wants_of(Pod));
    }

    #[test]
    fn pods_are_left_out() {
        let rules = rules(vec![], vec![]);
        assert!(rules.ignores("my-jaeger-agent-1", &pairs(&[])));
        assert!(!rules.ignores("shop", &pairs(&[(IGNORE, "no")])));
        assert!(rules.ignores("shop", &pairs(&[(IGNORE, " True ")])));
    }
}
