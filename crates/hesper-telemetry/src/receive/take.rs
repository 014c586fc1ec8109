//! What both protocols do with a request once its head is understood: room, credentials, origin, body, check, sink.

use super::{
    admission::Lease,
    body::Arriving,
    intake::Intake,
    observe::{Outcome, Report},
    origin::{self, Keep},
    service::Core,
};
use crate::{
    auth::{AuthData, Authenticator},
    flow::Received,
    net::Peer,
};
use bytes::Bytes;
use hesper_otlp::{Batch, Counts, Encoding, PartialSuccess, Refusal, Signal, json, limits::Limits, validate};
use hesper_trace::TraceContext;
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span, info_span};

/// From so many bytes on, a request is checked on a thread of its own: the others must not wait for it. JSON takes longer.
const LARGE: usize = 4 << 20;
const LARGE_JSON: usize = 512 << 10;
/// When to come again after a deadline was missed.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// What the settings of a protocol say about its requests.
pub(crate) struct Side {
    pub(crate) auth: Option<Arc<dyn Authenticator>>,
    /// Parameters of the URL that the authenticator sees as headers.
    pub(crate) request_params: Vec<HeaderName>,
    pub(crate) keep: Keep,
    pub(crate) limits: Limits,
    /// Longest time for a request to come.
    pub(crate) body_time: Duration,
    /// Longest time for the sink.
    pub(crate) answer_time: Option<Duration>,
}

/// A request whose head is understood.
pub(crate) struct Order<'a, I> {
    pub(crate) side: &'a Side,
    pub(crate) signal: Signal,
    pub(crate) encoding: Encoding,
    pub(crate) head: &'a Parts,
    pub(crate) intake: I,
    /// How long the sender waits for the answer.
    pub(crate) patience: Option<Duration>,
}

/// Takes a request: a span of the trace that its headers name, or of one of its own.
pub(crate) async fn take<I: Intake>(
    core: &Core,
    peer: &Arc<Peer>,
    order: Order<'_, I>,
    body: &mut Arriving,
    report: &mut Report<'_>,
) -> Result<PartialSuccess, Refusal> {
    let signal = order.signal;
    let span = hesper_trace::entry_from(
        &order.head.headers,
        || info_span!("otlp receive", otel.name = format!("otlp receive {signal}"), otel.kind = "server", "mesh.signal" = %signal),
    );
    let taken = take_in_time(core, peer, order, body, report).instrument(span.clone()).await;
    trace_outcome(&span, report, &taken);
    taken
}

fn trace_outcome(span: &Span, report: &Report<'_>, taken: &Result<PartialSuccess, Refusal>) {
    if span.is_disabled() {
        return;
    }
    let request = &report.request;
    hesper_trace::set(
        span,
        "mesh.items",
        i64::try_from(request.accepted + request.refused).unwrap_or(i64::MAX),
    );
    let Err(refusal) = taken else { return };
    let Outcome::Refused(why) = Outcome::of(refusal) else { return };
    hesper_trace::set(span, "error.type", why);
    // What is wrong with the request is the sender's error, not ours.
    if refusal.http() >= 500 {
        hesper_trace::fail(span, why);
    }
}

async fn take_in_time<I: Intake>(
    core: &Core,
    peer: &Arc<Peer>,
    order: Order<'_, I>,
    body: &mut Arriving,
    report: &mut Report<'_>,
) -> Result<PartialSuccess, Refusal> {
    let Order { side, signal, encoding, head, mut intake, patience } = order;
    let sink = core.sinks.get(signal).ok_or_else(|| Refusal::NotServed(head.uri.path().to_owned()))?;
    let mut lease = core.admission.begin()?;
    let (began, now_ms) = (Instant::now(), now_ms());
    let body_time = patience.map_or(side.body_time, |patience| patience.min(side.body_time));
    let end = began + body_time;
    let auth =
        in_time(end, body_time, "the credentials could not be checked", authenticate(side, head, peer));
    let (mut origin, id) = origin::build(&head.headers, peer, auth.await?, &side.keep, now_ms)?;
    origin.traces.clear();
    origin.traces.extend(TraceContext::of(&Span::current()));
    let read = body.read(&mut intake, &mut lease);
    in_time(end, body_time, "the request did not come", read).await?;
    let (batch, counts, _lease) = check(intake, encoding, signal, side.limits, lease).await?;
    report.read(counts.items, batch.payload.len());
    let accept = sink.accept(Received { batch, counts, origin, id, peer: Arc::clone(peer) });
    let partial = match [patience, side.answer_time].into_iter().flatten().min() {
        None => accept.await,
        Some(time) => in_time(began + time, time, "the data was not safe", accept).await,
    }?;
    report.accepted(partial.rejected);
    Ok(partial)
}

/// Waits until a deadline.
async fn in_time<T>(
    end: Instant,
    time: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let late = |_| Refusal::Overloaded {
        reason: format!("{what} within {time:?}; send it again"),
        after: COME_AGAIN,
    };
    timeout_at(end, work).await.map_err(late)?
}

async fn authenticate(side: &Side, head: &Parts, peer: &Peer) -> Result<AuthData, Refusal> {
    let Some(auth) = &side.auth else { return Ok(AuthData::new()) };
    match with_params(&side.request_params, head) {
        None => auth.check(&head.headers, peer).await,
        Some(headers) => auth.check(&headers, peer).await,
    }
}

/// The headers, with parameters of the URL in the place of headers of that name.
fn with_params(names: &[HeaderName], head: &Parts) -> Option<HeaderMap> {
    let query = head.uri.query().filter(|_| !names.is_empty())?;
    let mut headers = head.headers.clone();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let wanted = names.iter().find(|wanted| wanted.as_str().eq_ignore_ascii_case(&name));
        if let (Some(name), Ok(value)) = (wanted, HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    Some(headers)
}

/// Decompresses the rest, decodes JSON, checks and counts.
async fn check<I: Intake>(
    intake: I,
    encoding: Encoding,
    signal: Signal,
    limits: Limits,
    mut lease: Lease,
) -> Result<(Batch, Counts, Lease), Refusal> {
    let large = intake.size() > if encoding == Encoding::Json { LARGE_JSON } else { LARGE };
    let work = move || {
        let body = intake.finish(&mut lease)?;
        let payload = match encoding {
            Encoding::Protobuf => body,
            Encoding::Json => decode(signal, body, limits, &mut lease)?,
        };
        let counts = validate(signal, &payload)
            .map_err(|error| Refusal::Malformed(format!("the {signal} cannot be read: {error}")))?;
        Ok((Batch { signal, payload }, counts, lease))
    };
    if !large {
        return work();
    }
    let checked = tokio::task::spawn_blocking(work).await;
    checked
        .unwrap_or_else(|error| Err(Refusal::Internal(format!("the request could not be checked: {error}"))))
}

/// JSON as protobuf.
fn decode(signal: Signal, text: Bytes, limits: Limits, lease: &mut Lease) -> Result<Bytes, Refusal> {
    // An empty body is the empty request, as it is in protobuf.
    if text.is_empty() {
        return Ok(text);
    }
    lease.cover(text.len() + text.len() / 2)?;
    let payload = json::decode(signal, &text).map_err(|error| Refusal::Malformed(error.to_string()))?;
    if payload.len() > limits.decompressed {
        return Err(Refusal::too_large(&limits, true));
    }
    lease.cover(text.len() + payload.len())?;
    lease.settle(payload.len());
    Ok(payload)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
