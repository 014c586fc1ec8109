//! The task of one target: ask, make a request of the answer, hand it to the sink; again and again.

use super::{
    Context,
    fetch::{Client, Failed, Page},
    room::Taken,
    state::{Entry, Health, TargetState},
};
use crate::{flow::Received, net::Peer, origin::Origin};
use hesper_collector_config::receivers::PrometheusReceiver;
use hesper_otlp::{Batch, Signal, validate};
use hesper_prometheus::{
    scrape::{Answer, NoAnswer, Outcome, Scrapes},
    target::Target,
    text::{Format, accept},
};
use http::{HeaderMap, HeaderValue, header};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// From this size on an answer is worked on beside the tasks that wait for sockets.
const LONG: usize = 64 << 10;
/// The least time that the pipeline has to take what was scraped.
const HANDED: Duration = Duration::from_secs(30);

/// What the task is to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) target: Arc<Target>,
    pub(super) receiver: Arc<PrometheusReceiver>,
    /// Why every scrape fails without being tried.
    pub(super) forced: Option<String>,
}

/// A running task. Dropped, the target is gone: its series are marked stale.
pub(super) struct Loop {
    config: watch::Sender<Arc<Config>>,
    gone: CancellationToken,
}

impl Loop {
    pub(super) fn start(context: &Arc<Context>, key: String, config: Arc<Config>) -> Self {
        let gone = CancellationToken::new();
        let entry = context.board.enter(key, state(&config.target));
        let worker = Worker {
            scrapes: Some(Scrapes::new(config.target.clone(), config.receiver.clone())),
            offset: config.target.offset(&context.seed),
            context: context.clone(),
            client: None,
            config: config.clone(),
            entry,
            gone: gone.clone(),
        };
        let (sender, receiver) = watch::channel(config);
        context.tasks.spawn(worker.run(receiver));
        Self { config: sender, gone }
    }

    pub(super) fn set(&self, config: Arc<Config>) {
        self.config.send_if_modified(|current| {
            let is_new = **current != *config;
            if is_new {
                *current = config;
            }
            is_new
        });
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

struct Worker {
    context: Arc<Context>,
    config: Arc<Config>,
    /// None only while they are worked with elsewhere.
    scrapes: Option<Scrapes>,
    client: Option<Client>,
    offset: Duration,
    entry: Entry,
    gone: CancellationToken,
}

impl Worker {
    async fn run(mut self, mut configs: watch::Receiver<Arc<Config>>) {
        let (shutdown, gone) = (self.context.shutdown.clone(), self.gone.clone());
        loop {
            let wait = wait(since_1970(), self.config.target.interval, self.offset);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = gone.cancelled() => return self.gone().await,
                Ok(()) = configs.changed() => {
                    let config = configs.borrow_and_update().clone();
                    self.configure(config);
                    continue;
                }
                () = sleep(wait) => {}
            }
            let mut room = self.context.room.begin();
            let (at, begun) = (since_1970(), Instant::now());
            let answer = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = gone.cancelled() => return self.gone().await,
                answer = self.ask(&mut room) => answer,
            };
            self.take(at, begun.elapsed(), answer, room).await;
        }
    }

    fn configure(&mut self, config: Arc<Config>) {
        if config.target.job.client != self.config.target.job.client {
            self.client = None;
        }
        if let Some(scrapes) = &mut self.scrapes {
            scrapes.reconfigure(config.target.clone(), config.receiver.clone());
        }
        self.entry.update(|state| state.interval = config.target.interval);
        self.offset = config.target.offset(&self.context.seed);
        self.config = config;
    }

    /// Asks the target.
    async fn ask(&mut self, room: &mut Taken) -> Result<(Format, Vec<u8>), NoAnswer> {
        let no_answer =
            |failed: Failed| NoAnswer { reason: failed.reason, is_too_large: failed.is_too_large };
        if let Some(reason) = &self.config.forced {
            return Err(no_answer(reason.clone().into()));
        }
        let target = self.config.target.clone();
        let asked = async {
            let client = self.client(&target)?;
            let limit = target.job.body_size_limit;
            client.get(&target.path, &headers(&target), limit, room).await
        };
        let longest = target.timeout;
        let page = timeout(longest, asked).await;
        let page = page.unwrap_or_else(|_| Err(format!("no whole answer in {longest:?}").into()));
        let page = page.map_err(no_answer)?;
        let format = format(&page, &target).map_err(|reason| no_answer(reason.into()))?;
        Ok((format, page.body))
    }

    fn client(&mut self, target: &Target) -> Result<&Client, Failed> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::new(
                &self.context.name,
                &target.job.client,
                &target.endpoint,
                target.is_https,
                target.host(),
                self.context.parts.connector.clone(),
            )
            .map_err(|error| Failed::from(error.to_string()))?,
        };
        Ok(self.client.insert(client))
    }

    /// Makes a request of an answer, and hands it on.
    async fn take(
        &mut self,
        at: Duration,
        took: Duration,
        answer: Result<(Format, Vec<u8>), NoAnswer>,
        room: Taken,
    ) {
        let Some(mut scrapes) = self.scrapes.take() else { return };
        let at_ms = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        let is_long = answer.as_ref().is_ok_and(|(_, body)| body.len() > LONG);
        let work = move || {
            let answer = answer.as_ref().map(|(format, body)| Answer { format: *format, body });
            let outcome = scrapes.scraped(at_ms, took, answer.map_err(Clone::clone));
            (scrapes, encode(&outcome.request), outcome)
        };
        let done = if is_long {
            let _permit = self.context.room.work().await;
            tokio::task::spawn_blocking(work).await.ok()
        } else {
            Some(work())
        };
        drop(room);
        let Some((scrapes, payload, outcome)) = done else {
            // Something is wrong with us, not with the target; it begins anew.
            self.scrapes = Some(Scrapes::new(self.config.target.clone(), self.config.receiver.clone()));
            return;
        };
        self.scrapes = Some(scrapes);
        self.note(at, &outcome);
        self.hand(payload, at).await;
    }

    fn note(&self, at: Duration, outcome: &Outcome) {
        let (receiver, url) = (&self.context.name, self.config.target.url());
        let dropped: u64 = outcome.dropped.values().sum();
        if dropped > 0 {
            tracing::debug!(receiver, url, dropped = ?outcome.dropped, "samples that OTLP has no words for");
        }
        self.entry.update(|state| {
            let health = if outcome.report.up { Health::Up } else { Health::Down };
            if health != state.health {
                match &outcome.error {
                    Some(error) => tracing::warn!(receiver, url, error, "a target is down"),
                    None => tracing::info!(receiver, url, "a target is up"),
                }
            }
            state.health = health;
            state.error.clone_from(&outcome.error);
            state.last_scrape_ms = u64::try_from(at.as_millis()).ok();
            state.duration = outcome.report.duration;
            state.samples = outcome.report.kept;
            state.scrapes += 1;
            state.failed += u64::from(!outcome.report.up);
            state.dropped_samples += dropped;
        });
    }

    async fn hand(&self, payload: Vec<u8>, at: Duration) {
        let batch = Batch { signal: Signal::Metrics, payload: payload.into() };
        let counts = match validate(batch.signal, &batch.payload) {
            Ok(counts) => counts,
            Err(error) => return self.refused(&error.to_string()),
        };
        let received_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let origin = Origin { received_ms, ..Origin::default() };
        let received = Received { batch, counts, origin, id: None, peer: Arc::new(Peer::default()) };
        let longest = self.config.target.interval.max(HANDED);
        match timeout(longest, self.context.parts.sink.accept(received)).await {
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => self.refused(&refusal.status().message),
            Err(_) => self.refused(&format!("it was not taken in {longest:?}")),
        }
    }

    fn refused(&self, reason: &str) {
        let url = self.config.target.url();
        tracing::warn!(receiver = self.context.name, url, reason, "what was scraped is lost");
        self.entry.update(|state| state.refused += 1);
    }

    /// The target is there no more.
    async fn gone(mut self) {
        // When everything ends, nothing is gone.
        if self.context.shutdown.is_cancelled() {
            return;
        }
        let at = since_1970();
        let at_ms = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        let marks = self.scrapes.as_mut().and_then(|scrapes| scrapes.gone(at_ms));
        if let Some(request) = marks {
            self.hand(encode(&request), at).await;
        }
    }
}

fn encode(request: &ExportMetricsServiceRequest) -> Vec<u8> {
    request.encode_to_vec()
}

fn state(target: &Target) -> TargetState {
    TargetState {
        job: target.job.job_name.clone(),
        url: target.url(),
        labels: target.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        interval: target.interval,
        ..TargetState::default()
    }
}

fn headers(target: &Target) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let timeout = target.timeout.as_secs_f64().to_string();
    for (name, value) in [
        ("accept", accept(&target.job.scrape_protocols)),
        ("accept-encoding", if target.job.enable_compression { "gzip" } else { "identity" }.to_owned()),
        ("x-prometheus-scrape-timeout-seconds", timeout),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(header::HeaderName::from_static(name), value);
        }
    }
    headers
}

/// The format of an answer: what its type says, else what the job takes it for.
fn format(page: &Page, target: &Target) -> Result<Format, String> {
    let said = page.content_type.as_deref();
    let fallback = target.job.fallback_scrape_protocol.map(Format::from);
    said.and_then(Format::of).or(fallback).ok_or_else(|| {
        let said = said
            .map_or("no Content-Type".into(), |said| format!("the Content-Type '{}'", said.escape_debug()));
        format!(
            "the answer has {said}, which is no format of metrics; set fallback_scrape_protocol if it is one"
        )
    })
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// How long until the next time that is the offset behind a multiple of the interval.
fn wait(now: Duration, interval: Duration, offset: Duration) -> Duration {
    let interval = interval.as_nanos().max(1);
    let behind = (now.as_nanos() + interval - offset.as_nanos() % interval) % interval;
    Duration::from_nanos(u64::try_from(interval - behind).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapes_are_at_the_offset() {
        let wait = |now, interval, offset| {
            wait(Duration::from_millis(now), Duration::from_millis(interval), Duration::from_millis(offset))
                .as_millis()
        };
        assert_eq!(wait(10_000, 1000, 0), 1000, "it was just now");
        assert_eq!(wait(10_001, 1000, 0), 999);
        assert_eq!(wait(10_000, 1000, 250), 250);
        assert_eq!(wait(10_250, 1000, 250), 1000);
        assert_eq!(wait(10_900, 1000, 250), 350);
        assert_eq!(wait(0, 60_000, 59_999), 59_999);
    }
}
