//! Thresholds and randomness of consistent sampling: 56 bits each; what has at least as much randomness as the threshold is kept.
//! (OpenTelemetry specification, "TraceState: Probability Sampling")

/// Digits of either, hexadecimal.
const DIGITS: usize = 14;
/// One more than the most randomness.
const END: u64 = 1 << 56;
/// Buckets of the hash.
const BUCKETS: u32 = 1 << 14;

/// How much randomness is too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Threshold(u64);

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Randomness(u64);

impl Threshold {
    pub(super) const ALWAYS: Self = Self(0);
    pub(super) const NEVER: Self = Self(END);
    /// The smallest share that a threshold can say.
    pub(super) const LEAST: f64 = 1.0 / END as f64;

    /// Of the share that is kept, with so many digits, and more where it is near nothing or near all. Below [`Threshold::LEAST`]
    /// nothing is kept.
    pub(super) fn of_share(share: f64, digits: u8) -> Self {
        if share >= 1.0 {
            return Self::ALWAYS;
        }
        if share.is_nan() || share < Self::LEAST {
            return Self::NEVER;
        }
        let more = |share: f64| usize::try_from(-exponent(share) / 4).unwrap_or(0);
        let digits = (usize::from(digits) + more(share).max(more(1.0 - share))).min(DIGITS);
        let exact = END - (share * END as f64).round() as u64;
        match 4 * (DIGITS - digits) {
            0 => Self(exact),
            cut => Self((exact + (1 << (cut - 1))) >> cut << cut),
        }
    }

    /// Of a share in percent, in steps of the hash's buckets; computed in 32 bits and rounded down, as it always was.
    pub(super) fn of_buckets(percentage: f32) -> Self {
        let kept = (percentage * (BUCKETS as f32 / 100.0)) as u32;
        if kept == 0 { Self::NEVER } else { Self(u64::from(BUCKETS.saturating_sub(kept)) << 42) }
    }

    /// The share that is kept.
    pub(super) fn share(self) -> f64 {
        (END - self.0) as f64 / END as f64
    }

    pub(super) fn keeps(self, randomness: Randomness) -> bool {
        self.0 <= randomness.0
    }

    /// Up to 14 digits, zeros at the end left out.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let padded = format!("{text:0<DIGITS$}");
        hex(&padded).filter(|_| !text.is_empty()).map(Self)
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:0DIGITS$x}", self.0);
        let text = text.trim_end_matches('0');
        f.write_str(if text.is_empty() { "0" } else { text })
    }
}

impl Randomness {
    /// What stands in where nothing decides.
    pub(super) const MOST: Self = Self(END - 1);

    /// The last seven bytes of a trace id.
    pub(super) fn of_trace_id(id: &[u8]) -> Option<Self> {
        let last = id.last_chunk::<7>()?;
        Some(Self(last.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
    }

    /// FNV-1a with 32 bits over the seed (little-endian) and the bytes. 14 bits of it decide, the rest fills the 56 bits as the
    /// Collector fills them, so that every sampler makes the same of it.
    pub(super) fn of_hash(bytes: &[u8], seed: u32) -> Self {
        let all = seed.to_le_bytes().into_iter().chain(bytes.iter().copied());
        let hash = all.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let bucket = u64::from(hash % BUCKETS);
        let rest = u64::from(hash >> 18);
        Self((u64::from(BUCKETS) - 1 - bucket) << 42 | (rest ^ rest << 10) << 14 | bucket)
    }

    /// Exactly 14 digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        hex(text).map(Self)
    }
}

impl std::fmt::Display for Randomness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

fn hex(text: &str) -> Option<u64> {
    let fits = text.len() == DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| fits)
}

/// The exponent of a number as a fraction from a half to one times a power of two.
fn exponent(number: f64) -> i32 {
    ((number.to_bits() >> 52) & 0x7ff) as i32 - 1022
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_written_as_the_specification_has_them() {
        for (share, digits, text) in [
            (1.0, 4, "0"),
            (0.5, 4, "8"),
            (0.25, 4, "c"),
            (0.75, 4, "4"),
            (0.1, 4, "e666"),
            (0.01, 4, "fd70a"),
            (1.0 / 3.0, 3, "aab"),
            (1.0 / 3.0, 14, "aaaaaaaaaaaaac"),
            (Threshold::LEAST, 1, "ffffffffffffff"),
        ] {
            let threshold = Threshold::of_share(share, digits);
            assert_eq!(threshold.to_string(), text, "{share}");
            assert_eq!(Threshold::parse(text), Some(threshold));
            assert!((threshold.share() - share).abs() < 0.001);
        }
        assert_eq!(Threshold::of_share(0.0, 4), Threshold::NEVER);
        for text in ["", "0g", "AB", "123456789012345", "-1", "+1"] {
            assert_eq!(Threshold::parse(text), None, "{text}");
        }
    }

    #[test]
    fn randomness_is_the_end_of_the_trace_id() {
        let id = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0x9b, 0x82, 0x33, 0xf7, 0xe3, 0xa1, 0x51];
        let randomness = Randomness::of_trace_id(&id).expect("randomness");
        assert_eq!(randomness.to_string(), "9b8233f7e3a151");
        assert_eq!(Randomness::parse("9b8233f7e3a151"), Some(randomness));
        assert!(Threshold::parse("8").is_some_and(|half| half.keeps(randomness)));
        assert!(!Threshold::parse("c").is_some_and(|quarter| quarter.keeps(randomness)));
        assert!(!Threshold::NEVER.keeps(Randomness::MOST) && Threshold::ALWAYS.keeps(Randomness(0)));
        assert_eq!(Randomness::parse("9b8233f7e3a15"), None);
    }

    #[test]
    fn the_hash_decides_by_its_last_14_bits() {
        // FNV-1a of four zero bytes and "a", by hand.
        let mut hash = 0x811c_9dc5_u32;
        for byte in [0, 0, 0, 0, u32::from(b'a')] {
            hash = (hash ^ byte).wrapping_mul(16_777_619);
        }
        for percentage in [0.0_f32, 0.01, 1.0, 10.0, 33.3, 50.0, 99.9, 100.0] {
            let kept = (percentage * 163.84) as u32;
            let randomness = Randomness::of_hash(b"a", 0);
            assert_eq!(Threshold::of_buckets(percentage).keeps(randomness), (hash & 0x3fff) < kept);
        }
    }

    #[test]
    fn about_so_many_are_kept() {
        for percentage in [1.0_f32, 25.0, 70.0] {
            let (bucket, share) =
                (Threshold::of_buckets(percentage), Threshold::of_share(f64::from(percentage) / 100.0, 4));
            let (mut hashed, mut spread) = (0, 0);
            for i in 0..20_000_u64 {
                let id = u128::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
                hashed += u32::from(bucket.keeps(Randomness::of_hash(&id, 7)));
                spread += u32::from(share.keeps(Randomness::of_trace_id(&id).expect("randomness")));
            }
            for kept in [hashed, spread] {
                let found = f64::from(kept) / 200.0;
                assert!((found - f64::from(percentage)).abs() < 1.5, "{found} of {percentage}");
            }
        }
    }
}
