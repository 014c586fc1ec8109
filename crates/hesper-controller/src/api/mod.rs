//! The REST API: management for administrators, enrollment for everybody.
//!
//! - [`table`]: every route, who may use it, what it takes and gives. Nothing is mounted that is not in it.
//! - [`call`]: the shell around each route: who calls, body limits, the envelope, metrics, events.
//! - [`entities`]: create, list, read, change, delete, once for every kind; [`kinds`]: what is particular to each kind.
//! - [`fields`]: the fields of a request and their checks; [`cascade`]: what a deletion takes along.
//! - [`sublists`], [`extras`]: what belongs to one entity; advisor, hints, summary, health.
//! - [`events`]: the last ones, and a stream for those who follow.
//! - [`ca`]: the rotation of the CA, and the certificates that are out.
//! - [`openapi`]: the document, made from the table.

mod ca;
mod call;
mod cascade;
mod entities;
mod error;
mod events;
mod extras;
mod fields;
mod kinds;
mod openapi;
mod sublists;
mod table;

pub(crate) use call::{Answer, Call, Remote, Reply};
pub(crate) use error::{ApiError, chain};
pub(crate) use events::FOLLOWERS_MAX;
pub(crate) use extras::count;
pub(crate) use kinds::DEFAULT_ADMIN;

use crate::state::State;
use axum::{Router, extract::Request, response::Response, routing::MethodRouter};
use http::StatusCode;
use std::{sync::Arc, time::Duration};

/// The REST routes.
pub(crate) fn routes(state: &Arc<State>) -> Router {
    let mut router = Router::new();
    for route in table::routes() {
        let (route, state) = (Arc::new(route), state.clone());
        let path = route.path.clone();
        let filter = axum::routing::MethodFilter::try_from(route.method.clone());
        let handler = move |request: Request| call::serve(state.clone(), route.clone(), request);
        if let Ok(filter) = filter {
            router = router.route(&path, MethodRouter::new().on(filter, handler));
        }
    }
    let (elsewhere, otherwise) = (state.clone(), state.clone());
    router
        .fallback(move |request: Request| async move { unknown_path(&elsewhere, &request) })
        .method_not_allowed_fallback(
            move |request: Request| async move { unknown_method(&otherwise, &request) },
        )
}

fn unknown_path(state: &State, request: &Request) -> Response {
    let message = format!("there is nothing at {}: /openapi.json lists what there is", request.uri().path());
    strange(state, &ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message))
}

fn unknown_method(state: &State, request: &Request) -> Response {
    let message = format!("{} is not possible at {}", request.method(), request.uri().path());
    strange(state, &ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message))
}

/// Counted together, whatever strangers ask for.
fn strange(state: &State, error: &ApiError) -> Response {
    state.metrics.request("other", "unknown", error.status.as_u16(), Duration::ZERO);
    call::refusal(error, "")
}
