//! Prometheus in and out, as pure functions: bytes, settings and the time in, messages out.
//!
//! In: what a target answers is read by [`text::Parser`], its samples go through [`relabel()`](relabel::relabel) and the limits of their
//! job, and [`scrape::Scrapes`] makes one OTLP request of each scrape, by the OpenTelemetry specification "Prometheus and
//! OpenMetrics compatibility". It remembers what the target had last time: where counters began and when they fell, which
//! series are gone and get the mark of staleness, and what `up` and its companions say. [`target`] makes targets of what
//! discovery finds.
//!
//! Out: [`mod@write`] makes requests of remote write 1.0 and 2.0 from OTLP metrics: names, labels, histograms both classic and native,
//! `target_info`, in requests of bounded size and in the order of time.
//!
//! [`own`] makes OTLP of what this very process shows.
//!
//! Targets are strangers: every function takes time and memory in proportion to its input, and everything that is
//! remembered is bounded by what the last scrapes had.

pub mod labels;
pub mod own;
pub mod relabel;
pub mod scrape;
pub mod target;
pub mod text;
mod units;
pub mod write;
