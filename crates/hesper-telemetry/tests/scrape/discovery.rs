//! Targets that come and go.

use crate::support::{DEADLINE, Finds, Mesh, Run, Target, answer, found, metrics, settings};
use std::sync::{Arc, Mutex};
use tokio::time::timeout;

#[tokio::test]
async fn services_of_the_mesh_are_scraped_while_they_are_there() {
    let target = Target::start(|_| metrics("a 1\n")).await;
    let mesh = Mesh::with("metrics", target.at);
    let finds = Finds::new(&[]);
    let keys = "job_name: mesh, hesper_sd_configs: [{service: [metrics]}], \
                relabel_configs: [{source_labels: [__meta_hesper_service], target_label: service}]";
    let mut run = Run::with(settings(&[keys]), mesh, finds.clone(), false);
    finds.0.send_replace(found(&["hesper://metrics"]));
    run.until("hesper://metrics a{service=metrics} 1 ").await;
    assert_eq!(run.scraper.jobs()[0].targets, 1);
    finds.0.send_replace(found(&[]));
    let marks = run.until(" a{service=metrics} STALE ").await;
    assert!(marks.iter().any(|line| line.contains(" up{service=metrics} STALE ")), "{marks:#?}");
    assert_eq!(run.scraper.targets(), []);
    assert_eq!(run.end().await, Vec::<Vec<String>>::new());
}

#[tokio::test]
async fn a_service_that_nobody_hosts_is_down() {
    let run_settings = settings(&["job_name: mesh, static_configs: [{targets: ['hesper://nobody']}]"]);
    let mut run = Run::with(run_settings, Arc::new(Mesh::default()), Finds::new(&[]), false);
    run.until("hesper://nobody up{} 0 ").await;
    let error = run.scraper.targets()[0].error.clone().expect("an error");
    assert!(error.contains("nobody hosts nobody"), "{error}");
    run.end().await;
}

#[tokio::test]
async fn the_last_good_list_of_a_url_stays() {
    let target = Target::start(|_| metrics("a 1\n")).await;
    let other = Target::start(|_| metrics("b 1\n")).await;
    let list: Arc<Mutex<Option<String>>> = Arc::default();
    let told = list.clone();
    let sd = Target::start(move |request| {
        assert_eq!(request.headers()["x-prometheus-refresh-interval-seconds"], "0.1");
        match &*told.lock().expect("the list") {
            Some(list) => answer(200, "application/json", list.clone()),
            None => answer(500, "text/plain", "no"),
        }
    })
    .await;
    let say = |at: Option<std::net::SocketAddr>| {
        let group = at.map(|at| format!(r#"[{{"targets": ["{at}"], "labels": {{"env": "x"}}}}]"#));
        *list.lock().expect("the list") = group;
    };
    let keys = format!(
        "job_name: j, http_sd_configs: [{{url: 'http://{}/sd?x=y', refresh_interval: 100ms}}]",
        sd.at
    );
    let mut run = Run::start(settings(&[&keys]));
    let complaint = async {
        loop {
            let jobs = run.scraper.jobs();
            if let Some(error) = jobs.first().and_then(|job| job.errors.first().cloned()) {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    let complaint = timeout(DEADLINE, complaint).await.expect("a complaint");
    assert!(complaint.contains("it answered 500") && !complaint.contains("x=y"), "{complaint}");
    say(Some(target.at));
    run.until(" a{env=x} 1 ").await;
    say(None);
    for _ in 0..5 {
        let lines = run.until(" a{env=x} ").await;
        assert!(!lines.iter().any(|line| line.contains("STALE")), "{lines:#?}");
    }
    say(Some(other.at));
    run.until(" a{env=x} STALE ").await;
    run.until(" b{env=x} 1 ").await;
    assert_eq!(sd.count(), 1, "the connection is kept");
    run.end().await;
}

#[tokio::test]
async fn a_job_with_too_many_targets_scrapes_none() {
    let target = Target::start(|_| metrics("a 1\n")).await;
    let targets = format!("['{0}', 'localhost:{1}']", target.at, target.at.port());
    let keys = format!("job_name: j, target_limit: 1, static_configs: [{{targets: {targets}}}]");
    let mut run = Run::start(settings(&[&keys]));
    run.until(" up{} 0 ").await;
    assert_eq!(run.scraper.jobs()[0].errors, ["the job has more targets than target_limit 1"]);
    run.end().await;
    assert_eq!(target.count(), 0);
}
