//! Who may call what. The routes come from the controller's own table, so that a new one cannot be forgotten.

use crate::support::{ADMIN, Harness, MANAGEMENT, code, read};
use hesper_store::Txn;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// Every route as (method, path, is it guarded?).
async fn routes(h: &Harness) -> Vec<(Method, String, bool)> {
    let document: Value =
        h.client.get(h.url("/openapi.json")).send().await.expect("answer").json().await.expect("JSON");
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let method = method.to_uppercase().parse().expect("method");
            let guarded = operation["security"].as_array().is_some_and(|s| !s.is_empty());
            routes.push((method, path.replace("{id}", "x").replace("{serial}", "00ff"), guarded));
        }
    }
    routes
}

async fn status(
    client: &Client,
    h: &Harness,
    method: &Method,
    path: &str,
    token: Option<&str>,
) -> (StatusCode, Value) {
    let request = client.request(method.clone(), h.url(path)).body("{}");
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    read(request.send().await.expect("answer")).await
}

#[tokio::test]
async fn every_management_route_refuses_whoever_is_no_administrator() {
    let mut h = Harness::start().await;
    let (_, user) = h.enroll("user", json!({})).await;
    let stale = h.login(ADMIN, ADMIN).await;
    h.stop().await;
    age_sessions(&h).await;
    h.resume().await;
    // Was an administrator when it logged in.
    let id = h.create_id("identities", json!({ "name": "was admin", "isAdmin": true })).await;
    let password = json!({ "username": "was", "password": "admin" });
    assert_eq!(
        h.request(Method::PUT, &format!("/identities/{id}/password"), Some(&password)).await.0,
        StatusCode::OK
    );
    let demoted = h.login("was", "admin").await;
    h.request(Method::PATCH, &format!("/identities/{id}"), Some(&json!({ "isAdmin": false }))).await;

    let with_certificate = h.client_of(&user);
    let mut guarded = 0;
    for (method, path, is_guarded) in routes(&h).await {
        let management = path.starts_with(MANAGEMENT);
        if !is_guarded {
            let opens = ["/authenticate", "/version"].iter().any(|end| path.ends_with(end));
            assert!(!management || opens, "{path} is open");
            continue;
        }
        if !management {
            continue;
        }
        guarded += 1;
        let tries = [
            ("no token", &h.client, None, StatusCode::UNAUTHORIZED),
            ("a wrong token", &h.client, Some("nonsense"), StatusCode::UNAUTHORIZED),
            ("an empty token", &h.client, Some(""), StatusCode::UNAUTHORIZED),
            ("an expired token", &h.client, Some(stale.as_str()), StatusCode::UNAUTHORIZED),
            ("a user's certificate", &with_certificate, None, StatusCode::UNAUTHORIZED),
            ("a demoted administrator's token", &h.client, Some(demoted.as_str()), StatusCode::FORBIDDEN),
        ];
        for (name, client, token, expected) in tries {
            let (status, answer) = status(client, &h, &method, &path, token).await;
            assert_eq!(status, expected, "{method} {path} with {name}: {answer}");
            assert!(["UNAUTHORIZED", "FORBIDDEN"].contains(&code(&answer)), "{answer}");
        }
        let (status, answer) = status(&h.client, &h, &method, &path, Some(&h.token)).await;
        let lets_in = ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::METHOD_NOT_ALLOWED]
            .contains(&status);
        let known = status != StatusCode::NOT_FOUND
            || answer["error"]["message"]
                .as_str()
                .is_some_and(|m| m.contains("with id x") || m.contains("with the serial 00ff"));
        assert!(lets_in && known, "{method} {path} as administrator: {status} {answer}");
        if path.ends_with("/current-api-session") && method == Method::DELETE {
            h.token = h.login(ADMIN, ADMIN).await;
        }
    }
    assert!(guarded > 70, "{guarded} routes are too few to be all");
}

/// Every session was used last an hour ago.
async fn age_sessions(h: &Harness) {
    let store = hesper_store::open_sqlite(h.home().join("hesper.db")).expect("store");
    for object in store.list("api-session/").await.expect("sessions") {
        let mut session: Value = serde_json::from_slice(&object.value).expect("JSON");
        let hour_ago = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
        session["lastUsed"] =
            json!(hour_ago.format(&time::format_description::well_known::Rfc3339).expect("time"));
        store.commit(Txn::new().put(object.key, session.to_string())).await.expect("commit");
    }
    store.close().await;
}

#[tokio::test]
async fn logins_by_password_and_by_certificate() {
    let h = Harness::start().await;
    let authenticate = |client: &Client, query: &str, body: Value| {
        let request = client.post(h.url(&format!("{MANAGEMENT}/authenticate{query}"))).json(&body);
        async move { read(request.send().await.expect("answer")).await }
    };
    for (username, password) in [(ADMIN, "wrong"), ("nobody", ADMIN), ("", ""), (ADMIN, "")] {
        let (status, answer) =
            authenticate(&h.client, "", json!({ "username": username, "password": password })).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
        assert_eq!(answer["error"]["message"], "wrong username or password");
    }
    let (status, answer) = authenticate(&h.client, "?method=magic", json!({})).await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "INVALID_FIELD"));

    let (id, admin) = h.enroll("by certificate", json!({ "isAdmin": true })).await;
    let (_, user) = h.enroll("user", json!({})).await;
    let (status, answer) = authenticate(&h.client_of(&admin), "?method=cert", json!({})).await;
    assert_eq!((status, &answer["data"]["identityId"]), (StatusCode::OK, &json!(id)), "{answer}");
    let token = answer["data"]["token"].as_str().expect("token").to_owned();
    assert!(answer["data"]["expiresAt"].is_string());
    assert_eq!(authenticate(&h.client_of(&user), "?method=cert", json!({})).await.0, StatusCode::FORBIDDEN);
    assert_eq!(authenticate(&h.client, "?method=cert", json!({})).await.0, StatusCode::UNAUTHORIZED);

    // The session ends with a logout, and nothing of it was stored in clear.
    let current = format!("{MANAGEMENT}/current-api-session");
    assert_eq!(status_of(&h, Method::GET, &current, &token).await, StatusCode::OK);
    assert_eq!(status_of(&h, Method::DELETE, &current, &token).await, StatusCode::OK);
    assert_eq!(status_of(&h, Method::GET, &current, &token).await, StatusCode::UNAUTHORIZED);
    let stored = std::fs::read(h.home().join("hesper.db-wal")).expect("the store's log");
    let holds = |needle: &str| stored.windows(needle.len()).any(|w| w == needle.as_bytes());
    assert!(holds("api-session/") && !holds(&h.token), "tokens are kept hashed");

    // A certificate that was replaced by another enrollment, or whose identity was disabled, opens nothing.
    let made = h.create("enrollments", json!({ "identityId": id })).await;
    let key = hesper_pki::key::generate().expect("key");
    assert_eq!(h.redeem(made["jwt"].as_str().expect("jwt"), &key).await.0, StatusCode::OK);
    let (status, answer) = authenticate(&h.client_of(&admin), "?method=cert", json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    assert!(answer["error"]["message"].as_str().expect("message").contains("revoked"), "{answer}");
}

async fn status_of(h: &Harness, method: Method, path: &str, token: &str) -> StatusCode {
    status(&h.client, h, &method, path, Some(token)).await.0
}

#[tokio::test]
async fn too_many_wrong_passwords_have_to_wait() {
    let h = Harness::start().await;
    let url = h.url(&format!("{MANAGEMENT}/authenticate"));
    let body = json!({ "username": "mallory", "password": "guess" });
    let mut last = None;
    for _ in 0..6 {
        last = Some(h.client.post(&url).json(&body).send().await.expect("answer"));
    }
    let last = last.expect("an answer");
    assert_eq!(last.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(last.headers()["retry-after"].to_str().is_ok_and(|s| s.parse::<u64>().is_ok_and(|s| s > 0)));
    h.login(ADMIN, ADMIN).await;
}

#[tokio::test]
async fn wrong_passwords_at_once_are_no_more_than_one_after_the_other() {
    let h = Harness::start().await;
    let url = h.url(&format!("{MANAGEMENT}/authenticate"));
    let body = json!({ "username": ADMIN, "password": "guess" });
    let guesses = (0..20).map(|_| h.client.post(&url).json(&body).send());
    let answers = futures::future::join_all(guesses).await;
    let statuses: Vec<_> = answers.into_iter().map(|a| a.expect("answer").status()).collect();
    let tried = statuses.iter().filter(|s| **s == StatusCode::UNAUTHORIZED).count();
    let told_to_wait = statuses.iter().filter(|s| **s == StatusCode::TOO_MANY_REQUESTS).count();
    assert!(tried <= 5 && tried + told_to_wait == 20, "{statuses:?}");
}

#[tokio::test]
async fn open_routes_answer_everybody_and_unknown_ones_say_so() {
    let h = Harness::start().await;
    for path in [
        "/healthz",
        "/version",
        "/openapi.json",
        "/.well-known/est/cacerts",
        "/edge/client/v1/version",
        "/metrics",
    ] {
        let answer = h.client.get(h.url(path)).send().await.expect("answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    let metrics = h.client.get(h.url("/metrics")).send().await.expect("answer");
    assert!(
        metrics.headers()["content-type"].to_str().is_ok_and(|t| t.starts_with("text/plain; version=0.0.4"))
    );
    let metrics = metrics.text().await.expect("text");
    for line in [
        "hesper_entities{kind=\"config-type\"} 6",
        "hesper_logins_total{method=\"password\",result=\"success\"} 1",
        "hesper_model_revision ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.contains("route=\"/version\"") && !metrics.contains("route=\"/nope\""));
    let (unknown, answer) = read(h.client.get(h.url("/nope")).send().await.expect("answer")).await;
    assert_eq!((unknown, code(&answer)), (StatusCode::NOT_FOUND, "NOT_FOUND"));
    let (wrong, answer) = read(h.client.post(h.url("/version")).send().await.expect("answer")).await;
    assert_eq!((wrong, code(&answer)), (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"));
}

#[tokio::test]
async fn what_strangers_ask_for_makes_no_series_of_its_own() {
    let h = Harness::start().await;
    let page = async || {
        let answer = h.client.get(h.url("/metrics")).send().await.expect("answer");
        answer.text().await.expect("text")
    };
    let strange = async |round: usize| {
        for (method, path) in
            [("GET", "nope"), ("BREW", "version"), ("PUT", "metrics"), ("OPTIONS", "edge/management/v1")]
        {
            let method = Method::from_bytes(method.as_bytes()).expect("method");
            let url = h.url(&format!("/{path}?round={round}"));
            h.client.request(method, url).send().await.expect("answer");
        }
        let path = format!("/hesper.control.v1.NodeControl/Made{round}");
        let call = h.client.post(h.url(&path)).header("content-type", "application/grpc");
        call.send().await.expect("answer");
        let id = format!("/edge/management/v1/identities/i{round}");
        h.client.get(h.url(&id)).send().await.expect("answer");
        h.client.get(h.url(&format!("/made/up/{round}"))).send().await.expect("answer");
    };
    let series = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    // A request is counted after its answer: the page of so many rounds, once it has them all.
    let counted = async |rounds: usize| {
        let calls = "hesper_grpc_request_duration_seconds_count{method=\"unknown\",code=\"UNIMPLEMENTED\"}";
        let requests =
            "hesper_http_request_duration_seconds_count{method=\"other\",route=\"unknown\",status=\"4xx\"}";
        let wanted = [format!("{calls} {rounds}\n"), format!("{requests} {}\n", 5 * rounds)];
        for _ in 0..500 {
            let page = page().await;
            if wanted.iter().all(|line| page.contains(line)) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{wanted:?} are not on {}", page().await);
    };
    strange(0).await;
    counted(1).await;
    // Twice: the page itself is asked for, too.
    let before = series(&counted(1).await);
    for round in 1..20 {
        strange(round).await;
    }
    let after = counted(20).await;
    assert_eq!(series(&after), before, "{after}");
    assert!(!after.contains("/made"), "{after}");
}
