//! What is remembered of a target from scrape to scrape: when counters began, and which series there were.

use super::group::GroupKey;
use crate::text::Kind;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use std::{collections::HashMap, sync::Arc};

/// How long a series that is gone is remembered, so that a counter that comes back goes on from where it was: longer than the short
/// outages of a target, short enough that names that change all the time do not pile up.
const KEPT_MS: i64 = 5 * 60 * 1000;

/// What a series is: enough to mark it stale when it is gone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) group: Arc<GroupKey>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) description: String,
    pub(super) unit: String,
    pub(super) attributes: Vec<KeyValue>,
    /// Bounds of a histogram, quantiles of a summary.
    pub(super) steps: Vec<f64>,
}

#[derive(Debug)]
struct Track {
    start_ns: u64,
    last: f64,
    /// The scrape that had it last.
    seen: u64,
    seen_ms: i64,
    /// Is it marked stale when it is gone? Not when the target gives times of its own.
    is_watched: bool,
    is_stale: bool,
    series: Arc<Series>,
}

/// What a scrape says of a series.
pub(super) struct Seen {
    pub(super) hash: u64,
    pub(super) time_ms: i64,
    /// The value of a counter, the count of a histogram or summary; `None`: it does not count up.
    pub(super) count: Option<f64>,
    /// When it began, as the target says.
    pub(super) created_ns: Option<u64>,
    pub(super) is_watched: bool,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    tracks: HashMap<u64, Track>,
    scrape: u64,
}

impl Memory {
    /// A new scrape begins.
    pub(super) fn begin(&mut self) {
        self.scrape += 1;
    }

    /// Remembers a series, and tells when it began in ns since 1970; 0 for what does not count up. Where the target does not say it, it
    /// began when it was first seen, or when its count fell (OpenTelemetry's data model, "Cumulative streams: handling unknown start time").
    pub(super) fn saw(&mut self, seen: &Seen, series: impl FnOnce() -> Series, steps: &[f64]) -> u64 {
        let now_ns = nanoseconds(seen.time_ms);
        let count = seen.count.unwrap_or(f64::INFINITY);
        let track = self.tracks.entry(seen.hash).or_insert_with(|| Track {
            start_ns: now_ns,
            last: count,
            seen: 0,
            seen_ms: 0,
            is_watched: true,
            is_stale: false,
            series: Arc::new(series()),
        });
        if count < track.last {
            track.start_ns = now_ns;
        }
        if track.series.steps != steps {
            Arc::make_mut(&mut track.series).steps = steps.to_vec();
        }
        (track.last, track.seen, track.seen_ms) = (count, self.scrape, seen.time_ms);
        (track.is_watched, track.is_stale) = (seen.is_watched, false);
        match (seen.count, seen.created_ns) {
            (None, _) => 0,
            (Some(_), Some(created)) if created <= now_ns => {
                track.start_ns = created;
                created
            }
            (Some(_), _) => track.start_ns,
        }
    }

    /// Ends a scrape at a time: which series are gone since the last one, and when they had begun.
    pub(super) fn end(&mut self, now_ms: i64) -> Vec<(Arc<Series>, u64)> {
        let mut gone = Vec::new();
        let scrape = self.scrape;
        self.tracks.retain(|_, track| {
            if track.seen == scrape {
                return true;
            }
            if track.is_watched && !track.is_stale {
                track.is_stale = true;
                gone.push((track.series.clone(), track.start_ns));
            }
            now_ms.saturating_sub(track.seen_ms) < KEPT_MS
        });
        // The order of the map is no order: what is sent should be the same for the same scrapes.
        gone.sort_by(|(a, _), (b, _)| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
        gone
    }

    /// How many series are remembered.
    pub(super) fn len(&self) -> usize {
        self.tracks.len()
    }
}

/// Times before 1970 are 1970: OTLP's are unsigned.
pub(super) fn nanoseconds(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000)
}
