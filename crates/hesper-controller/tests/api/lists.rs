//! Lists: filters, paging, sorting, role filters, display fields, sub-lists; hints, advice, summary, quickstart's defaults.

use crate::support::{Harness, code, message};
use hesper_controller::bootstrap::quickstart_defaults;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn names(items: &Value) -> Vec<&str> {
    items.as_array().expect("a list").iter().filter_map(|i| i["name"].as_str()).collect()
}

async fn list(h: &Harness, plural: &str, query: &[(&str, &str)]) -> (StatusCode, Value) {
    let url = h.url(&format!("/edge/management/v1/{plural}"));
    let request = h.client.get(url).bearer_auth(&h.token).query(query);
    crate::support::read(request.send().await.expect("answer")).await
}

#[tokio::test]
async fn filters_sort_and_page() {
    let h = Harness::start().await;
    for i in 0..25 {
        let attribute = if i % 2 == 0 { "even" } else { "odd" };
        h.create(
            "services",
            json!({ "name": format!("svc{i:02}"), "roleAttributes": [attribute, "all-of-them"] }),
        )
        .await;
    }
    let (status, all) = list(&h, "services", &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(names(&all["data"]), (0..10).map(|i| format!("svc{i:02}")).collect::<Vec<_>>());
    assert_eq!(all["meta"]["pagination"], json!({ "limit": 10, "offset": 0, "totalCount": 25 }));

    let cases: [(&str, usize, u64, &str); 9] = [
        ("name=\"svc03\"", 1, 1, "svc03"),
        ("name contains \"svc1\"", 10, 10, "svc10"),
        ("name contains \"svc1\" and not (name = \"svc10\") limit 3", 3, 9, "svc11"),
        ("true sort by name desc limit 2", 2, 25, "svc24"),
        ("true skip 20", 5, 25, "svc20"),
        ("limit none", 25, 25, "svc00"),
        ("anyOf(roleAttributes) = \"odd\"", 10, 12, "svc01"),
        ("allOf(roleAttributes) != \"odd\" limit 1", 1, 13, "svc00"),
        (
            "createdAt > datetime(2020-01-01T00:00:00Z) and terminatorStrategy in [\"smartrouting\"] limit 1",
            1,
            25,
            "svc00",
        ),
    ];
    for (filter, length, total, first) in cases {
        let (status, answer) = list(&h, "services", &[("filter", filter)]).await;
        assert_eq!(status, StatusCode::OK, "{filter}: {answer}");
        let found = names(&answer["data"]);
        assert_eq!((found.len(), found[0]), (length, first), "{filter}");
        assert_eq!(answer["meta"]["pagination"]["totalCount"], total, "{filter}");
        assert_eq!(answer["meta"]["filter"], filter);
    }
    let (_, page) =
        list(&h, "services", &[("limit", "2"), ("offset", "23"), ("filter", "sort by name")]).await;
    assert_eq!(names(&page["data"]), ["svc23", "svc24"]);
    let (_, odd) =
        list(&h, "services", &[("roleFilter", "#odd"), ("roleFilter", "#nothing"), ("limit", "none")]).await;
    assert_eq!(odd["data"].as_array().map(Vec::len), Some(12));
    let both = [("roleFilter", "#odd,#even"), ("roleSemantic", "AllOf")];
    assert_eq!(list(&h, "services", &both).await.1["data"], json!([]));
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let h = Harness::start().await;
    for filter in
        ["name=", "name = \"a", "sort by", "limit x", "name ~ 1", "not nome = \"a\"", "sort by nome"]
    {
        let (status, answer) = list(&h, "services", &[("filter", filter)]).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::BAD_REQUEST, "INVALID_FILTER"),
            "{filter}: {answer}"
        );
        assert!(message(&answer).len() > 20, "{answer}");
    }
    for query in [("limit", "x"), ("offset", "-1"), ("roleFilter", "x"), ("roleFilter", "#all,#x")] {
        let (status, answer) = list(&h, "services", &[query]).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::BAD_REQUEST, "INVALID_FIELD"),
            "{query:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn shown_with_names_and_sub_lists() {
    let h = Harness::start().await;
    let config = json!({ "name": "cfg", "configTypeId": "intercept.v1",
        "data": { "protocols": ["tcp"], "addresses": ["a.b"], "portRanges": [{ "low": 80, "high": 80 }] } });
    let config = h.create_id("configs", config).await;
    let service =
        h.create_id("services", json!({ "name": "svc", "configs": [config], "roleAttributes": ["s"] })).await;
    let dialer = h.create_id("identities", json!({ "name": "dialer", "roleAttributes": ["d"] })).await;
    let host = h.create_id("identities", json!({ "name": "host" })).await;
    let router = h.create_id("edge-routers", json!({ "name": "router", "roleAttributes": ["public"] })).await;
    let at = |id: &str| format!("@{id}");
    let dial = json!({ "name": "dial", "type": "Dial", "identityRoles": ["#d"], "serviceRoles": ["#s"] });
    let dial = h.create_id("service-policies", dial).await;
    let bind = json!({ "name": "bind", "type": "Bind", "identityRoles": [at(&host)], "serviceRoles": [at(&service)] });
    let bind = h.create_id("service-policies", bind).await;
    let erp = h
        .create_id(
            "edge-router-policies",
            json!({ "name": "erp", "identityRoles": ["#all"], "edgeRouterRoles": ["#public"] }),
        )
        .await;
    let serp = h
        .create_id(
            "service-edge-router-policies",
            json!({ "name": "serp", "serviceRoles": ["#all"], "edgeRouterRoles": ["#all"] }),
        )
        .await;
    let terminator =
        h.create_id("terminators", json!({ "serviceId": service, "hostId": host, "routerId": router })).await;

    let shown = h.get(&format!("/service-policies/{bind}")).await;
    assert_eq!(shown["identityRolesDisplay"], json!([{ "role": at(&host), "name": "@host" }]));
    assert_eq!(shown["serviceRolesDisplay"], json!([{ "role": at(&service), "name": "@svc" }]));
    assert_eq!(
        h.get(&format!("/edge-router-policies/{erp}")).await["edgeRouterRolesDisplay"],
        json!([{ "role": "#public", "name": "#public" }])
    );
    let shown = h.get(&format!("/terminators/{terminator}")).await;
    assert_eq!(
        (&shown["service"]["name"], &shown["router"]["name"], &shown["host"]["name"]),
        (&json!("svc"), &json!("router"), &json!("host"))
    );
    assert_eq!(shown["dynamicCost"], 0);
    assert_eq!(
        h.get(&format!("/configs/{config}")).await["configType"],
        json!({ "id": "intercept.v1", "name": "intercept.v1" })
    );
    let shown = h.get(&format!("/identities/{host}")).await;
    assert_eq!((&shown["isOnline"], &shown["hasEdgeRouterConnection"]), (&json!(false), &json!(false)));
    assert!(
        shown["enrollment"]["ott"]["expiresAt"].is_string() && !shown.to_string().contains("jwt"),
        "{shown}"
    );
    assert_eq!(h.get(&format!("/edge-routers/{router}")).await["isOnline"], false);

    let sub_lists = [
        (format!("services/{service}/configs"), vec!["cfg"]),
        (format!("services/{service}/service-policies"), vec!["bind", "dial"]),
        (format!("services/{service}/service-edge-router-policies"), vec!["serp"]),
        (format!("services/{service}/identities"), vec!["dialer", "host"]),
        (format!("services/{service}/edge-routers"), vec!["router"]),
        (format!("identities/{dialer}/services"), vec!["svc"]),
        (format!("identities/{dialer}/service-policies"), vec!["dial"]),
        (format!("identities/{dialer}/edge-router-policies"), vec!["erp"]),
        (format!("identities/{dialer}/edge-routers"), vec!["router"]),
        (format!("edge-routers/{router}/identities"), vec!["Default Admin", "dialer", "host"]),
        (format!("edge-routers/{router}/services"), vec!["svc"]),
        (format!("edge-routers/{router}/edge-router-policies"), vec!["erp"]),
        (format!("edge-routers/{router}/service-edge-router-policies"), vec!["serp"]),
        (format!("service-policies/{dial}/identities"), vec!["dialer"]),
        (format!("service-policies/{dial}/services"), vec!["svc"]),
        (format!("edge-router-policies/{erp}/edge-routers"), vec!["router"]),
        (format!("service-edge-router-policies/{serp}/services"), vec!["svc"]),
        (format!("configs/{config}/services"), vec!["svc"]),
        ("config-types/intercept.v1/configs".into(), vec!["cfg"]),
    ];
    for (path, expected) in sub_lists {
        assert_eq!(names(&h.get(&format!("/{path}")).await), expected, "{path}");
    }
    for path in [format!("services/{service}/terminators"), format!("identities/{host}/terminators")] {
        assert_eq!(h.get(&format!("/{path}")).await[0]["id"], json!(terminator), "{path}");
    }
    assert_eq!(h.request(Method::GET, "/services/nope/configs", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(h.get("/identity-role-attributes").await, json!(["d"]));
    assert_eq!(h.get("/edge-router-role-attributes").await, json!(["public"]));

    let advice = h.get(&format!("/policy-advice?identity={dialer}&service={service}")).await;
    let text = advice[0]["text"].as_str().expect("text");
    assert!(
        text.starts_with("ERROR: dialer (1) -> svc (1) Common Routers: (0/1) Dial: Y Bind: N "),
        "{text}"
    );
    assert_eq!(h.get("/policy-advice?by=service").await.as_array().map(Vec::len), Some(2));
    assert_eq!(h.request(Method::GET, "/policy-advice?identity=nope", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(h.get(&format!("/hints?service={service}")).await["hint"], Value::Null);
    h.delete(&format!("/service-policies/{bind}")).await;
    let hint = h.get(&format!("/hints?service={service}")).await["hint"].as_str().expect("a hint").to_owned();
    assert!(hint.contains("Bind"), "{hint}");
    assert_eq!(h.request(Method::GET, "/hints", None).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn quickstart_defaults_are_made_once() {
    let mut h = Harness::start().await;
    let token = quickstart_defaults(h.running(), "router-quickstart").await.expect("made").expect("a token");
    let again = quickstart_defaults(h.running(), "router-quickstart").await.expect("made").expect("a token");
    let key = hesper_pki::key::generate().expect("key");
    assert_eq!(h.redeem(&token, &key).await.0, StatusCode::BAD_REQUEST, "the second took its place");
    assert_eq!(h.redeem(&again, &key).await.0, StatusCode::OK);
    h.stop().await;
    h.resume().await;
    assert_eq!(
        quickstart_defaults(h.running(), "router-quickstart").await.expect("made"),
        None,
        "it has enrolled"
    );
    let router = &h.get("/edge-routers").await[0];
    assert_eq!(
        (&router["name"], &router["isVerified"], &router["roleAttributes"]),
        (&json!("router-quickstart"), &json!(true), &json!(["public"]))
    );
    let erp = &h.get("/edge-router-policies").await;
    assert_eq!(names(erp), ["all-endpoints-public-routers"]);
    assert_eq!(
        (&erp[0]["edgeRouterRoles"], &erp[0]["identityRoles"]),
        (&json!(["#public"]), &json!(["#all"]))
    );
    let serp = &h.get("/service-edge-router-policies").await;
    assert_eq!(names(serp), ["all-routers-all-services"]);
    assert_eq!((&serp[0]["edgeRouterRoles"], &serp[0]["serviceRoles"]), (&json!(["#all"]), &json!(["#all"])));
}
