//! Relabelling: `relabel_configs` for targets, `metric_relabel_configs` for samples, as Prometheus does it
//! (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config>).

use crate::labels::Labels;
use hesper_collector_config::receivers::{Relabel, RelabelAction};
use md5::{Digest, Md5};
use std::borrow::Cow;

/// Takes the labels through all steps. `None`: they were dropped.
pub fn relabel<'a>(mut labels: Labels<'a>, steps: &'a [Relabel]) -> Option<Labels<'a>> {
    for step in steps {
        if !apply(&mut labels, step) {
            return None;
        }
    }
    Some(labels)
}

/// One step. False: dropped.
fn apply<'a>(labels: &mut Labels<'a>, step: &'a Relabel) -> bool {
    use RelabelAction as A;
    let regex = step.regex.regex();
    let source = source(labels, step);
    let target = step.target_label.as_str();
    match step.action {
        A::Keep => return regex.is_match(&source),
        A::Drop => return !regex.is_match(&source),
        A::KeepEqual => return labels.get(target) == source,
        A::DropEqual => return labels.get(target) != source,
        A::Replace => {
            let Some(found) = regex.captures(&source) else { return true };
            let expand = |template: &str| {
                let mut text = String::new();
                found.expand(template, &mut text);
                text
            };
            let (name, value) = (expand(target), expand(&step.replacement));
            if !name.is_empty() {
                labels.set(name, value);
            }
        }
        A::Lowercase => {
            let lower = source.to_lowercase();
            labels.set(target, lower);
        }
        A::Uppercase => {
            let upper = source.to_uppercase();
            labels.set(target, upper);
        }
        A::HashMod => {
            let shard = hash_mod(&source, step.modulus).to_string();
            labels.set(target, shard);
        }
        A::LabelMap => {
            for (name, value) in labels.clone().iter() {
                if regex.is_match(name) {
                    labels.set(regex.replace_all(name, &*step.replacement).into_owned(), value.to_owned());
                }
            }
        }
        A::LabelDrop => labels.retain(|name| !regex.is_match(name)),
        A::LabelKeep => labels.retain(|name| regex.is_match(name)),
    }
    true
}

fn source<'l>(labels: &'l Labels<'_>, step: &Relabel) -> Cow<'l, str> {
    match step.source_labels.as_slice() {
        [one] => Cow::Borrowed(labels.get(one)),
        several => {
            let values: Vec<_> = several.iter().map(|name| labels.get(name)).collect();
            Cow::Owned(values.join(&step.separator))
        }
    }
}

/// The last eight bytes of the MD5, big endian, modulo.
fn hash_mod(text: &str, modulus: u64) -> u64 {
    let digest = Md5::digest(text.as_bytes());
    let last = digest.iter().skip(8).fold(0, |number, byte| (number << 8) | u64::from(*byte));
    last.checked_rem(modulus).unwrap_or_default()
}
