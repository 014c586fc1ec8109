//! A job: where its targets come from, and their tasks.

use super::{
    Context, Found,
    http_sd::{self, Complaint},
    lock,
    state::JobState,
    target::{Config, Loop},
};
use futures::future::{pending, select_all};
use hesper_collector_config::receivers::{HesperSd, HttpSd, PrometheusReceiver, ScrapeJob};
use hesper_prometheus::{labels::Labels, target::Target};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Most targets of a job: a scraper with more is to be divided (`hashmod`).
const TARGETS: usize = 10_000;
/// Complaints that are told of a job at once.
const COMPLAINTS: usize = 10;

/// What a job is to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setup {
    pub(super) job: Arc<ScrapeJob>,
    pub(super) receiver: Arc<PrometheusReceiver>,
}

/// A running job. Dropped, its targets are gone.
pub(super) struct Job {
    setup: watch::Sender<Arc<Setup>>,
    gone: CancellationToken,
}

impl Job {
    pub(super) fn start(context: &Arc<Context>, setup: Arc<Setup>) -> Self {
        let (sender, receiver) = watch::channel(setup);
        let gone = CancellationToken::new();
        context.tasks.spawn(run(context.clone(), receiver, gone.clone()));
        Self { setup: sender, gone }
    }

    /// It has other settings now, or the same.
    pub(super) fn set(&self, setup: Arc<Setup>) {
        self.setup.send_if_modified(|current| {
            let is_new = **current != *setup;
            if is_new {
                *current = setup;
            }
            is_new
        });
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

async fn run(context: Arc<Context>, mut setups: watch::Receiver<Arc<Setup>>, gone: CancellationToken) {
    let mut loops = BTreeMap::new();
    let mut sources = Sources::default();
    let name = setups.borrow().job.job_name.clone();
    loop {
        let setup = setups.borrow_and_update().clone();
        sources.set(&context, &setup.job);
        let complaints = settle(&context, &setup, &sources, &mut loops);
        context.board.note(JobState { job: name.clone(), targets: loops.len(), errors: complaints });
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = gone.cancelled() => break,
            changed = setups.changed() => if changed.is_err() { break },
            () = sources.changed() => {}
        }
    }
    context.board.forget(&name);
}

/// What a URL listed; `None`: nothing yet.
type Listed = watch::Receiver<Option<Arc<Found>>>;

/// Where targets come from besides the configuration itself.
#[derive(Default)]
struct Sources {
    http: Vec<(HttpSd, Listed, Complaint)>,
    mesh: Vec<(HesperSd, watch::Receiver<Arc<Found>>)>,
}

impl Sources {
    /// Begins what is new and ends what is not wanted any more; the others keep what they know.
    fn set(&mut self, context: &Arc<Context>, job: &ScrapeJob) {
        self.http.retain(|(sd, ..)| job.http_sd_configs.contains(sd));
        for sd in &job.http_sd_configs {
            if !self.http.iter().any(|(known, ..)| known == sd) {
                let (sender, receiver) = watch::channel(None);
                let complaint = Complaint::default();
                context.tasks.spawn(http_sd::run(context.clone(), sd.clone(), sender, complaint.clone()));
                self.http.push((sd.clone(), receiver, complaint));
            }
        }
        self.mesh.retain(|(sd, _)| job.hesper_sd_configs.contains(sd));
        for sd in &job.hesper_sd_configs {
            if !self.mesh.iter().any(|(known, _)| known == sd) {
                self.mesh.push((sd.clone(), context.parts.discovery.watch(sd)));
            }
        }
    }

    /// Waits until one of them has something else. What has ended says nothing any more.
    async fn changed(&mut self) {
        let http = self.http.iter_mut().map(|(_, receiver, _)| receiver);
        let http = http.filter(|receiver| receiver.has_changed().is_ok());
        let http = http.map(|receiver| Box::pin(async { receiver.changed().await.is_ok() }) as Waiting<'_>);
        let mesh = self.mesh.iter_mut().map(|(_, receiver)| receiver);
        let mesh = mesh.filter(|receiver| receiver.has_changed().is_ok());
        let mesh = mesh.map(|receiver| Box::pin(async { receiver.changed().await.is_ok() }) as Waiting<'_>);
        let waiting: Vec<_> = http.chain(mesh).collect();
        if waiting.is_empty() {
            return pending().await;
        }
        select_all(waiting).await;
    }

    /// Everything that was found. False: something has not answered for the first time yet.
    fn found(&self) -> (Vec<Labels<'static>>, bool) {
        let mut all = Vec::new();
        let mut is_whole = true;
        let labels = |found: &BTreeMap<String, String>| found.clone().into_iter().collect();
        for (_, receiver, _) in &self.http {
            match &*receiver.borrow() {
                Some(found) => all.extend(found.iter().map(labels)),
                None => is_whole = false,
            }
        }
        for (_, receiver) in &self.mesh {
            all.extend(receiver.borrow().iter().map(labels));
        }
        (all, is_whole)
    }
}

type Waiting<'a> = std::pin::Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Makes the tasks of targets what they should be, and says what is wrong.
fn settle(
    context: &Arc<Context>,
    setup: &Setup,
    sources: &Sources,
    loops: &mut BTreeMap<String, Loop>,
) -> Vec<String> {
    let (mut found, is_whole) = sources.found();
    for group in &setup.job.static_configs {
        for address in &group.targets {
            let labels = group.labels.clone().into_iter();
            found.push(labels.chain([("__address__".to_owned(), address.clone())]).collect());
        }
    }
    let mut complaints: BTreeSet<String> =
        sources.http.iter().filter_map(|(_, _, complaint)| lock(complaint).clone()).collect();
    let mut targets = BTreeMap::new();
    for labels in found {
        match Target::new(&setup.job, labels) {
            Ok(Some(target)) => drop(targets.insert(target.key(), Arc::new(target))),
            Ok(None) => {}
            Err(error) => drop(complaints.insert(error.to_string())),
        }
    }
    if targets.len() > TARGETS {
        let job = &setup.job.job_name;
        complaints.insert(format!(
            "job '{job}' has {} targets, more than {TARGETS}: the others are not scraped; divide them (hashmod)",
            targets.len()
        ));
        targets = targets.into_iter().take(TARGETS).collect();
    }
    let limit = setup.job.target_limit;
    let is_over = limit > 0 && u64::try_from(targets.len()).is_ok_and(|count| count > limit);
    let forced = is_over.then(|| format!("the job has more targets than target_limit {limit}"));
    complaints.extend(forced.clone());
    if is_whole {
        loops.retain(|key, _| targets.contains_key(key));
    }
    for (key, target) in targets {
        let config = Arc::new(Config { target, receiver: setup.receiver.clone(), forced: forced.clone() });
        match loops.get(&key) {
            Some(known) => known.set(config),
            None => drop(loops.insert(key.clone(), Loop::start(context, key, config))),
        }
    }
    complaints.into_iter().take(COMPLAINTS).collect()
}
