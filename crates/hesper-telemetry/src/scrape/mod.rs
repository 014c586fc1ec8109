//! `prometheus`: scrapes targets, on the network and in the mesh.
//!
//! A [`Scraper`] is one receiver. Each job of it has a task (`job`) that knows its targets, from the configuration, from URLs (`http_sd`) and
//! from the mesh ([`Discovery`]), and each target has a task of its own (`target`), so that one that is slow or dead holds up no other. It
//! asks over a connection that it keeps (`fetch`), and hands what [`hesper_prometheus::scrape`] makes of the answer to the sink. What is
//! shared is bounded: the bytes of answers that are being read, and how many are worked on at once (`room`).
//!
//! New settings ([`Scraper::reload`]) reach every task; a target that stays one keeps its connection's pool, its counters and its series.

mod fetch;
mod http_sd;
mod job;
mod proxy;
mod room;
mod state;
mod target;

pub use state::{Health, JobState, TargetState};

use crate::{flow::Sink, net::Connector};
use hesper_collector_config::receivers::{HesperSd, PrometheusReceiver};
use job::{Job, Setup};
use room::Room;
use state::Board;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The labels of each target that discovery found: `__address__` (`HOST:PORT` or `hesper://INSTANCE@SERVICE`), `__meta_…`.
pub type Found = Vec<BTreeMap<String, String>>;

/// Finds targets in the mesh.
pub trait Discovery: Send + Sync {
    /// The targets that are wanted, now and whenever they change. Empty while nothing is known.
    fn watch(&self, wanted: &HesperSd) -> watch::Receiver<Arc<Found>>;
}

/// What a receiver needs.
#[derive(Clone)]
pub struct Parts {
    /// Opens streams to targets, over the mesh too.
    pub connector: Arc<dyn Connector>,
    /// Finds targets in the mesh.
    pub discovery: Arc<dyn Discovery>,
    /// Takes what was scraped.
    pub sink: Arc<dyn Sink>,
}

/// A receiver that runs until it is shut down. Dropping it ends it too, without waiting.
pub struct Scraper {
    context: Arc<Context>,
    jobs: Mutex<BTreeMap<String, Job>>,
    settings: Mutex<Arc<PrometheusReceiver>>,
}

/// What all tasks of a receiver share.
struct Context {
    name: String,
    parts: Parts,
    room: Room,
    board: Board,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Spreads the targets of this process differently from those of others.
    seed: String,
}

impl Scraper {
    /// Begins to scrape. `name` is the id of the receiver, for messages; `seed` is what tells this instance from others that scrape the same
    /// targets, such as the name of its identity. To be called inside a runtime.
    pub fn start(name: &str, settings: PrometheusReceiver, seed: &str, parts: Parts) -> Self {
        let settings = Arc::new(settings);
        let context = Arc::new(Context {
            name: name.to_owned(),
            parts,
            room: Room::default(),
            board: Board::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            seed: seed.to_owned(),
        });
        let scraper = Self { context, jobs: Mutex::default(), settings: Mutex::new(settings.clone()) };
        scraper.apply(&settings);
        scraper
    }

    /// Goes on with other settings. Jobs that they do not change go on undisturbed; targets that stay what they are keep what is
    /// remembered of them.
    pub fn reload(&self, settings: PrometheusReceiver) {
        let settings = Arc::new(settings);
        *lock(&self.settings) = settings.clone();
        self.apply(&settings);
    }

    fn apply(&self, settings: &Arc<PrometheusReceiver>) {
        let mut jobs = lock(&self.jobs);
        let wanted: BTreeMap<_, _> =
            settings.jobs.iter().map(|job| (job.job_name.clone(), Arc::new(job.clone()))).collect();
        jobs.retain(|name, _| wanted.contains_key(name));
        for (name, job) in wanted {
            let setup = Arc::new(Setup { job, receiver: common(settings) });
            match jobs.get(&name) {
                Some(known) => known.set(setup),
                None => drop(jobs.insert(name, Job::start(&self.context, setup))),
            }
        }
    }

    /// How each target is, sorted by job and URL.
    pub fn targets(&self) -> Vec<TargetState> {
        self.context.board.targets()
    }

    /// How each job is: how many targets it has, and what its discoveries complain of.
    pub fn jobs(&self) -> Vec<JobState> {
        self.context.board.jobs()
    }

    /// Ends: scrapes under way are given up, what was handed to the sink is waited for. Series are not marked stale, since whoever starts
    /// next goes on with them. To be given a deadline.
    pub async fn shutdown(&self) {
        self.context.shutdown.cancel();
        self.context.tasks.close();
        self.context.tasks.wait().await;
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

/// The settings of a receiver without its jobs, so that a job is not disturbed by what only others say.
fn common(settings: &PrometheusReceiver) -> Arc<PrometheusReceiver> {
    Arc::new(PrometheusReceiver { jobs: Vec::new(), ..settings.clone() })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
