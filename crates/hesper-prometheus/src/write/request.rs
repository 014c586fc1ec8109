//! From series to requests of bounded size.

use super::{Exemplar, Family, Options, Series, Wrote, messages};
use crate::text::Kind;
use hesper_collector_config::exporters::RemoteWriteVersion;
use messages::{v1, v2};
use prost::Message;
use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

/// Tag and length of a field at most: what stands before each part of a request.
const FRAME: usize = 6;

/// One request: what is in it, before compression.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The encoded message.
    pub body: Vec<u8>,
    /// Numbers in it.
    pub samples: u64,
    /// Native histograms in it.
    pub histograms: u64,
    /// Single measurements in it.
    pub exemplars: u64,
    /// The data points that it has something of.
    pub points: BTreeSet<u32>,
}

pub(super) fn build(
    wrote: &Wrote,
    version: RemoteWriteVersion,
    options: &Options,
    shards: usize,
) -> Vec<Vec<Request>> {
    let mut parts: Vec<Vec<&Series>> = vec![Vec::new(); shards];
    for series in &wrote.series {
        // Always the same, in every run: the order of a series outlives its batch.
        let mut hasher = DefaultHasher::new();
        series.labels.hash(&mut hasher);
        let shards = u64::try_from(shards).unwrap_or(1);
        parts[usize::try_from(hasher.finish() % shards).unwrap_or(0)].push(series);
    }
    let limit = options.max_bytes;
    let mut requests: Vec<Vec<Request>> = parts
        .into_iter()
        .map(|series| match version {
            RemoteWriteVersion::V1 => fill(V1::default(), &series, &wrote.families, limit),
            RemoteWriteVersion::V2 => fill(V2::default(), &series, &wrote.families, limit),
        })
        .collect();
    if version == RemoteWriteVersion::V1 && options.send_metadata {
        requests[0].splice(0..0, metadata(&wrote.families, limit));
    }
    requests.retain(|list| !list.is_empty());
    requests
}

/// A message that grows.
trait Body: Default {
    /// How many bytes the series adds.
    fn cost(&mut self, series: &Series, family: &Family) -> usize;
    fn push(&mut self, series: &Series, family: &Family);
    fn encode(self) -> Vec<u8>;
}

fn fill<B: Body>(mut body: B, series: &[&Series], families: &[Family], limit: usize) -> Vec<Request> {
    let (mut requests, mut request, mut size) = (Vec::new(), Request::default(), 0);
    for series in series {
        let family = &families[series.family];
        let mut cost = body.cost(series, family);
        if size > 0 && size + cost > limit {
            request.body = std::mem::take(&mut body).encode();
            requests.push(std::mem::take(&mut request));
            size = 0;
            cost = body.cost(series, family);
        }
        body.push(series, family);
        size += cost;
        request.count(series);
    }
    if size > 0 {
        request.body = body.encode();
        requests.push(request);
    }
    requests
}

impl Request {
    fn count(&mut self, series: &Series) {
        let len = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        self.samples += len(series.samples.len());
        self.histograms += len(series.histograms.len());
        self.exemplars += len(series.exemplars.len());
        let points = series.samples.iter().map(|sample| sample.point);
        let points = points.chain(series.histograms.iter().map(|(_, point)| *point));
        self.points.extend(points.filter(|point| *point != u32::MAX));
    }
}

#[derive(Default)]
struct V1(v1::WriteRequest);

impl V1 {
    fn labels(labels: &[(String, String)]) -> Vec<v1::Label> {
        let label = |(name, value): &(String, String)| v1::Label { name: name.clone(), value: value.clone() };
        labels.iter().map(label).collect()
    }

    fn series(series: &Series) -> v1::TimeSeries {
        let exemplar = |exemplar: &Exemplar| v1::Exemplar {
            labels: Self::labels(&exemplar.labels),
            value: exemplar.value,
            timestamp: exemplar.time_ms,
        };
        let samples = series.samples.iter();
        v1::TimeSeries {
            labels: Self::labels(&series.labels),
            samples: samples.map(|s| v1::Sample { value: s.value, timestamp: s.time_ms }).collect(),
            exemplars: series.exemplars.iter().map(exemplar).collect(),
            histograms: series.histograms.iter().map(|(histogram, _)| histogram.clone()).collect(),
        }
    }
}

impl Body for V1 {
    fn cost(&mut self, series: &Series, _: &Family) -> usize {
        Self::series(series).encoded_len() + FRAME
    }

    fn push(&mut self, series: &Series, _: &Family) {
        self.0.timeseries.push(Self::series(series));
    }

    fn encode(self) -> Vec<u8> {
        self.0.encode_to_vec()
    }
}

/// Texts by number.
struct V2 {
    request: v2::Request,
    numbers: HashMap<String, u32>,
    /// Bytes of texts that are new.
    new: usize,
}

impl Default for V2 {
    fn default() -> Self {
        let request = v2::Request { symbols: vec![String::new()], timeseries: Vec::new() };
        Self { request, numbers: [(String::new(), 0)].into(), new: 0 }
    }
}

impl V2 {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.request.symbols.len()).unwrap_or(u32::MAX);
        self.new += text.len() + FRAME;
        self.request.symbols.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    fn refs(&mut self, labels: &[(String, String)]) -> Vec<u32> {
        labels.iter().flat_map(|(name, value)| [self.number(name), self.number(value)]).collect()
    }

    fn series(&mut self, series: &Series, family: &Family) -> v2::TimeSeries {
        let sample = |sample: &super::Sample| v2::Sample {
            value: sample.value,
            timestamp: sample.time_ms,
            start_timestamp: sample.start_ms,
        };
        let mut exemplars = Vec::with_capacity(series.exemplars.len());
        for exemplar in &series.exemplars {
            let labels_refs = self.refs(&exemplar.labels);
            exemplars.push(v2::Exemplar { labels_refs, value: exemplar.value, timestamp: exemplar.time_ms });
        }
        v2::TimeSeries {
            labels_refs: self.refs(&series.labels),
            samples: series.samples.iter().map(sample).collect(),
            histograms: series.histograms.iter().map(|(histogram, _)| histogram.clone()).collect(),
            exemplars,
            metadata: Some(v2::Metadata {
                r#type: number_of(family.kind),
                help_ref: self.number(&family.help),
                unit_ref: self.number(&family.unit),
            }),
        }
    }
}

impl Body for V2 {
    fn cost(&mut self, series: &Series, family: &Family) -> usize {
        let (symbols, new) = (self.request.symbols.len(), self.new);
        let len = self.series(series, family).encoded_len();
        let cost = len + FRAME + (self.new - new);
        for text in self.request.symbols.drain(symbols..) {
            self.numbers.remove(&text);
        }
        self.new = new;
        cost
    }

    fn push(&mut self, series: &Series, family: &Family) {
        let series = self.series(series, family);
        self.request.timeseries.push(series);
    }

    fn encode(self) -> Vec<u8> {
        self.request.encode_to_vec()
    }
}

fn metadata(families: &[Family], limit: usize) -> Vec<Request> {
    let (mut requests, mut message, mut size) = (Vec::new(), v1::WriteRequest::default(), 0);
    let finish = |message: &mut v1::WriteRequest| Request {
        body: std::mem::take(message).encode_to_vec(),
        ..Request::default()
    };
    for family in families {
        let metadata = v1::MetricMetadata {
            r#type: number_of(family.kind),
            metric_family_name: family.name.clone(),
            help: family.help.clone(),
            unit: family.unit.clone(),
        };
        let cost = metadata.encoded_len() + FRAME;
        if size > 0 && size + cost > limit {
            requests.push(finish(&mut message));
            size = 0;
        }
        message.metadata.push(metadata);
        size += cost;
    }
    if size > 0 {
        requests.push(finish(&mut message));
    }
    requests
}

/// The number of a kind in the messages.
fn number_of(kind: Kind) -> i32 {
    match kind {
        Kind::Unknown => 0,
        Kind::Counter => 1,
        Kind::Gauge => 2,
        Kind::Histogram => 3,
        Kind::GaugeHistogram => 4,
        Kind::Summary => 5,
        Kind::Info => 6,
        Kind::StateSet => 7,
    }
}
