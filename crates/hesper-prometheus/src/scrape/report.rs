//! What is told of every scrape besides what the target answered: `up` and its companions.

use crate::target::Target;
use std::time::Duration;

/// How a scrape went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Was there an answer that could be taken?
    pub up: bool,
    /// From the request to the end of the answer.
    pub duration: Duration,
    /// Samples in the answer.
    pub scraped: u64,
    /// Of these, what relabelling left.
    pub kept: u64,
    /// Series that the scrape before did not have.
    pub added: u64,
    /// Bytes of the answer, decompressed; −1: more than the job allows.
    pub body_bytes: i64,
}

/// Name, description, unit.
type Told = (&'static str, &'static str, &'static str);

const USUAL: [Told; 5] = [
    ("up", "1 when the target answered the scrape, else 0", ""),
    ("scrape_duration_seconds", "How long the scrape took", "s"),
    ("scrape_samples_scraped", "Samples that the target exposed", ""),
    ("scrape_samples_post_metric_relabeling", "Samples left after relabelling", ""),
    ("scrape_series_added", "Series that the scrape before did not have", ""),
];

const EXTRA: [Told; 3] = [
    ("scrape_timeout_seconds", "The longest time that a scrape of the target may take", "s"),
    ("scrape_sample_limit", "The most samples that a scrape of the target may have; 0: no limit", ""),
    ("scrape_body_size_bytes", "The answer decompressed; -1 when it was larger than allowed", "By"),
];

impl Report {
    /// The series with their values.
    pub(super) fn series(&self, target: &Target, is_extra: bool) -> Vec<(Told, f64)> {
        let values = [
            f64::from(u8::from(self.up)),
            self.duration.as_secs_f64(),
            self.scraped as f64,
            self.kept as f64,
            self.added as f64,
        ];
        let mut series: Vec<_> = USUAL.into_iter().zip(values).collect();
        if is_extra {
            let limit = target.job.sample_limit as f64;
            let values = [target.timeout.as_secs_f64(), limit, self.body_bytes as f64];
            series.extend(EXTRA.into_iter().zip(values));
        }
        series
    }
}
