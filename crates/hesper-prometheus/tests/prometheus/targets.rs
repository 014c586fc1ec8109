//! From what discovery finds to targets.

use crate::{found, job};
use hesper_collector_config::Endpoint;
use hesper_prometheus::target::Target;
use std::time::Duration;

fn target(job_keys: &str, labels: &[(&str, &str)]) -> Result<Option<Target>, String> {
    Target::new(&job(job_keys), found(labels)).map_err(|error| error.to_string())
}

fn good(job_keys: &str, labels: &[(&str, &str)]) -> Target {
    target(job_keys, labels).expect("a target").expect("not dropped")
}

#[test]
fn a_target_has_the_labels_of_its_group_its_job_and_its_address() {
    let target = good("", &[("__address__", "h:1"), ("env", "prod"), ("__meta_x", "y")]);
    assert_eq!(target.labels, found(&[("env", "prod"), ("instance", "h:1"), ("job", "j")]));
    assert_eq!((target.url().as_str(), target.host().as_str()), ("http://h:1/metrics", "h:1"));
    assert_eq!((target.interval, target.timeout), (Duration::from_secs(60), Duration::from_secs(10)));
}

#[test]
fn relabelling_may_change_everything() {
    let keys = "params: {m: [a, b]}, relabel_configs: [{source_labels: [__meta_https], regex: 'yes', target_label: __scheme__, \
                replacement: https}, {target_label: __metrics_path__, replacement: /x y}, {target_label: __scrape_interval__, \
                replacement: 1m30s}, {target_label: __param_m, replacement: 'c&d'}, {target_label: instance, replacement: me}, \
                {source_labels: [__meta_drop], regex: 'yes', action: drop}]";
    let target = good(keys, &[("__address__", "h"), ("__meta_https", "yes")]);
    assert_eq!(target.path, "/x%20y?m=c%26d&m=b");
    assert_eq!((target.url().as_str(), target.host().as_str()), ("https://h/x%20y", "h"));
    assert_eq!((target.server().port, target.labels.get("instance")), (Some(443), "me"));
    assert_eq!(target.interval, Duration::from_secs(90));
    let dropped = self::target(keys, &[("__address__", "h"), ("__meta_drop", "yes")]);
    assert_eq!(dropped, Ok(None));
}

#[test]
fn services_of_the_mesh_are_targets() {
    let target = good("", &[("__address__", "hesper://eu-1@my%20metrics")]);
    assert!(matches!(&target.endpoint, Endpoint::Mesh { service, .. } if service == "my metrics"));
    assert_eq!(
        (target.host().as_str(), target.labels.get("instance")),
        ("my-metrics", "hesper://eu-1@my%20metrics")
    );
    assert_eq!((target.server().address.as_str(), target.server().port), ("my metrics", None));
}

#[test]
fn what_is_no_target_says_why() {
    for (keys, labels, reason) in [
        ("", &[("x", "y")][..], "no __address__"),
        ("", &[("__address__", "http://h:1")], "is a URL"),
        ("", &[("__address__", "h:1/metrics")], "is a URL"),
        ("", &[("__address__", "h:port")], "no number"),
        ("", &[("__address__", "h:1"), ("__scheme__", "ftp")], "'ftp' is neither"),
        ("", &[("__address__", "h:1"), ("__scrape_interval__", "0s")], "'0s' is no duration"),
        ("", &[("__address__", "h:1"), ("__scrape_interval__", "1s1m")], "is no duration"),
        ("", &[("__address__", "h:1"), ("__scrape_interval__", "ms")], "is no duration"),
        ("", &[("__address__", "h:1"), ("__scrape_timeout__", "2m")], "longer than"),
    ] {
        let error = target(keys, labels).expect_err(reason);
        assert!(error.contains(reason) && error.contains("job 'j'"), "{error}");
    }
}

#[test]
fn targets_are_told_apart_and_spread() {
    let a = good("", &[("__address__", "a:1")]);
    let same = good("", &[("__address__", "a:1"), ("__meta_unused", "x")]);
    let other = good("", &[("__address__", "a:1"), ("env", "x")]);
    assert_eq!(a.key(), same.key());
    assert_ne!(a.key(), other.key());
    assert_eq!(a.offset("seed"), same.offset("seed"));
    let offsets: Vec<_> =
        (0..100).map(|i| good("", &[("__address__", &format!("h{i}:1"))]).offset("seed")).collect();
    assert!(offsets.iter().all(|offset| *offset < a.interval));
    let early = offsets.iter().filter(|offset| **offset < a.interval / 2).count();
    assert!((20..80).contains(&early), "{early} of 100 are in the first half");
}
