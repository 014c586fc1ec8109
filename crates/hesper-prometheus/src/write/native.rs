//! Exponential histograms of OTLP as native histograms of Prometheus.

use super::{NANO_PER_MS, STALE, messages};
use messages::{BucketSpan, Histogram};
use opentelemetry_proto::tonic::metrics::v1::{
    DataPointFlags, ExponentialHistogramDataPoint, exponential_histogram_data_point::Buckets,
};

/// The finest and the coarsest resolution that Prometheus knows.
const SCALES: (i32, i32) = (-4, 8);

/// Where a histogram does not say how wide its bucket of zero is.
const ZERO_THRESHOLD: f64 = 1e-128;

/// So many empty buckets are written out rather than skipped: a new span costs about as much.
const WRITTEN_OUT: i64 = 2;

/// Converts a point. One that is finer than Prometheus can have is made coarser.
///
/// # Errors
/// It is coarser than Prometheus can have, or has numbers beyond its range.
pub(super) fn histogram(point: &ExponentialHistogramDataPoint) -> Result<Histogram, &'static str> {
    let (coarsest, finest) = SCALES;
    if point.scale < coarsest {
        return Err("an exponential histogram that is coarser than a native one can be");
    }
    let coarser = u32::try_from(point.scale - finest).unwrap_or(0);
    let is_stale = point.flags & DataPointFlags::NoRecordedValueMask as u32 != 0;
    let mut histogram = Histogram {
        count_int: Some(point.count),
        sum: point.sum.unwrap_or_default(),
        schema: point.scale.min(finest),
        zero_threshold: if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD },
        zero_count_int: Some(point.zero_count),
        timestamp: (point.time_unix_nano / NANO_PER_MS).cast_signed(),
        start_timestamp: (point.start_time_unix_nano / NANO_PER_MS).cast_signed(),
        ..Histogram::default()
    };
    if is_stale {
        histogram.sum = f64::from_bits(STALE);
        (histogram.count_int, histogram.zero_count_int) = (Some(0), Some(0));
        return Ok(histogram);
    }
    (histogram.positive_spans, histogram.positive_deltas) = buckets(point.positive.as_ref(), coarser)?;
    (histogram.negative_spans, histogram.negative_deltas) = buckets(point.negative.as_ref(), coarser)?;
    Ok(histogram)
}

type Spans = (Vec<BucketSpan>, Vec<i64>);

/// Buckets as spans of what is not empty, and differences of counts.
fn buckets(buckets: Option<&Buckets>, coarser: u32) -> Result<Spans, &'static str> {
    const BEYOND: &str = "an exponential histogram with numbers that no native one can have";
    let (mut spans, mut deltas): Spans = (Vec::new(), Vec::new());
    let Some(buckets) = buckets else { return Ok((spans, deltas)) };
    let mut next = 0_i64;
    let mut last = 0_i64;
    for (index, count) in merged(buckets, coarser) {
        let count = i64::try_from(count).map_err(|_| BEYOND)?;
        let gap = index - next;
        match spans.last_mut() {
            Some(span) if gap <= WRITTEN_OUT => {
                for _ in 0..gap {
                    deltas.push(-last);
                    last = 0;
                }
                span.length += u32::try_from(gap + 1).map_err(|_| BEYOND)?;
            }
            _ => spans.push(BucketSpan { offset: i32::try_from(gap).map_err(|_| BEYOND)?, length: 1 }),
        }
        deltas.push(count - last);
        (last, next) = (count, index + 1);
    }
    Ok((spans, deltas))
}

/// The buckets that are not empty, by their number in Prometheus: that of the upper bound, which is one more.
fn merged(buckets: &Buckets, coarser: u32) -> impl Iterator<Item = (i64, u64)> {
    let first = i64::from(buckets.offset);
    let coarser = coarser.min(63);
    let mut merged: Vec<(i64, u64)> = Vec::new();
    for (index, count) in (first..).zip(&buckets.bucket_counts).filter(|(_, count)| **count > 0) {
        let index = (index >> coarser) + 1;
        match merged.last_mut() {
            Some((last, sum)) if *last == index => *sum = sum.saturating_add(*count),
            _ => merged.push((index, *count)),
        }
    }
    merged.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buckets that a receiver would read.
    fn read(spans: &[BucketSpan], deltas: &[i64]) -> Vec<(i64, i64)> {
        let (mut read, mut index, mut count) = (Vec::new(), 0_i64, 0);
        let mut deltas = deltas.iter();
        for span in spans {
            index += i64::from(span.offset);
            for _ in 0..span.length {
                count += deltas.next().expect("a delta for each bucket");
                if count > 0 {
                    read.push((index, count));
                }
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        read
    }

    fn point(scale: i32, offset: i32, counts: &[u64]) -> ExponentialHistogramDataPoint {
        let positive = Some(Buckets { offset, bucket_counts: counts.to_vec() });
        ExponentialHistogramDataPoint { scale, positive, ..Default::default() }
    }

    #[test]
    fn buckets_are_numbered_by_their_upper_bound() {
        let got = histogram(&point(3, -2, &[1, 0, 0, 4, 0, 0, 0, 9])).expect("a histogram");
        assert_eq!(read(&got.positive_spans, &got.positive_deltas), [(-1, 1), (2, 4), (6, 9)]);
        assert_eq!(got.positive_spans.len(), 2, "two empty ones are written out, three are not");
        assert_eq!((got.schema, got.zero_threshold), (3, 1e-128));
    }

    #[test]
    fn what_is_too_fine_is_made_coarser() {
        let got = histogram(&point(10, -5, &[1, 2, 3, 4, 5, 6])).expect("a histogram");
        // Four buckets become one: −5; −4…−1; 0.
        assert_eq!(got.schema, 8);
        assert_eq!(read(&got.positive_spans, &got.positive_deltas), [(-1, 1), (0, 2 + 3 + 4 + 5), (1, 6)]);
        assert!(histogram(&point(-5, 0, &[1])).is_err());
        assert!(histogram(&point(0, i32::MAX, &[1, 1])).is_err());
        assert!(histogram(&point(0, 0, &[u64::MAX])).is_err());
    }

    #[test]
    fn no_value_is_the_mark_of_staleness() {
        let flags = DataPointFlags::NoRecordedValueMask as u32;
        let got = histogram(&ExponentialHistogramDataPoint { flags, ..point(0, 0, &[1]) }).expect("a mark");
        assert_eq!(got.sum.to_bits(), STALE);
        assert!(got.positive_spans.is_empty());
    }
}
