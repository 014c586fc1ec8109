//! Other settings while it runs, and the end.

use crate::support::{Run, Target, job, metrics, settings};
use std::sync::atomic::{AtomicU32, Ordering};

/// The start of a counter in a request.
fn start(lines: &[String], name: &str) -> String {
    let line = lines.iter().find(|line| line.contains(name)).expect(name);
    line.rsplit(' ').next().expect("a start").to_owned()
}

#[tokio::test]
async fn what_stays_keeps_what_is_remembered() {
    let count = AtomicU32::new(0);
    let counter = move || format!("# TYPE c counter\nc {}\nx 1\n", count.fetch_add(1, Ordering::Relaxed));
    let target = Target::start(move |_| metrics(&counter())).await;
    let other = Target::start(|_| metrics("other 1\n")).await;
    let (one, two) = (job("one", target.at, ""), job("two", other.at, ""));
    let mut run = Run::start(settings(&[&one, &two]));
    let first = run.until(" c{} ").await;
    run.until(" other{} 1 ").await;
    // One job goes, the other has a rule more: its target is what it was.
    let ruled = job(
        "one",
        target.at,
        "metric_relabel_configs: [{source_labels: [__name__], regex: x, action: drop}]",
    );
    run.scraper.reload(settings(&[&ruled]));
    run.until(" other{} STALE ").await;
    let lines = run.until(" x{} STALE ").await;
    assert_eq!(start(&lines, " c{} "), start(&first, " c{} "), "{lines:#?}");
    assert_eq!(target.count(), 1, "the connection is the same");
    // And back again, with another one.
    run.scraper.reload(settings(&[&one, &two]));
    run.until(" other{} 1 ").await;
    let lines = run.until(" x{} 1 ").await;
    assert_eq!(start(&lines, " c{} "), start(&first, " c{} "));
    run.end().await;
}

#[tokio::test]
async fn the_end_marks_nothing() {
    let target = Target::start(|_| metrics("a 1\n")).await;
    let mut run = Run::start(settings(&[&job("j", target.at, "")]));
    run.until(" a{} 1 ").await;
    for lines in run.end().await {
        assert!(!lines.iter().any(|line| line.contains("STALE")), "{lines:#?}");
    }
}
