//! How often what was observed, by its size: the numbers of a histogram, to which whoever serves metrics gives a name.

use std::time::Duration;

/// Bounds for how long an attempt or a request takes, in seconds: 1 ms to 10 s.
pub const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds for how long something is on its way through queues, in seconds: 10 ms to a day.
pub const AGES: [f64; 12] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 86400.0];
/// Bounds for how many items a request has: 1 to 100,000.
pub const ITEMS: [f64; 11] = [1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0, 50000.0, 100000.0];
/// Bounds for how large a request is, in bytes: 256 B to 64 MiB, each four times the one before.
pub const BYTES: [f64; 10] =
    [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0];

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Upper bounds, rising.
    pub bounds: &'static [f64],
    /// For each bound, and beyond the last: how many were not above it, and above the one before.
    pub counts: Vec<u64>,
    /// The sum of all of them.
    pub sum: f64,
}

impl Distribution {
    /// Nothing was observed.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Something of this size.
    pub fn observe(&mut self, size: f64) {
        let place = self.bounds.partition_point(|bound| *bound < size);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += size;
    }

    /// Something that took so long, in seconds.
    pub fn took(&mut self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Adds what another one of the same bounds observed.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_counted_below_itself() {
        let mut sizes = Distribution::new(&[1.0, 5.0]);
        [0.5, 1.0, 1.1, 5.0, 5.1, 1e9].into_iter().for_each(|size| sizes.observe(size));
        assert_eq!(sizes.counts, [2, 2, 2]);
        let mut both = sizes.clone();
        both.add(&sizes);
        assert_eq!((both.counts, both.sum), (vec![4, 4, 4], sizes.sum * 2.0));
        for bounds in [&SECONDS[..], &AGES, &ITEMS, &BYTES] {
            assert!(bounds.is_sorted());
        }
    }
}
