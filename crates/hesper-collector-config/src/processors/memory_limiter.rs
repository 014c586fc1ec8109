//! `memory_limiter`: refuses data before memory runs out.

use crate::section::Section;
use std::time::Duration;

/// How much memory, and how often it is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimiter {
    /// How often memory is measured; more than zero.
    pub check_interval: Duration,
    /// The hard limit.
    pub limit: Limit,
    /// How far below it data is refused already; None: 20 % of the limit.
    pub spike: Option<Limit>,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes.
    Bytes(u64),
    /// A share of the memory that this process may use, 1 to 100.
    Percent(u64),
}

pub(crate) fn read(s: &Section<'_>) -> MemoryLimiter {
    for key in ["min_gc_interval_when_soft_limited", "min_gc_interval_when_hard_limited"] {
        s.idle(key, "there is no garbage collector");
    }
    let check_interval = s.duration("check_interval", Duration::ZERO);
    if !s.is_set("check_interval") || check_interval.is_zero() {
        s.refuse("check_interval", "must be greater than zero", "write 1s");
    }
    // A number that is none is told by itself; it is not missing besides.
    let number = |key, most| if s.is_set(key) { s.count_in(key, 1, 0..=most) } else { 0 };
    let bytes = |key| Some(number(key, u64::MAX >> 20)).filter(|n| *n > 0).map(|n| Limit::Bytes(n << 20));
    let percent = |key| Some(number(key, 100)).filter(|n| *n > 0).map(Limit::Percent);
    let (limit, share) = (bytes("limit_mib"), percent("limit_percentage"));
    let (spike, spike_share) = (bytes("spike_limit_mib"), percent("spike_limit_percentage"));
    if limit.is_none() && share.is_none() {
        s.fault(&s.place, format!("{} has no limit", s.what), "add limit_mib or limit_percentage");
    }
    // Bytes count when both are written, as in the Collector.
    let (limit, spike) = if limit.is_some() { (limit, spike) } else { (share, spike_share) };
    let limit = limit.unwrap_or(Limit::Percent(100));
    let fits = match (limit, spike) {
        (Limit::Bytes(limit), Some(Limit::Bytes(spike)))
        | (Limit::Percent(limit), Some(Limit::Percent(spike))) => spike < limit,
        _ => true,
    };
    if !fits {
        let key = if matches!(limit, Limit::Bytes(_)) { "spike_limit_mib" } else { "spike_limit_percentage" };
        s.refuse(key, "not smaller than the limit", "make it smaller");
    }
    MemoryLimiter { check_interval, limit, spike }
}
