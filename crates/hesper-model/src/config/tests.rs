use super::*;
use proptest::prelude::*;
use serde_json::json;

fn schema_of(name: &str) -> Value {
    builtin().into_iter().find(|t| t.name == name).expect("a built-in type").schema
}

fn faults(name: &str, data: &Value) -> Vec<String> {
    match validate(&schema_of(name), data) {
        Ok(()) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_built_in_types_are_in_order_and_usable() {
    let names: Vec<_> = builtin().iter().map(|t| t.name).collect();
    assert_eq!(names, ["host.v1", "host.v2", "intercept.v1", "otlp.v1", "proxy.v1", "scrape.v1"]);
    for t in builtin() {
        assert_eq!(check_schema(&t.schema), Ok(()), "{}", t.name);
    }
}

#[test]
fn the_articles_configs_are_accepted_and_decode() {
    let intercept = json!({"protocols":["tcp"],"addresses":["kubeA.reflect.scrape.svc.ziti"],
        "portRanges":[{"low":80, "high":80}], "dialOptions":{"identity":"kubeA.reflect.id"}});
    assert_eq!(faults("intercept.v1", &intercept), [""; 0]);
    let decoded: InterceptV1 = serde_json::from_value(intercept).expect("decodes");
    assert_eq!(decoded.dial_options.as_ref().and_then(|o| o.identity.as_deref()), Some("kubeA.reflect.id"));
    assert_eq!(decoded.connect_timeout().as_secs(), 15);
    let host = json!({"protocol":"tcp", "address":"prometheuz-prometheus-server","port":80});
    assert_eq!(faults("host.v1", &host), [""; 0]);
    let decoded: HostV1 = serde_json::from_value(host).expect("decodes");
    assert_eq!(decoded.port, Some(80));
    assert_eq!(decoded.connect_timeout(), HostV1::DEFAULT_CONNECT_TIMEOUT);
}

#[test]
fn everything_in_host_v1_is_honoured() {
    let data = json!({
        "forwardProtocol": true, "allowedProtocols": ["tcp"],
        "forwardAddress": true, "allowedAddresses": ["*.example.com", "10.0.0.0/8"],
        "forwardAddressTranslations": [{"from": "10.1.0.0", "to": "192.168.0.0", "prefixLength": 16}],
        "forwardPort": true, "allowedPortRanges": [{"low": 1, "high": 1024.0}],
        "allowedSourceAddresses": ["10.0.0.1"],
        "proxy": {"type": "http", "address": "proxy:3128"},
        "listenOptions": {"connectTimeoutSeconds": 7, "maxConnections": 3, "identity": "x", "bindUsingEdgeIdentity": true,
            "cost": 100, "precedence": "required"},
        "portChecks": [{"address": "localhost:80", "interval": "5s", "timeout": "500ms",
            "actions": [{"trigger": "fail", "consecutiveEvents": 3, "duration": "1m30s", "action": "increase cost 100"}]}],
        "httpChecks": [{"url": "http://localhost/health", "method": "PUT", "body": "x", "interval": "5s", "timeout": "1s",
            "expectStatus": 204, "expectInBody": "fine", "actions": [{"trigger": "change", "action": "send event"}]}]
    });
    assert_eq!(faults("host.v1", &data), [""; 0]);
    let host: HostV1 = serde_json::from_value(data).expect("decodes");
    assert_eq!(host.connect_timeout().as_secs(), 7, "the deprecated form counts");
    assert_eq!(host.http_checks[0].expect_in_body.as_deref(), Some("fine"));
    assert_eq!(host.port_checks[0].actions[0].action, ActionKind::IncreaseCost(100));
    assert_eq!(host.allowed_port_ranges[0].high, 1024);
    let again: HostV1 =
        serde_json::from_value(serde_json::to_value(&host).expect("encodes")).expect("decodes again");
    assert_eq!(again, host);
}

#[test]
fn faults_name_the_path_and_come_all_at_once() {
    let data = json!({"protocols": [], "addresses": ["a b", "10.0.0.0/33"], "portRanges": [{"low": "1024", "high": 80}], "x": 1});
    assert_eq!(
        faults("intercept.v1", &data),
        [
            r#""x" is not known here"#,
            r#"addresses[0]: "a b" is not a hostname, *.domain, IP address or CIDR range"#,
            r#"addresses[1]: "10.0.0.0/33" is not a hostname, *.domain, IP address or CIDR range"#,
            r#"portRanges[0].low: "1024" is not of type "integer""#,
            r#"protocols: [] has less than 1 item"#,
        ]
    );
}

#[test]
fn fault_table() {
    let intercept = |ports: Value| json!({"protocols": ["tcp"], "addresses": ["a"], "portRanges": ports});
    let check = |action: &str| {
        json!({"protocol": "tcp", "address": "a", "port": 1, "portChecks":
        [{"address": "a:1", "interval": "5s", "timeout": "1s", "actions": [{"trigger": "fail", "action": action}]}]})
    };
    let otlp = |rule: Value| json!({"rules": [rule]});
    for (name, data, expected) in [
        ("intercept.v1", json!({}), r#""addresses" is required"#),
        ("intercept.v1", json!([]), r#"[] is not of type "object""#),
        (
            "intercept.v1",
            intercept(json!([{"low": 80, "high": 65536}])),
            "portRanges[0].high: 65536 is greater than the maximum of 65535",
        ),
        (
            "intercept.v1",
            intercept(json!([{"low": 1.5, "high": 2}])),
            r#"portRanges[0].low: 1.5 is not of type "integer""#,
        ),
        (
            "intercept.v1",
            intercept(json!([{"low": 90, "high": 80}])),
            "portRanges[0]: low 90 is above high 80",
        ),
        (
            "intercept.v1",
            intercept(json!([{"low": 80, "high": 80}, {"low": 80, "high": 80}])),
            r#"portRanges: [{"high":80,"low":80},{"high":80,"low":80}] has non-unique elements"#,
        ),
        ("host.v1", json!({}), r#""address" is required"#),
        (
            "host.v1",
            json!({"forwardAddress": true, "protocol": "tcp", "port": 1}),
            r#""allowedAddresses" is required"#,
        ),
        (
            "host.v1",
            json!({"forwardPort": false, "protocol": "tcp", "address": "a", "allowedPortRanges": [{"low": 1, "high": 2}]}),
            "forwardPort: false is not one of true",
        ),
        (
            "host.v1",
            json!({"protocol": "sctp", "address": "a", "port": 1}),
            r#"protocol: "sctp" is not one of "tcp" or "udp""#,
        ),
        (
            "host.v1",
            check("increase cost"),
            r#"portChecks[0].actions[0].action: "increase cost" is not an action: mark healthy, mark unhealthy, increase cost N, decrease cost N, send event"#,
        ),
        ("host.v2", json!({"terminators": []}), "terminators: [] has less than 1 item"),
        (
            "host.v2",
            json!({"terminators": [{"protocol": "tcp", "port": 1}]}),
            r#"terminators[0]: "address" is required"#,
        ),
        (
            "proxy.v1",
            json!({"port": 1, "protocols": ["tcp"], "binding": "eth0"}),
            r#"binding: "eth0" is not an IP address"#,
        ),
        (
            "otlp.v1",
            otlp(json!({"identities": ["edge"]})),
            r#"rules[0].identities[0]: "edge" is not a role: #attribute, @identity or #all"#,
        ),
        (
            "otlp.v1",
            json!({"gateways": ["#all", "@a"]}),
            "gateways: if using #all, it should be the only role specified",
        ),
        ("otlp.v1", otlp(json!({"signals": ["logs"]})), r#"rules[0]: "identities" is required"#),
        (
            "otlp.v1",
            otlp(json!({"identities": ["#a"], "serviceNames": ["a", ""]})),
            r#"rules[0].serviceNames[1]: "" is not a pattern such as shop.*: 1 to 128 bytes without control characters"#,
        ),
        (
            "otlp.v1",
            otlp(json!({"identities": ["#a"], "signals": ["spans"]})),
            r#"rules[0].signals[0]: "spans" is not one of "traces", "metrics", "logs" or "profiles""#,
        ),
        (
            "otlp.v1",
            otlp(json!({"identities": ["#a"], "itemsPerSecond": 0})),
            "rules[0].itemsPerSecond: 0 is less than the minimum of 1",
        ),
        (
            "otlp.v1",
            otlp(json!({"identities": ["#a"], "burst": 5})),
            r#"rules[0]: "itemsPerSecond" is required"#,
        ),
        ("otlp.v1", otlp(json!({"identities": ["#a"], "rate": 5})), r#"rules[0]: "rate" is not known here"#),
        ("scrape.v1", json!({"path": "metrics"}), r#"path: "metrics" does not match "^/[^\s]*$""#),
    ] {
        let found = faults(name, &data);
        assert!(found.iter().any(|f| f == expected), "{name} {data}: expected {expected:?} among {found:#?}");
    }
}

#[test]
fn schemas_of_users_refer_to_nothing_outside() {
    for target in ["http://example.com/s.json", "file:///etc/passwd", "other.json", "urn:x"] {
        let schema = json!({"type": "object", "properties": {"a": {"$ref": target}}});
        let found = check_schema(&schema).expect_err(target);
        assert_eq!(found[0].path, "properties.a.$ref");
        assert!(validate(&schema, &json!({})).is_err(), "{target}");
    }
    let endless = json!({"$ref": "#"});
    assert_eq!(validate(&endless, &json!({})), validate(&endless, &json!({})), "ends, whatever it says");
    let own = json!({"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}});
    assert_eq!(check_schema(&own), Ok(()));
    assert_eq!(validate(&own, &json!({"a": 1})), Ok(()));
    assert_eq!(validate(&own, &json!({"a": "1"})).expect_err("a string")[0].path, "a");
}

#[test]
fn unusable_schemas_are_refused_with_a_reason() {
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({"not": deep});
    }
    for schema in [
        json!(true),
        json!({"type": "no-such-type"}),
        json!({"pattern": "("}),
        json!({"$ref": "#/nowhere"}),
        deep,
    ] {
        let found = check_schema(&schema).expect_err("unusable");
        assert!(!found[0].reason.is_empty() && found[0].reason.len() < 300, "{found:?}");
        assert!(validate(&schema, &json!({})).is_err());
    }
}

/// JSON that a schema may or may not accept: real property names with values of every type.
fn data(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!(null)),
        (0..70_000_i64).prop_map(|n| json!(n)),
        (0..200_u32).prop_map(|n| json!(f64::from(n))),
        Just(json!(1.5)),
        Just(json!(1e300)),
        Just(json!(-1)),
        prop::sample::select(vec![
            "tcp",
            "udp",
            "a.b",
            "*.b",
            "10.0.0.0/8",
            "::1",
            "5s",
            "1h1h",
            "99999999999999999999h",
            "mark healthy",
            "increase cost 5",
            "increase cost 70000",
            "fail",
            "GET",
            "http://a",
            "a:1",
            "http",
            "required",
            "/m",
            "#all",
            "#a",
            "@a",
            "logs",
            "[::1]:1",
            "𝟙.𝟚"
        ])
        .prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(prop::sample::select(names), inner, 0..8)
                .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// A value for each property that is nearly always right, so that whole configs are accepted often.
fn host() -> impl Strategy<Value = Value> {
    let duration = prop::sample::select(vec!["5s", "1h1h", "1.5ms", "99999999999999999999h", "5"]);
    let port = prop_oneof![
        (0..70_000_u32).prop_map(|n| json!(n)),
        (0..66_000_u32).prop_map(|n| json!(f64::from(n)))
    ];
    let pattern = prop::sample::select(vec!["a", "*.b", "10.0.0.0/8", "::1", "::/129", "1.2.3", "ä.b."]);
    let options = (duration.clone(), any::<u32>(), port.clone(), prop::sample::select(vec!["default", "required", "failed"]))
        .prop_map(|(d, n, c, p)| json!({"connectTimeout": d, "connectTimeoutSeconds": n, "maxConnections": n, "cost": c, "precedence": p}));
    let action = prop::sample::select(vec![
        "mark healthy",
        "mark  unhealthy",
        "increase cost 5",
        "decrease cost 65536",
        "increase cost +5",
        "send event",
    ]);
    (port.clone(), port, pattern, duration, options, action, any::<bool>(), 0..700_u16).prop_map(|(p, q, a, d, o, act, forward, status)| {
        let mut host = json!({"protocol": "tcp", "listenOptions": o, "allowedSourceAddresses": [a],
            "httpChecks": [{"url": "http://a", "interval": d, "timeout": "1s", "expectStatus": status, "expectInBody": "x",
                "actions": [{"trigger": "pass", "duration": d, "consecutiveEvents": q, "action": act}]}]});
        let more = if forward {
            json!({"forwardAddress": true, "allowedAddresses": [a], "forwardPort": true, "allowedPortRanges": [{"low": p, "high": q}]})
        } else {
            json!({"address": a, "port": p})
        };
        host.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        host
    })
}

fn decodes(name: &str, data: Value) -> Result<(), serde_json::Error> {
    match name {
        "host.v1" => serde_json::from_value::<HostV1>(data).map(drop),
        "host.v2" => serde_json::from_value::<HostV2>(data).map(drop),
        "intercept.v1" => serde_json::from_value::<InterceptV1>(data).map(drop),
        "otlp.v1" => serde_json::from_value::<OtlpV1>(data).map(drop),
        "proxy.v1" => serde_json::from_value::<ProxyV1>(data).map(drop),
        "scrape.v1" => serde_json::from_value::<ScrapeV1>(data).map(drop),
        _ => unreachable!("not built in"),
    }
}

const NAMES: &[&str] = &[
    "protocols",
    "addresses",
    "portRanges",
    "low",
    "high",
    "dialOptions",
    "identity",
    "connectTimeoutSeconds",
    "sourceIp",
    "protocol",
    "address",
    "port",
    "forwardPort",
    "allowedPortRanges",
    "listenOptions",
    "cost",
    "precedence",
    "terminators",
    "binding",
    "path",
    "scheme",
    "labels",
    "portChecks",
    "interval",
    "timeout",
    "actions",
    "trigger",
    "action",
    "gateways",
    "rules",
    "identities",
    "signals",
    "serviceNames",
    "itemsPerSecond",
    "burst",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_validates_decodes(data in data(NAMES)) {
        for t in builtin() {
            if validate(&t.schema, &data).is_ok() {
                prop_assert!(decodes(t.name, data.clone()).is_ok(), "{} {data} {:?}", t.name, decodes(t.name, data.clone()));
            }
        }
    }

    #[test]
    fn what_validates_decodes_for_hosts(host in host()) {
        let both = json!({"terminators": [host.clone()]});
        prop_assert_eq!(faults("host.v1", &host).is_empty(), faults("host.v2", &both).is_empty());
        if faults("host.v1", &host).is_empty() {
            prop_assert!(decodes("host.v1", host.clone()).is_ok(), "{host} {:?}", decodes("host.v1", host.clone()));
            prop_assert!(decodes("host.v2", both).is_ok());
        }
    }
}
