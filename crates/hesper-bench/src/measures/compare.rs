//! Tunnels beside each other: in every round each subject has its turn at everything, so that what disturbs the machine disturbs all.

use super::Effort;
use crate::{
    load, process,
    report::Recorder,
    stats::percentile,
    subjects::{self, NotStarted, Subject, Surroundings},
};
use anyhow::{Context, Result};
use std::time::Duration;

/// Sent first, to learn how fast a tunnel is.
const TRIAL: u64 = 16 << 20;
/// Bounds of what is sent in one measurement.
const LEAST: u64 = 8 << 20;
const MOST: u64 = 16 << 30;
const STREAMS: usize = 8;

/// Compares `names` in `benchmarks`.
pub(crate) async fn run(
    names: &[&str],
    benchmarks: &[&str],
    around: &Surroundings,
    effort: &Effort,
    to: &mut Recorder,
) -> Result<()> {
    let mut running = Vec::new();
    for name in names {
        match subjects::start(name, around).await {
            Ok(subject) => running.push(Turn { subject, bytes: 0 }),
            Err(NotStarted::Missing(how)) => to.skip(name, &how),
            Err(NotStarted::Failed(error)) => to.skip(name, &format!("does not start: {error:#}")),
        }
    }
    for round in 0..effort.rounds {
        eprintln!("round {} of {}: {}", round + 1, effort.rounds, list(&running));
        let mut index = 0;
        while let Some(turn) = running.get_mut(index) {
            match turn.measure(round, benchmarks, effort, to).await {
                Ok(()) => index += 1,
                Err(error) => {
                    to.skip(turn.subject.name, &format!("failed in round {}: {error:#}", round + 1));
                    running.remove(index);
                }
            }
        }
    }
    Ok(())
}

fn list(running: &[Turn]) -> String {
    running.iter().map(|t| t.subject.name).collect::<Vec<_>>().join(", ")
}

struct Turn {
    subject: Subject,
    /// What it carries in the time of one measurement; 0 = not known yet.
    bytes: u64,
}

impl Turn {
    async fn measure(
        &mut self,
        round: usize,
        benchmarks: &[&str],
        effort: &Effort,
        to: &mut Recorder,
    ) -> Result<()> {
        let span = Duration::from_secs_f64(effort.seconds);
        for benchmark in benchmarks {
            match *benchmark {
                "throughput" => self.throughput(round, effort.seconds, to).await.context("throughput")?,
                "latency" => {
                    let times = load::exchanges(self.subject.address, span / 2).await.context("latency")?;
                    self.times("exchange_open", round, &times, to);
                }
                "dials" => self.dials(round, span / 2, to).await.context("dials")?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn throughput(&mut self, round: usize, seconds: f64, to: &mut Recorder) -> Result<()> {
        let (name, address) = (self.subject.name, self.subject.address);
        if self.bytes == 0 {
            load::upload(address, TRIAL).await?;
            let taken = load::upload(address, TRIAL).await?;
            self.bytes = ((TRIAL as f64 / taken * seconds) as u64).clamp(LEAST, MOST);
        }
        let before = self.cpu();
        let taken = load::upload(address, self.bytes).await?;
        let used: Vec<(&str, f64)> = self.cpu().iter().zip(&before).map(|(a, b)| (a.0, a.1 - b.1)).collect();
        let gigabytes = self.bytes as f64 / 1e9;
        to.add("throughput_1", name, "", round, gigabytes * 8.0 / taken);
        if !used.is_empty() {
            to.add("cpu_per_gb", name, "", round, used.iter().map(|(_, s)| s).sum::<f64>() / gigabytes);
        }
        for (process, seconds) in used {
            to.add("cpu_per_gb", name, process, round, seconds / gigabytes);
        }
        let taken = load::upload_by(address, STREAMS, self.bytes).await?;
        to.add("throughput_8", name, "", round, gigabytes * 8.0 / taken);
        Ok(())
    }

    fn cpu(&self) -> Vec<(&'static str, f64)> {
        self.subject.processes().into_iter().map(|(name, pid)| (name, process::cpu_seconds(pid))).collect()
    }

    async fn dials(&self, round: usize, span: Duration, to: &mut Recorder) -> Result<()> {
        let (name, address) = (self.subject.name, self.subject.address);
        let one = load::dials(address, 1, span).await?;
        self.times("exchange_new", round, &one, to);
        to.add("dials_1", name, "", round, one.len() as f64 / span.as_secs_f64());
        let eight = load::dials(address, STREAMS, span).await?;
        to.add("dials_8", name, "", round, eight.len() as f64 / span.as_secs_f64());
        Ok(())
    }

    fn times(&self, measure: &str, round: usize, micros: &[f64], to: &mut Recorder) {
        for (suffix, q) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some(value) = percentile(micros, q) {
                to.add(&format!("{measure}_{suffix}"), self.subject.name, "", round, value);
            }
        }
    }
}
