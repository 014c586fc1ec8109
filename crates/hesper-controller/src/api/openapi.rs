//! `GET /openapi.json`: the OpenAPI 3.1 document, made from the table that mounts the routes.
//!
//! Built by hand and not by a derive: the handlers are generic over the kind, which annotations on functions cannot express,
//! and a document that is written beside the routes can drift from them. This one cannot.

use super::{
    call::{Answer, Call, Reply},
    fields::{Field, Shape},
    kinds::{Managed, with_kind},
    table::{Access, Input, Output, Route, routes},
};
use crate::state::State;
use hesper_model::entity::Kind;
use hesper_observe::events::{Kind as EventKind, Outcome};
use http::Method;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Serves the document.
pub(super) fn handle(_state: Arc<State>, _call: Call) -> Reply {
    Box::pin(async { Ok(Answer::plain("application/json", document(&routes()).to_string())) })
}

/// The document of these routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let at = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        at[route.method.as_str().to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hesper controller",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Management of a Hesper network, and enrollment. Answers are `{data, meta}`, refusals `{error, meta}`.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "responses": { "Refusal": {
                "description": "Refused: `error.code` is stable, `error.message` says what to do.",
                "content": { "application/json": { "schema": reference("Refusal") } },
            } },
            "securitySchemes": { "session": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(route: &Route) -> Value {
    let path_parameters = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = path_parameters
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = route
        .parameters
        .iter()
        .map(|(name, doc)| json!({ "name": name, "in": "query", "description": doc, "schema": { "type": "string" } }));
    // Only what is there already can have been changed meanwhile.
    let changes = matches!(route.input, Input::Patch(_) | Input::Replace(_));
    let guarded = changes || (route.operation == "delete" && route.changes.is_some());
    let in_header = guarded.then(|| {
        let doc =
            "The entity's `updatedAt` in quotes: refused with 412 when it was changed since it was read.";
        json!({ "name": "If-Match", "in": "header", "description": doc, "schema": { "type": "string" } })
    });
    let writes = guarded || matches!(route.input, Input::Create(_));
    let by_revision = writes.then(|| {
        let doc = "The header of the same name of an earlier answer: refused with 412 when an administrator has changed any entity since.";
        json!({ "name": "Hesper-Revision", "in": "header", "description": doc, "schema": { "type": "string" } })
    });
    let tag =
        route.path.split('/').find(|p| !p.is_empty() && !["edge", "management", "client", "v1"].contains(p));
    let status = if matches!(route.output, Output::Created(_)) { "201" } else { "200" };
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [tag.unwrap_or("controller")],
        "parameters": in_path.chain(in_query).chain(in_header).chain(by_revision).collect::<Vec<_>>(),
        "responses": { status: answer(route.output), "default": { "$ref": "#/components/responses/Refusal" } },
        "security": if route.access == Access::Open { json!([]) } else { json!([{ "session": [] }]) },
    });
    let body = match route.input {
        Input::Nothing => None,
        Input::Create(kind) | Input::Replace(kind) => Some(schema_name(kind, "Create")),
        Input::Patch(kind) => Some(schema_name(kind, "Patch")),
        Input::Schema(name) => Some(name.to_owned()),
    };
    if let Some(name) = body {
        let content = json!({ "application/json": { "schema": reference(&name) } });
        operation["requestBody"] = json!({ "required": name != "Login", "content": content });
    }
    operation
}

/// Method and path as one word, unique by construction: `patch_edge_management_v1_services_id`.
fn operation_id(route: &Route) -> String {
    let path: Vec<_> = route.path.split(['/', '.', '-', '{', '}']).filter(|p| !p.is_empty()).collect();
    let method =
        if route.method == Method::GET { "get".to_owned() } else { route.method.as_str().to_lowercase() };
    format!("{method}_{}", path.join("_"))
}

fn answer(output: Output) -> Value {
    let envelope = |data: Value| {
        let schema =
            json!({ "type": "object", "properties": { "data": data, "meta": { "type": "object" } } });
        json!({ "description": "Done.", "content": { "application/json": { "schema": schema } } })
    };
    let page = |item: Value| {
        let data = json!({ "type": "array", "items": item });
        let properties = json!({ "data": data, "meta": reference("PageMeta") });
        let schema = json!({ "type": "object", "properties": properties });
        json!({ "description": "A page.", "content": { "application/json": { "schema": schema } } })
    };
    match output {
        Output::Entity(kind) => envelope(reference(&schema_name(kind, ""))),
        Output::Page(kind) => page(reference(&schema_name(kind, ""))),
        Output::Created(kind) => envelope(reference(&schema_name(kind, "Created"))),
        Output::PageOf(name) => page(reference(name)),
        Output::Events => {
            let mut answer = envelope(json!({ "type": "array", "items": reference("Event") }));
            answer["content"]["application/x-ndjson"] = json!({ "schema": reference("Event") });
            answer
        }
        Output::Schema(name) => envelope(reference(name)),
        Output::Empty => envelope(json!({ "type": "object" })),
        Output::Plain(content_type) => {
            json!({ "description": "Done.", "content": { content_type: { "schema": {} } } })
        }
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// `edge-router-policy` → `EdgeRouterPolicy…`
fn schema_name(kind: Kind, suffix: &str) -> String {
    let words = kind.singular().split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_uppercase())
    });
    words.collect::<String>() + suffix
}

fn schemas() -> Value {
    let mut schemas = Map::new();
    for kind in Kind::ALL {
        let fields = with_kind!(kind, E => <E as Managed>::FIELDS);
        schemas.insert(schema_name(kind, ""), entity_schema(fields));
        schemas.insert(schema_name(kind, "Create"), request_schema(fields, true));
        schemas.insert(schema_name(kind, "Patch"), request_schema(fields, false));
        schemas.insert(schema_name(kind, "Created"), created_schema(kind));
    }
    let text = json!({ "type": "string" });
    let object = |properties: Value| json!({ "type": "object", "properties": properties });
    let time = Shape::Time.schema();
    schemas.insert("Login".into(), object(json!({ "username": text, "password": text })));
    schemas.insert("Session".into(), object(json!({ "token": text, "expiresAt": time, "identityId": text })));
    schemas.insert(
        "CurrentSession".into(),
        object(json!({ "identityId": text, "name": text, "expiresAt": time })),
    );
    schemas.insert("Password".into(), object(json!({ "username": text, "password": text })));
    schemas.insert("Advice".into(), json!({ "type": "object" }));
    schemas.insert("Hint".into(), object(json!({ "hint": { "type": ["string", "null"] } })));
    schemas
        .insert("Summary".into(), json!({ "type": "object", "additionalProperties": { "type": "integer" } }));
    schemas.insert("RoleAttribute".into(), text.clone());
    schemas.insert("Version".into(), object(json!({ "version": text, "trustDomain": text })));
    schemas.insert("Event".into(), event_schema());
    schemas.insert("CaStatus".into(), ca_status_schema());
    let step = json!({ "type": "string", "enum": ["start", "issue", "finish", "rollback"] });
    schemas.insert("CaStep".into(), object(json!({ "step": step, "force": { "type": "boolean" } })));
    schemas.insert("Certificate".into(), certificate_schema());
    let serials =
        json!({ "type": "array", "items": text, "description": "Serials of what was withdrawn now." });
    let revoked = json!({ "subject": text, "name": { "type": ["string", "null"] }, "revoked": serials });
    schemas.insert("Revoked".into(), object(revoked));
    let csr =
        json!({ "type": "string", "description": "PKCS#10 certification request, PEM, of a P-256 key." });
    schemas.insert("Enroll".into(), object(json!({ "token": text, "csr": csr })));
    schemas.insert("Enrolled".into(), object(json!({ "cert": text, "ca": text })));
    let cause = object(json!({ "field": text, "value": {}, "reason": text }));
    let error = object(json!({ "code": text, "message": text, "cause": cause, "requestId": text }));
    schemas.insert("Refusal".into(), object(json!({ "error": error, "meta": { "type": "object" } })));
    let number = json!({ "type": "integer" });
    let pagination = object(json!({ "limit": {}, "offset": number, "totalCount": number }));
    schemas.insert("PageMeta".into(), object(json!({ "filter": text, "pagination": pagination })));
    Value::Object(schemas)
}

fn event_schema() -> Value {
    let (text, unknown) = (json!({ "type": "string" }), json!({ "type": ["string", "null"] }));
    let kinds: Vec<_> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
    let outcomes: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
    let doc =
        "What is denied always has `identity`, `service` and `rule`; what is not known of them is null.";
    json!({ "type": "object", "description": doc, "required": ["timestamp", "namespace", "event", "outcome", "sequence"], "properties": {
        "sequence": { "type": "integer" }, "timestamp": Shape::Time.schema(), "namespace": text,
        "event": { "type": "string", "enum": kinds }, "outcome": { "type": "string", "enum": outcomes }, "actor": text,
        "identity": unknown, "identityId": unknown, "service": unknown, "serviceId": unknown, "rule": text,
        "traceId": text, "spanId": text,
    } })
}

fn ca_status_schema() -> Value {
    let (text, yes_no) = (json!({ "type": "string" }), json!({ "type": "boolean" }));
    let names = json!({ "type": "array", "items": text });
    let ca = json!({ "type": "object", "properties": {
        "sha256": text, "role": { "type": "string", "enum": ["current", "next"] }, "issues": yes_no, "leaving": yes_no,
        "notAfter": Shape::Time.schema(), "certificates": { "type": "integer" },
    } });
    let phase = json!({ "type": "string", "enum": ["standby", "started", "issuing", "rolling-back"] });
    let cas = json!({ "type": "array", "items": ca });
    json!({ "type": "object", "properties": { "phase": phase, "cas": cas, "untold": names, "holders": names } })
}

fn certificate_schema() -> Value {
    let (text, time) = (json!({ "type": "string" }), Shape::Time.schema());
    let state =
        json!({ "type": "string", "enum": ["valid", "late", "renewed", "expired", "revoked", "untrusted"] });
    json!({ "type": "object", "properties": {
        "id": text, "serial": text, "role": text, "subjectId": text, "name": { "type": ["string", "null"] }, "issuer": text,
        "notBefore": time, "notAfter": time, "daysLeft": { "type": "number" }, "state": state,
    } })
}

fn described(field: &Field) -> Value {
    let mut schema = field.shape.schema();
    schema["description"] = json!(field.doc);
    schema
}

fn request_schema(fields: &[Field], whole: bool) -> Value {
    let settable = || fields.iter().filter(|f| !f.read_only && (whole || !f.create_only));
    let properties: Map<_, _> = settable().map(|f| (f.name.to_owned(), described(f))).collect();
    let required: Vec<_> = settable().filter(|f| whole && f.required).map(|f| f.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn entity_schema(fields: &[Field]) -> Value {
    let kept = fields.iter().filter(|f| !f.create_only);
    let mut properties: Map<_, _> = kept.map(|f| (f.name.to_owned(), described(f))).collect();
    properties.insert("id".into(), json!({ "type": "string" }));
    properties.insert("createdAt".into(), Shape::Time.schema());
    properties.insert("updatedAt".into(), Shape::Time.schema());
    json!({ "type": "object", "properties": properties })
}

fn created_schema(kind: Kind) -> Value {
    let text = json!({ "type": "string" });
    let token = json!({ "id": text, "jwt": text, "expiresAt": Shape::Time.schema() });
    let properties = match kind {
        Kind::Enrollment => token,
        Kind::Identity | Kind::EdgeRouter => {
            json!({ "id": text, "enrollment": { "type": "object", "properties": token } })
        }
        _ => json!({ "id": text }),
    };
    json!({ "type": "object", "properties": properties })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every `$ref` in the document.
    fn references(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| match (name.as_str(), value) {
                ("$ref", Value::String(target)) => drop(into.insert(target.clone())),
                _ => references(value, into),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let routes = routes();
        let document = document(&routes);
        let in_table: BTreeSet<_> =
            routes.iter().map(|r| (r.path.clone(), r.method.as_str().to_lowercase())).collect();
        assert_eq!(in_table.len(), routes.len(), "a route is in the table twice");
        let paths = document["paths"].as_object().expect("paths");
        let in_document: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, ops)| {
                ops.as_object().expect("operations").keys().map(|m| (path.clone(), m.clone()))
            })
            .collect();
        assert_eq!(in_table, in_document);
    }

    #[test]
    fn references_lead_somewhere_and_operation_ids_are_unique() {
        let routes = routes();
        let document = document(&routes);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for target in found {
            let pointer = target.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        let ids: BTreeSet<_> = routes.iter().map(operation_id).collect();
        assert_eq!(ids.len(), routes.len());
    }
}
