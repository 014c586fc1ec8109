//! Every REST route, in one table: it mounts the routes, guards them, and is the OpenAPI document.

use super::{
    ca,
    call::{Call, Reply},
    entities, events, extras,
    kinds::{Managed, with_kind},
    openapi, sublists,
};
use crate::{auth, enroll, state::State};
use hesper_model::entity::Kind;
use http::Method;
use std::sync::Arc;

/// Where the management API is.
pub(crate) const MANAGEMENT: &str = "/edge/management/v1";
/// Where nodes and routers enroll.
pub(crate) const CLIENT: &str = "/edge/client/v1";

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: what one needs before one can log in.
    Open,
    /// An administrator who is logged in.
    Admin,
    /// An administrator, logged in or by client certificate, or whoever is on this machine.
    Operator,
}

/// What a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// No body.
    Nothing,
    /// A new entity.
    Create(Kind),
    /// Some fields of an entity.
    Patch(Kind),
    /// A whole entity.
    Replace(Kind),
    /// A named schema of the OpenAPI document.
    Schema(&'static str),
}

/// What a route gives when all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// One entity.
    Entity(Kind),
    /// A page of entities.
    Page(Kind),
    /// 201 and the id, and what only the creator is told.
    Created(Kind),
    /// A page of a named schema.
    PageOf(&'static str),
    /// A named schema in the envelope.
    Schema(&'static str),
    /// Nothing but the empty envelope.
    Empty,
    /// The last events in the envelope, or a stream of them.
    Events,
    /// A body of this content type, without the envelope.
    Plain(&'static str),
}

/// A query parameter: name and what it is.
pub(crate) type Parameter = (&'static str, &'static str);

/// One route.
pub(crate) struct Route {
    /// The method.
    pub(crate) method: Method,
    /// The path, with `{id}` parameters.
    pub(crate) path: String,
    /// Who may.
    pub(crate) access: Access,
    /// Name of the operation: `list`, `create`, … for events and the OpenAPI document.
    pub(crate) operation: &'static str,
    /// One line about it.
    pub(crate) summary: String,
    /// What it takes.
    pub(crate) input: Input,
    /// What it gives.
    pub(crate) output: Output,
    /// Its query parameters.
    pub(crate) parameters: &'static [Parameter],
    /// The kind of entity that it changes, for the event.
    pub(crate) changes: Option<&'static str>,
    /// What runs.
    pub(crate) handler: fn(Arc<State>, Call) -> Reply,
}

const PAGING: &[Parameter] = &[
    (
        "filter",
        "Which, in which order, how many: `name contains \"x\" sort by name limit 50` (OpenZiti's filter grammar).",
    ),
    ("limit", "Items of a page, at most 500, or `none` for all. Default 10."),
    ("offset", "Items to leave out at the start."),
];
const PAGING_ROLES: &[Parameter] = &[
    PAGING[0],
    PAGING[1],
    PAGING[2],
    ("roleFilter", "Only entities that these roles match: `#attribute`, `@id`, `#all`; repeatable."),
    ("roleSemantic", "`AnyOf` (default) or `AllOf`."),
];
const PAGING_ADVICE: &[Parameter] = &[
    ("identity", "Id of an identity."),
    ("service", "Id of a service."),
    ("by", "Without either: `identity` (default) or `service`."),
    PAGING[0],
    PAGING[1],
    PAGING[2],
];

const EVENTS: &[Parameter] = &[
    ("event", "Only these: a name such as `dial`, or a namespace such as `circuit`; repeatable."),
    ("outcome", "Only these: `success`, `denied` or `failure`; repeatable."),
    ("identity", "Only events about this identity or done by it: id or name."),
    ("service", "Only events about this service: id or name."),
    ("since", "Only events after the one of this `sequence`."),
    (
        "start",
        "The `start` that the sequence is of: in another start of the controller there is none before it.",
    ),
    ("within", "Only events of the last so many seconds."),
    ("limit", "Events of one answer, 1 to 4096, the last ones. Default 500."),
    (
        "follow",
        "`true`: a stream of those that happen from now on, or after `since`, a JSON object a line. Lines without an `event`, blank ones \
         and those that only tell the `sequence` that was reached, come every 10 s. `missed` tells that `count` events could not be kept \
         for this reader. It ends after nine minutes, and with the session: come again with `since` and `start`.",
    ),
];

/// The whole table.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    for kind in Kind::ALL {
        with_kind!(kind, E => of_kind::<E>(&mut routes));
    }
    for sub in &sublists::ALL {
        let path = format!("{MANAGEMENT}/{}/{{id}}/{}", sub.parent.plural(), sub.child.plural());
        let summary = format!("The {} of one {}", sub.child.plural(), sub.parent);
        let route = Route::get(path, "list", summary, Output::Page(sub.child), sub.handler);
        routes.push(Route { parameters: PAGING, ..route });
    }
    management(&mut routes);
    client(&mut routes);
    routes
}

fn of_kind<E: Managed>(routes: &mut Vec<Route>) {
    let kind = E::KIND;
    let all = format!("{MANAGEMENT}/{}", kind.plural());
    let one = format!("{all}/{{id}}");
    let list = Route::get(
        all.clone(),
        "list",
        format!("List {}", kind.plural()),
        Output::Page(kind),
        entities::list::<E>,
    );
    let has_roles = matches!(kind, Kind::Identity | Kind::Service | Kind::EdgeRouter);
    routes.push(Route { parameters: if has_roles { PAGING_ROLES } else { PAGING }, ..list });
    routes.push(Route::get(
        one.clone(),
        "detail",
        format!("One {kind}"),
        Output::Entity(kind),
        entities::detail::<E>,
    ));
    let change = |method, path: &str, operation, input, output, handler| Route {
        method,
        changes: Some(kind.singular()),
        input,
        ..Route::get(path.to_owned(), operation, format!("{} {kind}", verb(operation)), output, handler)
    };
    let create = entities::create::<E>;
    routes.push(change(Method::POST, &all, "create", Input::Create(kind), Output::Created(kind), create));
    if E::MUTABLE {
        let (patch, replace) = (entities::patch::<E>, entities::replace::<E>);
        routes.push(change(Method::PATCH, &one, "update", Input::Patch(kind), Output::Empty, patch));
        routes.push(change(Method::PUT, &one, "replace", Input::Replace(kind), Output::Empty, replace));
    }
    routes.push(change(Method::DELETE, &one, "delete", Input::Nothing, Output::Empty, entities::delete::<E>));
}

fn verb(operation: &str) -> &'static str {
    match operation {
        "create" => "Create one",
        "update" => "Change the given fields of one",
        "replace" => "Replace one",
        _ => "Delete one, and every reference to it: one",
    }
}

fn management(routes: &mut Vec<Route>) {
    let at = |path: &str| format!("{MANAGEMENT}{path}");
    let login = Route {
        method: Method::POST,
        access: Access::Open,
        input: Input::Schema("Login"),
        parameters: &[(
            "method",
            "`password` (default) with a body, or `cert` with an administrator's client certificate.",
        )],
        ..Route::get(
            at("/authenticate"),
            "authenticate",
            "Log in",
            Output::Schema("Session"),
            auth::authenticate,
        )
    };
    routes.push(login);
    routes.push(Route::get(
        at("/current-api-session"),
        "detail",
        "The session in use",
        Output::Schema("CurrentSession"),
        auth::current,
    ));
    let logout = Route {
        method: Method::DELETE,
        ..Route::get(at("/current-api-session"), "logout", "Log out", Output::Empty, auth::logout)
    };
    routes.push(logout);
    let password = Route {
        method: Method::PUT,
        input: Input::Schema("Password"),
        changes: Some("authenticator"),
        ..Route::get(
            at("/identities/{id}/password"),
            "replace",
            "Set an administrator's username and password",
            Output::Empty,
            auth::set_password,
        )
    };
    routes.push(password);
    let advice = Route::get(
        at("/policy-advice"),
        "list",
        "What stands between identities and services",
        Output::PageOf("Advice"),
        extras::advice,
    );
    routes.push(Route { parameters: PAGING_ADVICE, ..advice });
    let hint = Route::get(
        at("/hints"),
        "detail",
        "What is still missing before a service can be dialed",
        Output::Schema("Hint"),
        extras::hint,
    );
    routes.push(Route {
        parameters: &[
            ("service", "Id of a service."),
            ("servicePolicy", "Or id of a service policy."),
            ("terminator", "Or id of a terminator."),
        ],
        ..hint
    });
    let ca_status = Output::Schema("CaStatus");
    routes.push(Route::get(
        at("/ca"),
        "detail",
        "The CA and where its rotation stands",
        ca_status,
        ca::status,
    ));
    routes.push(Route {
        method: Method::POST,
        input: Input::Schema("CaStep"),
        changes: Some("ca"),
        ..Route::get(at("/ca/rotate"), "rotate", "Take a step of the CA's rotation", ca_status, ca::step)
    });
    let certificates = Route::get(
        at("/certificates"),
        "list",
        "Certificates of identities and routers",
        Output::PageOf("Certificate"),
        ca::list,
    );
    routes.push(Route { parameters: PAGING, ..certificates });
    routes.push(Route {
        method: Method::POST,
        changes: Some("certificate"),
        ..Route::get(
            at("/certificates/{serial}/revoke"),
            "revoke",
            "Withdraw a certificate and its renewals",
            Output::Schema("Revoked"),
            ca::withdraw,
        )
    });
    let last = Route::get(
        at("/events"),
        "list",
        "What happened last: who was let do what and who was not, and what became of the network",
        Output::Events,
        events::list,
    );
    routes.push(Route { parameters: EVENTS, ..last });
    routes.push(Route::get(
        at("/summary"),
        "detail",
        "How many entities of each kind there are",
        Output::Schema("Summary"),
        extras::summary,
    ));
    for (path, summary, handler) in [
        (
            "/identity-role-attributes",
            "Role attributes of identities",
            extras::identity_attributes as fn(Arc<State>, Call) -> Reply,
        ),
        ("/service-role-attributes", "Role attributes of services", extras::service_attributes),
        ("/edge-router-role-attributes", "Role attributes of edge routers", extras::router_attributes),
    ] {
        let route = Route::get(at(path), "list", summary, Output::PageOf("RoleAttribute"), handler);
        routes.push(Route { parameters: PAGING, ..route });
    }
}

fn client(routes: &mut Vec<Route>) {
    let open = |path: String, operation, summary: &str, output, handler| Route {
        access: Access::Open,
        ..Route::get(path, operation, summary, output, handler)
    };
    let enroll = Route {
        method: Method::POST,
        input: Input::Schema("Enroll"),
        ..open(
            format!("{CLIENT}/enroll"),
            "enroll",
            "Redeem a one-time token",
            Output::Schema("Enrolled"),
            enroll::handle,
        )
    };
    routes.push(enroll);
    let pem = Output::Plain("application/x-pem-file");
    for prefix in ["", CLIENT] {
        let path = format!("{prefix}/.well-known/est/cacerts");
        routes.push(open(path, "detail", "The certificate authority, PEM", pem, extras::ca_certificates));
    }
    for prefix in ["", MANAGEMENT, CLIENT] {
        let path = format!("{prefix}/version");
        routes.push(open(
            path,
            "detail",
            "Version of the controller",
            Output::Schema("Version"),
            extras::version,
        ));
    }
    routes.push(open(
        "/openapi.json".into(),
        "detail",
        "This document",
        Output::Plain("application/json"),
        openapi::handle,
    ));
    routes.push(open(
        "/healthz".into(),
        "detail",
        "200 while the store answers",
        Output::Plain("text/plain"),
        extras::healthz,
    ));
    let metrics = Route::get(
        "/metrics".into(),
        "detail",
        "Metrics for Prometheus",
        Output::Plain("text/plain"),
        extras::metrics,
    );
    routes.push(Route { access: Access::Operator, ..metrics });
}

impl Route {
    fn get(
        path: String,
        operation: &'static str,
        summary: impl Into<String>,
        output: Output,
        handler: fn(Arc<State>, Call) -> Reply,
    ) -> Self {
        Self {
            method: Method::GET,
            path,
            access: Access::Admin,
            operation,
            summary: summary.into(),
            input: Input::Nothing,
            output,
            parameters: &[],
            changes: None,
            handler,
        }
    }
}
