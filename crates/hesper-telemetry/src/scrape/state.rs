//! How jobs and targets are, for whoever asks.

use super::lock;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Did the last scrape of a target work?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// There was none yet.
    #[default]
    Unknown,
    /// It did.
    Up,
    /// It did not.
    Down,
}

/// How a target is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetState {
    /// Its job.
    pub job: String,
    /// Its URL, without parameters.
    pub url: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How often it is scraped.
    pub interval: Duration,
    /// Did the last scrape work?
    pub health: Health,
    /// Why it did not.
    pub error: Option<String>,
    /// When it was, in ms since 1970.
    pub last_scrape_ms: Option<u64>,
    /// How long it took.
    pub duration: Duration,
    /// Samples of it after relabelling.
    pub samples: u64,
    /// Scrapes in all.
    pub scrapes: u64,
    /// Of these, those that failed.
    pub failed: u64,
    /// Samples in all that could not be said in OTLP.
    pub dropped_samples: u64,
    /// Requests in all that the pipeline did not take: what was scraped is lost.
    pub refused: u64,
}

/// How a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobState {
    /// Its name.
    pub job: String,
    /// How many targets it has.
    pub targets: usize,
    /// What is wrong with its discoveries and with targets that they found.
    pub errors: Vec<String>,
}

type Shared = Arc<Mutex<TargetState>>;

/// Where tasks note how they are.
#[derive(Clone, Default)]
pub(super) struct Board {
    targets: Arc<Mutex<BTreeMap<String, Shared>>>,
    jobs: Arc<Mutex<BTreeMap<String, JobState>>>,
}

/// A line of the board, taken off it when this is dropped.
pub(super) struct Entry {
    board: Board,
    key: String,
    state: Shared,
}

impl Board {
    pub(super) fn enter(&self, key: String, state: TargetState) -> Entry {
        let state = Arc::new(Mutex::new(state));
        lock(&self.targets).insert(key.clone(), state.clone());
        Entry { board: self.clone(), key, state }
    }

    pub(super) fn note(&self, state: JobState) {
        lock(&self.jobs).insert(state.job.clone(), state);
    }

    pub(super) fn forget(&self, job: &str) {
        lock(&self.jobs).remove(job);
    }

    pub(super) fn targets(&self) -> Vec<TargetState> {
        let mut list: Vec<_> = lock(&self.targets).values().map(|state| lock(state).clone()).collect();
        list.sort_by(|a, b| (&a.job, &a.url).cmp(&(&b.job, &b.url)));
        list
    }

    pub(super) fn jobs(&self) -> Vec<JobState> {
        lock(&self.jobs).values().cloned().collect()
    }
}

impl Entry {
    pub(super) fn update(&self, change: impl FnOnce(&mut TargetState)) {
        change(&mut lock(&self.state));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut targets = lock(&self.board.targets);
        // A successor of the same name may be there already.
        if targets.get(&self.key).is_some_and(|state| Arc::ptr_eq(state, &self.state)) {
            targets.remove(&self.key);
        }
    }
}
