//! One request to a target and its answer back: resolve, dial, send, stream.

use super::{
    Body, BoxError, Failure, Shared,
    body::{EndsConnection, timed},
    client::Client,
    headers, trace,
};
use crate::{Dialer, app_data::AppData, metrics::Side};
use bytes::Bytes;
use hesper_observe::metrics::Counter;
use hesper_sdk::DialOptions;
use http::{HeaderValue, Method, Request, Response, Uri, header, uri::Authority};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long a dial may take, unless config or scraper say otherwise.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a target may think about the head of its answer, unless the scraper says otherwise.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest head of a target's answer.
const MAX_ANSWER_HEAD: usize = 256 * 1024;

/// Sends a request in absolute form to the service that its host stands for.
pub(super) async fn forward<D: Dialer>(
    shared: &Shared<D>,
    request: Request<Incoming>,
    client: &Client,
) -> Result<Response<Body>, Failure> {
    let deadline = headers::scrape_timeout(request.headers()).map(|t| Instant::now() + t);
    let (request, authority) = toward_target(request)?;
    let exchange = Exchange { shared, authority, deadline, client };
    // A question without a body may be asked again when its host was lost before it answered (RFC 9110 §9.2.2): another host of the
    // service may be there.
    if matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream() {
        let head = request.into_parts().0;
        let again = || Request::from_parts(head.clone(), Empty::<Bytes>::new());
        return match exchange.run(again()).await {
            Err(Lost { before_answer: true, failure }) => {
                tracing::debug!(reason = %failure, "asked again");
                exchange.run(again()).await.map_err(|lost| lost.failure)
            }
            other => other.map_err(|lost| lost.failure),
        };
    }
    exchange.run(request).await.map_err(|lost| lost.failure)
}

/// Where one request goes.
struct Exchange<'a, D> {
    shared: &'a Shared<D>,
    authority: Authority,
    deadline: Option<Instant>,
    client: &'a Client,
}

/// A request that got no answer.
struct Lost {
    failure: Failure,
    /// The stream was open, and ended without a byte of an answer.
    before_answer: bool,
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Self {
        Self { failure, before_answer: false }
    }
}

impl<D: Dialer> Exchange<'_, D> {
    async fn run<B>(&self, request: Request<B>) -> Result<Response<Body>, Lost>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { authority, deadline, .. } = self;
        let stream = dial(self.shared, authority, 80, *deadline, self.client.address).await?;
        let builder =
            http1::Builder::new().max_buf_size(MAX_ANSWER_HEAD).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = builder.map_err(|e| broken(authority, &e))?;
        let connection = EndsConnection(tokio::spawn(connection).abort_handle());
        let head_until = deadline.unwrap_or_else(|| Instant::now() + HEAD_TIMEOUT);
        let answer = match timeout_at(head_until, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|e| broken(authority, &e))?,
            Err(_) => return Err(Failure::Timeout(format!("'{authority}' did not answer in time")).into()),
        };
        let bytes = self.shared.metrics.bytes_of(Side::Http, "received");
        Ok(passed_on(answer, *deadline, connection, self.client.clone(), bytes))
    }
}

fn passed_on(
    answer: Response<Incoming>,
    deadline: Option<Instant>,
    connection: EndsConnection,
    client: Client,
    bytes: Counter,
) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    let version = std::mem::replace(&mut head.version, http::Version::HTTP_11);
    headers::pass_on(&mut head.headers, version);
    Response::from_parts(head, timed(body, deadline, connection, client, bytes))
}

/// Opens a stream to what an authority stands for.
pub(super) async fn dial<D: Dialer>(
    shared: &Shared<D>,
    authority: &Authority,
    default_port: u16,
    deadline: Option<Instant>,
    client: SocketAddr,
) -> Result<D::Stream, Failure> {
    let (host, port) = (authority.host(), authority.port_u16().unwrap_or(default_port));
    let resolved = shared.known.borrow().names.resolve(host, port)?;
    trace::service(&resolved.service);
    let mut timeout = resolved.timeout.unwrap_or(DIAL_TIMEOUT);
    if let Some(deadline) = deadline {
        timeout = timeout.min(deadline.saturating_duration_since(Instant::now()));
    }
    let options = DialOptions {
        // A resolved name is the service's as it stands, also if it has an `@` in it.
        instance: Some(resolved.instance.unwrap_or_default()),
        app_data: AppData::tcp(host, port, Some(client)).to_json(),
        timeout,
    };
    Ok(shared.dialer.dial(&resolved.service, options).await?)
}

/// The request as the target gets it: origin form, `Host` from the URL, nothing that is for one hop only.
fn toward_target(request: Request<Incoming>) -> Result<(Request<Incoming>, Authority), Failure> {
    let (mut head, body) = request.into_parts();
    if head.uri.scheme_str().is_some_and(|s| !s.eq_ignore_ascii_case("http")) {
        return Err(Failure::BadRequest(
            "only http:// URLs are forwarded; for https:// use CONNECT, so that TLS ends in the target"
                .into(),
        ));
    }
    let Some(authority) = head.uri.authority().cloned() else {
        return Err(Failure::BadRequest("the URL has no host".into()));
    };
    let authority = without_userinfo(&authority)?;
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    head.uri = path
        .parse::<Uri>()
        .map_err(|e| Failure::BadRequest(format!("the URL's path cannot be used: {e}")))?;
    headers::pass_on(&mut head.headers, head.version);
    trace::pass_on(&mut head.headers);
    let host = HeaderValue::from_str(authority.as_str()).map_err(|e| Failure::BadRequest(e.to_string()))?;
    head.headers.insert(header::HOST, host);
    head.version = http::Version::HTTP_11;
    Ok((Request::from_parts(head, body), authority))
}

fn without_userinfo(authority: &Authority) -> Result<Authority, Failure> {
    let text = authority.as_str();
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    host.parse().map_err(|_| Failure::BadRequest(format!("'{host}' is no host and port")))
}

/// Has the stream ended (and not: brought something that is no HTTP, by which no other host will do better)?
fn is_loss(error: &(dyn std::error::Error + 'static)) -> bool {
    let ended = match error.downcast_ref::<hyper::Error>() {
        Some(http) => http.is_incomplete_message() || http.is_closed(),
        None => error.is::<std::io::Error>(),
    };
    ended || error.source().is_some_and(is_loss)
}

fn broken(authority: &Authority, error: &hyper::Error) -> Lost {
    let mut reason = format!("'{authority}' gave no usable answer: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    Lost { failure: Failure::Target(reason), before_answer: is_loss(error) }
}
