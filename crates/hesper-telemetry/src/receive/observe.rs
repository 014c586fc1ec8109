//! What a receiver tells those who count.

use hesper_otlp::{Refusal, Signal};
use std::time::{Duration, Instant};

/// Hears of every request. It is called on the hot path: it should add to counters and nothing else.
pub trait Observer: Send + Sync {
    /// A request has been answered, or its sender has gone.
    fn request(&self, request: &Request);

    /// A connection was not served.
    fn turned_away(&self, why: TurnedAway) {
        let _ = why;
    }
}

/// Nobody counts.
impl Observer for () {
    fn request(&self, _: &Request) {}
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How it came.
    pub protocol: Protocol,
    /// Of which signal; `None`: its path is of none.
    pub signal: Option<Signal>,
    /// What it was answered.
    pub outcome: Outcome,
    /// Items that were taken.
    pub accepted: u64,
    /// Items that were not; those of requests that could not be read are not known.
    pub refused: u64,
    /// Bytes of the payload; 0 if it could not be read.
    pub bytes: usize,
    /// From its head to its answer.
    pub took: Duration,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the protocols")]
pub enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// What a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Taken, perhaps in part.
    Accepted,
    /// A [`Refusal`], by its name.
    Refused(&'static str),
    /// A fault of ours.
    Failed,
    /// The sender went away, or its connection was cut, before it was answered; the sink may have taken it.
    Gone,
}

impl Outcome {
    /// What a refusal is counted as.
    pub fn of(refusal: &Refusal) -> Self {
        Self::Refused(match refusal {
            Refusal::Malformed(_) => "malformed",
            Refusal::TooLarge { .. } => "too_large",
            Refusal::MediaType(_) => "media_type",
            Refusal::Compression(_) => "compression",
            Refusal::Method(_) => "method",
            Refusal::NotServed(_) => "not_served",
            Refusal::Unauthenticated(_) => "unauthenticated",
            Refusal::Denied(_) => "denied",
            Refusal::Quota { .. } => "quota",
            Refusal::Overloaded { .. } => "overloaded",
            Refusal::NotConfigured(_) => "not_configured",
            Refusal::Internal(_) => return Self::Failed,
        })
    }
}

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnedAway {
    /// There are as many as may be.
    Full,
    /// It did not get ready: no handshake, or no bytes of HTTP, in time.
    NotReady,
}

/// Reports a request when it is dropped, whatever became of it.
pub(crate) struct Report<'a> {
    observer: &'a dyn Observer,
    begun: Instant,
    pub(crate) request: Request,
}

impl<'a> Report<'a> {
    pub(crate) fn new(observer: &'a dyn Observer, protocol: Protocol) -> Self {
        let request = Request {
            protocol,
            signal: None,
            outcome: Outcome::Gone,
            accepted: 0,
            refused: 0,
            bytes: 0,
            took: Duration::ZERO,
        };
        Self { observer, begun: Instant::now(), request }
    }

    /// The request was read.
    pub(crate) fn read(&mut self, items: u64, bytes: usize) {
        (self.request.refused, self.request.bytes) = (items, bytes);
    }

    /// It was taken but for so many items.
    pub(crate) fn accepted(&mut self, rejected: i64) {
        let items = self.request.refused;
        self.request.refused = u64::try_from(rejected).unwrap_or(0).min(items);
        self.request.accepted = items - self.request.refused;
        self.request.outcome = Outcome::Accepted;
    }

    /// It was refused.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.request.outcome = Outcome::of(refusal);
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.request.took = self.begun.elapsed();
        self.observer.request(&self.request);
    }
}
