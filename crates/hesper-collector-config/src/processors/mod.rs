//! Processors: what happens to data on its way.

mod actions;
mod batch;
mod condition;
mod filter;
mod k8sattributes;
mod matching;
mod memory_limiter;
mod probabilistic_sampler;

pub use actions::{Action, ActionSource, Attributes, Change, Convert};
pub use batch::Batch;
pub use condition::{Comparison, Condition, Field, Operand};
pub use filter::{Conditions, ErrorMode, Filter, LogMatch, MetricMatch, Sides};
pub use k8sattributes::{
    Association, AssociationSource, ExtractRule, FieldFilter, K8sAttributes, K8sAuth, K8sFilter,
    MetadataSource, Operator,
};
pub use matching::{AttributeMatch, LibraryMatch, Match, SeverityMatch, TextMatch, ValueMatch};
pub use memory_limiter::{Limit, MemoryLimiter};
pub use probabilistic_sampler::{AttributeSource, ProbabilisticSampler, SamplerMode};

use crate::{Signal, section::Section};

/// A processor with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Processor {
    /// `resource`: actions on the attributes of resources.
    Resource(Vec<Action>),
    /// `attributes`: actions on the attributes of spans, points and log records.
    Attributes(Box<Attributes>),
    /// `batch`
    Batch(Batch),
    /// `filter`
    Filter(Box<Filter>),
    /// `k8sattributes`
    K8sAttributes(Box<K8sAttributes>),
    /// `memory_limiter`
    MemoryLimiter(MemoryLimiter),
    /// `probabilistic_sampler`
    ProbabilisticSampler(ProbabilisticSampler),
}

/// The types that there are.
pub(crate) const TYPES: &[&str] = &[
    "attributes",
    "batch",
    "filter",
    "k8s_attributes",
    "memory_limiter",
    "probabilistic_sampler",
    "resource",
];
/// Older names.
pub(crate) const RENAMED: &[(&str, &str)] = &[("k8sattributes", "k8s_attributes")];

pub(crate) fn read(kind: &str, s: &Section<'_>) -> Option<Processor> {
    Some(match kind {
        "attributes" => Processor::Attributes(Box::new(actions::attributes(s))),
        "batch" => Processor::Batch(batch::read(s)),
        "filter" => Processor::Filter(Box::new(filter::read(s))),
        "k8s_attributes" | "k8sattributes" => Processor::K8sAttributes(Box::new(k8sattributes::read(s))),
        "memory_limiter" => Processor::MemoryLimiter(memory_limiter::read(s)),
        "probabilistic_sampler" => Processor::ProbabilisticSampler(probabilistic_sampler::read(s)),
        "resource" => Processor::Resource(actions::actions(s, "attributes")),
        _ => return None,
    })
}

impl Processor {
    /// Can it be in a pipeline of this signal?
    pub const fn carries(&self, signal: Signal) -> bool {
        match self {
            Self::ProbabilisticSampler(_) => matches!(signal, Signal::Traces | Signal::Logs),
            Self::Attributes(_) | Self::Batch(_) | Self::Filter(_) => !matches!(signal, Signal::Profiles),
            Self::Resource(_) | Self::K8sAttributes(_) | Self::MemoryLimiter(_) => true,
        }
    }
}
