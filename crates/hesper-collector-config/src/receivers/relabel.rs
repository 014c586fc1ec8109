//! `relabel_configs` and `metric_relabel_configs`, as Prometheus has them.

use crate::{Pattern, common::anchored, section::Section};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Relabel {
    /// The labels whose values, joined, are looked at.
    pub source_labels: Vec<String>,
    /// What joins them (`;`).
    pub separator: String,
    /// What must match; anchored at both ends.
    pub regex: Pattern,
    /// What is divided by (`hashmod`); zero for other actions.
    pub modulus: u64,
    /// The label that is written.
    pub target_label: String,
    /// What is written (`$1`).
    pub replacement: String,
    /// What is done.
    pub action: RelabelAction,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config"
)]
pub enum RelabelAction {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, RelabelAction); 11] = [
    ("replace", RelabelAction::Replace),
    ("keep", RelabelAction::Keep),
    ("drop", RelabelAction::Drop),
    ("keepequal", RelabelAction::KeepEqual),
    ("dropequal", RelabelAction::DropEqual),
    ("hashmod", RelabelAction::HashMod),
    ("labelmap", RelabelAction::LabelMap),
    ("labeldrop", RelabelAction::LabelDrop),
    ("labelkeep", RelabelAction::LabelKeep),
    ("lowercase", RelabelAction::Lowercase),
    ("uppercase", RelabelAction::Uppercase),
];

pub(super) fn list(s: &Section<'_>, key: &'static str) -> Vec<Relabel> {
    s.sections(key, read).into_iter().flatten().collect()
}

fn read(s: &Section<'_>) -> Option<Relabel> {
    let regex = match s.scalar("regex") {
        Some(scalar) => anchored(s, scalar, "^(?s:", ")$"),
        None => Pattern::new("^(?s:(.*))$").ok(),
    };
    // Without an expression the rest is read all the same, for its faults.
    let broken = regex.is_none();
    let step = Relabel {
        source_labels: s.texts("source_labels"),
        separator: s.text_or("separator", ";"),
        regex: regex.or_else(|| Pattern::new("").ok())?,
        modulus: s.count("modulus", 0),
        target_label: s.text_or("target_label", ""),
        replacement: s.text_or("replacement", "$1"),
        action: s.one_of("action", &ACTIONS, RelabelAction::Replace),
    };
    check(s, &step);
    (!broken).then_some(step)
}

fn check(s: &Section<'_>, step: &Relabel) {
    use RelabelAction as A;
    let writes = matches!(
        step.action,
        A::Replace | A::KeepEqual | A::DropEqual | A::HashMod | A::Lowercase | A::Uppercase
    );
    if writes && step.target_label.is_empty() {
        s.fault(
            s.place_of("target_label"),
            format!("{} has no target_label", s.what),
            "write the label that is meant",
        );
    }
    if step.action == A::HashMod && step.modulus == 0 {
        s.fault(s.place_of("modulus"), format!("{} has no modulus", s.what), "write the number of shards");
    }
    if matches!(step.action, A::LabelDrop | A::LabelKeep) {
        for key in ["source_labels", "separator", "modulus", "target_label", "replacement"] {
            if s.is_set(key) {
                s.refuse(key, "does not belong to this action", "leave it out: only regex counts");
            }
        }
    }
}
