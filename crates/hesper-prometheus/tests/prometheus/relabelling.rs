//! Relabelling: what each action does.

use crate::{found, job};
use hesper_prometheus::relabel::relabel;

/// Relabels the labels by the steps (YAML); `None`: dropped.
fn relabelled(labels: &[(&str, &str)], steps: &str) -> Option<Vec<(String, String)>> {
    // A `$` before a brace is written twice in the Collector's configuration.
    let job = job(&format!("relabel_configs: {}", steps.replace("${", "$${")));
    let labels = relabel(found(labels), &job.relabel_configs)?;
    Some(labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Labels, the steps, what is left.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<&'a [(&'a str, &'a str)]>);

#[test]
fn every_action() {
    let cases: &[Case<'_>] = &[
        // replace
        (
            &[("a", "foo"), ("b", "bar")],
            "[{source_labels: [a], target_label: d, regex: f(.*), replacement: 'ch${1}-ch${1}'}]",
            Some(&[("a", "foo"), ("b", "bar"), ("d", "choo-choo")]),
        ),
        (&[("a", "foo")], "[{source_labels: [a], target_label: d, regex: o+}]", Some(&[("a", "foo")])),
        (
            &[("a", "x"), ("b", "y")],
            "[{source_labels: [a, b, none], target_label: c, separator: '-'}]",
            Some(&[("a", "x"), ("b", "y"), ("c", "x-y-")]),
        ),
        (&[("a", "x")], "[{target_label: a, replacement: ''}]", Some(&[])),
        (&[("a", "x")], "[{target_label: b, replacement: fixed}]", Some(&[("a", "x"), ("b", "fixed")])),
        (
            &[("a", "some-name-value")],
            "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${1}', replacement: '${2}'}]",
            Some(&[("a", "some-name-value"), ("name", "value")]),
        ),
        (
            &[("a", "x\ny")],
            "[{source_labels: [a], regex: 'x(.*)', target_label: b, replacement: '<$1>'}]",
            Some(&[("a", "x\ny"), ("b", "<\ny>")]),
        ),
        // keep, drop
        (&[("a", "foo")], "[{source_labels: [a], regex: .*o, action: drop}]", None),
        (&[("a", "foo")], "[{source_labels: [a], regex: o, action: drop}]", Some(&[("a", "foo")])),
        (&[("a", "foo")], "[{source_labels: [a], regex: f|foo, action: keep}]", Some(&[("a", "foo")])),
        (&[("a", "foo")], "[{source_labels: [a], regex: no-match, action: keep}]", None),
        (&[], "[{source_labels: [a], regex: '', action: keep}]", Some(&[])),
        // keepequal, dropequal
        (
            &[("p", "80"), ("q", "80")],
            "[{source_labels: [p], target_label: q, action: keepequal}]",
            Some(&[("p", "80"), ("q", "80")]),
        ),
        (&[("p", "80"), ("q", "81")], "[{source_labels: [p], target_label: q, action: keepequal}]", None),
        (&[("p", "80"), ("q", "80")], "[{source_labels: [p], target_label: q, action: dropequal}]", None),
        (&[("p", "80")], "[{source_labels: [p], target_label: q, action: dropequal}]", Some(&[("p", "80")])),
        // hashmod: the numbers are those that Prometheus' own tests have
        (
            &[("a", "foo"), ("b", "bar"), ("c", "baz")],
            "[{source_labels: [c], target_label: d, separator: ;, action: hashmod, modulus: 1000}]",
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "976")]),
        ),
        (
            &[("a", "foo\nbar")],
            "[{source_labels: [a], target_label: b, separator: ;, action: hashmod, modulus: 1000}]",
            Some(&[("a", "foo\nbar"), ("b", "734")]),
        ),
        // labelmap, labeldrop, labelkeep
        (
            &[("a", "foo"), ("__meta_x", "1"), ("__meta_y", "2")],
            "[{action: labelmap, regex: '__meta_(.*)'}]",
            Some(&[("__meta_x", "1"), ("__meta_y", "2"), ("a", "foo"), ("x", "1"), ("y", "2")]),
        ),
        (
            &[("__meta_my_baz", "aaa"), ("__meta_my_bar", "bbb"), ("__meta_other", "ccc")],
            "[{action: labelmap, regex: '__meta_(my.*)', replacement: 'new_${1}'}]",
            Some(&[
                ("__meta_my_bar", "bbb"),
                ("__meta_my_baz", "aaa"),
                ("__meta_other", "ccc"),
                ("new_my_bar", "bbb"),
                ("new_my_baz", "aaa"),
            ]),
        ),
        (&[("a", "1"), ("b1", "2")], "[{action: labeldrop, regex: b.*}]", Some(&[("a", "1")])),
        (&[("a", "1"), ("b1", "2")], "[{action: labelkeep, regex: b.*}]", Some(&[("b1", "2")])),
        // lowercase, uppercase
        (
            &[("a", "FoO")],
            "[{action: lowercase, source_labels: [a], target_label: l}, {action: uppercase, source_labels: [a], target_label: u}]",
            Some(&[("a", "FoO"), ("l", "foo"), ("u", "FOO")]),
        ),
        // several steps, each on what the one before left
        (
            &[("a", "foo")],
            "[{source_labels: [a], target_label: b, replacement: '$1$1'}, {source_labels: [b], regex: foofoo, action: drop}]",
            None,
        ),
    ];
    for (labels, steps, expected) in cases {
        let expected = expected
            .map(|labels| labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>());
        assert_eq!(relabelled(labels, steps), expected, "{labels:?} {steps}");
    }
}
