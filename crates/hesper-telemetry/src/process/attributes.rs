//! `resource` and `attributes`: actions on the attributes of resources, and of spans, data points and log records.

use super::{
    Messages, Processor, Work,
    actions::{Actions, Ready},
    items,
    matching::{Subject, Thing, matches},
};
use crate::origin::Origin;
use hesper_collector_config::processors::{Action, Attributes as Settings, Match};
use hesper_otlp::{Refusal, edit::Target};
use opentelemetry_proto::tonic::{common::v1::KeyValue, metrics::v1::Metric};

/// The `resource` processor. Constant values, and values from the sender, are set in the encoded bytes.
#[derive(Debug)]
pub(super) struct Resource(Actions);

impl Resource {
    pub(super) fn new(actions: &[Action]) -> Self {
        Self(Actions::new(actions))
    }
}

impl Processor for Resource {
    fn process(&self, mut work: Work, origin: &Origin) -> Result<Option<Work>, Refusal> {
        if let (true, Some(edits)) = (work.is_bytes(), self.0.edits(origin)) {
            work.edit(Target::Resources, &edits)?;
            return Ok(Some(work));
        }
        let ready = self.0.ready(origin);
        work.messages()?.resources().into_iter().for_each(|resource| ready.apply(&mut resource.attributes));
        Ok(Some(work))
    }
}

/// The `attributes` processor. Without `include` and `exclude` likewise.
#[derive(Debug)]
pub(super) struct Attributes {
    actions: Actions,
    include: Option<Match>,
    exclude: Option<Match>,
}

impl Attributes {
    pub(super) fn new(settings: &Settings) -> Self {
        let Settings { actions, include, exclude } = settings;
        Self { actions: Actions::new(actions), include: include.clone(), exclude: exclude.clone() }
    }

    fn is_meant(&self, subject: &Subject<'_>) -> bool {
        self.include.as_ref().is_none_or(|include| matches(include, subject))
            && !self.exclude.as_ref().is_some_and(|exclude| matches(exclude, subject))
    }

    fn apply(&self, ready: &Ready<'_>, messages: &mut Messages) {
        match messages {
            Messages::Traces(request) => {
                for of in &mut request.resource_spans {
                    let resource = resource(of.resource.as_ref());
                    for of in &mut of.scope_spans {
                        for span in &mut of.spans {
                            let thing = Thing::Span(span);
                            if self.is_meant(&Subject { resource, scope: of.scope.as_ref(), thing }) {
                                ready.apply(&mut span.attributes);
                            }
                        }
                    }
                }
            }
            Messages::Logs(request) => {
                for of in &mut request.resource_logs {
                    let resource = resource(of.resource.as_ref());
                    for of in &mut of.scope_logs {
                        for record in &mut of.log_records {
                            let thing = Thing::Log(record);
                            if self.is_meant(&Subject { resource, scope: of.scope.as_ref(), thing }) {
                                ready.apply(&mut record.attributes);
                            }
                        }
                    }
                }
            }
            Messages::Metrics(request) => {
                for of in &mut request.resource_metrics {
                    let resource = resource(of.resource.as_ref());
                    for of in &mut of.scope_metrics {
                        for metric in &mut of.metrics {
                            self.metric(ready, metric, resource, of.scope.as_ref());
                        }
                    }
                }
            }
            Messages::Profiles(_) => {}
        }
    }

    fn metric(
        &self,
        ready: &Ready<'_>,
        metric: &mut Metric,
        resource: &[KeyValue],
        scope: Option<&opentelemetry_proto::tonic::common::v1::InstrumentationScope>,
    ) {
        let kind = items::kind(metric.data.as_ref());
        let Metric { name, unit, data: Some(data), .. } = metric else { return };
        items::retain_points(data, |attributes| {
            let thing = Thing::Point { name, unit, kind, attributes };
            if self.is_meant(&Subject { resource, scope, thing }) {
                ready.apply(attributes);
            }
            true
        });
    }
}

/// The attributes of a resource.
pub(super) fn resource(resource: Option<&opentelemetry_proto::tonic::resource::v1::Resource>) -> &[KeyValue] {
    resource.map_or(&[], |resource| &resource.attributes)
}

impl Processor for Attributes {
    fn process(&self, mut work: Work, origin: &Origin) -> Result<Option<Work>, Refusal> {
        if self.include.is_none()
            && self.exclude.is_none()
            && work.is_bytes()
            && let Some(edits) = self.actions.edits(origin)
        {
            work.edit(Target::Items, &edits)?;
            return Ok(Some(work));
        }
        let ready = self.actions.ready(origin);
        self.apply(&ready, work.messages()?);
        Ok(Some(work))
    }
}
