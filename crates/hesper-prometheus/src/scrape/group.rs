//! Where metrics are from: the resource (job and instance) and the instrumentation scope, each said by labels.

use crate::labels::Labels;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
};

/// The scope of metrics that name none: who translated them.
pub(super) const OWN_SCOPE: &str = "hesper-prometheus";

const SCOPE_PREFIX: &str = "otel_scope_";

/// Metrics of one resource and scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupKey {
    pub(super) job: String,
    pub(super) instance: String,
    pub(super) scope: Scope,
}

/// What the labels `otel_scope_…` say.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope {
    pub(super) name: String,
    pub(super) version: String,
    schema_url: String,
    attributes: Vec<(String, String)>,
}

impl GroupKey {
    /// Takes the labels that say the group away from the others.
    pub(super) fn take(labels: &mut Labels<'_>) -> Self {
        let mut take = |name: &str| labels.take(name).map(|value| value.into_owned()).unwrap_or_default();
        let (job, instance) = (take("job"), take("instance"));
        let mut scope = Scope::default();
        let said: Vec<_> =
            labels.iter().map(|(name, _)| name).filter(|n| n.starts_with(SCOPE_PREFIX)).collect();
        let said: Vec<_> = said.into_iter().map(str::to_owned).collect();
        for name in said {
            let value = labels.take(&name).map(|value| value.into_owned()).unwrap_or_default();
            match &name[SCOPE_PREFIX.len()..] {
                "name" => scope.name = value,
                "version" => scope.version = value,
                "schema_url" => scope.schema_url = value,
                attribute => scope.attributes.push((attribute.to_owned(), value)),
            }
        }
        Self { job, instance, scope }
    }
}

impl Scope {
    /// As OTLP has it, with what `otel_scope_info` said of it. The second is the schema's URL.
    pub(super) fn to_otlp(&self, info: Option<&Vec<(String, String)>>) -> (InstrumentationScope, String) {
        if *self == Self::default() {
            let scope = InstrumentationScope {
                name: OWN_SCOPE.into(),
                version: env!("CARGO_PKG_VERSION").into(),
                ..InstrumentationScope::default()
            };
            return (scope, String::new());
        }
        let mut attributes = self.attributes.clone();
        for (name, value) in info.into_iter().flatten() {
            if !attributes.iter().any(|(known, _)| known == name) {
                attributes.push((name.clone(), value.clone()));
            }
        }
        let scope = InstrumentationScope {
            name: self.name.clone(),
            version: self.version.clone(),
            attributes: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            dropped_attributes_count: 0,
        };
        (scope, self.schema_url.clone())
    }
}

/// Where a target is, for its resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// `server.address`
    pub address: String,
    /// `server.port`; none in the mesh.
    pub port: Option<u16>,
    /// `url.scheme`
    pub scheme: String,
}

/// The resource of a job and an instance, with what `target_info` said.
pub(super) fn resource(
    job: &str,
    instance: &str,
    server: &Server,
    info: Option<&Vec<(String, String)>>,
) -> Resource {
    let mut attributes = vec![attribute("service.name", job), attribute("service.instance.id", instance)];
    attributes.push(attribute("server.address", &server.address));
    if let Some(port) = server.port {
        attributes.push(attribute("server.port", &port.to_string()));
    }
    attributes.push(attribute("url.scheme", &server.scheme));
    attributes.retain(|said| said.value != attribute("", "").value);
    for (name, value) in info.into_iter().flatten() {
        if !attributes.iter().any(|known| known.key == *name) {
            attributes.push(attribute(name, value));
        }
    }
    Resource { attributes, ..Resource::default() }
}

/// A text as an attribute.
pub(super) fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}
