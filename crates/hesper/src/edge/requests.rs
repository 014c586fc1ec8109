//! Requests to the management API: names become ids, answers stay JSON.

use super::{
    draft::{Draft, Names, Reference},
    kinds,
};
use crate::api_client::{Action, Session};
use anyhow::{Result, bail};
use hesper_model::entity::Kind;
use serde_json::{Map, Value};

/// A string of the filter language.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Reads `path` below the API's base.
///
/// # Errors
/// The controller cannot be reached or refused.
pub(crate) async fn get(session: &Session, path: &str) -> Result<Value> {
    session.get(Action::Listing, path, &[]).await
}

/// Lists what is under `path`, through the filter if there is one.
///
/// # Errors
/// The controller cannot be reached or refused.
pub(crate) async fn list(session: &Session, path: &str, filter: Option<&str>) -> Result<Value> {
    let query: Vec<(&str, &str)> = filter.into_iter().map(|f| ("filter", f)).collect();
    session.get(Action::Listing, path, &query).await
}

/// Lists the entities of a kind that both the filter and the roles (`@name` allowed) select.
///
/// # Errors
/// A name in the roles is unknown, the controller cannot be reached or refused.
pub(crate) async fn list_by_roles(
    session: &Session,
    kind: Kind,
    filter: Option<&str>,
    roles: &[String],
    semantic: &str,
) -> Result<Value> {
    let mut query: Vec<(&str, String)> = filter.into_iter().map(|f| ("filter", f.to_owned())).collect();
    for role in roles.iter().filter(|r| !r.is_empty()) {
        query.push(("roleFilter", role_with_id(session, kind, role).await?));
    }
    query.push(("roleSemantic", semantic.to_owned()));
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    session.get(Action::Listing, kind.plural(), &query).await
}

/// Creates an entity and returns the whole answer.
///
/// # Errors
/// A name in the draft is unknown, or the controller refused.
pub(crate) async fn create(session: &Session, kind: Kind, draft: Draft) -> Result<Value> {
    let body = resolve(session, draft).await?;
    session.post(Action::Creating, kind.plural(), &Value::Object(body)).await
}

/// Changes the fields of the draft and returns the whole answer.
///
/// # Errors
/// The target or a name in the draft is unknown, or the controller refused.
pub(crate) async fn update(session: &Session, kind: Kind, target: &str, draft: Draft) -> Result<Value> {
    let id = id_of(session, kind, target).await?;
    let body = resolve(session, draft).await?;
    session.patch(Action::Updating, &format!("{}/{id}", kind.plural()), &Value::Object(body)).await
}

/// What is still missing before a service can be dialed or a terminator works, as one line; none when nothing is, or when it cannot
/// be told.
pub(crate) async fn hint(session: &Session, kind: Kind, id: &str) -> Option<String> {
    let about = match kind {
        Kind::Service => "service",
        Kind::Terminator => "terminator",
        _ => "servicePolicy",
    };
    let query = [(about, id)];
    let answer = session.get(Action::Listing, "hints", &query).await.ok()?;
    answer.pointer("/data/hint").and_then(Value::as_str).map(str::to_owned)
}

/// Which of `id:` and `name:` was written before a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// `id:x`
    Id,
    /// `name:x`
    Name,
    /// Nothing: an id or a name.
    Either,
}

/// Splits `id:x`, `name:x`, `x`.
pub(crate) fn prefix(text: &str) -> (By, &str) {
    if let Some(id) = text.strip_prefix("id:") {
        (By::Id, id)
    } else if let Some(name) = text.strip_prefix("name:") {
        (By::Name, name)
    } else {
        (By::Either, text)
    }
}

/// The filter that finds an entity by what was typed.
pub(crate) fn lookup(kind: Kind, typed: &str) -> String {
    match prefix(typed) {
        (By::Id, id) => format!("id = {}", quoted(id)),
        (By::Name, name) if kinds::is_named(kind) => format!("name = {}", quoted(name)),
        (By::Either, text) if kinds::is_named(kind) => format!("id = {0} or name = {0}", quoted(text)),
        (_, text) => format!("id = {}", quoted(text)),
    }
}

/// The ids of all entities that what was typed can mean.
///
/// # Errors
/// The controller cannot be reached or refused.
pub(crate) async fn matching(session: &Session, kind: Kind, typed: &str) -> Result<Vec<String>> {
    let answer = list(session, kind.plural(), Some(&format!("{} limit 2", lookup(kind, typed)))).await?;
    let found = answer.get("data").and_then(Value::as_array).into_iter().flatten();
    Ok(found.filter_map(|e| e.get("id").and_then(Value::as_str)).map(str::to_owned).collect())
}

/// The id of the one entity that what was typed means.
///
/// # Errors
/// There is none, or there are two.
pub(crate) async fn id_of(session: &Session, kind: Kind, typed: &str) -> Result<String> {
    if prefix(typed).1.is_empty() {
        bail!("no {} found with an empty id or name", kind.plural());
    }
    let mut ids = matching(session, kind, typed).await?;
    match (ids.len(), ids.pop()) {
        (1, Some(id)) => Ok(id),
        (0, _) | (_, None) => bail!("no {} found with id or name {}", kind.plural(), prefix(typed).1),
        _ => bail!("multiple {} found for name {}, please use id instead", kind.plural(), prefix(typed).1),
    }
}

/// `@name` → `@id`; everything else stays.
async fn role_with_id(session: &Session, kind: Kind, role: &str) -> Result<String> {
    match role.strip_prefix('@') {
        Some(name) if !name.is_empty() => Ok(format!("@{}", id_of(session, kind, name).await?)),
        _ => Ok(role.to_owned()),
    }
}

async fn resolve(session: &Session, draft: Draft) -> Result<Map<String, Value>> {
    let mut body = draft.body;
    for Reference { field, kind, names } in draft.references {
        let value = match names {
            Names::One(name) => Value::from(id_of(session, kind, &name).await?),
            Names::Many(names) => {
                let mut ids = Vec::with_capacity(names.len());
                for name in &names {
                    ids.push(Value::from(id_of(session, kind, name).await?));
                }
                Value::Array(ids)
            }
            Names::Roles(roles) => {
                let mut resolved = Vec::with_capacity(roles.len());
                for role in &roles {
                    resolved.push(Value::from(role_with_id(session, kind, role).await?));
                }
                Value::Array(resolved)
            }
        };
        body.insert(field.to_owned(), value);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_the_filter_language() {
        assert_eq!(lookup(Kind::Service, r#"a"b\c"#), r#"id = "a\"b\\c" or name = "a\"b\\c""#);
        assert_eq!(lookup(Kind::Service, "id:x"), r#"id = "x""#);
        assert_eq!(lookup(Kind::Service, "name:id:x"), r#"name = "id:x""#);
        assert_eq!(lookup(Kind::Terminator, "x"), r#"id = "x""#);
    }
}
