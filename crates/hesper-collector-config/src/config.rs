//! The configuration as it is used.

use crate::{Exporter, Extension, Id, Processor, Receiver, Signal, Telemetry};
use hesper_yaml::Place;
use std::{collections::BTreeMap, fmt};

/// A whole configuration. Components that no pipeline uses are here too; see [`Config::uses`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Config {
    /// `receivers`
    pub receivers: BTreeMap<Id, Component<Receiver>>,
    /// `processors`
    pub processors: BTreeMap<Id, Component<Processor>>,
    /// `exporters`
    pub exporters: BTreeMap<Id, Component<Exporter>>,
    /// `extensions`
    pub extensions: BTreeMap<Id, Component<Extension>>,
    /// `service`
    pub service: Service,
}

/// A component.
#[derive(Clone, Debug, PartialEq)]
pub struct Component<T> {
    /// Where it is written.
    pub place: Place,
    /// What it says.
    pub settings: T,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Service {
    /// The extensions that run, in this order.
    pub extensions: Vec<Id>,
    /// The pipelines.
    pub pipelines: BTreeMap<PipelineId, Pipeline>,
    /// Its own metrics and logs.
    pub telemetry: Telemetry,
}

/// `signal` or `signal/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipelineId {
    /// What it carries.
    pub signal: Signal,
    /// What follows the `/`.
    pub name: Option<String>,
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.signal)?;
        self.name.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

/// A pipeline: from each receiver through all processors to each exporter. Every id is a component of the configuration that
/// carries the signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Where it is written.
    pub place: Place,
    /// At least one.
    pub receivers: Vec<Id>,
    /// In this order.
    pub processors: Vec<Id>,
    /// At least one.
    pub exporters: Vec<Id>,
}

impl Config {
    /// Does a pipeline use this component? Extensions are used when the service runs them.
    pub fn uses(&self, class: crate::Class, id: &Id) -> bool {
        use crate::Class;
        let mut pipelines = self.service.pipelines.values();
        match class {
            Class::Receiver => pipelines.any(|p| p.receivers.contains(id)),
            Class::Processor => pipelines.any(|p| p.processors.contains(id)),
            Class::Exporter => pipelines.any(|p| p.exporters.contains(id)),
            Class::Extension => self.service.extensions.contains(id),
        }
    }
}
