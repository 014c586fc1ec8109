//! The crate from outside.

mod properties;
mod relabelling;
mod scraping;
mod staleness;
mod targets;
mod text;
mod writing;

use hesper_collector_config::{
    load,
    receivers::{PrometheusReceiver, Receiver, ScrapeJob},
};
use hesper_prometheus::{labels::Labels, target::Target};
use std::sync::Arc;

/// The settings of a receiver, from its body.
fn receiver(body: &str) -> PrometheusReceiver {
    let text = format!(
        "receivers: {{prometheus: {body}}}\nexporters: {{debug: }}\n\
         service: {{pipelines: {{metrics: {{receivers: [prometheus], exporters: [debug]}}}}}}\n"
    );
    let (config, _) =
        load(&[("f.yaml", &text)], &|_| None).unwrap_or_else(|faults| panic!("{text}\n{faults:#?}"));
    match config.receivers.into_values().next().map(|component| component.settings) {
        Some(Receiver::Prometheus(receiver)) => receiver,
        other => panic!("{other:?}"),
    }
}

/// A receiver with one job named `j` and one target, `host:9100`, from keys of the receiver and of the job.
fn settings(keys: &str, job: &str) -> Arc<PrometheusReceiver> {
    let job = format!("{{job_name: j, static_configs: [{{targets: ['host:9100']}}], {job}}}");
    Arc::new(receiver(&format!("{{{keys} config: {{scrape_configs: [{job}]}}}}")))
}

fn job(body: &str) -> Arc<ScrapeJob> {
    Arc::new(settings("", body).jobs[0].clone())
}

/// The labels of a target that discovery found.
fn found(pairs: &[(&str, &str)]) -> Labels<'static> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn target(job: &Arc<ScrapeJob>) -> Arc<Target> {
    let target = Target::new(job, found(&[("__address__", "host:9100")]));
    Arc::new(target.expect("a target").expect("not dropped"))
}
