//! Health checks of hosted services: `portChecks` and `httpChecks` of `host.v1` and `host.v2`.
//!
//! Each check runs by itself (`probe`); what its results mean for its target (`state`), and so for the terminator (the terms of its
//! best target), is plain. Nothing waits for a check: a service counts as healthy until its checks say otherwise.

mod probe;
pub mod state;

use crate::{Metrics, plan::Binding};
use hesper_model::{
    config::{ActionKind, HostV1, HttpCheck, PortCheck},
    entity::Precedence,
};
use probe::Probe;
use rand::Rng;
use state::{Health, Run, Terms};
use std::time::Duration;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Results that may wait to be taken into account; a check waits with its next run until its last one was.
const RESULTS: usize = 64;
/// The first run of a check is within this time, at random: not all those of a starting tunneler at once.
const FIRST: Duration = Duration::from_millis(200);
/// Shortest time between two runs of one check, whatever the config says.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The targets of one bind with their checks at work; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Checks {
    service: String,
    binding: Binding,
    targets: Vec<Target>,
    results: mpsc::Receiver<Outcome>,
    metrics: Metrics,
    /// Its tasks are aborted with it.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Target {
    host: HostV1,
    health: Health,
    runs: Vec<Run>,
}

/// What one run of one check has found.
#[derive(Debug)]
struct Outcome {
    target: usize,
    check: usize,
    name: String,
    at: Instant,
    result: Result<(), String>,
}

impl Checks {
    /// Starts the checks of every target. `bound` is what the terminator has when nothing is configured.
    pub(crate) fn start(service: &str, binding: Binding, bound: Terms, metrics: Metrics) -> Self {
        let (sender, results) = mpsc::channel(RESULTS);
        let mut tasks = JoinSet::new();
        let mut targets = Vec::new();
        for (target, host) in binding.targets.iter().enumerate() {
            let checks = checks_of(host);
            let runs = checks.iter().map(|(_, actions)| Run::new(actions.clone())).collect();
            for (check, (probe, _)) in checks.into_iter().enumerate() {
                tasks.spawn(keep_checking(
                    (target, check),
                    probe,
                    sender.clone(),
                    metrics.clone(),
                    service.to_owned(),
                ));
            }
            targets.push(Target {
                health: Health::new(baseline(host, &binding, bound)),
                host: host.clone(),
                runs,
            });
        }
        Self { service: service.to_owned(), binding, targets, results, metrics, _tasks: tasks }
    }

    /// Other targets, cost or precedence. Whoever's checks stay the same keeps its health.
    pub(crate) fn rebase(&mut self, binding: Binding, bound: Terms) {
        let same = binding.targets.len() == self.targets.len()
            && binding.targets.iter().zip(&self.targets).all(|(new, old)| same_checks(new, &old.host));
        if !same {
            *self = Self::start(&self.service, binding, bound, self.metrics.clone());
            return;
        }
        for (target, host) in self.targets.iter_mut().zip(&binding.targets) {
            target.health.rebase(baseline(host, &binding, bound));
            target.host = host.clone();
        }
        self.binding = binding;
    }

    /// Waits until something that the controller or new streams must know has changed. For ever, when there are no checks. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        loop {
            let before = self.binding();
            // None: there are no checks.
            let Some(outcome) = self.results.recv().await else { return std::future::pending().await };
            self.apply(&outcome);
            if self.binding() != before {
                return;
            }
        }
    }

    fn apply(&mut self, outcome: &Outcome) {
        let (service, check) = (&self.service, &outcome.name);
        let Some(target) = self.targets.get_mut(outcome.target) else { return };
        let Some(run) = target.runs.get_mut(outcome.check) else { return };
        let was_passing = run.is_passing();
        let actions = run.result(outcome.at.into_std(), outcome.result.is_ok());
        match &outcome.result {
            Err(reason) if was_passing => tracing::warn!(service, check, reason, "health check failed"),
            Err(reason) => tracing::debug!(service, check, reason, "health check failed again"),
            Ok(()) if !was_passing => tracing::info!(service, check, "health check passes again"),
            Ok(()) => tracing::debug!(service, check, "health check passed"),
        }
        let before = target.health.terms();
        target.health.apply(&actions);
        for event in actions.iter().filter(|a| **a == ActionKind::SendEvent) {
            let healthy = outcome.result.is_ok();
            tracing::info!(service, check, healthy, "health event ({event})");
            self.metrics.health_event(service, healthy);
        }
        let after = target.health.terms();
        if before != after {
            let (precedence, cost) = (after.precedence, after.cost);
            tracing::info!(service, check, %precedence, cost, "the health of a target has changed");
        }
        self.metrics.health_passing(service, check, outcome.result.is_ok());
    }

    /// The bind as it should be now: the healthiest targets first, with the cost and precedence of the first one.
    pub(crate) fn binding(&self) -> Binding {
        let mut order: Vec<&Target> = self.targets.iter().collect();
        order.sort_by_key(|t| t.health.terms());
        let best = order.first().filter(|t| !t.runs.is_empty()).map(|t| t.health.terms());
        Binding {
            cost: best.map(|t| t.cost).or(self.binding.cost),
            precedence: best.map(|t| t.precedence).or(self.binding.precedence),
            max_idle: self.binding.max_idle,
            targets: order.into_iter().map(|t| t.host.clone()).collect(),
        }
    }
}

/// What a target has when all is well. Without a word of the config the bind's own terms count, else those of its kind.
fn baseline(host: &HostV1, binding: &Binding, bound: Terms) -> Terms {
    let options = host.listen_options.as_ref();
    let cost = options.and_then(|o| o.cost);
    let precedence = options.and_then(|o| o.precedence);
    Terms {
        precedence: precedence.unwrap_or(if binding.precedence.is_none() {
            bound.precedence
        } else {
            Precedence::Default
        }),
        cost: cost.unwrap_or(if binding.cost.is_none() { bound.cost } else { 0 }),
    }
}

type Actions = Vec<hesper_model::config::Action>;

fn checks_of(host: &HostV1) -> Vec<(Probe, Actions)> {
    let ports = host.port_checks.iter().map(|c: &PortCheck| (Probe::Port(c.clone()), c.actions.clone()));
    let https = host.http_checks.iter().map(|c: &HttpCheck| (Probe::Http(c.clone()), c.actions.clone()));
    ports.chain(https).collect()
}

fn same_checks(a: &HostV1, b: &HostV1) -> bool {
    a.port_checks == b.port_checks && a.http_checks == b.http_checks
}

/// Runs a check for ever. The first time soon, but not all checks of a starting tunneler at once.
async fn keep_checking(
    (target, check): (usize, usize),
    probe: Probe,
    results: mpsc::Sender<Outcome>,
    metrics: Metrics,
    service: String,
) {
    let interval = probe.interval().max(MIN_INTERVAL);
    let deadline = Some(probe.timeout()).filter(|t| !t.is_zero()).unwrap_or(interval);
    let name = probe.to_string();
    let first = interval.min(FIRST).mul_f64(rand::rng().random());
    sleep(first).await;
    let mut due = Instant::now();
    loop {
        let result = match timeout(deadline, probe.run()).await {
            Ok(result) => result,
            Err(_) => Err(format!("no result within {deadline:?}")),
        };
        metrics.health_check(&service, &name, result.is_ok());
        let outcome = Outcome { target, check, name: name.clone(), at: Instant::now(), result };
        if results.send(outcome).await.is_err() {
            return;
        }
        // A check that took longer than its interval is not made up for.
        due = (due + interval).max(Instant::now());
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests;
