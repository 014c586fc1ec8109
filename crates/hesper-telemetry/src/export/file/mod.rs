//! Writing what passes into files (`file`): a line of JSON for each batch, or protobuf with its length before it.
//!
//! One thread writes (`writer`), and a batch is delivered when it is in the file; half a batch never stays in one. Every `flush_interval`
//! what is written is brought to the disk, too. `record` is how a batch lies in a file, `rotation` which older files go,
//! `group` which file a resource goes to.

mod group;
mod record;
mod rotation;
mod writer;

use self::{
    record::Format,
    writer::{Job, Writer},
};
use super::{BuildError, Exporter, Failure, Shipment};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::exporters::File as Settings;
use hesper_otlp::{Batch, PartialSuccess};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// How many batches may wait for the thread; the sender's queue is where the others wait.
const WAITING: usize = 64;
/// From this size on a batch is encoded beside the tasks that wait for sockets.
const LONG: usize = 64 * 1024;
/// A disk that has not written by then hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// Writes to files.
pub struct File {
    name: String,
    settings: Arc<Settings>,
    /// None after the end.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    places: Arc<Semaphore>,
}

impl File {
    /// One of these settings; files are opened when there is something to write. `name` is the id of the exporter, for messages.
    ///
    /// # Errors
    /// The directory is not there.
    pub fn new(name: &str, settings: &Settings) -> Result<Arc<Self>, BuildError> {
        let directory = Path::new(&settings.path).parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(missing) = directory.filter(|directory| !settings.create_directory && !directory.is_dir())
        {
            return Err(BuildError(format!(
                "exporter '{name}': the directory {} is not there; make it, or write create_directory: true",
                missing.display()
            )));
        }
        let (jobs, receiver) = mpsc::channel();
        let writer = Writer::new(settings.clone());
        let spawned =
            std::thread::Builder::new().name("file-exporter".into()).spawn(move || writer.run(&receiver));
        spawned
            .map_err(|error| BuildError(format!("exporter '{name}': no thread to write with: {error}")))?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            settings: Arc::new(settings.clone()),
            jobs: Mutex::new(Some(jobs)),
            places: Arc::new(Semaphore::new(WAITING)),
        }))
    }

    async fn records(&self, batch: &Batch) -> Result<Records, String> {
        if batch.payload.len() < LONG {
            return records(&self.settings, batch);
        }
        let (settings, batch) = (Arc::clone(&self.settings), batch.clone());
        let encoded = tokio::task::spawn_blocking(move || records(&settings, &batch));
        encoded.await.map_err(|error| error.to_string())?
    }

    async fn write(&self, batch: &Batch) -> Result<PartialSuccess, Failure> {
        let never = |reason: String| Failure::Never { reason: format!("exporter '{}': {reason}", self.name) };
        let again = |reason: String| Failure::Again {
            reason: format!("exporter '{}': {reason}", self.name),
            after: None,
        };
        for (path, bytes) in self.records(batch).await.map_err(never)? {
            let place =
                Arc::clone(&self.places).acquire_owned().await.map_err(|error| again(error.to_string()))?;
            let (done, written) = oneshot::channel();
            let shown = path.display().to_string();
            self.ask(Job::Write { path, bytes, done, _place: place }).map_err(again)?;
            match timeout(DEADLINE, written).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => return Err(again(format!("cannot write to {shown}: {error}"))),
                Ok(Err(_)) => return Err(again("the thread that writes has ended".into())),
                Err(_) => {
                    return Err(again(format!(
                        "{shown} was not written in {DEADLINE:?}; does the disk hang?"
                    )));
                }
            }
        }
        Ok(PartialSuccess::default())
    }

    fn ask(&self, job: Job) -> Result<(), String> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = jobs.as_ref().ok_or("it has been shut down")?;
        jobs.send(job).map_err(|_| "the thread that writes has ended".to_owned())
    }
}

/// Files with what is written to each.
type Records = Vec<(PathBuf, Vec<u8>)>;

fn records(settings: &Settings, batch: &Batch) -> Result<Records, String> {
    let format = Format::of(settings);
    let Some(group) = &settings.group_by else {
        return Ok(vec![(settings.path.clone().into(), format.encode(batch)?)]);
    };
    let record = |(name, payload): (String, Bytes)| {
        let path = settings.path.replacen('*', &name, 1);
        Ok((path.into(), format.encode(&Batch { signal: batch.signal, payload })?))
    };
    group::by_name(batch, &group.resource_attribute).into_iter().map(record).collect()
}

impl Exporter for File {
    fn export<'a>(&'a self, shipment: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>> {
        self.write(&shipment.batch).boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async {
            let (done, synced) = oneshot::channel();
            if self.ask(Job::Sync { done }).is_ok() && timeout(DEADLINE, synced).await.is_err() {
                tracing::warn!(exporter = self.name, "files were not brought to the disk in {DEADLINE:?}");
            }
            self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        .boxed()
    }
}
