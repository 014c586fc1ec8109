//! What a series of measurements says: median and spread. Pure.

use serde::{Deserialize, Serialize};

/// A series in five numbers. Quartiles and median are interpolated between neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// How many values.
    pub(crate) n: usize,
    /// The smallest.
    pub(crate) min: f64,
    /// A quarter lies below.
    pub(crate) q1: f64,
    /// Half lies below.
    pub(crate) median: f64,
    /// Three quarters lie below.
    pub(crate) q3: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Summary {
    /// `None` for an empty series, and for one with a value that is no number.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values)?;
        let at = |q| quantile(&sorted, q);
        Some(Self {
            n: sorted.len(),
            min: at(0.0),
            q1: at(0.25),
            median: at(0.5),
            q3: at(0.75),
            max: at(1.0),
        })
    }
}

/// The value below which the share `q` of a series lies; `None` as in [`Summary::of`].
pub(crate) fn percentile(values: &[f64], q: f64) -> Option<f64> {
    Some(quantile(&sorted(values)?, q))
}

/// Each value as a share of the base's value of the same round. Rounds that one of them lacks, and bases of zero, are left out.
pub(crate) fn ratios(values: &[(usize, f64)], base: &[(usize, f64)]) -> Vec<f64> {
    let of_round = |round: usize| base.iter().find(|(r, b)| *r == round && *b != 0.0).map(|(_, b)| *b);
    values.iter().filter_map(|(round, value)| Some(value / of_round(*round)?)).collect()
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted)
}

/// Of a sorted series that is not empty.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_does_not_depend_on_the_order() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0, 5.0]).unwrap();
        assert_eq!(summary, Summary { n: 5, min: 1.0, q1: 2.0, median: 3.0, q3: 4.0, max: 5.0 });
    }

    #[test]
    fn between_two_values_lies_the_mean() {
        let summary = Summary::of(&[1.0, 2.0]).unwrap();
        assert_eq!((summary.q1, summary.median, summary.q3), (1.25, 1.5, 1.75));
        assert_eq!(
            Summary::of(&[7.0]).unwrap(),
            Summary { n: 1, min: 7.0, q1: 7.0, median: 7.0, q3: 7.0, max: 7.0 }
        );
    }

    #[test]
    fn nothing_and_nonsense_have_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
        assert_eq!(percentile(&[f64::INFINITY], 0.5), None);
    }

    #[test]
    fn percentiles_stay_within_the_series() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), Some(99.0));
        assert_eq!(percentile(&values, 0.995), Some(99.5));
        assert_eq!((percentile(&values, -1.0), percentile(&values, 2.0)), (Some(0.0), Some(100.0)));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let base = [(0, 10.0), (1, 20.0), (2, 0.0)];
        assert_eq!(ratios(&[(0, 5.0), (1, 5.0), (2, 5.0), (3, 5.0)], &base), [0.5, 0.25]);
        assert!(ratios(&[(0, 1.0)], &[]).is_empty());
    }
}
