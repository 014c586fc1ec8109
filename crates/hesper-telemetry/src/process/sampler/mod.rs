//! `probabilistic_sampler`: keeps a share of the spans or log records, all of a trace or none. No clock and no dice: who gets the
//! same data with the same settings keeps the same.
//!
//! `hash_seed` hashes the trace id, or an attribute of a log record. `proportional` and `equalizing` use the randomness of the trace id and what
//! samplers before have noted. What is kept says with which threshold: in the `tracestate` of a span, in attributes of a log record.

mod threshold;
mod trace_state;

use super::{
    Messages, Processor, Work,
    value::{as_text, attribute, get, get_text, text_value},
};
use crate::origin::Origin;
use hesper_collector_config::processors::{AttributeSource, ProbabilisticSampler, SamplerMode};
use hesper_otlp::Refusal;
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    logs::v1::LogRecord,
    trace::v1::Span,
};
use threshold::{Randomness, Threshold};
use trace_state::TraceState;

/// Where a log record has what a span has in its `tracestate`.
const LOG_THRESHOLD: &str = "sampling.threshold";
const LOG_RANDOMNESS: &str = "sampling.randomness";
/// The attribute of a span that keeps it (more than 0) or drops it (0), whatever the share.
const SPAN_PRIORITY: &str = "sampling.priority";
/// Digits of the threshold that a log record asks for itself.
const PRIORITY_DIGITS: u8 = 4;

/// The `probabilistic_sampler` processor.
#[derive(Debug)]
pub(super) struct Sampler {
    rule: Rule,
    settings: ProbabilisticSampler,
}

#[derive(Debug)]
enum Rule {
    /// Nothing is kept.
    Never,
    Hash(Threshold),
    Proportional(f64),
    Equalizing(Threshold),
}

/// What an item says of sampling.
#[derive(Debug, Default)]
struct Said {
    threshold: Option<Threshold>,
    randomness: Option<Randomness>,
    /// It says something that cannot be read.
    broken: bool,
}

/// What is decided of an item.
#[derive(Debug)]
struct Verdict {
    keep: bool,
    /// Is it written on what is kept? Not when there was something that could not be used.
    notes: Option<Notes>,
}

#[derive(Debug)]
struct Notes {
    threshold: Option<Threshold>,
    randomness: Option<Randomness>,
}

impl Sampler {
    pub(super) fn new(settings: &ProbabilisticSampler) -> Self {
        // The Collector's setting has 32 bits.
        let percentage = settings.sampling_percentage as f32;
        let share = (f64::from(percentage) / 100.0).max(Threshold::LEAST);
        let rule = match settings.mode {
            _ if percentage <= 0.0 => Rule::Never,
            SamplerMode::HashSeed => match Threshold::of_buckets(percentage) {
                Threshold::NEVER => Rule::Never,
                threshold => Rule::Hash(threshold),
            },
            SamplerMode::Proportional => Rule::Proportional(share),
            SamplerMode::Equalizing => {
                Rule::Equalizing(Threshold::of_share(share, settings.sampling_precision))
            }
        };
        Self { rule, settings: settings.clone() }
    }

    /// Decides. `hash` is what is hashed, `id` the trace id; both may be missing.
    fn decide(
        &self,
        said: Said,
        hash: Option<&[u8]>,
        id: Option<&[u8]>,
        priority: Option<Threshold>,
    ) -> Verdict {
        let mut notes = Notes { threshold: said.threshold, randomness: said.randomness };
        let in_use = said.threshold.is_some() || said.randomness.is_some();
        let (randomness, mut fault) = match self.rule {
            Rule::Never => (Some(Randomness::MOST), said.broken),
            Rule::Hash(_) => {
                let hashed = hash.map(|bytes| Randomness::of_hash(bytes, self.settings.hash_seed));
                // Whoever samples by randomness must go on so: a second rule would make a mess of traces.
                notes.randomness = hashed;
                (hashed, said.broken || in_use)
            }
            Rule::Proportional(_) | Rule::Equalizing(_) => {
                (said.randomness.or_else(|| id.and_then(Randomness::of_trace_id)), said.broken)
            }
        };
        let unusable = fault;
        fault |= randomness.is_none();
        let randomness = randomness.unwrap_or(Randomness::MOST);
        if !fault && said.threshold.is_some_and(|before| !before.keeps(randomness)) {
            // It should not have come: what it says of the threshold is wrong.
            notes.threshold = None;
            fault = true;
        }
        let threshold = match (fault, self.settings.fail_closed) {
            (true, true) => Threshold::NEVER,
            (true, false) => Threshold::ALWAYS,
            (false, _) => self.threshold(said.threshold),
        };
        let threshold = priority.unwrap_or(threshold);
        // A threshold never falls: the share that was kept before is gone.
        notes.threshold = Some(notes.threshold.map_or(threshold, |before| before.max(threshold)));
        Verdict { keep: threshold.keeps(randomness), notes: Some(notes).filter(|_| !unusable) }
    }

    fn threshold(&self, before: Option<Threshold>) -> Threshold {
        match self.rule {
            Rule::Never => Threshold::NEVER,
            Rule::Hash(threshold) => threshold,
            Rule::Equalizing(threshold) => before.map_or(threshold, |before| before.max(threshold)),
            Rule::Proportional(share) => {
                let before = before.map_or(1.0, Threshold::share);
                Threshold::of_share(before * share, self.settings.sampling_precision)
            }
        }
    }

    fn span(&self, span: &mut Span) -> bool {
        let state = TraceState::parse(&span.trace_state);
        let said = match &state {
            None => Said { broken: true, ..Said::default() },
            Some(state) => Said { threshold: state.threshold, randomness: state.randomness, broken: false },
        };
        let id = trace_id(&span.trace_id);
        let Verdict { keep, notes } = self.decide(said, id, id, span_priority(&span.attributes));
        if let (true, Some(notes), Some(mut state)) = (keep, notes, state) {
            state.threshold = notes.threshold;
            state.randomness = notes.randomness;
            span.trace_state = state.write();
        }
        keep
    }

    fn log_record(&self, record: &mut LogRecord) -> bool {
        let id = trace_id(&record.trace_id);
        let settings = &self.settings;
        let by_id = id.filter(|_| settings.attribute_source == AttributeSource::TraceId);
        let value = settings.from_attribute.as_ref().and_then(|key| get(&record.attributes, key));
        let by_value = value.map(bytes_of).filter(|bytes| !bytes.is_empty());
        let priority =
            settings.sampling_priority.as_ref().and_then(|key| log_priority(&record.attributes, key));
        let verdict = self.decide(log_said(&record.attributes), by_id.or(by_value.as_deref()), id, priority);
        if let (true, Some(notes)) = (verdict.keep, verdict.notes) {
            let threshold = notes.threshold.map(|threshold| threshold.to_string());
            note(&mut record.attributes, LOG_THRESHOLD, threshold);
            note(&mut record.attributes, LOG_RANDOMNESS, notes.randomness.map(|r| r.to_string()));
        }
        verdict.keep
    }
}

/// A trace id that is one.
fn trace_id(id: &[u8]) -> Option<&[u8]> {
    Some(id).filter(|id| id.len() == 16 && id.iter().any(|byte| *byte != 0))
}

fn bytes_of(value: &Value) -> Vec<u8> {
    match value {
        Value::BytesValue(bytes) => bytes.clone(),
        value => as_text(value).into_bytes(),
    }
}

fn span_priority(attributes: &[KeyValue]) -> Option<Threshold> {
    let priority = match get(attributes, SPAN_PRIORITY)? {
        Value::IntValue(n) => *n as f64,
        Value::DoubleValue(n) => *n,
        Value::StringValue(text) => text.parse().ok()?,
        _ => return None,
    };
    match priority {
        0.0 => Some(Threshold::NEVER),
        n if n > 0.0 => Some(Threshold::ALWAYS),
        _ => None,
    }
}

/// The share that a log record asks for, in percent. What is no number asks for nothing.
fn log_priority(attributes: &[KeyValue], key: &str) -> Option<Threshold> {
    let percentage = match get(attributes, key)? {
        Value::IntValue(n) => *n as f64,
        Value::DoubleValue(n) => *n,
        _ => return None,
    };
    Some(Threshold::of_share(percentage / 100.0, PRIORITY_DIGITS))
}

fn log_said(attributes: &[KeyValue]) -> Said {
    let (threshold, randomness) = (get(attributes, LOG_THRESHOLD), get(attributes, LOG_RANDOMNESS));
    let read_threshold = get_text(attributes, LOG_THRESHOLD).and_then(Threshold::parse);
    let read_randomness = get_text(attributes, LOG_RANDOMNESS).and_then(Randomness::parse);
    Said {
        threshold: read_threshold,
        randomness: read_randomness,
        broken: threshold.is_some() != read_threshold.is_some()
            || randomness.is_some() != read_randomness.is_some(),
    }
}

fn note(attributes: &mut Vec<KeyValue>, key: &str, text: Option<String>) {
    attributes.retain(|pair| pair.key != key);
    attributes.extend(text.map(|text| attribute(key, text_value(text))));
}

impl Processor for Sampler {
    fn process(&self, mut work: Work, _: &Origin) -> Result<Option<Work>, Refusal> {
        let messages = work.messages()?;
        match messages {
            Messages::Traces(request) => {
                for of in request.resource_spans.iter_mut().flat_map(|of| &mut of.scope_spans) {
                    of.spans.retain_mut(|span| self.span(span));
                }
            }
            Messages::Logs(request) => {
                for of in request.resource_logs.iter_mut().flat_map(|of| &mut of.scope_logs) {
                    of.log_records.retain_mut(|record| self.log_record(record));
                }
            }
            // The configuration lets it into no other pipeline.
            Messages::Metrics(_) | Messages::Profiles(_) => {}
        }
        messages.prune();
        Ok((work.items() > 0).then_some(work))
    }
}
