//! The measurements: those that compare tunnels, and those of Hesper alone.

mod cold;
mod collect;
mod compare;
mod forward;
mod hostile;
mod memory;
mod nodes;
mod policy;
mod reconnect;
mod tracing;

use crate::{report::Recorder, subjects::Surroundings};
use anyhow::Result;

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Effort {
    /// Rounds of everything that is repeated.
    pub(crate) rounds: usize,
    /// Seconds of each measurement of a tunnel.
    pub(crate) seconds: f64,
    /// Nodes for the memory measurements.
    pub(crate) memory_nodes: usize,
    /// Identities for the policy measurements, each size by itself.
    pub(crate) policy_identities: Vec<usize>,
    /// Nodes that come back after a restart.
    pub(crate) reconnect_nodes: usize,
}

impl Effort {
    /// For figures.
    pub(crate) fn full() -> Self {
        Self {
            rounds: 5,
            seconds: 2.0,
            memory_nodes: 500,
            policy_identities: vec![1_000, 10_000],
            reconnect_nodes: 1_000,
        }
    }

    /// For a look, in about a minute.
    pub(crate) fn quick() -> Self {
        Self {
            rounds: 2,
            seconds: 0.5,
            memory_nodes: 100,
            policy_identities: vec![200],
            reconnect_nodes: 100,
        }
    }
}

/// A measurement that can be chosen.
pub(crate) struct Benchmark {
    /// Its name for `--only`.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) what: &'static str,
    /// Of tunnels, in every network; else of Hesper alone, in the first network only.
    pub(crate) compares: bool,
}

const fn compares(name: &'static str, what: &'static str) -> Benchmark {
    Benchmark { name, what, compares: true }
}

const fn alone(name: &'static str, what: &'static str) -> Benchmark {
    Benchmark { name, what, compares: false }
}

/// All of them.
pub(crate) const BENCHMARKS: &[Benchmark] = &[
    compares("throughput", "one stream and eight, and CPU seconds per GB"),
    compares("latency", "64 bytes there and back on an open stream"),
    compares("dials", "new connections: time of each, and rate one and eight at a time"),
    alone("cold", "the first dial of a node that nobody knows yet"),
    alone("forward", "the router alone"),
    alone("memory", "router per node, node per peer"),
    alone("hostile", "others beside a hostile peer"),
    alone("reconnect", "many nodes after a full restart"),
    alone("collect", "OTLP through collectors: items per second, CPU and memory"),
    alone("tracing", "dials and a stream beside the same with tracing on, at several rates"),
    alone("policy", "a change of policy until its effect"),
];

/// Runs one benchmark of Hesper alone.
pub(crate) async fn alone_run(
    name: &str,
    around: &Surroundings,
    effort: &Effort,
    to: &mut Recorder,
) -> Result<()> {
    match name {
        "cold" => cold::run(around, effort, to).await,
        "forward" => forward::run(around, effort, to).await,
        "memory" => memory::run(around, effort, to).await,
        "hostile" => hostile::run(around, effort, to).await,
        "reconnect" => reconnect::run(around, effort, to).await,
        "collect" => collect::run(around, effort, to).await,
        "tracing" => tracing::run(around, effort, to).await,
        "policy" => policy::run(around, effort, to).await,
        other => anyhow::bail!("the bench knows no benchmark '{other}'"),
    }
}

pub(crate) use compare::run as compare;
