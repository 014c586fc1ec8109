//! What an `otlp.v1` config says for one dialer. Pure.

use super::{OtlpV1, ServiceNamePattern, has};
use crate::{
    entity::{Identity, Service},
    signal::Signal,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashSet},
    fmt,
};

/// Rules of one config that may be for one identity.
pub const RULES_PER_SENDER_MAX: usize = 32;
/// Longest terms, bytes of JSON: a grant is a token, and those are bounded.
pub const TERMS_LEN_MAX: usize = 4_096;
/// Different names in one batch: no honest batch has so many, and each is held against every pattern.
pub const SERVICE_NAMES_MAX: usize = 4_096;
/// Characters of a sender's text that are shown.
const SHOWN_MAX: usize = 64;

/// What policy lets one identity send to one service: the `otlp.v1` config of the service, resolved for that identity. The default
/// is without a config: everything may be sent, and nobody is a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenderTerms {
    /// Name of the config.
    pub config: String,
    /// Name of the service.
    pub service: String,
    /// Name of the identity.
    pub identity: String,
    /// Is it a gateway, whose word about who sent a batch counts?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gateway: bool,
    /// The rules that are for it, in their order; none = there are no rules: everything may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<SenderRule>>,
}

/// What one rule lets the identity send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SenderRule {
    /// The signals; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signal>,
    /// Patterns for each `service.name`; empty = any, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_names: Vec<ServiceNamePattern>,
    /// How much.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
}

/// How much one identity may send under one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Spans, data points, log records, profiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Rate>,
    /// Bytes of uncompressed OTLP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Rate>,
}

/// A rate and what may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Per second.
    pub per_second: u64,
    /// At once, after a pause.
    pub burst: u64,
}

/// A batch that may be sent, as far as its signal and names go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The rules with limits that let it in, to each of which it counts in whole; empty = no limit holds.
    pub charges: Vec<Charge>,
}

/// A rule that a batch counts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Which of the identity's rules.
    pub rule: usize,
    /// Its limits.
    pub limits: Limits,
}

/// A batch that may not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "identity '{identity}' may not send {what} to service '{service}': {reason}; see config '{config}' of type {}",
    OtlpV1::NAME
)]
pub struct Denied {
    /// Name of the config.
    pub config: String,
    /// Name of the service.
    pub service: String,
    /// Name of the identity.
    pub identity: String,
    /// What was to be sent.
    pub what: String,
    /// Why not.
    pub reason: DeniedReason,
}

/// Why a batch may not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedReason {
    /// No rule is for this identity.
    NoRule,
    /// The rules for it are for other signals.
    Signal,
    /// The rules for it are for other names.
    ServiceName,
    /// The batch has too many names.
    TooManyNames,
}

/// Terms that no grant can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Too many rules.
    #[error(
        "{0} of its rules are for this identity, and a grant holds {RULES_PER_SENDER_MAX}: put some together"
    )]
    TooManyRules(usize),
    /// Too long.
    #[error(
        "its rules for this identity have {0} bytes, and a grant holds {TERMS_LEN_MAX}: use fewer or shorter patterns"
    )]
    TooLong(usize),
}

impl SenderTerms {
    /// What the service's config says for the identity.
    ///
    /// # Errors
    /// It is more than a grant can hold.
    pub fn resolve(
        (name, config): (&str, &OtlpV1),
        service: &Service,
        identity: &Identity,
    ) -> Result<Self, TermsError> {
        let own = |rules: &Vec<super::Rule>| -> Vec<SenderRule> {
            rules.iter().filter(|rule| has(&rule.identities, identity)).map(SenderRule::from).collect()
        };
        let terms = Self {
            config: name.to_owned(),
            service: service.name.clone(),
            identity: identity.name.clone(),
            gateway: has(&config.gateways, identity),
            rules: config.rules.as_ref().map(own),
        };
        let rules = terms.rules.as_ref().map_or(0, Vec::len);
        if rules > RULES_PER_SENDER_MAX {
            return Err(TermsError::TooManyRules(rules));
        }
        match terms.encoded_len() {
            len if len > TERMS_LEN_MAX => Err(TermsError::TooLong(len)),
            _ => Ok(terms),
        }
    }

    fn encoded_len(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |text| text.len())
    }

    /// Does a batch of this signal have to show its names? Without, [`decide`](Self::decide) may be given none.
    pub fn asks_for_names(&self, signal: Signal) -> bool {
        self.rules.iter().flatten().any(|rule| rule.has(signal) && !rule.service_names.is_empty())
    }

    /// May a batch be sent? `service_names` is what each of its resources says: its `service.name`, or none where there is no plain one.
    ///
    /// A resource is let in by the first rule for the signal that fits its name; the batch is let in when all its resources are. It
    /// counts in whole to each rule that lets a part of it in.
    ///
    /// # Errors
    /// Why not.
    pub fn decide<'a>(
        &self,
        signal: Signal,
        service_names: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Result<Allowed, Denied> {
        let Some(rules) = &self.rules else { return Ok(Allowed::default()) };
        let denied = |what: String, reason| Err(self.denied(what, reason));
        let of_signal: Vec<_> = rules.iter().enumerate().filter(|(_, rule)| rule.has(signal)).collect();
        let Some((first, _)) = of_signal.first() else {
            return match rules.is_empty() {
                true => denied(signal.to_string(), DeniedReason::NoRule),
                false => denied(signal.to_string(), DeniedReason::Signal),
            };
        };
        let (mut used, mut known) = (BTreeSet::new(), HashSet::new());
        for name in service_names {
            if !known.insert(name) {
                continue;
            }
            if known.len() > SERVICE_NAMES_MAX {
                let what = format!("{signal} of more than {SERVICE_NAMES_MAX} services in one batch");
                return denied(what, DeniedReason::TooManyNames);
            }
            match of_signal.iter().find(|(_, rule)| rule.fits(name)) {
                Some((number, _)) => used.insert(*number),
                None => return denied(shown(signal, name), DeniedReason::ServiceName),
            };
        }
        if used.is_empty() {
            used.insert(*first);
        }
        let charge = |rule: usize| Some(Charge { rule, limits: rules.get(rule)?.limits });
        let charges = used.into_iter().filter_map(charge).filter(|charge| !charge.limits.is_none());
        Ok(Allowed { charges: charges.collect() })
    }

    fn denied(&self, what: String, reason: DeniedReason) -> Denied {
        let Self { config, service, identity, .. } = self.clone();
        Denied { config, service, identity, what, reason }
    }
}

/// A name is the sender's own text: it is cut, and what is not to be printed is escaped.
fn shown(signal: Signal, name: Option<&str>) -> String {
    let Some(name) = name else { return format!("{signal} without a plain service.name") };
    let cut = name.char_indices().nth(SHOWN_MAX).map_or(name, |(end, _)| &name[..end]);
    let more = if cut.len() < name.len() { "…" } else { "" };
    format!("{signal} of service.name {cut:?}{more}")
}

impl SenderRule {
    fn has(&self, signal: Signal) -> bool {
        self.signals.is_empty() || self.signals.contains(&signal)
    }

    fn fits(&self, name: Option<&str>) -> bool {
        self.service_names.is_empty()
            || name.is_some_and(|name| self.service_names.iter().any(|pattern| pattern.fits(name)))
    }
}

impl From<&super::Rule> for SenderRule {
    fn from(rule: &super::Rule) -> Self {
        let (signals, service_names) = (rule.signals.clone(), rule.service_names.clone());
        Self { signals, service_names, limits: rule.limits() }
    }
}

impl Limits {
    /// Is there none?
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl DeniedReason {
    /// A stable word for metrics and audit: `no-rule`, `signal`, `service-name`, `too-many-names`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoRule => "no-rule",
            Self::Signal => "signal",
            Self::ServiceName => "service-name",
            Self::TooManyNames => "too-many-names",
        }
    }
}

impl fmt::Display for DeniedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRule => "no rule is for this identity",
            Self::Signal => "no rule for this identity has this signal",
            Self::ServiceName => "no rule for this identity and signal fits it",
            Self::TooManyNames => "send smaller batches",
        })
    }
}
