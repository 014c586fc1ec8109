//! Metrics to a Prometheus, by remote write 1.0 or 2.0.
//!
//! A batch is converted whole ([`hesper_prometheus::write`]) and sent in requests of bounded size. A receiver takes the samples of a series
//! in the order of time only, so one batch is sent after the other, in the order in which they come: whoever has this exporter must give it
//! batches one at a time, and the next one only when the one before is through ([`RemoteWrite::CONSUMERS`]). Within a batch `num_consumers`
//! requests are under way at once, each series always among the same ones.

mod answer;

use super::{Exporter, Failure, Shipment};
use crate::{
    auth::ClientAuth,
    export::otlp::{
        BuildError, Hop, chain,
        http::{
            Send, client,
            connect::{Connect, basic},
            uri,
        },
        request::{Party, USER_AGENT, add_headers},
    },
    net::Connector,
    origin::Origin,
};
use answer::Verdict;
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use hesper_collector_config::exporters::{PrometheusRemoteWrite, RemoteWriteVersion};
use hesper_otlp::PartialSuccess;
use hesper_prometheus::write::{Options, Request as Piece, Wrote};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout};

/// When the settings have no limit: a request that takes longer is lost.
const LONGEST: Duration = Duration::from_secs(3600);
/// Most requests of one batch under way at once.
const SHARDS: usize = 64;
/// What is read of an answer: the reason is in the first line.
const ANSWER: usize = 64 << 10;
/// A receiver that did not know 2.0 is asked again after so long: it may have been updated.
const FALLBACK: Duration = Duration::from_secs(600);

/// Sends metrics to one receiver of remote write.
pub struct RemoteWrite {
    party: Party,
    uri: Uri,
    headers: HeaderMap,
    send: Send,
    options: Options,
    version: RemoteWriteVersion,
    shards: usize,
    timeout: Duration,
    /// Until when 1.0 is spoken instead of 2.0.
    older: Mutex<Option<Instant>>,
    /// One batch at a time, in turn.
    turn: tokio::sync::Mutex<()>,
}

/// What became of a batch so far.
#[derive(Default)]
struct Tally {
    /// Data points of which something was not taken, and never will be.
    lost: BTreeSet<u32>,
    why: Option<String>,
    again: Option<(String, Option<Duration>)>,
    /// The receiver does not know this version.
    is_unknown: bool,
}

impl RemoteWrite {
    /// How many consumers may call [`Exporter::export`] of it: with more, samples would come out of order.
    pub const CONSUMERS: u64 = 1;

    /// One of these settings. `name` is the id of the exporter, for messages; `connector` opens the streams.
    ///
    /// # Errors
    /// Credentials that need secrecy and a URL that gives none; TLS files that cannot be read; headers that cannot be sent.
    pub fn new(
        name: &str,
        settings: &PrometheusRemoteWrite,
        connector: Arc<dyn Connector>,
        auth: Option<Arc<dyn ClientAuth>>,
    ) -> Result<Arc<Self>, BuildError> {
        let (endpoint, http) = (&settings.endpoint, &settings.client);
        let is_https = endpoint.underlay().is_some_and(|address| address.scheme.as_deref() == Some("https"));
        let connect = Connect::new(name, endpoint, http, connector)?;
        let mut headers = HeaderMap::new();
        if let Some(user) = endpoint.underlay().and_then(|address| address.user_info.as_ref()) {
            let refused = |error| BuildError(format!("exporter '{name}': the user in {endpoint}: {error}"));
            headers.insert(header::AUTHORIZATION, basic(user).map_err(refused)?);
        }
        add_headers(&mut headers, &http.headers, false, name)?;
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        if let Some(credentials) = connect.proxy_credentials() {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
        let consumers = usize::try_from(settings.sending_queue.num_consumers).unwrap_or(SHARDS);
        Ok(Arc::new(Self {
            party: Party::new(name, endpoint, is_https, auth, Hop::Receiver)?,
            uri: uri(name, endpoint)?,
            headers,
            send: client(Arc::new(connect), http),
            options: Options::from(settings),
            version: settings.version,
            shards: consumers.clamp(1, SHARDS),
            timeout: Some(http.timeout).filter(|time| !time.is_zero()).unwrap_or(LONGEST),
            older: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    async fn deliver(&self, shipment: &Shipment) -> Result<PartialSuccess, Failure> {
        let to = &self.party.to;
        let payload = shipment.batch.payload.clone();
        let options = self.options.clone();
        let (version, shards) = (self.version(), self.shards);
        // Conversion takes its time, which others should not wait for.
        let converted = tokio::task::spawn_blocking(move || {
            let request = ExportMetricsServiceRequest::decode(payload)?;
            let wrote = Wrote::new(&request, &options);
            let requests = wrote.requests(version, &options, shards);
            Ok::<_, prost::DecodeError>((wrote, requests))
        });
        let again = |reason: String| Failure::Again { reason: format!("{to}: {reason}"), after: None };
        let (wrote, requests) =
            converted.await.map_err(|error| again(error.to_string()))?.map_err(|error| Failure::Never {
                reason: format!("{to}: the metrics cannot be decoded: {error}"),
            })?;
        let _turn = self.turn.lock().await;
        let mut tally = self.send_all(&requests, version, &shipment.origin).await;
        if tally.is_unknown {
            tracing::warn!(
                exporter = to,
                "the receiver does not know remote write 2.0: 1.0 is spoken for a while"
            );
            *self.older() = Some(Instant::now() + FALLBACK);
            let requests = wrote.requests(RemoteWriteVersion::V1, &self.options, self.shards);
            tally = self.send_all(&requests, RemoteWriteVersion::V1, &shipment.origin).await;
        }
        conclude(to, &wrote, tally)
    }

    /// Sends all shards at once, each one request after the other. What follows a request that failed for now is not sent.
    async fn send_all(&self, shards: &[Vec<Piece>], version: RemoteWriteVersion, origin: &Origin) -> Tally {
        let shard = |pieces| async move {
            let mut tally = Tally::default();
            for piece in pieces {
                let verdict = timeout(self.timeout, self.post(piece, version, origin)).await;
                let verdict = verdict.unwrap_or_else(|_| Verdict::Again {
                    reason: format!("{} gave no answer in {:?}", self.party.to, self.timeout),
                    after: None,
                });
                match verdict {
                    Verdict::Taken => {}
                    Verdict::Lost { reason } => {
                        tally.lost.extend(&piece.points);
                        tally.why.get_or_insert(reason);
                    }
                    Verdict::Unknown { .. } if version == RemoteWriteVersion::V2 => {
                        tally.is_unknown = true;
                        break;
                    }
                    Verdict::Unknown { reason } => {
                        tally.lost.extend(&piece.points);
                        tally.why.get_or_insert(reason);
                    }
                    Verdict::Again { reason, after } => {
                        tally.again = Some((reason, after));
                        break;
                    }
                }
            }
            tally
        };
        let tallies = join_all(shards.iter().map(shard)).await;
        tallies.into_iter().fold(Tally::default(), Tally::with)
    }

    async fn post(&self, piece: &Piece, version: RemoteWriteVersion, origin: &Origin) -> Verdict {
        let to = &self.party.to;
        let again = |reason: String| Verdict::Again { reason, after: None };
        let mut headers = self.headers.clone();
        let (content_type, spoken) = match version {
            RemoteWriteVersion::V1 => ("application/x-protobuf", "0.1.0"),
            RemoteWriteVersion::V2 => {
                ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0")
            }
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert("x-prometheus-remote-write-version", HeaderValue::from_static(spoken));
        if let Some(auth) = &self.party.auth
            && let Err(error) = auth.apply(&mut headers, origin).await
        {
            return again(format!("{to}: {error}"));
        }
        let body = match snap::raw::Encoder::new().compress_vec(&piece.body) {
            Ok(body) => body,
            Err(error) => return Verdict::Lost { reason: format!("{to}: not compressed: {error}") },
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        let response = match (self.send)(request).await {
            Ok(response) => response,
            Err(error) => return again(format!("{to} gave no answer: {}", chain(&error))),
        };
        let (head, body) = response.into_parts();
        // Whatever it says is only for people, so what is too long or broken is left out.
        let text = Limited::new(body, ANSWER).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        answer::verdict(to, &head, &text, piece, version, SystemTime::now())
    }

    /// The version to speak now.
    fn version(&self) -> RemoteWriteVersion {
        let is_older = self.older().is_some_and(|until| Instant::now() < until);
        if is_older { RemoteWriteVersion::V1 } else { self.version }
    }

    fn older(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.older.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn with(mut self, other: Self) -> Self {
        self.lost.extend(other.lost);
        self.is_unknown |= other.is_unknown;
        self.why = self.why.or(other.why);
        self.again = match (self.again, other.again) {
            // The longest wait counts: the receiver is one.
            (Some((reason, a)), Some((_, b))) => Some((reason, a.max(b))),
            (a, b) => a.or(b),
        };
        self
    }
}

/// What is told of a batch. When something is to be tried again, all of it is: what is already there, the receiver takes twice.
fn conclude(to: &str, wrote: &Wrote, tally: Tally) -> Result<PartialSuccess, Failure> {
    if let Some((reason, after)) = tally.again {
        return Err(Failure::Again { reason, after });
    }
    let refused: u64 = wrote.refused.values().sum();
    let lost = u64::try_from(tally.lost.len()).unwrap_or(u64::MAX).saturating_add(refused).min(wrote.points);
    let mut reasons: Vec<String> =
        wrote.refused.iter().map(|(why, count)| format!("{count} × {why}")).collect();
    reasons.extend(tally.why);
    let message = reasons.join("; ");
    if lost > 0 && lost == wrote.points {
        let reason = if message.starts_with(to) { message } else { format!("{to}: {message}") };
        return Err(Failure::Never { reason });
    }
    Ok(PartialSuccess { rejected: i64::try_from(lost).unwrap_or(i64::MAX), message })
}

impl Exporter for RemoteWrite {
    fn export<'a>(&'a self, shipment: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>> {
        self.deliver(shipment).boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        // Connections that nobody uses end with the exporter.
        async {}.boxed()
    }
}
