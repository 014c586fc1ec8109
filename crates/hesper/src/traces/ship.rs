//! Batches of spans to their exporter.

use super::{
    also::{self, Attributes},
    way::Way,
};
use hesper_otlp::{Batch, Signal};
use hesper_telemetry::{
    export::{Exporter, Failure, Shipment},
    origin::Origin,
};
use hesper_trace::Spans;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

/// A batch that is not taken is tried again for so long; meanwhile the queue fills, and then drops.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pauses between the attempts: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// An exporter that takes nothing is told of so often.
const REMIND: Duration = Duration::from_secs(60);

/// Who is told of spans that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// The reader of a role's log.
    Log,
    /// The person who typed the command.
    Person,
}

impl Audience {
    /// Says it in one line.
    pub(super) fn lost(self, spans: u64, reason: &str) {
        match self {
            Self::Log => tracing::warn!(spans, reason, "spans were not exported"),
            Self::Person => eprintln!("WARN    {spans} spans of this trace were not exported: {reason}"),
        }
    }
}

/// Sends until the queue is closed and empty.
///
/// # Errors
/// The last reason, for a person: some were not taken.
pub(super) async fn ship(spans: Spans, way: Way, audience: Audience, besides: Besides) -> Result<(), String> {
    let exporter = match way.exporter().await {
        Ok(exporter) => exporter,
        Err(reason) => {
            if audience == Audience::Log {
                tracing::warn!(reason, "no spans are exported");
            }
            drain(&spans).await;
            return Err(reason);
        }
    };
    let _besides = besides.start(&exporter);
    let mut told = None;
    let mut lost = Ok(());
    while let Some(batch) = spans.next().await {
        let items = batch.items;
        match deliver(&spans, &*exporter, batch).await {
            Ok(()) => spans.counters().add_sent(items),
            Err(reason) => {
                spans.counters().add_refused(items);
                let due = told.is_none_or(|told: Instant| told.elapsed() >= REMIND);
                if audience == Audience::Log && due {
                    audience.lost(items, &reason);
                    told = Some(Instant::now());
                }
                lost = Err(reason);
            }
        }
    }
    exporter.shutdown().await;
    lost
}

/// What goes out beside the spans.
pub(super) struct Besides {
    /// Whose it is.
    pub(super) resource: Attributes,
    /// The metrics, so often.
    pub(super) metrics: Option<Duration>,
    /// The events.
    pub(super) events: bool,
}

impl Besides {
    /// Sends until it is dropped.
    fn start(self, exporter: &Arc<dyn Exporter>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if let Some(every) = self.metrics {
            let work = also::metrics(exporter.clone(), self.resource.clone(), every);
            tasks.spawn(hesper_trace::quiet(work));
        }
        if self.events {
            tasks.spawn(hesper_trace::quiet(also::events(exporter.clone(), self.resource)));
        }
        tasks
    }
}

/// Nobody will ever take them.
async fn drain(spans: &Spans) {
    while let Some(batch) = spans.next().await {
        spans.counters().add_refused(batch.items);
    }
}

/// One request.
pub(super) struct Letter(Shipment);

impl Letter {
    /// Of this signal; `request` is encoded.
    pub(super) fn new(signal: Signal, request: Vec<u8>, items: u64) -> Self {
        let batch = Batch { signal, payload: request.into() };
        Self(Shipment { batch, items, origin: Arc::new(Origin::default()), id: None })
    }

    /// Sends it once.
    ///
    /// # Errors
    /// It was not taken, or not all of it.
    pub(super) async fn send(&self, exporter: &dyn Exporter) -> Result<(), Failure> {
        match exporter.export(&self.0).await? {
            partial if partial.rejected > 0 => {
                let reason = format!("{} were rejected: {}", partial.rejected, partial.message);
                Err(Failure::Never { reason })
            }
            _ => Ok(()),
        }
    }

    /// Sends it up to so many times.
    ///
    /// # Errors
    /// Why it was not taken at last.
    pub(super) async fn send_again(
        &self,
        exporter: &dyn Exporter,
        tries: u32,
        pause: Duration,
    ) -> Result<(), String> {
        let mut left = tries;
        loop {
            left -= 1;
            match self.send(exporter).await {
                Ok(()) => return Ok(()),
                Err(Failure::Again { after, .. }) if left > 0 => sleep(after.unwrap_or(pause)).await,
                Err(failure) => return Err(failure.to_string()),
            }
        }
    }
}

async fn deliver(spans: &Spans, exporter: &dyn Exporter, batch: hesper_trace::Batch) -> Result<(), String> {
    let letter = Letter::new(Signal::Traces, batch.request, batch.items);
    let (begun, mut pause) = (Instant::now(), PAUSE.0);
    loop {
        match letter.send(exporter).await {
            Ok(()) => return Ok(()),
            Err(Failure::Never { reason }) => return Err(reason),
            // At the end there is one attempt: nobody waits for an exporter that is not there.
            Err(Failure::Again { reason, .. }) if spans.is_closed() || begun.elapsed() >= PATIENCE => {
                return Err(reason);
            }
            Err(Failure::Again { after, .. }) => {
                sleep(after.unwrap_or(pause).min(PAUSE.1)).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}
