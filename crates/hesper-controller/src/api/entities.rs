//! Create, read, change and delete, once for every kind.

use super::{
    call::{Answer, Call, REVISION, Reply},
    cascade,
    error::ApiError,
    fields,
    kinds::{Managed, Shown, a, render},
};
use crate::state::{Changes, State, Versioned, WRITE_ATTEMPTS, WriteError};
use hesper_filter::{Limit, Query};
use hesper_model::{
    entity::Entity,
    role::{Roles, Semantic},
};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, sync::Arc};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// `GET /<plural>`
pub(crate) fn list<E: Managed>(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let model = state.model();
        let context = Shown::new(&model, &state);
        let roles = role_filter(&call)?;
        let items = model.table::<E>().iter().map(|e| render(e.as_ref(), &context));
        let items = items
            .filter(|item| roles.as_ref().is_none_or(|(roles, semantic)| in_roles(item, roles, *semantic)));
        page(&call, items.collect(), &fields::filterable(E::FIELDS))
    })
}

/// One page of items: filtered, sorted and cut as the query asks. Without a `sort by`, by name.
///
/// # Errors
/// The query is not understood, or names a field that is none of `known`: `not nome = "x"` must not mean everything.
pub(crate) fn page(call: &Call, mut items: Vec<Value>, known: &[&str]) -> Result<Answer, ApiError> {
    items.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    let filter = call.query("filter").unwrap_or_default();
    let mut query = Query::parse(filter)
        .map_err(|e| ApiError::filter(format!("the filter '{filter}' is not valid: {e}")))?;
    let is_known = |head: &str| known.contains(&head) || items.iter().any(|item| item.get(head).is_some());
    let heads = query.paths().into_iter().filter_map(|path| path.split('.').next());
    if let Some(unknown) = heads.into_iter().find(|head| !is_known(head)) {
        let known = known.join(", ");
        return Err(ApiError::filter(format!(
            "the filter '{filter}' is not valid: there is no field '{unknown}'; there are {known}"
        )));
    }
    let number = |name: &str, value: &str| {
        value.parse::<u64>().map_err(|_| ApiError::field(name, json!(value), "must be a whole number"))
    };
    if let Some(offset) = call.query("offset") {
        query.skip = Some(number("offset", offset)?);
    }
    match call.query("limit") {
        Some("none") => query.limit = Some(Limit::None),
        Some(limit) => query.limit = Some(Limit::Count(number("limit", limit)?)),
        None => {}
    }
    let (offset, limit) = (query.skip.unwrap_or(0), query.page_size());
    let page = query.apply(items);
    let limit = limit.map_or(json!("none"), |n| json!(n));
    let pagination = json!({ "limit": limit, "offset": offset, "totalCount": page.total });
    Ok(Answer::list(Value::Array(page.items), json!({ "filter": filter, "pagination": pagination })))
}

fn sort_key(item: &Value) -> (&str, &str) {
    let text = |field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default();
    (text("name"), text("createdAt"))
}

/// `?roleFilter=#a&roleFilter=#b&roleSemantic=AllOf`
fn role_filter(call: &Call) -> Result<Option<(Roles, Semantic)>, ApiError> {
    let entries: Vec<&str> =
        call.queries("roleFilter").flat_map(|v| v.split(',')).filter(|v| !v.is_empty()).collect();
    if entries.is_empty() {
        return Ok(None);
    }
    let roles =
        Roles::parse(&entries).map_err(|e| ApiError::field("roleFilter", json!(entries), e.to_string()))?;
    let semantic = match call.query("roleSemantic") {
        None | Some("AnyOf") => Semantic::AnyOf,
        Some("AllOf") => Semantic::AllOf,
        Some(other) => return Err(ApiError::field("roleSemantic", json!(other), "must be AnyOf or AllOf")),
    };
    Ok(Some((roles, semantic)))
}

fn in_roles(item: &Value, roles: &Roles, semantic: Semantic) -> bool {
    let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
    let attributes = item.get("roleAttributes").and_then(Value::as_array);
    let attributes: BTreeSet<String> =
        attributes.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    roles.matches(semantic, id, &attributes)
}

/// `GET /<plural>/{id}`
pub(crate) fn detail<E: Managed>(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let model = state.model();
        let entity = model.table::<E>().get(call.param("id"));
        let entity = entity.ok_or_else(|| ApiError::not_found(E::KIND, call.param("id")))?;
        Ok(Answer::data(render(entity.as_ref(), &Shown::new(&model, &state))))
    })
}

/// `POST /<plural>`
pub(crate) fn create<E: Managed>(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let mut body = call.object()?;
        E::normalise(&mut body);
        let now = OffsetDateTime::now_utc();
        let _planning = state.planning.lock().await;
        let model = state.model();
        let mut given = fields::read(E::FIELDS, E::KIND, &body, &model, true)?;
        E::complete(&mut given);
        E::prepare(&mut given, now)?;
        let entity = build::<E>(&given, Map::new(), &E::new_id(), now, now)?;
        free_name(&state, &entity, None)?;
        entity.check(None, &model)?;
        as_read(&call, &state)?;
        let mut changes = Changes::default();
        changes.create(&entity);
        let mut told = entity.created(&given, &state, now, &mut changes)?;
        let revision = match state.commit_managed(changes).await {
            Ok(revision) => revision,
            Err(WriteError::Conflict(_)) => {
                free_name(&state, &entity, None)?;
                return Err(ApiError::conflict(format!(
                    "{} was changed by somebody else: retry",
                    a(E::KIND)
                )));
            }
            Err(error) => return Err(error.into()),
        };
        told.insert("id".into(), json!(entity.id()));
        Ok(Answer::created(Value::Object(told)).about(entity.id(), entity.name()).at(revision))
    })
}

/// `PATCH /<plural>/{id}`: changes the given fields only.
pub(crate) fn patch<E: Managed>(state: Arc<State>, call: Call) -> Reply {
    change::<E>(state, call, false)
}

/// `PUT /<plural>/{id}`: fields that are not given get their defaults.
pub(crate) fn replace<E: Managed>(state: Arc<State>, call: Call) -> Reply {
    change::<E>(state, call, true)
}

fn change<E: Managed>(state: Arc<State>, call: Call, whole: bool) -> Reply {
    Box::pin(async move {
        let mut body = call.object()?;
        E::normalise(&mut body);
        let id = call.param("id");
        let _planning = state.planning.lock().await;
        for _ in 0..WRITE_ATTEMPTS {
            let old = state.get::<E>(id).ok_or_else(|| ApiError::not_found(E::KIND, id))?;
            as_expected(&call, &old.entity)?;
            as_read(&call, &state)?;
            let new = changed(&state, &old, &body, whole)?;
            let mut changes = Changes::default();
            changes.update(&old, &new);
            match state.commit_managed(changes).await {
                Ok(revision) => return Ok(Answer::data(json!({})).about(id, new.name()).at(revision)),
                Err(WriteError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApiError::conflict(format!("{} {id} is being changed by others: retry", E::KIND)))
    })
}

/// `If-Match: "<updatedAt>"`: the caller changes what it has read, and nothing that somebody else has changed since
/// (RFC 9110, section 13.1.1). `*` and no header accept whatever is there.
fn as_expected<E: Managed>(call: &Call, entity: &E) -> Result<(), ApiError> {
    let Some(header) = call.headers.get(header::IF_MATCH) else { return Ok(()) };
    let now = entity.updated_at().format(&Rfc3339).map_err(|e| ApiError::internal(&e))?;
    let accepted = header.to_str().unwrap_or_default().split(',').map(str::trim);
    if accepted.into_iter().any(|tag| tag == "*" || tag.trim_matches('"') == now) {
        return Ok(());
    }
    let kind = E::KIND;
    let message =
        format!("the {kind} was changed by somebody else, at {now}: read it again and decide again");
    Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED", message))
}

/// `Hesper-Revision`: the caller has decided by everything that administrators had changed until then, and by nothing later. Asked while
/// `State::planning` is held.
fn as_read(call: &Call, state: &State) -> Result<(), ApiError> {
    let now = state.managed().to_string();
    match call.headers.get(REVISION) {
        Some(read) if read.as_bytes() != now.as_bytes() => {
            let message =
                "somebody else has changed the network since it was read: read it again and decide again";
            Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "REVISION_CHANGED", message))
        }
        _ => Ok(()),
    }
}

fn changed<E: Managed>(
    state: &State,
    old: &Versioned<E>,
    body: &Map<String, Value>,
    whole: bool,
) -> Result<E, ApiError> {
    let model = state.model();
    let now = OffsetDateTime::now_utc();
    let mut given = fields::read(E::FIELDS, E::KIND, body, &model, whole)?;
    if whole {
        E::complete(&mut given);
    }
    let Value::Object(mut base) = serde_json::to_value(&old.entity).map_err(|e| ApiError::internal(&e))?
    else {
        return Err(ApiError::body("not an object"));
    };
    if whole {
        base.retain(|name, _| !E::FIELDS.iter().any(|f| f.name == name && !f.read_only));
    }
    let created_at =
        base.get("createdAt").and_then(Value::as_str).and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
    let new = build::<E>(&given, base, old.entity.id(), created_at.unwrap_or(now), now)?;
    free_name(state, &new, Some(&old.entity))?;
    new.check(Some(&old.entity), &model)?;
    Ok(new)
}

/// The entity of these fields over a base.
fn build<E: Managed>(
    given: &Map<String, Value>,
    mut base: Map<String, Value>,
    id: &str,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
) -> Result<E, ApiError> {
    for (name, value) in given {
        if E::FIELDS.iter().any(|f| f.name == name && f.create_only) {
            continue;
        }
        match value {
            Value::Null => drop(base.remove(name)),
            value => drop(base.insert(name.clone(), value.clone())),
        }
    }
    let time = |at: OffsetDateTime| at.format(&Rfc3339).map(Value::from).map_err(|e| ApiError::internal(&e));
    base.insert("id".into(), json!(id));
    base.insert("createdAt".into(), time(created_at)?);
    base.insert("updatedAt".into(), time(updated_at)?);
    serde_json::from_value(Value::Object(base))
        .map_err(|e| ApiError::body(format!("this is no {}: {e}", E::KIND)))
}

/// Names are unique among their kind.
fn free_name<E: Managed>(state: &State, entity: &E, old: Option<&E>) -> Result<(), ApiError> {
    let Some(name) = entity.name().filter(|name| old.and_then(Entity::name) != Some(*name)) else {
        return Ok(());
    };
    let model = state.model();
    let Some(holder) = model.table::<E>().named(name) else { return Ok(()) };
    Err(ApiError::conflict_field(
        "name",
        json!(name),
        format!("is taken: there is already {} named '{name}' (id {})", a(E::KIND), holder.id()),
    ))
}

/// `DELETE /<plural>/{id}`, with what would be left behind.
pub(crate) fn delete<E: Managed>(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let id = call.param("id");
        let _planning = state.planning.lock().await;
        for _ in 0..WRITE_ATTEMPTS {
            let model = state.model();
            let entity = model.table::<E>().get(id).ok_or_else(|| ApiError::not_found(E::KIND, id))?;
            as_expected(&call, entity.as_ref())?;
            as_read(&call, &state)?;
            entity.removable()?;
            let effects = cascade::delete(&model, &state.records(), E::KIND, id)
                .map_err(|e| ApiError::conflict(e.to_string()))?;
            let Some(changes) = cascade::changes(&state, effects, OffsetDateTime::now_utc()) else {
                continue;
            };
            match state.commit_managed(changes).await {
                Ok(revision) => return Ok(Answer::data(json!({})).about(id, entity.name()).at(revision)),
                Err(WriteError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApiError::conflict(format!("{} {id} is being changed by others: retry", E::KIND)))
    })
}
