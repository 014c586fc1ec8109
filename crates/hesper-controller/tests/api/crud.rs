//! Create, read, change, delete: each kind, each refusal.

use crate::support::{Harness, code, message};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// One entity of each kind that has a name: path, body of a create request, a change.
async fn samples(h: &Harness) -> Vec<(&'static str, Value, Value)> {
    let identity = h.create_id("identities", json!({ "name": "host" })).await;
    let config =
        h.create_id("configs", json!({ "name": "c0", "configTypeId": "host.v1", "data": host_v1() })).await;
    let service = h.create_id("services", json!({ "name": "s0", "configs": [config] })).await;
    let router = h.create_id("edge-routers", json!({ "name": "r0" })).await;
    let roles = |other: &str, roles: &str| json!({ "name": "p1", other: [roles], "serviceRoles": [format!("@{service}")] });
    let mut policy = roles("identityRoles", "#all");
    policy["type"] = json!("Dial");
    vec![
        ("identities", json!({ "name": "i1", "roleAttributes": ["a", "b"] }), json!({ "isAdmin": true })),
        ("services", json!({ "name": "s1", "configs": [config] }), json!({ "maxIdleTimeMillis": 5 })),
        (
            "configs",
            json!({ "name": "c1", "configTypeId": "host.v1", "data": host_v1() }),
            json!({ "tags": { "a": 1 } }),
        ),
        (
            "config-types",
            json!({ "name": "t1", "schema": { "type": "object" } }),
            json!({ "target": "router" }),
        ),
        ("edge-routers", json!({ "name": "r1", "roleAttributes": ["public"] }), json!({ "cost": 7 })),
        ("service-policies", policy, json!({ "semantic": "AllOf" })),
        (
            "edge-router-policies",
            json!({ "name": "p1", "identityRoles": [format!("@{identity}")], "edgeRouterRoles": ["#all"] }),
            json!({ "identityRoles": ["#a", "#b"] }),
        ),
        (
            "service-edge-router-policies",
            roles("edgeRouterRoles", &format!("@{router}")),
            json!({ "serviceRoles": [] }),
        ),
        (
            "terminators",
            json!({ "service": service, "router": router, "hostId": identity, "address": "tcp:a:1" }),
            json!({ "cost": 9, "precedence": "required" }),
        ),
    ]
}

fn host_v1() -> Value {
    json!({ "protocol": "tcp", "address": "localhost", "port": 9100 })
}

#[tokio::test]
async fn what_was_changed_since_it_was_read_is_not_overwritten() {
    let h = Harness::start().await;
    for (plural, body, change) in samples(&h).await {
        let path = format!("/{plural}/{}", h.create_id(plural, body.clone()).await);
        let send = |method: Method, body: &Value, tag: &str| {
            let url = h.url(&format!("{}{path}", crate::support::MANAGEMENT));
            let request = h.client.request(method, url).bearer_auth(&h.token).json(body);
            let request = request.header("if-match", tag);
            async move { crate::support::read(request.send().await.expect("answer")).await }
        };
        let version = |shown: &Value| format!("\"{}\"", shown["updatedAt"].as_str().expect("a time"));
        let first = version(&h.get(&path).await);
        let (status, answer) = send(Method::PATCH, &change, &first).await;
        assert_eq!(status, StatusCode::OK, "{plural}: {answer}");
        let changed = h.get(&path).await;
        for (method, body) in [(Method::PATCH, &change), (Method::PUT, &body), (Method::DELETE, &json!({}))] {
            let (status, answer) = send(method.clone(), body, &first).await;
            assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{plural} {method}: {answer}");
            assert_eq!(code(&answer), "PRECONDITION_FAILED");
            assert!(message(&answer).contains("changed by somebody else"), "{answer}");
            assert_eq!(h.get(&path).await, changed, "{plural} {method}");
        }
        let both = format!("{first}, {}", version(&changed));
        assert_eq!(send(Method::PATCH, &change, &both).await.0, StatusCode::OK, "{plural}");
        assert_eq!(send(Method::DELETE, &json!({}), "*").await.0, StatusCode::OK, "{plural}");
    }
}

#[tokio::test]
async fn a_change_may_demand_that_nobody_else_has_changed_anything_since() {
    let h = Harness::start().await;
    let send = |method: Method, path: &str, body: Value, revision: Option<String>| {
        let url = h.url(&format!("{}{path}", crate::support::MANAGEMENT));
        let request = h.client.request(method, url).bearer_auth(&h.token).json(&body);
        let request = match revision {
            Some(revision) => request.header("hesper-revision", revision),
            None => request,
        };
        async move {
            let answer = request.send().await.expect("answer");
            let revision = answer.headers()["hesper-revision"].to_str().expect("text").to_owned();
            let (status, body) = crate::support::read(answer).await;
            (status, body, revision)
        }
    };
    let (_, _, read) = send(Method::GET, "/services", json!({}), None).await;
    let (status, made, mine) =
        send(Method::POST, "/services", json!({ "name": "mine" }), Some(read.clone())).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_ne!(mine, read);
    let path = format!("/services/{}", made["data"]["id"].as_str().expect("an id"));
    // One's own change is what the next one builds on, and a login is no change.
    h.login(crate::support::ADMIN, crate::support::ADMIN).await;
    let (status, answer, mine) =
        send(Method::PATCH, &path, json!({ "roleAttributes": ["a"] }), Some(mine)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let theirs = h.create_id("services", json!({ "name": "theirs" })).await;
    for (method, path, body) in [
        (Method::POST, "/services", json!({ "name": "another" })),
        (Method::PATCH, &path, json!({ "roleAttributes": ["b"] })),
        (Method::PUT, &path, json!({ "name": "mine" })),
        (Method::DELETE, &path, json!({})),
    ] {
        let (status, answer, _) = send(method.clone(), path, body, Some(mine.clone())).await;
        assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{method}: {answer}");
        assert_eq!(code(&answer), "REVISION_CHANGED");
        assert!(message(&answer).contains("somebody else has changed the network"), "{answer}");
    }
    assert_eq!(h.get(&path).await["roleAttributes"], json!(["a"]));
    h.delete(&format!("/services/{theirs}")).await;
    let (_, _, now) = send(Method::GET, "/services", json!({}), None).await;
    assert_eq!(send(Method::DELETE, &path, json!({}), Some(now)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn every_kind_is_created_read_changed_replaced_and_deleted() {
    let h = Harness::start().await;
    for (plural, body, change) in samples(&h).await {
        let id = h.create_id(plural, body.clone()).await;
        let path = format!("/{plural}/{id}");
        let shown = h.get(&path).await;
        for (field, value) in body.as_object().expect("object").iter().filter(|(f, _)| shown[*f].is_string())
        {
            assert_eq!(&shown[field], value, "{plural}.{field}");
        }
        assert_eq!(shown["createdAt"], shown["updatedAt"], "{plural}");

        let (status, answer) = h.request(Method::PATCH, &path, Some(&change)).await;
        assert_eq!(status, StatusCode::OK, "{plural}: {answer}");
        let patched = h.get(&path).await;
        let (field, value) = change.as_object().and_then(|c| c.iter().next()).expect("a field");
        assert_eq!(&patched[field], value, "{plural}");
        assert_eq!(patched["name"], shown["name"], "a PATCH leaves the rest as it was");
        assert!(patched["updatedAt"].as_str() > shown["updatedAt"].as_str());

        let (status, answer) = h.request(Method::PUT, &path, Some(&body)).await;
        assert_eq!(status, StatusCode::OK, "{plural}: {answer}");
        assert_eq!(
            h.get(&path).await[field],
            shown[field],
            "a PUT takes the rest back to its default: {plural}"
        );
        // What was read can be sent back.
        let (status, answer) = h.request(Method::PUT, &path, Some(&h.get(&path).await)).await;
        assert_eq!(status, StatusCode::OK, "{plural}: {answer}");

        assert_eq!(h.delete(&path).await.0, StatusCode::OK, "{plural}");
        let (status, answer) = h.delete(&path).await;
        assert_eq!((status, code(&answer)), (StatusCode::NOT_FOUND, "NOT_FOUND"), "{plural}");
        for method in [Method::PATCH, Method::GET] {
            let (status, _) = h.request(method, &path, Some(&json!({}))).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{plural}");
        }
    }
}

#[tokio::test]
async fn names_are_unique_within_a_kind_and_free_again_afterwards() {
    let h = Harness::start().await;
    for (plural, body, _) in samples(&h).await.into_iter().filter(|(p, ..)| *p != "terminators") {
        let id = h.create_id(plural, body.clone()).await;
        let (status, answer) = h.request(Method::POST, &format!("/{plural}"), Some(&body)).await;
        assert_eq!((status, code(&answer)), (StatusCode::CONFLICT, "CONFLICT"), "{plural}");
        assert_eq!(answer["error"]["cause"]["field"], "name");
        assert!(message(&answer).contains(&id), "the holder is named: {answer}");
        let mut other = body.clone();
        other["name"] = json!("other");
        let other_id = h.create_id(plural, other.clone()).await;
        let (status, _) = h
            .request(Method::PATCH, &format!("/{plural}/{other_id}"), Some(&json!({ "name": body["name"] })))
            .await;
        assert_eq!(status, StatusCode::CONFLICT, "a rename onto a taken name: {plural}");
        assert_eq!(h.delete(&format!("/{plural}/{id}")).await.0, StatusCode::OK);
        let (status, _) = h
            .request(Method::PATCH, &format!("/{plural}/{other_id}"), Some(&json!({ "name": body["name"] })))
            .await;
        assert_eq!(status, StatusCode::OK, "the name is free again: {plural}");
        h.create_id(plural, other).await;
    }
}

#[tokio::test]
async fn bad_fields_are_named_with_the_reason() {
    let h = Harness::start().await;
    let policy = |roles: Value| json!({ "name": "p", "type": "Dial", "serviceRoles": roles });
    let config = |data: Value| json!({ "name": "c", "configTypeId": "intercept.v1", "data": data });
    let bad_ports =
        json!({ "protocols": ["tcp"], "addresses": ["a.b"], "portRanges": [{ "low": "1", "high": 2 }] });
    let cases = [
        ("services", json!({}), "name", "is required"),
        ("services", json!({ "name": "" }), "name", "must not be empty"),
        ("services", json!({ "name": " a" }), "name", "must not begin or end with a space"),
        ("services", json!({ "name": "a\u{7}" }), "name", "must not contain control characters"),
        ("services", json!({ "name": "a".repeat(300) }), "name", "must not be longer than 256 bytes"),
        ("services", json!({ "name": 5 }), "name", "must be a text"),
        ("services", json!({ "name": "a", "colour": "red" }), "colour", "is not a field of a service"),
        (
            "services",
            json!({ "name": "a", "configs": ["nope"] }),
            "configs",
            "no configs found with the given ids: nope",
        ),
        (
            "services",
            json!({ "name": "a", "roleAttributes": ["#x"] }),
            "roleAttributes",
            "may not be empty or start with # or @",
        ),
        (
            "services",
            json!({ "name": "a", "roleAttributes": "x" }),
            "roleAttributes",
            "must be a list of texts",
        ),
        (
            "services",
            json!({ "name": "a", "terminatorStrategy": "best" }),
            "terminatorStrategy",
            "must be one of smartrouting",
        ),
        (
            "services",
            json!({ "name": "a", "encryptionRequired": false }),
            "encryptionRequired",
            "encrypted end to end",
        ),
        (
            "services",
            json!({ "name": "a", "maxIdleTimeMillis": -1 }),
            "maxIdleTimeMillis",
            "must be a whole number",
        ),
        (
            "identities",
            json!({ "name": "a", "enrollment": { "updb": "x" } }),
            "enrollment",
            "must be {\"ott\": true}",
        ),
        ("identities", json!({ "name": "a", "type": "Router" }), "type", "must be one of"),
        ("identities", json!({ "name": "a", "tags": [] }), "tags", "must be a JSON object"),
        (
            "service-policies",
            policy(json!(["@nope"])),
            "serviceRoles",
            "no services found with the given ids: nope",
        ),
        ("service-policies", policy(json!(["nope"])), "serviceRoles", "must be prefixed with #"),
        (
            "service-policies",
            policy(json!(["#all", "#a"])),
            "serviceRoles",
            "if using #all, it should be the only role",
        ),
        ("service-policies", json!({ "name": "p", "type": "dial" }), "type", "must be one of Dial, Bind"),
        ("configs", config(bad_ports), "data.portRanges[0].low", "integer"),
        (
            "configs",
            json!({ "name": "c", "configTypeId": "nope", "data": {} }),
            "configTypeId",
            "no config-types found",
        ),
        ("config-types", json!({ "name": "t", "schema": { "type": 5 } }), "schema", "schema"),
        ("terminators", json!({ "serviceId": "nope", "hostId": "nope" }), "hostId", "no identities found"),
        (
            "edge-routers",
            json!({ "name": "r", "cost": 70000 }),
            "cost",
            "must be a whole number from 0 to 65535",
        ),
        ("enrollments", json!({}), "identityId", "is required"),
        (
            "enrollments",
            json!({ "identityId": "nope" }),
            "identityId",
            "no identities found with the given ids",
        ),
    ];
    for (plural, body, field, reason) in cases {
        let (status, answer) = h.request(Method::POST, &format!("/{plural}"), Some(&body)).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::BAD_REQUEST, "INVALID_FIELD"),
            "{plural} {body}: {answer}"
        );
        let cause = &answer["error"]["cause"];
        assert_eq!(cause["field"], field, "{answer}");
        assert!(cause["reason"].as_str().expect("reason").contains(reason), "{reason}: {answer}");
        assert!(message(&answer).contains(field), "{answer}");
        assert!(!answer["error"]["requestId"].as_str().expect("request id").is_empty());
    }
    let summary = h.get("/summary").await;
    assert_eq!(
        (summary["services"].as_u64(), summary["identities"].as_u64()),
        (Some(0), Some(1)),
        "nothing was half-created"
    );
}

#[tokio::test]
async fn bodies_that_are_no_objects_are_refused() {
    let h = Harness::start().await;
    let url = h.url("/edge/management/v1/services");
    for body in ["", "{", "[]", "\"a\"", "{\"name\": \"a\"} x"] {
        let request = h.client.post(&url).bearer_auth(&h.token).body(body);
        let (status, answer) = crate::support::read(request.send().await.expect("answer")).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::BAD_REQUEST, "COULD_NOT_VALIDATE"),
            "{body:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_service_takes_one_config_of_each_type() {
    let h = Harness::start().await;
    let config = async |name: &str| {
        h.create_id("configs", json!({ "name": name, "configTypeId": "host.v1", "data": host_v1() })).await
    };
    let (a, b) = (config("a").await, config("b").await);
    let (status, answer) =
        h.request(Method::POST, "/services", Some(&json!({ "name": "s", "configs": [a, b] }))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message(&answer).contains("host.v1"), "{answer}");
}

#[tokio::test]
async fn deletions_leave_no_reference_behind() {
    let h = Harness::start().await;
    let identity = h.create_id("identities", json!({ "name": "i" })).await;
    let service = h.create_id("services", json!({ "name": "s" })).await;
    let router = h.create_id("edge-routers", json!({ "name": "r" })).await;
    let (i, s, r) = (format!("@{identity}"), format!("@{service}"), format!("@{router}"));
    let sp = h
        .create_id(
            "service-policies",
            json!({ "name": "sp", "type": "Bind", "identityRoles": [i, "#x"], "serviceRoles": [s] }),
        )
        .await;
    let erp = h
        .create_id(
            "edge-router-policies",
            json!({ "name": "erp", "identityRoles": [i], "edgeRouterRoles": [r] }),
        )
        .await;
    let serp = h
        .create_id(
            "service-edge-router-policies",
            json!({ "name": "serp", "serviceRoles": [s], "edgeRouterRoles": [r, "#y"] }),
        )
        .await;
    let terminator =
        async || h.create_id("terminators", json!({ "serviceId": service, "hostId": identity })).await;
    let of_identity = terminator().await;
    assert_eq!(h.get(&format!("/identities/{identity}/enrollments")).await.as_array().map(Vec::len), Some(1));

    assert_eq!(h.delete(&format!("/identities/{identity}")).await.0, StatusCode::OK);
    assert_eq!(h.get(&format!("/service-policies/{sp}")).await["identityRoles"], json!(["#x"]));
    assert_eq!(h.get(&format!("/edge-router-policies/{erp}")).await["identityRoles"], json!([]));
    assert_eq!(
        h.request(Method::GET, &format!("/terminators/{of_identity}"), None).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(h.get("/enrollments").await.as_array().map(Vec::len), Some(1), "only the router's is left");

    assert_eq!(h.delete(&format!("/edge-routers/{router}")).await.0, StatusCode::OK);
    assert_eq!(h.get(&format!("/edge-router-policies/{erp}")).await["edgeRouterRoles"], json!([]));
    assert_eq!(
        h.get(&format!("/service-edge-router-policies/{serp}")).await["edgeRouterRoles"],
        json!(["#y"])
    );
    assert_eq!(h.get("/enrollments").await, json!([]));

    assert_eq!(h.delete(&format!("/services/{service}")).await.0, StatusCode::OK);
    assert_eq!(h.get(&format!("/service-policies/{sp}")).await["serviceRoles"], json!([]));
    assert_eq!(h.get(&format!("/service-edge-router-policies/{serp}")).await["serviceRoles"], json!([]));
}

#[tokio::test]
async fn what_is_in_use_or_built_in_stays() {
    let h = Harness::start().await;
    let type_id = h.create_id("config-types", json!({ "name": "t", "schema": { "type": "object" } })).await;
    let config =
        h.create_id("configs", json!({ "name": "c", "configTypeId": type_id, "data": { "a": 1 } })).await;
    let service = h.create_id("services", json!({ "name": "svc", "configs": [config] })).await;
    for (path, users) in [(format!("/configs/{config}"), "svc"), (format!("/config-types/{type_id}"), "c")] {
        let (status, answer) = h.delete(&path).await;
        assert_eq!((status, code(&answer)), (StatusCode::CONFLICT, "CONFLICT"), "{path}");
        assert!(message(&answer).contains(users), "who uses it is named: {answer}");
    }
    let strict = json!({ "schema": { "type": "object", "required": ["b"] } });
    let (status, answer) = h.request(Method::PATCH, &format!("/config-types/{type_id}"), Some(&strict)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message(&answer).contains("'c'"), "{answer}");
    assert_eq!(h.delete("/config-types/host.v1").await.0, StatusCode::CONFLICT);
    assert_eq!(
        h.request(Method::PATCH, "/config-types/host.v1", Some(&json!({ "name": "x" }))).await.0,
        StatusCode::CONFLICT
    );
    for path in
        [format!("/services/{service}"), format!("/configs/{config}"), format!("/config-types/{type_id}")]
    {
        assert_eq!(h.delete(&path).await.0, StatusCode::OK, "{path}");
    }
    let admins = h.get("/identities?filter=isAdmin%3Dtrue").await;
    let path = format!("/identities/{}", admins[0]["id"].as_str().expect("id"));
    assert_eq!(h.delete(&path).await.0, StatusCode::CONFLICT, "the default administrator stays");
    assert_eq!(
        h.request(Method::PATCH, &path, Some(&json!({ "isAdmin": false }))).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn permissions_are_known_words() {
    let h = Harness::start().await;
    let none = h.create_id("identities", json!({ "name": "none" })).await;
    assert_eq!(h.get(&format!("/identities/{none}")).await["permissions"], json!([]));
    let body = json!({ "name": "some", "permissions": ["telemetry.forward"] });
    let some = format!("/identities/{}", h.create_id("identities", body).await);
    assert_eq!(h.get(&some).await["permissions"], json!(["telemetry.forward"]));
    let odd = json!({ "permissions": ["telemetry.read"] });
    let (status, answer) = h.request(Method::PATCH, &some, Some(&odd)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let told = message(&answer);
    assert!(told.contains("telemetry.read") && told.contains("the words are telemetry.forward"), "{told}");
    let (status, _) = h.request(Method::PATCH, &some, Some(&json!({ "permissions": [] }))).await;
    assert_eq!((status, &h.get(&some).await["permissions"]), (StatusCode::OK, &json!([])));
}

#[tokio::test]
async fn everything_is_still_there_after_a_restart_and_changes_are_audited() {
    let mut h = Harness::start().await;
    let id = h.create_id("services", json!({ "name": "kept" })).await;
    h.stop().await;
    h.resume().await;
    assert_eq!(h.get(&format!("/services/{id}")).await["name"], "kept");
    assert_eq!(h.delete(&format!("/services/{id}")).await.0, StatusCode::OK);
    let audit = std::fs::read_to_string(h.home().join("audit.jsonl")).expect("audit file");
    let events: Vec<Value> = audit.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let changes: Vec<_> =
        events.iter().filter(|e| e["event"] == "change" && e["entityId"] == json!(id)).collect();
    let operations: Vec<_> = changes.iter().map(|e| (e["operation"].as_str(), e["name"].as_str())).collect();
    assert_eq!(operations, [(Some("create"), Some("kept")), (Some("delete"), Some("kept"))]);
    assert!(changes.iter().all(|e| e["actor"] == "Default Admin" && e["outcome"] == "success"));
    assert_eq!(events.iter().filter(|e| e["event"] == "login" && e["outcome"] == "success").count(), 2);
}
