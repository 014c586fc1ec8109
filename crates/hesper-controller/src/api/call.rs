//! One request and its answer, the same for every route; and the shell around each: who calls, how big, how long.

use super::{
    error::ApiError,
    table::{Access, Route},
};
use crate::{
    auth::{self, Admin},
    events,
    state::State,
    trace,
};
use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, RawPathParams, Request},
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;
use hesper_observe::events::{Denial, Event, Kind as EventKind, Named};
use hesper_pki::{credentials::PeerIdentity, digest::sha256_hex};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};
use tracing::{Instrument as _, Span};

/// Largest request body, in bytes; nothing more is ever buffered.
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// How long a caller may take to send its body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Header of every answer: SHA-256 (hexadecimal) of what `/.well-known/est/cacerts` gives.
const TRUSTED_CAS: &str = "hesper-trusted-cas";

/// Header of every answer: the revision of what administrators changed last, when the answer was made. In a request that changes an entity:
/// it is refused with 412 when that has moved.
pub(crate) const REVISION: &str = "hesper-revision";

/// What a route's handler returns.
pub(crate) type Reply = BoxFuture<'static, Result<Answer, ApiError>>;

/// The address of the caller, put into each request by the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// A request that may be answered: its caller is known as far as the route demands it.
#[derive(Debug)]
pub(crate) struct Call {
    params: HashMap<String, String>,
    query: Vec<(String, String)>,
    body: Bytes,
    /// The request's headers.
    pub(crate) headers: HeaderMap,
    /// The administrator; always there on routes that demand one.
    pub(crate) admin: Option<Admin>,
    /// Whose certificate the TLS handshake proved.
    pub(crate) peer: Option<PeerIdentity>,
    /// The caller's IP address, for events.
    pub(crate) remote: String,
    /// The `Authorization` token as presented.
    pub(crate) bearer: Option<String>,
}

impl Call {
    /// A parameter of the path.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// The first query parameter of this name.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Every query parameter of this name.
    pub(crate) fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as a type of ours.
    ///
    /// # Errors
    /// `COULD_NOT_VALIDATE`, with the place in the JSON text.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body)
            .map_err(|e| ApiError::body(format!("the body is not what is expected here: {e}")))
    }

    /// The body as a JSON object.
    ///
    /// # Errors
    /// `COULD_NOT_VALIDATE`.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, ApiError> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err(ApiError::body("the body must be a JSON object")),
            Err(e) => Err(ApiError::body(format!("the body is not JSON: {e}"))),
        }
    }
}

/// An answer in the common envelope, or a plain one.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    body: Payload,
    /// Id and name of what was changed, for the event.
    pub(crate) subject: Option<(String, Option<String>)>,
    /// The revision that the change made.
    revision: Option<u64>,
}

#[derive(Debug)]
enum Payload {
    Envelope { data: Value, meta: Value },
    Plain { content_type: &'static str, body: Bytes },
    Ready(Box<Response>),
}

impl Answer {
    /// 200 with `data`.
    pub(crate) fn data(data: Value) -> Self {
        Self {
            status: StatusCode::OK,
            body: Payload::Envelope { data, meta: json!({}) },
            subject: None,
            revision: None,
        }
    }

    /// 200 with `data` and `meta`.
    pub(crate) fn list(data: Value, meta: Value) -> Self {
        Self { status: StatusCode::OK, body: Payload::Envelope { data, meta }, subject: None, revision: None }
    }

    /// 201 with `data`.
    pub(crate) fn created(data: Value) -> Self {
        Self { status: StatusCode::CREATED, ..Self::data(data) }
    }

    /// 200 with a body of its own type, without the envelope.
    pub(crate) fn plain(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = Payload::Plain { content_type, body: body.into() };
        Self { status: StatusCode::OK, body, subject: None, revision: None }
    }

    /// A response made elsewhere.
    pub(crate) fn ready(response: Response) -> Self {
        Self {
            status: response.status(),
            body: Payload::Ready(Box::new(response)),
            subject: None,
            revision: None,
        }
    }

    /// Changes each item of a list.
    pub(crate) fn map_items(mut self, change: impl FnMut(&mut Value) -> Value) -> Self {
        if let Payload::Envelope { data: Value::Array(items), .. } = &mut self.body {
            *items = items.iter_mut().map(change).collect();
        }
        self
    }

    /// Names what was changed.
    pub(crate) fn about(self, id: &str, name: Option<&str>) -> Self {
        Self { subject: Some((id.to_owned(), name.map(str::to_owned))), ..self }
    }

    /// Says which revision the change made.
    pub(crate) fn at(self, revision: u64) -> Self {
        Self { revision: Some(revision), ..self }
    }

    fn into_response(self) -> Response {
        match self.body {
            Payload::Envelope { data, meta } => {
                json_response(self.status, &json!({ "data": data, "meta": meta }))
            }
            Payload::Plain { content_type, body } => {
                (self.status, [(header::CONTENT_TYPE, content_type)], body).into_response()
            }
            Payload::Ready(response) => *response,
        }
    }
}

/// Serves one request on its route.
pub(crate) async fn serve(state: Arc<State>, route: Arc<Route>, request: Request) -> Response {
    let client = request.extensions().get::<Remote>().map(|remote| remote.0.ip());
    let span = trace::rest(request.headers(), route.method.as_str(), &route.path, client);
    answer(state, route, request).instrument(span).await
}

async fn answer(state: Arc<State>, route: Arc<Route>, request: Request) -> Response {
    let started = std::time::Instant::now();
    let request_id = hesper_model::id::random_id(&mut rand::rng());
    let (mut parts, body) = request.into_parts();
    let remote = parts.extensions.get::<Remote>().map(|r| r.0.ip().to_string()).unwrap_or_default();
    // Before anything is read: what is read may be newer, and never older.
    let (mut revision, mut code) = (state.managed(), None);
    let result = match open(&state, &route, &mut parts, body, remote).await {
        Ok(call) => run(state.clone(), route.clone(), call, parts.uri.path().to_owned()).await,
        Err(error) => Err(error),
    };
    let mut response = match result {
        Ok(answer) => {
            revision = answer.revision.unwrap_or(revision);
            answer.into_response()
        }
        Err(error) => {
            code = Some(error.code);
            refusal(&error, &request_id)
        }
    };
    trace::answered(&Span::current(), response.status(), code);
    response.headers_mut().insert(REVISION, HeaderValue::from(revision));
    // So that whoever trusts other CAs than the controller names takes the new ones over while it still can verify them.
    if let Ok(trusted) = HeaderValue::from_str(&sha256_hex(state.ca_pem().as_bytes())) {
        response.headers_mut().insert(TRUSTED_CAS, trusted);
    }
    let (method, status) = (route.method.as_str(), response.status().as_u16());
    state.metrics.request(method, &route.path, status, started.elapsed());
    response
}

/// Runs the handler to its end, even if the caller goes away: what is written must also be recorded.
async fn run(state: Arc<State>, route: Arc<Route>, call: Call, path: String) -> Result<Answer, ApiError> {
    let work = async move {
        let actor = call.admin.clone();
        let result = (route.handler)(state.clone(), call).await;
        if let (Some(kind), Some(actor)) = (route.changes, actor) {
            record_change(&state, &route, kind, &actor, &path, &result);
        }
        result
    };
    let task = tokio::spawn(work.in_current_span());
    task.await.unwrap_or_else(|panicked| Err(ApiError::internal(&panicked)))
}

/// Finds out who calls, refuses those who may not, and only then reads the body.
async fn open(
    state: &State,
    route: &Route,
    parts: &mut Parts,
    body: Body,
    remote: String,
) -> Result<Call, ApiError> {
    let bearer = auth::bearer(&parts.headers).map(str::to_owned);
    let admin = match route.access {
        Access::Open => None,
        Access::Admin => Some(auth::admin(state, bearer.as_deref()).await?),
        Access::Operator => auth::operator(state, bearer.as_deref(), parts).await?,
    };
    if let Some(admin) = &admin {
        trace::asked_by(admin.id.as_str(), &admin.name);
    }
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|e| ApiError::body(format!("the path is not valid: {e}")))?;
    let params = params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let query = parts.uri.query().unwrap_or_default();
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let peer = parts.extensions.get::<Option<PeerIdentity>>().cloned().flatten();
    let body = read_body(parts, body).await?;
    let headers = std::mem::take(&mut parts.headers);
    Ok(Call { params, query, body, headers, admin, peer, remote, bearer })
}

async fn read_body(parts: &Parts, body: Body) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("the body is larger than {MAX_BODY} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)
    };
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > MAX_BODY as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::body(format!("the body could not be read: {error}"))),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_DEADLINE.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", message))
        }
    }
}

fn record_change(
    state: &State,
    route: &Route,
    kind: &'static str,
    actor: &Admin,
    path: &str,
    result: &Result<Answer, ApiError>,
) {
    let event = match result {
        Ok(_) => Event::success(EventKind::Change).identity(events::admin(actor)),
        Err(e) if e.status.is_server_error() => {
            Event::failure(EventKind::Change).identity(events::admin(actor))
        }
        Err(e) => {
            let service = Named::name(events::MANAGEMENT_API);
            let denial = Denial { identity: events::admin(actor), service, rule: e.message.clone() };
            Event::denied(EventKind::Change, denial)
        }
    };
    let mut event = event
        .actor(actor.name.clone())
        .field("operation", route.operation)
        .field("entityType", kind)
        .field("path", path);
    match result {
        Ok(Answer { subject: Some((id, name)), .. }) => {
            event = event.field("entityId", id.clone()).field("name", json!(name));
        }
        Ok(_) => {}
        Err(e) => event = event.field("code", e.code).field("reason", e.message.clone()),
    }
    state.record(event);
}

/// A refusal as a response.
pub(crate) fn refusal(error: &ApiError, request_id: &str) -> Response {
    let mut response = json_response(error.status, &error.body_json(request_id));
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
