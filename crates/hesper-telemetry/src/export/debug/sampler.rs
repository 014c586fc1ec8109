//! Which batches are told.

/// The first of each second, and then every so-manieth.
#[derive(Debug)]
pub(super) struct Sampler {
    initial: u64,
    thereafter: u64,
    second: u64,
    seen: u64,
}

impl Sampler {
    pub(super) fn new(initial: u64, thereafter: u64) -> Self {
        Self { initial, thereafter, second: 0, seen: 0 }
    }

    /// Is the one that passes in this second told?
    pub(super) fn take(&mut self, second: u64) -> bool {
        if second != self.second {
            (self.second, self.seen) = (second, 0);
        }
        self.seen += 1;
        let beyond = self.seen.saturating_sub(self.initial);
        // None of the others when it is zero.
        beyond == 0 || beyond.checked_rem(self.thereafter) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_every_so_manieth_of_a_second() {
        let told = |initial, thereafter, second: u64, sampler: &mut Option<Sampler>| {
            let sampler = sampler.get_or_insert_with(|| Sampler::new(initial, thereafter));
            (1..=10).filter(|_| sampler.take(second)).count()
        };
        for (initial, thereafter, expected) in
            [(2, 1, 10), (2, 4, 4), (2, 0, 2), (0, 5, 2), (0, 0, 0), (20, 0, 10)]
        {
            let mut sampler = None;
            assert_eq!(told(initial, thereafter, 1, &mut sampler), expected);
            assert_eq!(told(initial, thereafter, 2, &mut sampler), expected, "each second anew");
        }
        let mut sampler = Sampler::new(2, 3);
        let which: Vec<u32> = (1..=9).filter(|_| sampler.take(0)).collect();
        assert_eq!(which, [1, 2, 5, 8]);
    }
}
