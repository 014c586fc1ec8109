//! Processors: every key, every default.

use crate::{faults, processor};
use hesper_collector_config::{
    Pattern, Value,
    processors::{
        Action, ActionSource, Association, AssociationSource, AttributeMatch, AttributeSource, Attributes,
        Batch, Change, Convert, ExtractRule, FieldFilter, K8sAttributes, K8sAuth, K8sFilter, LibraryMatch,
        Limit, Match, MemoryLimiter, MetadataSource, Operator, ProbabilisticSampler, Processor, SamplerMode,
        SeverityMatch, TextMatch, ValueMatch,
    },
};
use std::time::Duration;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("an expression")
}

fn word(word: &str) -> Value {
    Value::Text(word.into())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn every_action() {
    let body = "[{key: a, value: x, action: insert}, {key: b, from_attribute: c, default_value: 1, action: update}, \
                {key: d, from_context: metadata.tenant, default_value: '1', action: upsert}, \
                {key: e, from_context: auth.username, action: upsert}, {key: e, from_context: client.address, action: \
                upsert}, {key: f, action: delete}, {pattern: '^g', action: delete}, {key: h, pattern: i, action: hash}, \
                {key: j, pattern: '(?P<k>.*)', action: extract}, {key: l, converted_type: int, action: convert}, \
                {key: l, converted_type: double, action: convert}, {key: l, converted_type: string, action: convert}]";
    let context = |key: &str, default: Option<Value>| ActionSource::Context { key: key.into(), default };
    let expected: Vec<Action> = [
        ("a", Change::Insert(ActionSource::Value(word("x")))),
        ("b", Change::Update(ActionSource::Attribute { key: "c".into(), default: Some(Value::Int(1)) })),
        ("d", Change::Upsert(context("metadata.tenant", Some(word("1"))))),
        ("e", Change::Upsert(context("auth.username", None))),
        ("e", Change::Upsert(context("client.address", None))),
        ("f", Change::Delete(None)),
        ("", Change::Delete(Some(pattern("^g")))),
        ("h", Change::Hash(Some(pattern("i")))),
        ("j", Change::Extract(pattern("(?P<k>.*)"))),
        ("l", Change::Convert(Convert::Int)),
        ("l", Change::Convert(Convert::Double)),
        ("l", Change::Convert(Convert::Text)),
    ]
    .into_iter()
    .map(|(key, change)| Action { key: key.into(), change })
    .collect();
    let resource = processor("resource", &format!("{{attributes: {body}}}"));
    assert_eq!(resource, Processor::Resource(expected.clone()));
    let attributes = Attributes { actions: expected, include: None, exclude: None };
    assert_eq!(
        processor("attributes", &format!("{{actions: {body}}}")),
        Processor::Attributes(Box::new(attributes))
    );
}

#[test]
fn values_have_the_type_that_is_written() {
    for (text, value) in [
        ("x", word("x")),
        ("1", Value::Int(1)),
        ("-1", Value::Int(-1)),
        ("1.5", Value::Double(1.5)),
        ("true", Value::Bool(true)),
        ("'1'", word("1")),
        ("0123", word("0123")),
        ("18446744073709551615", word("18446744073709551615")),
        ("[a, 1]", Value::List(vec![word("a"), Value::Int(1)])),
        ("{a: {b: true}}", Value::Map(vec![("a".into(), Value::Map(vec![("b".into(), Value::Bool(true))]))])),
    ] {
        let body = format!("{{attributes: [{{key: k, value: {text}, action: insert}}]}}");
        let Processor::Resource(actions) = processor("resource", &body) else { panic!() };
        assert_eq!(actions[0].change, Change::Insert(ActionSource::Value(value)), "{text}");
    }
}

#[test]
fn bad_actions() {
    for (action, reason) in [
        ("{}", "has no action"),
        ("{key: a}", "has no action"),
        ("{key: a, action: add}", "'add' is no choice"),
        ("{action: insert, value: x}", "names no attribute"),
        ("{key: a, action: insert}", "gives 'a' no value"),
        ("{key: a, action: insert, value: x, from_attribute: b}", "has two values"),
        ("{key: a, action: upsert, from_context: x}", "not known here"),
        ("{key: a, action: delete, value: x}", "does not belong to this action"),
        ("{key: a, action: delete, pattern: '['}", "no regular expression"),
        ("{key: a, action: extract}", "has no pattern"),
        ("{key: a, action: extract, pattern: '(x)'}", "every group needs a name"),
        ("{key: a, action: convert}", "has no converted_type"),
        ("{key: a, action: convert, converted_type: bool}", "'bool' is no choice"),
        ("{key: a, action: hash, valu: x}", "'valu' is no key"),
        ("{key: hesper.identity.id, value: x, action: upsert}", "'hesper.identity.id' is set from"),
        ("{key: hesper.x, action: delete}", "'hesper.x' is set from"),
        ("{key: a, value: [{hesper.x: 1}], action: insert}", "'hesper.x' is set from"),
        ("{key: a, pattern: '(?P<hesper.x>.*)', action: extract}", "'hesper.x' is set from"),
    ] {
        for (kind, list) in [("resource", "attributes"), ("attributes", "actions")] {
            let faults = faults(&format!("processors: {{{kind}: {{{list}: [{action}]}}}}"));
            assert_eq!(faults.len(), 1, "{action}: {faults:#?}");
            assert!(faults[0].contains(reason), "{action}: {faults:#?}");
        }
    }
    assert!(faults("processors: {resource: }")[0].contains("does nothing"));
}

#[test]
fn include_and_exclude() {
    let body = "{actions: [{key: a, action: delete}], include: {match_type: strict, services: [s], span_names: [n], \
                span_kinds: [SPAN_KIND_SERVER], resources: [{key: r, value: v}], attributes: [{key: a, value: 1}, {key: \
                b}], libraries: [{name: l, version: v}, {name: m}], log_bodies: [b], log_severity_texts: [INFO], \
                log_severity_number: {min: WARN, match_undefined: true}, metric_names: [m]}, exclude: {match_type: \
                regexp, regexp: {cacheenabled: true}, services: ['^s'], attributes: [{key: a, value: '^v'}]}}";
    let is = |text: &str| vec![TextMatch::Is(text.into())];
    let attribute = |key: &str, value| AttributeMatch { key: key.into(), value };
    let include = Match {
        services: is("s"),
        span_names: is("n"),
        span_kinds: is("SPAN_KIND_SERVER"),
        resources: vec![attribute("r", Some(ValueMatch::Is(word("v"))))],
        attributes: vec![attribute("a", Some(ValueMatch::Is(Value::Int(1)))), attribute("b", None)],
        libraries: vec![
            LibraryMatch { name: TextMatch::Is("l".into()), version: Some(TextMatch::Is("v".into())) },
            LibraryMatch { name: TextMatch::Is("m".into()), version: None },
        ],
        log_bodies: is("b"),
        log_severity_texts: is("INFO"),
        log_severity_number: Some(SeverityMatch { min: 13, match_undefined: true }),
        metric_names: is("m"),
    };
    let exclude = Match {
        services: vec![TextMatch::Matches(pattern("^s"))],
        attributes: vec![attribute("a", Some(ValueMatch::Matches(pattern("^v"))))],
        ..Match::default()
    };
    let Processor::Attributes(attributes) = processor("attributes", body) else { panic!() };
    assert_eq!((attributes.include, attributes.exclude), (Some(include), Some(exclude)));
    for (side, reason) in [
        ("{services: [a]}", "has no match_type"),
        ("{match_type: strict}", "matches nothing in particular"),
        ("{match_type: expr, services: [a]}", "'expr' is no choice"),
        ("{match_type: regexp, services: ['(']}", "no regular expression"),
        ("{match_type: strict, log_severity_number: {min: LOUD}}", "is not a severity"),
    ] {
        let faults = faults(&format!(
            "processors: {{attributes: {{actions: [{{key: a, action: delete}}], include: {side}}}}}"
        ));
        assert!(faults[0].contains(reason), "{side}: {faults:#?}");
    }
}

#[test]
fn batches() {
    let default = Batch {
        send_batch_size: 8192,
        timeout: Duration::from_millis(200),
        send_batch_max_size: 0,
        metadata_keys: Vec::new(),
        metadata_cardinality_limit: 1000,
    };
    assert_eq!(processor("batch", ""), Processor::Batch(default));
    let body = "{send_batch_size: 1, timeout: 10s, send_batch_max_size: 2, metadata_keys: [tenant], \
                metadata_cardinality_limit: 3}";
    let expected = Batch {
        send_batch_size: 1,
        timeout: Duration::from_secs(10),
        send_batch_max_size: 2,
        metadata_keys: strings(&["tenant"]),
        metadata_cardinality_limit: 3,
    };
    assert_eq!(processor("batch", body), Processor::Batch(expected));
    assert!(
        faults("processors: {batch: {send_batch_max_size: 1}}")[0].contains("smaller than send_batch_size")
    );
    assert!(faults("processors: {batch: {metadata_keys: [A, a]}}")[0].contains("'a' is there twice"));
}

#[test]
fn memory_limits() {
    let limiter = |body: &str| processor("memory_limiter", body);
    let expected = |limit, spike| {
        Processor::MemoryLimiter(MemoryLimiter { check_interval: Duration::from_secs(1), limit, spike })
    };
    assert_eq!(limiter("{check_interval: 1s, limit_mib: 100}"), expected(Limit::Bytes(100 << 20), None));
    let both = "{check_interval: 1s, limit_mib: 100, spike_limit_mib: 10, limit_percentage: 50, \
                spike_limit_percentage: 60, min_gc_interval_when_soft_limited: 1s, min_gc_interval_when_hard_limited: 1s}";
    assert_eq!(limiter(both), expected(Limit::Bytes(100 << 20), Some(Limit::Bytes(10 << 20))));
    let share = "{check_interval: 1s, limit_percentage: 50, spike_limit_percentage: 10}";
    assert_eq!(limiter(share), expected(Limit::Percent(50), Some(Limit::Percent(10))));
    for (body, reason) in [
        ("{limit_mib: 1}", "must be greater than zero"),
        ("{check_interval: 0s, limit_mib: 1}", "must be greater than zero"),
        ("{check_interval: 1s}", "has no limit"),
        ("{check_interval: 1s, limit_mib: 1, spike_limit_mib: 1}", "not smaller than the limit"),
        ("{check_interval: 1s, limit_percentage: 101}", "'101' is not such a number"),
    ] {
        let faults = faults(&format!("processors: {{memory_limiter: {body}}}"));
        assert!(faults[0].contains(reason), "{body}: {faults:#?}");
    }
}

#[test]
fn samplers() {
    let default = ProbabilisticSampler {
        sampling_percentage: 15.3,
        mode: SamplerMode::HashSeed,
        hash_seed: 0,
        fail_closed: true,
        sampling_precision: 4,
        attribute_source: AttributeSource::TraceId,
        from_attribute: None,
        sampling_priority: None,
    };
    let sampler = |body: &str| processor("probabilistic_sampler", body);
    assert_eq!(sampler("{sampling_percentage: 15.3}"), Processor::ProbabilisticSampler(default.clone()));
    let body = "{sampling_percentage: 100, mode: equalizing, hash_seed: 22, fail_closed: false, sampling_precision: 14, \
                attribute_source: record, from_attribute: a, sampling_priority: p}";
    let expected = ProbabilisticSampler {
        sampling_percentage: 100.0,
        mode: SamplerMode::Equalizing,
        hash_seed: 22,
        fail_closed: false,
        sampling_precision: 14,
        attribute_source: AttributeSource::Record,
        from_attribute: Some("a".into()),
        sampling_priority: Some("p".into()),
    };
    assert_eq!(sampler(body), Processor::ProbabilisticSampler(expected));
    for (body, reason) in [
        ("", "has no sampling_percentage"),
        ("{sampling_percentage: 101}", "not between 0 and 100"),
        ("{sampling_percentage: .inf}", "is not a number"),
        ("{sampling_percentage: 1, attribute_source: record}", "record needs an attribute"),
    ] {
        let faults = faults(&format!("processors: {{probabilistic_sampler: {body}}}"));
        assert!(faults[0].contains(reason), "{body}: {faults:#?}");
    }
}

fn k8s(body: &str) -> K8sAttributes {
    match processor("k8s_attributes", body) {
        Processor::K8sAttributes(k8s) => *k8s,
        other => panic!("{other:?}"),
    }
}

fn default_k8s() -> K8sAttributes {
    K8sAttributes {
        auth_type: K8sAuth::ServiceAccount,
        context: None,
        passthrough: false,
        metadata: strings(&[
            "k8s.namespace.name",
            "k8s.pod.name",
            "k8s.pod.uid",
            "k8s.pod.start_time",
            "k8s.deployment.name",
            "k8s.node.name",
        ]),
        labels: Vec::new(),
        annotations: Vec::new(),
        otel_annotations: false,
        deployment_name_from_replicaset: false,
        filter: K8sFilter::default(),
        associations: Vec::new(),
        exclude: vec![pattern("jaeger-agent"), pattern("jaeger-collector")],
        wait_for_metadata: false,
        wait_for_metadata_timeout: Duration::from_secs(10),
        strict: false,
    }
}

#[test]
fn pods() {
    assert_eq!(k8s(""), default_k8s());
    let body = "{auth_type: kubeConfig, context: c, passthrough: true, strict: true, wait_for_metadata: true, \
                wait_for_metadata_timeout: 1s, watch_sync_period: 2s, extract: {metadata: [k8s.pod.ip, service.name], \
                labels: [{tag_name: t, key: k, from: namespace}, {key_regex: '(.*)', tag_name: $$1}], annotations: [{key: \
                a, from: node}], otel_annotations: true, deployment_name_from_replicaset: true}, filter: {node: n, \
                namespace: ns, fields: [{key: f, value: v, op: not-equals}], labels: [{key: l, op: exists}]}, \
                pod_association: [{sources: [{from: resource_attribute, name: k8s.pod.uid}, {from: connection}]}, {from: \
                resource_attribute, name: k8s.pod.ip}], exclude: {pods: [{name: x.*}]}}";
    let source = |name: &str| AssociationSource::ResourceAttribute(name.into());
    let expected = K8sAttributes {
        auth_type: K8sAuth::KubeConfig,
        context: Some("c".into()),
        passthrough: true,
        metadata: strings(&["k8s.pod.ip", "service.name"]),
        labels: vec![
            ExtractRule {
                tag_name: Some("t".into()),
                key: Some("k".into()),
                key_regex: None,
                from: MetadataSource::Namespace,
            },
            ExtractRule {
                tag_name: Some("$1".into()),
                key: None,
                key_regex: Some(pattern("^(?:(.*))$")),
                from: MetadataSource::Pod,
            },
        ],
        annotations: vec![ExtractRule {
            tag_name: None,
            key: Some("a".into()),
            key_regex: None,
            from: MetadataSource::Node,
        }],
        otel_annotations: true,
        deployment_name_from_replicaset: true,
        filter: K8sFilter {
            node: Some("n".into()),
            namespace: Some("ns".into()),
            fields: vec![FieldFilter { key: "f".into(), value: "v".into(), op: Operator::NotEquals }],
            labels: vec![FieldFilter { key: "l".into(), value: String::new(), op: Operator::Exists }],
        },
        associations: vec![
            Association { sources: vec![source("k8s.pod.uid"), AssociationSource::Connection] },
            Association { sources: vec![source("k8s.pod.ip")] },
        ],
        exclude: vec![pattern("x.*")],
        wait_for_metadata: true,
        wait_for_metadata_timeout: Duration::from_secs(1),
        strict: true,
    };
    assert_eq!(k8s(body), expected);
    assert_eq!(k8s("{filter: {node_from_env_var: KUBE_NODE_NAME}}").filter.node.as_deref(), Some("node-7"));
}

#[test]
fn bad_pods() {
    for (body, reason) in [
        ("{extract: {metadata: [k8s.pod.nam]}}", "did you mean 'k8s.pod.name'?"),
        ("{extract: {labels: [{tag_name: t}]}}", "needs key or key_regex"),
        ("{extract: {labels: [{key: a, from: cluster}]}}", "'cluster' is no choice"),
        ("{pod_association: [{}]}", "has no sources"),
        ("{pod_association: [{sources: [{name: x}]}]}", "has no from"),
        ("{pod_association: [{sources: [{from: resource_attribute}]}]}", "has no name"),
        ("{filter: {labels: [{op: exists}]}}", "has no key"),
        ("{filter: {fields: [{key: a, op: exists}]}}", "'exists' is no choice"),
    ] {
        let faults = faults(&format!("processors: {{k8sattributes: {body}}}"));
        assert_eq!(faults.len(), 1, "{body}: {faults:#?}");
        assert!(faults[0].contains(reason), "{body}: {faults:#?}");
    }
}
