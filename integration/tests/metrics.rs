//! What the network says about itself is correct by Prometheus' own tools.

use hesper_integration::{Stack, binaries, http, run};
use std::{process::Command, time::Duration};

#[test]
fn the_controllers_metrics_pass_promtool() {
    let stack = Stack::start();
    let url = format!("https://{}/metrics", stack.controller_address());
    let classic = http::curl(None, &["-k", &url]).expect("answer");
    assert_eq!(classic.status, 200, "{}", classic.head);
    assert!(classic.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    assert!(classic.body.contains("hesper_build_info{"), "{}", classic.body);
    let mut promtool = Command::new(binaries::installed("promtool", "prometheus"));
    promtool.args(["check", "metrics"]);
    let checked = run(promtool, &classic.body, Duration::from_secs(60)).ok();
    assert_eq!(checked.stderr, "", "promtool has complaints");
    let open = http::curl(None, &["-k", "-H", "accept: application/openmetrics-text", &url]).expect("answer");
    assert!(open.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
}
