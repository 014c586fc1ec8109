//! Log in, log out, change a password.

use super::{
    Admin, administrator, authenticator_key, authenticator_name_key, by_certificate, make_authenticator,
    password::{self, Authenticator, Checked, InvalidPassword},
    session,
    throttle::{End, Try, Wait},
};
use crate::{
    api::{Answer, ApiError, Call, Reply},
    events,
    state::{Changes, State, WriteError},
};
use hesper_model::{entity::Identity, entity::Kind, id::IdentityId};
use hesper_observe::events::{Denial, Event, Kind as EventKind, Named};
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
        let claimed = match username {
            Some(name) => {
                password::find(&state, &name).await.ok().flatten().map(|(id, _)| (name, id.to_string()))
            }
            None => call.peer.as_ref().map(|p| (p.id.to_string(), p.id.id.clone())),
        };
        record(&state, &call, method, claimed, &result);
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
    claimed: Option<(String, String)>,
    result: &Result<Admin, ApiError>,
) {
    let mut event = match result {
        Ok(admin) => {
            Event::success(EventKind::Login).actor(admin.name.clone()).identity(events::admin(admin))
        }
        Err(error) => {
            tracing::info!(method, code = error.code, "a login was refused");
            let event = refused(state, claimed.as_ref().map(|(_, id)| id.as_str()), error);
            event.field("code", error.code).field("reason", error.message.clone())
        }
    };
    let labels = vec![("method", method), ("result", event.outcome().name())];
    state.metrics.logins.get_or_create(&labels).inc();
    if let (Err(_), Some((name, _))) = (result, claimed) {
        event = event.actor(name);
    }
    state.record(event.field("method", method).field("remote", call.remote.clone()));
}

/// Who did not get in, as far as that is known, and why.
fn refused(state: &State, identity_id: Option<&str>, error: &ApiError) -> Event {
    if error.status.is_server_error() {
        return Event::failure(EventKind::Login);
    }
    let identity = identity_id.map(|id| events::identity_of(&state.model(), &IdentityId::new(id)));
    let denial = Denial {
        identity: identity.unwrap_or_default(),
        service: Named::name(events::MANAGEMENT_API),
        rule: error.message.clone(),
    };
    Event::denied(EventKind::Login, denial)
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
