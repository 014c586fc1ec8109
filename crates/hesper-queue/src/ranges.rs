//! A set of sequence numbers as ranges: what a destination has acknowledged out of order.

use std::{collections::BTreeMap, ops::Range};

/// A set of numbers, kept as disjoint ranges that do not touch, by their first number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range; how many of its numbers are new.
    pub fn add(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let new = range.end - range.start - self.count(range.clone());
        let (mut start, mut end) = (range.start, range.end);
        // Everything that overlaps or touches becomes one.
        while let Some((&from, &to)) = self.0.range(..=end).next_back().filter(|(_, to)| **to >= start) {
            start = start.min(from);
            end = end.max(to);
            self.0.remove(&from);
        }
        self.0.insert(start, end);
        new
    }

    /// How many numbers of `range` are in the set.
    pub fn count(&self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let overlap =
            |(from, to): (&u64, &u64)| (*to).min(range.end).saturating_sub((*from).max(range.start));
        let before = self.0.range(..range.start).next_back().map_or(0, overlap);
        before + self.0.range(range.clone()).map(overlap).sum::<u64>()
    }

    /// Whether it has the number.
    pub fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, to)| *to > number)
    }

    /// Removes everything below `low`, and what touches it; the lowest number that is then not in the set.
    pub fn settle(&mut self, low: u64) -> u64 {
        let mut low = low;
        while let Some(first) = self.0.first_entry().filter(|first| *first.key() <= low) {
            low = low.max(first.remove());
        }
        low
    }

    /// Past the highest number.
    pub fn end(&self) -> Option<u64> {
        self.0.last_key_value().map(|(_, to)| *to)
    }

    /// The ranges, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(from, to)| *from..*to)
    }

    /// How many ranges it has: what it takes to keep it.
    pub fn ranges(&self) -> usize {
        self.0.len()
    }

    /// Removes the lowest range.
    pub fn pop_first(&mut self) -> Option<Range<u64>> {
        self.0.pop_first().map(|(from, to)| from..to)
    }

    /// Removes every number from `end` on.
    pub fn truncate(&mut self, end: u64) {
        self.0.split_off(&end);
        if let Some(mut last) = self.0.last_entry().filter(|last| *last.get() > end) {
            *last.get_mut() = end;
        }
    }

    /// The numbers of `range` that are not in the set.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let (mut gaps, mut from) = (Vec::new(), range.start);
        if range.is_empty() {
            return gaps;
        }
        let before = self.0.range(..range.start).next_back();
        for (start, end) in before.into_iter().chain(self.0.range(range.clone())) {
            if *start > from {
                gaps.push(from..*start);
            }
            from = from.max(*end);
        }
        if from < range.end {
            gaps.push(from..range.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn is_a_set_of_numbers(
            adds in prop::collection::vec((0_u64..60, 0_u64..8), 0..40),
            low in 0_u64..70,
            query in (0_u64..70, 0_u64..20),
        ) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (from, len) in adds {
                let before = model.len();
                model.extend(from..from + len);
                prop_assert_eq!(ranges.add(from..from + len), (model.len() - before) as u64);
            }
            let query = query.0..query.0 + query.1;
            prop_assert_eq!(ranges.count(query.clone()), query.clone().filter(|n| model.contains(n)).count() as u64);
            prop_assert!((0..70).all(|n| ranges.contains(n) == model.contains(&n)));
            prop_assert_eq!(ranges.end(), model.last().map(|n| n + 1));
            let all: Vec<_> = ranges.iter().collect();
            prop_assert_eq!(ranges.ranges(), all.len());
            let gaps: Vec<_> = ranges.gaps(query.clone()).into_iter().flatten().collect();
            prop_assert_eq!(gaps, query.clone().filter(|n| !model.contains(n)).collect::<Vec<_>>());
            let mut cut = ranges.clone();
            cut.truncate(low);
            prop_assert!((0..70).all(|n| cut.contains(n) == (n < low && model.contains(&n))));
            prop_assert_eq!(cut.pop_first(), all.first().map(|first| first.start..first.end.min(low))
                .filter(|first| !first.is_empty()));
            prop_assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start), "they touch: {:?}", all);

            let settled = ranges.settle(low);
            let expected = (low..).find(|n| !model.contains(n)).expect("a free number");
            prop_assert_eq!(settled, expected);
            prop_assert!((expected..70).all(|n| ranges.contains(n) == model.contains(&n)));
            prop_assert!(ranges.iter().all(|range| range.start > settled));
        }
    }
}
