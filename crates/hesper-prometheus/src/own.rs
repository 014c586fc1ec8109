//! This process's own metrics as OTLP: what `/metrics` shows, by the same rules as a scrape of somebody else's.
//!
//! Counters begin when the process did (`process_start_time_seconds`), a series that is gone gets the mark of staleness, and the resource is
//! what the caller says it is: no `up`, no `job`, nothing of a scrape.

use crate::{
    labels::Labels,
    scrape::{Answer, Scrapes},
    target::Target,
    text::Format,
};
use hesper_collector_config::{load, receivers::Receiver};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use std::{sync::Arc, time::Duration};

/// The settings of a scrape, in the words that everybody's are written in.
const SETTINGS: &str = "
receivers:
  prometheus:
    use_start_time_metric: true
    config: {scrape_configs: [{job_name: own, honor_labels: true, static_configs: [{targets: ['localhost:1']}]}]}
exporters: {debug: }
service: {pipelines: {metrics: {receivers: [prometheus], exporters: [debug]}}}
";

/// What is told of a scrape and not by the page.
const OF_A_SCRAPE: &str = "scrape_";

/// Makes requests of the page, one after the other.
#[derive(Debug)]
pub struct OwnMetrics {
    scrapes: Scrapes,
    resource: Vec<(String, String)>,
}

impl OwnMetrics {
    /// Of a process with these resource attributes (`service.name`, `service.version`, …).
    ///
    /// # Errors
    /// The built-in settings are not understood, which a test of this crate rules out.
    pub fn new(resource: impl IntoIterator<Item = (String, String)>) -> Result<Self, String> {
        let (config, _) = load(&[("own", SETTINGS)], &|_| None).map_err(|faults| format!("{faults:?}"))?;
        let settings = config.receivers.into_values().find_map(|component| match component.settings {
            Receiver::Prometheus(settings) => Some(Arc::new(settings)),
            _ => None,
        });
        let settings = settings.ok_or("there is no receiver")?;
        let job = Arc::new(settings.jobs.first().ok_or("there is no job")?.clone());
        let found = [("__address__".to_owned(), "localhost:1".to_owned())];
        let found: Labels<'static> = found.into_iter().collect();
        let target =
            Target::new(&job, found).map_err(|error| error.to_string())?.ok_or("there is no target")?;
        let scrapes = Scrapes::new(Arc::new(target), settings);
        Ok(Self { scrapes, resource: resource.into_iter().collect() })
    }

    /// The page as it is at a time (ms since 1970): OpenMetrics 1.0.0, as the registry encodes it.
    ///
    /// # Errors
    /// The page is none.
    pub fn request(&mut self, page: &str, at_ms: i64) -> Result<ExportMetricsServiceRequest, String> {
        let answer = Answer { body: page.as_bytes(), format: Format::OpenMetrics };
        let outcome = self.scrapes.scraped(at_ms, Duration::ZERO, Ok(answer));
        if let Some(reason) = outcome.error {
            return Err(reason);
        }
        let mut request = outcome.request;
        let attribute = |(key, value): &(String, String)| KeyValue {
            key: key.clone(),
            value: Some(AnyValue { value: Some(Value::StringValue(value.clone())) }),
            ..KeyValue::default()
        };
        let attributes: Vec<_> = self.resource.iter().map(attribute).collect();
        for of in &mut request.resource_metrics {
            of.resource = Some(Resource { attributes: attributes.clone(), ..Resource::default() });
            for scope in &mut of.scope_metrics {
                scope.metrics.retain(|metric| metric.name != "up" && !metric.name.starts_with(OF_A_SCRAPE));
            }
            of.scope_metrics.retain(|scope| !scope.metrics.is_empty());
        }
        request.resource_metrics.retain(|of| !of.scope_metrics.is_empty());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};

    const PAGE: &str = "\
# HELP hesper_dials Dials.
# TYPE hesper_dials counter
hesper_dials_total{outcome=\"ok\"} 7
# TYPE hesper_dial_duration_seconds histogram
# UNIT hesper_dial_duration_seconds seconds
hesper_dial_duration_seconds_sum{step=\"grant\"} 0.75
hesper_dial_duration_seconds_count{step=\"grant\"} 3
hesper_dial_duration_seconds_bucket{le=\"0.5\",step=\"grant\"} 2
hesper_dial_duration_seconds_bucket{le=\"+Inf\",step=\"grant\"} 3
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1700000000.5
# EOF
";

    #[test]
    fn a_page_becomes_a_request_of_the_process() {
        let resource = [("service.name", "hesper-router"), ("service.version", "1")];
        let resource = resource.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut own = OwnMetrics::new(resource).expect("built-in settings");
        let request = own.request(PAGE, 1_700_000_100_000).expect("a page");
        let [of] = &request.resource_metrics[..] else { panic!("{request:?}") };
        let attributes = &of.resource.as_ref().expect("a resource").attributes;
        assert_eq!(
            attributes.iter().map(|a| &*a.key).collect::<Vec<_>>(),
            ["service.name", "service.version"]
        );
        let [scope] = &of.scope_metrics[..] else { panic!("{request:?}") };
        let metric = |name: &str| {
            scope
                .metrics
                .iter()
                .find(|metric| metric.name == name)
                .unwrap_or_else(|| panic!("{name}: {scope:?}"))
        };
        assert_eq!(scope.metrics.len(), 3, "{scope:?}");
        let Some(Data::Sum(dials)) = &metric("hesper_dials_total").data else { panic!("{scope:?}") };
        assert!(dials.is_monotonic);
        assert_eq!(dials.data_points[0].start_time_unix_nano, 1_700_000_000_500_000_000);
        assert_eq!(dials.data_points[0].time_unix_nano, 1_700_000_100_000_000_000);
        assert_eq!(dials.data_points[0].value, Some(number_data_point::Value::AsDouble(7.0)));
        let Some(Data::Histogram(durations)) = &metric("hesper_dial_duration_seconds").data else {
            panic!("{scope:?}")
        };
        let point = &durations.data_points[0];
        assert_eq!(
            (&point.explicit_bounds[..], &point.bucket_counts[..], point.count),
            (&[0.5][..], &[2, 1][..], 3)
        );
        assert_eq!((point.sum, &*metric("hesper_dial_duration_seconds").unit), (Some(0.75), "s"));
        assert!(own.request("nonsense {", 1).is_err());
    }
}
