//! What is remembered: when counters began, and what is gone.

use crate::scraping::{scrape, scrapes, shown, told};
use hesper_prometheus::scrape::{NoAnswer, Scrapes};
use std::time::Duration;

/// Scrapes every 10 s from 100 s on; what each gave.
fn series(scrapes: &mut Scrapes, bodies: &[&str]) -> Vec<Vec<String>> {
    let mut at = 90;
    let mut next = |body: &&str| {
        at += 10;
        shown(&scrape(scrapes, at, body).request)
    };
    bodies.iter().map(&mut next).collect()
}

#[test]
fn counters_begin_when_first_seen_and_again_when_they_fall() {
    let body = |n: u32| format!("# TYPE c counter\nc {n}\n");
    let bodies = [body(5), body(7), body(3), body(4)];
    let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
    let got = series(&mut scrapes("", ""), &bodies);
    assert_eq!(got, [["c{} 5 100..100"], ["c{} 7 100..110"], ["c{} 3 120..120"], ["c{} 4 120..130"]]);
}

#[test]
fn histograms_and_summaries_begin_again_too() {
    let body = |n: u32| {
        format!("# TYPE h histogram\nh_count {n}\n# TYPE s summary\ns_count {n}\n# TYPE g gauge\ng {n}\n")
    };
    let bodies = [body(5), body(4)];
    let got = series(&mut scrapes("", ""), &[&bodies[0], &bodies[1]]);
    assert_eq!(got[1][0], "h{} [][4] n=4 sum=None 110..110");
    assert_eq!(got[1][1], "s{} [] n=4 sum=0 110..110");
    assert_eq!(got[1][2], "g{} 4 -..110");
}

#[test]
fn the_start_of_the_process_counts_if_wanted() {
    let body = "# TYPE c counter\nc 5\nprocess_start_time_seconds 42.5\nx_start_time 41\n";
    let got = series(&mut scrapes("use_start_time_metric: true,", ""), &[body]);
    assert_eq!(got[0][0], "c{} 5 42.5..100");
    let keys = "use_start_time_metric: true, start_time_metric_regex: '^x_start', ";
    assert_eq!(series(&mut scrapes(keys, ""), &[body])[0][0], "c{} 5 41..100");
    assert_eq!(series(&mut scrapes("", ""), &[body])[0][0], "c{} 5 100..100");
}

#[test]
fn what_is_gone_is_marked_once() {
    let all = "a 1\nb{x=\"y\"} 2\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_count 1\n\
               # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 1\n";
    let got = series(&mut scrapes("", ""), &[all, "a 1\n", "a 1\n", "a 1\nb{x=\"y\"} 3\n"]);
    assert_eq!(
        got[1],
        [
            "a{} 1 -..110",
            "b{x=y} None STALE 100..110",
            "h{} [1.0][0, 0] n=0 sum=None STALE 100..110",
            "s{} [(0.5, 0.0)] n=0 sum=0 STALE 100..110",
        ]
    );
    assert_eq!(got[2], ["a{} 1 -..120"]);
    assert_eq!(got[3], ["a{} 1 -..130", "b{x=y} 3 -..130"]);
}

#[test]
fn a_target_that_is_down_has_nothing() {
    let mut scrapes = scrapes("", "");
    let counter = |n: u32| format!("# TYPE c counter\nc {n}\n");
    scrape(&mut scrapes, 100, &counter(5));
    let no_answer = NoAnswer { reason: "refused".into(), is_too_large: false };
    let outcome = scrapes.scraped(110_000, Duration::from_secs(1), Err(no_answer.clone()));
    assert_eq!(shown(&outcome.request), ["c{} None STALE 100..110"]);
    assert_eq!(told(&outcome.request)[0], "up{} 0 -..110");
    assert_eq!(outcome.error.as_deref(), Some("refused"));
    let outcome = scrapes.scraped(120_000, Duration::from_secs(1), Err(no_answer));
    assert_eq!(shown(&outcome.request), Vec::<String>::new());
    // It was away, not restarted.
    let outcome = scrape(&mut scrapes, 130, &counter(6));
    assert_eq!(shown(&outcome.request), ["c{} 6 100..130"]);
    assert_eq!(outcome.report.added, 1, "the scrape before had nothing");
}

#[test]
fn a_target_that_is_gone_takes_everything_along() {
    let mut scrapes = scrapes("", "");
    assert_eq!(scrapes.gone(90_000), None);
    scrape(&mut scrapes, 100, "a 1\n");
    let request = scrapes.gone(110_000).expect("marks");
    assert_eq!(shown(&request), ["a{} None STALE 100..110"]);
    let told = told(&request);
    assert_eq!(told.len(), 5);
    assert!(told.iter().all(|line| line.contains("STALE")), "{told:?}");
    assert_eq!(scrapes.gone(120_000), None);
}

#[test]
fn times_of_the_targets_own() {
    let bodies = ["a 1 50000\nb 2\n", "b 2\n"];
    let got = series(&mut scrapes("", ""), &bodies);
    assert_eq!(got, [vec!["a{} 1 -..50", "b{} 2 -..100"], vec!["b{} 2 -..110"]], "its times are its own");
    let got = series(&mut scrapes("", "track_timestamps_staleness: true"), &bodies);
    assert_eq!(got[1], ["b{} 2 -..110", "a{} None STALE 50..110"]);
    let got = series(&mut scrapes("", "honor_timestamps: false"), &bodies);
    assert_eq!(got[0], ["a{} 1 -..100", "b{} 2 -..100"]);
    assert_eq!(got[1], ["b{} 2 -..110", "a{} None STALE 100..110"]);
}

#[test]
fn target_info_lasts_while_the_target_is_down() {
    let mut scrapes = scrapes("", "");
    scrape(&mut scrapes, 100, "target_info{region=\"eu\"} 1\na 1\n");
    let outcome =
        scrapes.scraped(110_000, Duration::ZERO, Err(NoAnswer { reason: "x".into(), is_too_large: true }));
    let resource = outcome.request.resource_metrics[0].resource.as_ref().expect("a resource");
    assert!(resource.attributes.iter().any(|attribute| attribute.key == "region"));
    assert_eq!(outcome.report.body_bytes, -1);
}

#[test]
fn names_that_change_all_the_time_are_forgotten() {
    let mut scrapes = scrapes("", "");
    for i in 0..1000_u32 {
        scrape(&mut scrapes, 100 + i64::from(i) * 10, &format!("a{{i=\"{i}\"}} 1\n"));
    }
    // Five minutes are 30 scrapes of one series each, and five series are told of every scrape.
    assert!(scrapes.remembered() <= 40, "{}", scrapes.remembered());
}
