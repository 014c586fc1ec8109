//! The metrics of a request while it is put together.

use crate::text::Kind;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use std::collections::{BTreeMap, HashMap};

/// The metrics of a request, by the number of their group.
#[derive(Default)]
pub(super) struct Metrics {
    pub(super) groups: BTreeMap<usize, Vec<Metric>>,
    known: HashMap<(usize, String, Kind), usize>,
}

impl Metrics {
    pub(super) fn put(&mut self, group: usize, kind: Kind, metric: Metric) {
        let list = self.groups.entry(group).or_default();
        self.known.insert((group, metric.name.clone(), kind), list.len());
        list.push(metric);
    }

    pub(super) fn get(
        &mut self,
        group: usize,
        name: &str,
        kind: Kind,
        new: impl FnOnce() -> Metric,
    ) -> &mut Metric {
        let list = self.groups.entry(group).or_default();
        let at = *self.known.entry((group, name.to_owned(), kind)).or_insert_with(|| {
            list.push(new());
            list.len() - 1
        });
        &mut list[at]
    }
}

pub(super) fn has_points(metric: &Metric) -> bool {
    match &metric.data {
        Some(Data::Gauge(gauge)) => !gauge.data_points.is_empty(),
        Some(Data::Sum(sum)) => !sum.data_points.is_empty(),
        Some(Data::Histogram(histogram)) => !histogram.data_points.is_empty(),
        Some(Data::ExponentialHistogram(histogram)) => !histogram.data_points.is_empty(),
        Some(Data::Summary(summary)) => !summary.data_points.is_empty(),
        None => false,
    }
}
