//! Collectors side by side: what goes through one processor, and what it costs.
//!
//! Each collector runs on the first processor; sender and sink are on the others. In each round every collector has its turn with the same
//! requests, a thousand items each; the figure that matters is items per second of its own CPU time, which the load beside it does
//! not change. What is lost is told.

mod hop;
mod subjects;

use super::Effort;
use crate::{
    otlp::{
        self,
        load::{Plan, Sending},
        payload::{self, ITEMS},
        sink::Sink,
    },
    report::Recorder,
    subjects::Surroundings,
};
use anyhow::{Result, bail};
use hesper_otlp::Signal;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use subjects::{SUBJECTS, Subject, Way};

/// Requests under way, as loaded and as too many.
const IN_FLIGHT: usize = 32;
const TOO_MANY: usize = 512;
/// Before it is measured, and when idle.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long what was acknowledged may take to arrive.
const DRAIN: Duration = Duration::from_secs(30);
const MIB: f64 = 1_048_576.0;

/// What is measured of each collector.
struct Case {
    name: &'static str,
    signal: Signal,
    gzip: bool,
    way: Way,
    in_flight: usize,
}

const fn case(name: &'static str, signal: Signal, gzip: bool, way: Way) -> Case {
    Case { name, signal, gzip, way, in_flight: IN_FLIGHT }
}

const CASES: &[Case] = &[
    case("spans", Signal::Traces, false, Way::Pass),
    case("spans, gzip", Signal::Traces, true, Way::Pass),
    case("spans, attribute inserted", Signal::Traces, false, Way::Insert),
    case("spans, on disk first", Signal::Traces, false, Way::Durable),
    case("points", Signal::Metrics, false, Way::Pass),
    case("points, gzip", Signal::Metrics, true, Way::Pass),
    case("points, attribute inserted", Signal::Metrics, false, Way::Insert),
    case("log records", Signal::Logs, false, Way::Pass),
    case("log records, gzip", Signal::Logs, true, Way::Pass),
    case("log records, attribute inserted", Signal::Logs, false, Way::Insert),
    case("spans, a secured hop", Signal::Traces, false, Way::Hop),
    Case { in_flight: TOO_MANY, ..case("overload", Signal::Logs, true, Way::Pass) },
];

pub(super) async fn run(around: &Surroundings, effort: &Effort, to: &mut Recorder) -> Result<()> {
    let mut present = Vec::new();
    for subject in SUBJECTS {
        match subject.program(&around.hesper) {
            Ok(program) => present.push((subject, program)),
            Err(reason) => to.skip(subject.name(), &format!("{reason:#}")),
        }
    }
    let runtime = otlp::runtime()?;
    for case in CASES {
        for round in 0..effort.rounds {
            for (subject, program) in present.iter().filter(|(subject, _)| subject.can(case.way)) {
                let measured = measure(*subject, program, case, effort.seconds, runtime.handle()).await;
                match measured {
                    Ok(figures) => figures.record(*subject, case, round, to),
                    Err(error) => to.skip(subject.name(), &format!("{}: {error:#}", case.name)),
                }
            }
        }
    }
    runtime.shutdown_background();
    Ok(())
}

struct Figures {
    items: u64,
    seconds: f64,
    cpu: f64,
    idle: u64,
    most: u64,
}

impl Figures {
    fn record(&self, subject: Subject, case: &Case, round: usize, to: &mut Recorder) {
        let mut add = |measure, value| to.add(measure, subject.name(), case.name, round, value);
        add("otlp_per_cpu", self.items as f64 / self.cpu / 1e3);
        add("otlp_rate", self.items as f64 / self.seconds / 1e3);
        add("otlp_memory", self.most as f64 / MIB);
        if case.name == CASES[0].name {
            add("otlp_idle_memory", self.idle as f64 / MIB);
        }
    }
}

async fn measure(
    subject: Subject,
    program: &Path,
    case: &Case,
    seconds: f64,
    beside: &tokio::runtime::Handle,
) -> Result<Figures> {
    let directory = tempfile::tempdir()?;
    let sink = beside.spawn(Sink::start()).await??;
    let running = subject.start(program, case, sink.address, directory.path()).await?;
    tokio::time::sleep(WARM_UP).await;
    let idle = running.resident()?;
    let requests = Arc::new(payload::requests(case.signal, case.gzip)?);
    let plan = Plan {
        to: running.listen,
        signal: case.signal,
        gzip: case.gzip,
        requests,
        in_flight: case.in_flight,
    };
    let sending = beside.spawn(Sending::start(plan)).await??;
    tokio::time::sleep(WARM_UP).await;

    let (begun, cpu, before) = (Instant::now(), running.cpu(), sink.items());
    let mut most = 0;
    while begun.elapsed().as_secs_f64() < seconds {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(running.resident()?);
    }
    let (seconds, cpu, items) = (begun.elapsed().as_secs_f64(), running.cpu() - cpu, sink.items() - before);
    if case.in_flight == TOO_MANY {
        eprintln!(
            "{}: {}: {} requests were told to come again",
            subject.name(),
            case.name,
            sending.refused()
        );
    }
    let acknowledged = beside.spawn(sending.finish()).await?? * ITEMS as u64;
    let begun = Instant::now();
    while sink.items() < acknowledged && begun.elapsed() < DRAIN {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if sink.items() < acknowledged {
        bail!("{} of {acknowledged} acknowledged items did not arrive", acknowledged - sink.items());
    }
    if items == 0 || cpu <= 0.0 {
        bail!("nothing arrived");
    }
    drop(running);
    Ok(Figures { items, seconds, cpu, idle, most })
}
