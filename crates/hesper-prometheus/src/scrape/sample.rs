//! From a line to the labels that a sample is kept under: the target's labels, relabelling, limits.

use crate::{
    labels::{Labels, NAME},
    relabel::relabel,
};
use hesper_collector_config::receivers::ScrapeJob;

/// Puts the target's labels on a sample, which may have some of the same names.
pub(super) fn label<'a>(mut labels: Labels<'a>, target: &'a Labels<'static>, honor: bool) -> Labels<'a> {
    let mut moved = Vec::new();
    for (name, value) in target.iter() {
        if honor {
            // A label that is there but empty says that the target's is not wanted.
            if !labels.has(name) {
                labels.set(name, value);
            }
            continue;
        }
        if let Some(own) = labels.take(name).filter(|own| !own.is_empty()) {
            moved.push((name, own));
        }
        labels.set(name, value);
    }
    // The shortest first, so that `exported_x` of the target's own goes on to `exported_exported_x`.
    moved.sort_by_key(|(name, _)| name.len());
    for (name, value) in moved {
        let mut free = format!("exported_{name}");
        while !labels.get(&free).is_empty() {
            free.insert_str(0, "exported_");
        }
        labels.set(free, value);
    }
    labels.prune();
    labels
}

/// Relabels a sample. `None`: it is dropped.
///
/// # Errors
/// Nothing that could be kept is left, or it is more than the job allows. The whole scrape fails then.
pub(super) fn keep<'a>(labels: Labels<'a>, job: &'a ScrapeJob) -> Result<Option<Labels<'a>>, String> {
    let Some(labels) = relabel(labels, &job.metric_relabel_configs) else { return Ok(None) };
    let name = labels.get(NAME);
    if name.is_empty() {
        return Err("metric_relabel_configs leave a sample without a name; keep __name__".into());
    }
    let over = |limit: u64, len: usize| limit > 0 && u64::try_from(len).is_ok_and(|len| len > limit);
    if over(job.label_limit, labels.len()) {
        let (count, limit) = (labels.len(), job.label_limit);
        return Err(format!("a sample of {name} has {count} labels, more than label_limit {limit}"));
    }
    for (label, value) in labels.iter() {
        if over(job.label_name_length_limit, label.len()) {
            let limit = job.label_name_length_limit;
            return Err(format!(
                "the name of a label of {name} has {} bytes, more than label_name_length_limit {limit}",
                label.len()
            ));
        }
        if over(job.label_value_length_limit, value.len()) {
            let limit = job.label_value_length_limit;
            return Err(format!(
                "the label {label} of {name} has {} bytes, more than label_value_length_limit {limit}",
                value.len()
            ));
        }
    }
    Ok(Some(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&'static str, &'static str)]) -> Labels<'static> {
        let pairs = pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        Labels::parsed(pairs).expect("labels")
    }

    #[test]
    fn labels_of_the_target_and_its_own() {
        let target = labels(&[("a", "target"), ("instance", "i")]);
        for (own, honor, expected) in [
            (&[("b", "1")][..], false, &[("a", "target"), ("b", "1"), ("instance", "i")][..]),
            (&[("a", "own")], false, &[("a", "target"), ("exported_a", "own"), ("instance", "i")]),
            (
                &[("a", "own"), ("exported_a", "too")],
                false,
                &[("a", "target"), ("exported_a", "too"), ("exported_exported_a", "own"), ("instance", "i")],
            ),
            (&[("a", "own")], true, &[("a", "own"), ("instance", "i")]),
            (&[("a", "")], true, &[("instance", "i")]),
            (&[("a", ""), ("b", "")], false, &[("a", "target"), ("instance", "i")]),
        ] {
            assert_eq!(label(labels(own), &target, honor), labels(expected), "{own:?} {honor}");
        }
    }
}
