//! `filter`: drops resources, spans, events, metrics, data points and log records.
//!
//! What is left without anything inside goes too. When nothing is left, the batch is dropped whole.

use super::{
    Messages, Processor, Work,
    attributes::resource,
    condition::any,
    items,
    matching::{Subject, Thing, matches, matches_log, matches_metric},
};
use crate::origin::Origin;
use hesper_collector_config::processors::{Conditions, Filter as Settings, Sides};
use hesper_otlp::{Refusal, Signal};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{InstrumentationScope, KeyValue},
    metrics::v1::Metric,
    trace::v1::Span,
};

/// The `filter` processor.
#[derive(Debug)]
pub(super) struct Filter(Settings);

impl Filter {
    pub(super) fn new(settings: &Settings) -> Self {
        Self(settings.clone())
    }

    fn traces(&self, request: &mut ExportTraceServiceRequest) {
        let conditions = &self.0.conditions;
        request.resource_spans.retain_mut(|of| {
            let resource = resource(of.resource.as_ref());
            if any(&conditions.trace_resources, &Subject { resource, scope: None, thing: Thing::Resource }) {
                return false;
            }
            for of in &mut of.scope_spans {
                let scope = of.scope.as_ref();
                of.spans.retain_mut(|span| self.span(span, resource, scope));
            }
            true
        });
    }

    fn span(&self, span: &mut Span, resource: &[KeyValue], scope: Option<&InstrumentationScope>) -> bool {
        let Conditions { spans, span_events, .. } = &self.0.conditions;
        let subject = Subject { resource, scope, thing: Thing::Span(span) };
        if any(spans, &subject) || !passes(&self.0.spans, |wanted| matches(wanted, &subject)) {
            return false;
        }
        if !span_events.is_empty() {
            span.events
                .retain(|event| !any(span_events, &Subject { resource, scope, thing: Thing::Event(event) }));
        }
        true
    }

    fn metrics(&self, request: &mut ExportMetricsServiceRequest) {
        let conditions = &self.0.conditions;
        request.resource_metrics.retain_mut(|of| {
            let resource = resource(of.resource.as_ref());
            if any(&conditions.metric_resources, &Subject { resource, scope: None, thing: Thing::Resource }) {
                return false;
            }
            for of in &mut of.scope_metrics {
                let scope = of.scope.as_ref();
                of.metrics.retain_mut(|metric| self.metric(metric, resource, scope));
            }
            true
        });
    }

    fn metric(
        &self,
        metric: &mut Metric,
        resource: &[KeyValue],
        scope: Option<&InstrumentationScope>,
    ) -> bool {
        let Conditions { metrics, data_points, .. } = &self.0.conditions;
        let kind = items::kind(metric.data.as_ref());
        let thing = Thing::Metric { name: &metric.name, unit: &metric.unit, kind };
        if any(metrics, &Subject { resource, scope, thing })
            || !passes(&self.0.metrics, |wanted| matches_metric(wanted, &metric.name, resource))
        {
            return false;
        }
        let Metric { name, unit, data: Some(data), .. } = metric else { return true };
        if !data_points.is_empty() {
            items::retain_points(data, |attributes| {
                let thing = Thing::Point { name, unit, kind, attributes };
                !any(data_points, &Subject { resource, scope, thing })
            });
        }
        true
    }

    fn logs(&self, request: &mut ExportLogsServiceRequest) {
        let conditions = &self.0.conditions;
        request.resource_logs.retain_mut(|of| {
            let resource = resource(of.resource.as_ref());
            if any(&conditions.log_resources, &Subject { resource, scope: None, thing: Thing::Resource }) {
                return false;
            }
            for of in &mut of.scope_logs {
                let scope = of.scope.as_ref();
                of.log_records.retain(|record| {
                    !any(&conditions.log_records, &Subject { resource, scope, thing: Thing::Log(record) })
                        && passes(&self.0.logs, |wanted| matches_log(wanted, record, resource))
                });
            }
            true
        });
    }

    /// Is there anything to drop of this signal?
    fn concerns(&self, signal: Signal) -> bool {
        let Settings { spans, metrics, logs, conditions: c, .. } = &self.0;
        match signal {
            Signal::Traces => {
                says(spans)
                    || !(c.spans.is_empty() && c.span_events.is_empty() && c.trace_resources.is_empty())
            }
            Signal::Metrics => {
                says(metrics)
                    || !(c.metrics.is_empty() && c.data_points.is_empty() && c.metric_resources.is_empty())
            }
            Signal::Logs => says(logs) || !(c.log_records.is_empty() && c.log_resources.is_empty()),
            Signal::Profiles => false,
        }
    }
}

fn says<T>(sides: &Sides<T>) -> bool {
    sides.include.is_some() || sides.exclude.is_some()
}

fn passes<T>(sides: &Sides<T>, matches: impl Fn(&T) -> bool) -> bool {
    sides.include.as_ref().is_none_or(&matches) && !sides.exclude.as_ref().is_some_and(&matches)
}

impl Processor for Filter {
    fn process(&self, mut work: Work, _: &Origin) -> Result<Option<Work>, Refusal> {
        if !self.concerns(work.signal()) {
            return Ok(Some(work));
        }
        let messages = work.messages()?;
        match messages {
            Messages::Traces(request) => self.traces(request),
            Messages::Metrics(request) => self.metrics(request),
            Messages::Logs(request) => self.logs(request),
            Messages::Profiles(_) => {}
        }
        messages.prune();
        Ok((work.items() > 0).then_some(work))
    }
}
