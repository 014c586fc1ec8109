//! Log in, log out, change a password.

use super::{
    Admin, administrator, authenticator_key, authenticator_name_key, by_certificate, make_authenticator,
    password::{self, Authenticator, Checked, InvalidPassword},
    session,
    throttle::{End, Try, Wait},
};
use crate::{
    api::{Answer, ApiError, Call, Reply},
    state::{Changes, State, WriteError},
};
use hesper_model::{entity::Identity, entity::Kind, id::IdentityId};
use hesper_observe::audit::{Event, Kind as AuditKind, Outcome};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    username: String,
    password: String,
}

/// `POST /authenticate?method=password|cert`
pub(crate) fn authenticate(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let (method, username, result) = match call.query("method").unwrap_or("password") {
            "password" => {
                let given: Credentials = call.json()?;
                let result = by_password(&state, &call, &given).await;
                ("password", Some(given.username), result)
            }
            "cert" => ("cert", None, with_certificate(&state, &call)),
            other => return Err(ApiError::field("method", json!(other), "must be password or cert")),
        };
        // What was typed into the wrong field may be a password: only a name that exists is kept.
        let username = match username {
            Some(name) => password::find(&state, &name).await.ok().flatten().map(|_| name),
            None => None,
        };
        record(&state, &call, method, username, &result);
        let admin = result?;
        let now = OffsetDateTime::now_utc();
        let (token, session) = session::open(&state, &admin.id, method, now).await?;
        let expires_at = session.expires_at().format(&Rfc3339).unwrap_or_default();
        Ok(Answer::data(json!({ "token": token, "expiresAt": expires_at, "identityId": admin.id })))
    })
}

async fn by_password(state: &State, call: &Call, given: &Credentials) -> Result<Admin, ApiError> {
    let attempt = Try::begin(&state.auth.throttle, &call.remote, &given.username).map_err(|wait| {
        let (why, wait) = match wait {
            Wait::Failed(wait) => ("too many failed logins", wait),
            Wait::Turn(wait) => ("too many logins at once", wait),
        };
        let seconds = wait.as_secs().max(1);
        ApiError::too_many(format!("{why}: try again in {seconds} s"), seconds)
    })?;
    let checked = match password::check(state, &given.username, &given.password).await {
        Ok(checked) => checked,
        Err(error) => {
            attempt.end(End::Untried);
            return Err(ApiError::internal(&error));
        }
    };
    match checked {
        Checked::Right(id) => {
            attempt.end(End::Succeeded);
            administrator(state, &id)
        }
        Checked::Wrong => {
            attempt.end(End::Failed);
            Err(ApiError::unauthorized("wrong username or password"))
        }
        Checked::Busy => {
            attempt.end(End::Untried);
            Err(ApiError::too_many("too many logins at once: try again in a few seconds", 5))
        }
    }
}

fn with_certificate(state: &State, call: &Call) -> Result<Admin, ApiError> {
    let Some(peer) = &call.peer else {
        return Err(ApiError::unauthorized(
            "no client certificate was presented: connect with that of an administrator",
        ));
    };
    by_certificate(state, peer)
}

fn record(
    state: &State,
    call: &Call,
    method: &'static str,
    username: Option<String>,
    result: &Result<Admin, ApiError>,
) {
    let (outcome, label) = match result {
        Ok(_) => (Outcome::Success, "success"),
        Err(e) if e.status.is_server_error() => (Outcome::Failure, "failure"),
        Err(_) => (Outcome::Denied, "denied"),
    };
    state.metrics.logins.get_or_create(&vec![("method", method), ("result", label)]).inc();
    let mut event =
        Event::now(AuditKind::Login, outcome).field("method", method).field("remote", call.remote.clone());
    let claimed = call.peer.as_ref().map(|p| p.id.to_string());
    event = match (result, username.or(claimed)) {
        (Ok(admin), _) => event.actor(admin.name.clone()),
        (Err(_), Some(name)) => event.actor(name),
        (Err(_), None) => event,
    };
    if let Err(error) = result {
        tracing::info!(method, code = error.code, "a login was refused");
        event = event.field("code", error.code).field("reason", error.message.clone());
    }
    state.audit.record(&event);
}

/// `GET /current-api-session`
pub(crate) fn current(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let now = OffsetDateTime::now_utc();
        let session = match &call.bearer {
            Some(token) => session::find(&state, token, now).await?,
            None => None,
        };
        let expires_at = session.and_then(|s| s.expires_at().format(&Rfc3339).ok());
        let admin = call.admin.ok_or_else(|| ApiError::unauthorized("log in first"))?;
        Ok(Answer::data(json!({ "identityId": admin.id, "name": admin.name, "expiresAt": expires_at })))
    })
}

/// `DELETE /current-api-session`
pub(crate) fn logout(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        if let Some(token) = &call.bearer {
            session::close(&state, token).await?;
        }
        Ok(Answer::data(json!({})))
    })
}

/// `PUT /identities/{id}/password`: gives an administrator a username and a password, or changes them.
pub(crate) fn set_password(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let given: Credentials = call.json()?;
        let id = call.param("id");
        let identity = state.get::<Identity>(id).ok_or_else(|| ApiError::not_found(Kind::Identity, id))?;
        if !identity.entity.is_admin {
            let reason = format!(
                "'{}' is no administrator: only administrators log in with a password",
                identity.entity.name
            );
            return Err(ApiError::field("id", json!(id), reason));
        }
        let Credentials { username, password } = given;
        let (name, turn) = (username.clone(), state.auth.hashing.acquire().await);
        let made = tokio::task::spawn_blocking(move || make_authenticator(&username, &password)).await;
        drop(turn);
        let made = made.map_err(|e| ApiError::internal(&e))?.map_err(|e| match e {
            InvalidPassword::Username => ApiError::field("username", json!(name), e.to_string()),
            InvalidPassword::Length => ApiError::field("password", Value::Null, e.to_string()),
            InvalidPassword::Hash(_) => ApiError::internal(&e),
        })?;
        write(&state, &identity.entity.id, &made).await?;
        Ok(Answer::data(json!({})).about(id, Some(&identity.entity.name)))
    })
}

async fn write(state: &State, id: &IdentityId, made: &Authenticator) -> Result<(), ApiError> {
    let taken = || ApiError::conflict_field("username", json!(made.username), "is taken".into());
    let _planning = state.planning.lock().await;
    match password::find(state, &made.username).await.map_err(WriteError::from)? {
        Some((holder, _)) if holder != *id => return Err(taken()),
        _ => {}
    }
    let mut changes = Changes::default();
    let old = state.store.get(&authenticator_key(id.as_str())).await.map_err(WriteError::from)?;
    let old = old.and_then(|o| serde_json::from_slice::<Authenticator>(&o.value).ok());
    if let Some(old) = old.filter(|old| old.username != made.username) {
        changes.delete_record(authenticator_name_key(&old.username));
    }
    changes.put_text(authenticator_name_key(&made.username), id.as_str());
    changes.put_record(authenticator_key(id.as_str()), made);
    state.commit(changes).await?;
    Ok(())
}
