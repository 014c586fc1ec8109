//! `probabilistic_sampler`: a share of traces or log records.

use crate::section::Section;

/// How much is kept and what decides.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbabilisticSampler {
    /// The share that is kept, 0 to 100.
    pub sampling_percentage: f64,
    /// How it is decided.
    pub mode: SamplerMode,
    /// The seed of the hash; the same wherever the same choice is to be made.
    pub hash_seed: u32,
    /// Drop what has no randomness to decide by?
    pub fail_closed: bool,
    /// Hexadecimal digits of a threshold, 1 to 14 (4).
    pub sampling_precision: u8,
    /// What log records are decided by.
    pub attribute_source: AttributeSource,
    /// The attribute of a log record that is hashed.
    pub from_attribute: Option<String>,
    /// The attribute of a log record with its own share, 0 to 100.
    pub sampling_priority: Option<String>,
}

/// How it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerMode {
    /// A hash of the trace id or the attribute.
    HashSeed,
    /// A share of what arrives, by the trace id's randomness.
    Proportional,
    /// A share of what there was in the beginning.
    Equalizing,
}

/// What log records are decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeSource {
    /// Their trace id.
    TraceId,
    /// The attribute `from_attribute`.
    Record,
}

pub(crate) fn read(s: &Section<'_>) -> ProbabilisticSampler {
    let modes = [
        ("hash_seed", SamplerMode::HashSeed),
        ("proportional", SamplerMode::Proportional),
        ("equalizing", SamplerMode::Equalizing),
        ("", SamplerMode::HashSeed),
    ];
    let sources = [("traceID", AttributeSource::TraceId), ("record", AttributeSource::Record)];
    let percentage = s.float("sampling_percentage", 0.0);
    if !(0.0..=100.0).contains(&percentage) {
        s.refuse("sampling_percentage", "not between 0 and 100", "write a share such as 10");
    }
    s.require("sampling_percentage", "write the share that is kept, such as 10");
    let sampler = ProbabilisticSampler {
        sampling_percentage: percentage,
        mode: s.one_of("mode", &modes, SamplerMode::HashSeed),
        hash_seed: u32::try_from(s.count_in("hash_seed", 0, 0..=u64::from(u32::MAX))).unwrap_or_default(),
        fail_closed: s.flag("fail_closed", true),
        sampling_precision: u8::try_from(s.count_in("sampling_precision", 4, 1..=14)).unwrap_or(4),
        attribute_source: s.one_of("attribute_source", &sources, AttributeSource::TraceId),
        from_attribute: s.text("from_attribute"),
        sampling_priority: s.text("sampling_priority"),
    };
    if sampler.attribute_source == AttributeSource::Record && !s.is_set("from_attribute") {
        s.refuse("attribute_source", "record needs an attribute", "add from_attribute");
    }
    sampler
}
