//! What holds for any text.

use crate::scraping::{scrape, scrapes};
use hesper_prometheus::{
    labels::Labels,
    text::{Format, Limits, Line, Parser, Sample},
};
use opentelemetry_proto::tonic::metrics::v1::{DataPointFlags, metric::Data};
use proptest::prelude::*;
use std::{borrow::Cow, fmt::Write};

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// Writes a sample with its names in quotes, as any name may be.
fn write(sample: &Sample<'_>, text: &mut String) {
    let _ = write!(text, "{{\"{}\"", escaped(&sample.name));
    for (name, value) in sample.labels.iter() {
        let _ = write!(text, ",\"{}\"=\"{}\"", escaped(name), escaped(value));
    }
    let _ = write!(text, "}} {}", sample.value);
    if let Some(time) = sample.time_ms {
        let _ = write!(text, " {time}");
    }
    text.push('\n');
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_][a-z0-9_]{0,5}", "\\PC{1,8}", "[\\\\\"\n ü]{1,5}"]
        .prop_filter("a name of its own", |name| !name.is_empty() && name != "__name__")
}

fn sample() -> impl Strategy<Value = Sample<'static>> {
    let labels = prop::collection::btree_map(name(), prop_oneof!["[a-z]{0,4}", "[\\\\\"\n ü]{0,5}"], 0..4);
    (name(), labels, -1e9..1e9_f64, prop::option::of(any::<i64>())).prop_map(
        |(name, labels, value, time_ms)| {
            let labels = labels.into_iter().map(|(n, v)| (Cow::Owned(n), Cow::Owned(v))).collect();
            let labels = Labels::parsed(labels).expect("labels");
            Sample { name: Cow::Owned(name), labels, value, time_ms, exemplar: None }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(samples in prop::collection::vec(sample(), 0..6)) {
        let mut text = String::new();
        samples.iter().for_each(|sample| write(sample, &mut text));
        let lines: Result<Vec<_>, _> = Parser::new(&text, Format::Text, Limits::default()).collect();
        let expected: Vec<_> = samples.into_iter().map(Line::Sample).collect();
        prop_assert_eq!(lines, Ok(expected), "{}", text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[a-z{}=\"\\\\#,\n \t0-9.eE+_-]{0,200}".prop_map(String::into_bytes),
            "(# (TYPE|HELP|UNIT|EOF) ?|a|b_bucket|\\{|\\}|le=\"|\"|,| |1|NaN|\n){0,40}".prop_map(String::into_bytes),
        ],
        is_text in any::<bool>(),
    ) {
        let format = if is_text { Format::Text } else { Format::OpenMetrics };
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 2;
        match Parser::of_bytes(&bytes, format, Limits::default()) {
            Ok(parser) => {
                for line in parser {
                    if let Err(error) = line {
                        prop_assert!(error.line >= 1 && error.line <= lines && error.column >= 1);
                    }
                }
            }
            Err(error) => prop_assert!(error.line <= lines),
        }
    }

    /// Whatever a target shows, histograms are what OTLP wants them to be, and each series that was there and is not any more is
    /// marked once.
    #[test]
    fn what_comes_of_a_scrape_makes_sense(
        first in prop::collection::vec(("[ab]", prop::option::of(0..4_u8), -2..9_i32), 0..12),
        second in prop::collection::vec(("[ab]", prop::option::of(0..4_u8), -2..9_i32), 0..12),
    ) {
        let body = |samples: &[(String, Option<u8>, i32)]| {
            let mut text = "# TYPE a histogram\n# TYPE b histogram\n".to_owned();
            for (name, bucket, value) in samples {
                let _ = match bucket {
                    Some(3) => writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {value}"),
                    Some(le) => writeln!(text, "{name}_bucket{{le=\"{le}\"}} {value}"),
                    None => writeln!(text, "{name}_count {value}"),
                };
            }
            text
        };
        let mut scrapes = scrapes("", "");
        let mut there = Vec::new();
        for (at, samples) in [(100, first), (110, second)] {
            let outcome = scrape(&mut scrapes, at, &body(&samples));
            prop_assert_eq!(&outcome.error, &None);
            let metrics = outcome.request.resource_metrics.iter().flat_map(|r| &r.scope_metrics);
            let (mut good, mut stale) = (Vec::new(), Vec::new());
            for metric in metrics.flat_map(|scope| &scope.metrics) {
                let Some(Data::Histogram(histogram)) = &metric.data else { continue };
                for point in &histogram.data_points {
                    prop_assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                    prop_assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                    prop_assert!(point.explicit_bounds.windows(2).all(|pair| pair[0] < pair[1]));
                    let is_stale = point.flags == DataPointFlags::NoRecordedValueMask as u32;
                    if is_stale { stale.push(metric.name.clone()) } else { good.push(metric.name.clone()) }
                }
            }
            let gone: Vec<_> = there.iter().filter(|name| !good.contains(name)).cloned().collect();
            stale.sort();
            prop_assert_eq!(stale, gone);
            good.sort();
            there = good;
        }
    }
}
