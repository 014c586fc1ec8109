//! How much one session may send through the router: pure token buckets of bytes and packets.

use hesper_model::id::Tag;
use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

/// What may be sent at once: so much time's worth, but never less than [`MIN_BURST`].
const BURST: Duration = Duration::from_millis(100);
/// Bytes and packets: one batch of a sender that sends few.
const MIN_BURST: (u64, u64) = (64 << 10, 64);

/// The rate at which each attached node may send through a router. The default is without limit.
///
/// Its text: `100Mbit` (per second; also `kbit`, `Gbit`), `20000pps`, or both with a comma between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionRate {
    /// Bytes of UDP payload per second.
    pub bytes: Option<u64>,
    /// Packets per second.
    pub packets: Option<u64>,
}

/// Text that is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate like 100Mbit, 20000pps or 100Mbit,20000pps")]
pub struct InvalidRate(String);

impl FromStr for SessionRate {
    type Err = InvalidRate;
    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let invalid = || InvalidRate(text.to_owned());
        let mut rate = Self::default();
        for part in text.split(',').map(str::trim) {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let (number, unit) = part.split_at(digits);
            let number = number.parse::<u64>().ok().filter(|n| *n > 0).ok_or_else(invalid)?;
            let (kind, per_unit) = match unit {
                "kbit" => (&mut rate.bytes, 1_000 / 8),
                "Mbit" => (&mut rate.bytes, 1_000_000 / 8),
                "Gbit" => (&mut rate.bytes, 1_000_000_000 / 8),
                "pps" => (&mut rate.packets, 1),
                _ => return Err(invalid()),
            };
            let value = number.checked_mul(per_unit).ok_or_else(invalid)?;
            if kind.replace(value).is_some() {
                return Err(invalid());
            }
        }
        Ok(rate)
    }
}

impl fmt::Display for SessionRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.bytes, self.packets) {
            (None, None) => f.write_str("unlimited"),
            (Some(bytes), None) => write!(f, "{bytes} bytes/s"),
            (None, Some(packets)) => write!(f, "{packets} packets/s"),
            (Some(bytes), Some(packets)) => write!(f, "{bytes} bytes/s and {packets} packets/s"),
        }
    }
}

impl SessionRate {
    /// Is there no limit at all?
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// What each session has left.
#[derive(Debug)]
pub(crate) struct Quotas {
    rate: SessionRate,
    buckets: HashMap<Tag, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    bytes: f64,
    packets: f64,
    at: Instant,
}

impl Quotas {
    /// The same for every session.
    pub(crate) fn new(rate: SessionRate) -> Self {
        Self { rate, buckets: HashMap::new() }
    }

    /// How many of `datagrams` of `stride` bytes each (`bytes` in all) may pass now.
    pub(crate) fn admit(
        &mut self,
        from: Tag,
        datagrams: usize,
        stride: usize,
        bytes: usize,
        now: Instant,
    ) -> usize {
        let limits = [(self.rate.bytes, MIN_BURST.0), (self.rate.packets, MIN_BURST.1)].map(|(rate, min)| {
            rate.map_or((f64::INFINITY, 0.0), |r| {
                ((r as f64 * BURST.as_secs_f64()).max(min as f64), r as f64)
            })
        });
        let [(most_bytes, bytes_rate), (most_packets, packets_rate)] = limits;
        let new = Bucket { bytes: most_bytes, packets: most_packets, at: now };
        let bucket = self.buckets.entry(from).or_insert(new);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.at = now;
        bucket.bytes = (bucket.bytes + passed * bytes_rate).min(most_bytes);
        bucket.packets = (bucket.packets + passed * packets_rate).min(most_packets);
        let admitted = if bucket.bytes >= bytes as f64 && bucket.packets >= datagrams as f64 {
            datagrams
        } else {
            let by_bytes = (bucket.bytes / stride.max(1) as f64) as usize;
            by_bytes.min(bucket.packets as usize).min(datagrams)
        };
        bucket.bytes -= bytes.min(admitted * stride) as f64;
        bucket.packets -= admitted as f64;
        admitted
    }

    /// Forgets sessions that are gone.
    pub(crate) fn retain(&mut self, is_attached: impl Fn(Tag) -> bool) {
        self.buckets.retain(|tag, _| is_attached(*tag));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Tag = Tag([1; 8]);
    const B: Tag = Tag([2; 8]);

    #[test]
    fn a_rate_reads_as_it_is_written_in_the_field() {
        let rate = |text: &str| text.parse::<SessionRate>();
        assert_eq!(rate("100Mbit"), Ok(SessionRate { bytes: Some(12_500_000), packets: None }));
        assert_eq!(rate("5000pps"), Ok(SessionRate { bytes: None, packets: Some(5_000) }));
        let both = SessionRate { bytes: Some(125_000_000), packets: Some(20_000) };
        assert_eq!(rate("1Gbit, 20000pps"), Ok(both));
        assert_eq!(both.to_string(), "125000000 bytes/s and 20000 packets/s");
        for wrong in
            ["", "100", "0Mbit", "-1Mbit", "1mbit", "1Mbit,2Mbit", "1Mbit,", "99999999999999Gbit", "pps"]
        {
            let error = rate(wrong).unwrap_err().to_string();
            assert!(error.contains("100Mbit") && error.contains(&format!("{wrong:?}")), "{error}");
        }
        assert!(SessionRate::default().is_unlimited() && !both.is_unlimited());
    }

    #[test]
    fn who_sends_too_much_loses_the_rest_and_nobody_else_does() {
        let start = Instant::now();
        let mut quotas = Quotas::new("8Mbit".parse().unwrap());
        // A tenth of a second's worth.
        assert_eq!(quotas.admit(A, 64, 2_000, 128_000, start), 50);
        assert_eq!(quotas.admit(A, 1, 2_000, 2_000, start), 0);
        assert_eq!(quotas.admit(B, 10, 2_000, 20_000, start), 10);
        assert_eq!(quotas.admit(A, 10, 2_000, 20_000, start + Duration::from_millis(10)), 5);
        quotas.retain(|tag| tag == B);
        assert_eq!(quotas.buckets.len(), 1);
        let mut quotas = Quotas::new("100pps".parse().unwrap());
        assert_eq!(quotas.admit(A, 100, 60_000, 6_000_000, start), 64);
        assert_eq!(quotas.admit(A, 100, 1, 100, start + Duration::from_secs(60)), 64, "patience has its end");
    }

    proptest! {
        #[test]
        fn in_the_long_run_it_goes_at_the_rate(sends in proptest::collection::vec((1usize..64, 1usize..1_500, 0u64..50), 1..200)) {
            let (start, mut at, mut bytes, mut packets) = (Instant::now(), Duration::ZERO, 0, 0);
            let mut quotas = Quotas::new(SessionRate { bytes: Some(1_000_000), packets: Some(1_000) });
            for (datagrams, stride, later) in sends {
                at += Duration::from_millis(later);
                let admitted = quotas.admit(A, datagrams, stride, datagrams * stride, start + at);
                prop_assert!(admitted <= datagrams);
                (bytes, packets) = (bytes + admitted * stride, packets + admitted);
                prop_assert!(bytes as f64 <= 100_000.0 + at.as_secs_f64() * 1e6 + 1.0, "{bytes} bytes in {at:?}");
                prop_assert!(packets as f64 <= 100.0 + at.as_secs_f64() * 1e3 + 1.0, "{packets} packets in {at:?}");
            }
        }
    }
}
