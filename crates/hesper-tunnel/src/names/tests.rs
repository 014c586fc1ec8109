use super::*;
use crate::testing::{host, service, view};
use proptest::prelude::*;
use serde_json::json;

fn names() -> Names {
    Names::of(&view(vec![
        service("kubeA.reflect.svc").config(
            "intercept.v1",
            json!({"protocols": ["tcp"], "addresses": ["kubeA.reflect.svc.ziti"], "portRanges": [{"low": 80, "high": 80}]}),
        ),
        service("kubeA.reflect.scrape.svc")
            .config(
                "intercept.v1",
                json!({"protocols": ["tcp"], "addresses": ["kubeA.reflect.scrape.svc.ziti"],
                    "portRanges": [{"low": 80, "high": 80}], "dialOptions": {"identity": "kubeA.reflect.id"}}),
            )
            .hosts([host("kubeA.reflect.id", "kubeA.reflect.id")]),
        service("kubeB.prometheus.svc").config(
            "intercept.v1",
            json!({"protocols": ["tcp"], "addresses": ["kubeB.prometheus.svc"], "portRanges": [{"low": 80, "high": 80}]}),
        ),
        service("wide").config(
            "intercept.v1",
            json!({"protocols": ["tcp", "udp"], "addresses": ["*.example", "10.0.0.0/8"], "portRanges": [{"low": 1, "high": 65535}],
                "dialOptions": {"identity": "$dst_hostname-$dst_port-$tunneler_id.name", "connectTimeoutSeconds": 3}}),
        ),
        service("narrow").config(
            "intercept.v1",
            json!({"protocols": ["tcp"], "addresses": ["*.eu.example", "10.1.0.0/16"], "portRanges": [{"low": 443, "high": 443}]}),
        ),
        service("dns").config(
            "intercept.v1",
            json!({"protocols": ["udp"], "addresses": ["dns.example"], "portRanges": [{"low": 53, "high": 53}]}),
        ),
        service("metrics").hosts([host("a.b", ""), host("payments", "payments"), host("two", "x"), host("two", "y")]),
        service("b.metrics").hosts([host("a", "a"), host("lonely", "")]),
        service("solo").hosts([host("only", "")]),
        service("Same"),
        service("same"),
        service("secret").bind_only(),
    ]))
}

fn show(result: Result<Resolved, ResolveError>) -> String {
    match result {
        Ok(r) => format!("{}@{}", r.instance.unwrap_or_default(), r.service),
        Err(ResolveError::Unknown { .. }) => "unknown".into(),
        Err(ResolveError::Forbidden { service }) => format!("forbidden {service}"),
        Err(ResolveError::Ambiguous { candidates, .. }) => format!("ambiguous {}", candidates.join("|")),
        Err(ResolveError::NoInstance { identity, service }) => format!("no instance {identity} {service}"),
    }
}

#[test]
fn table() {
    let names = names();
    for (host, port, expected) in [
        // intercept.v1, exactly
        ("kubeA.reflect.svc.ziti", 80, "@kubeA.reflect.svc"),
        ("KUBEA.reflect.svc.ziti.", 80, "@kubeA.reflect.svc"),
        ("kubeA.reflect.svc.ziti", 81, "unknown"),
        ("kubeA.reflect.scrape.svc.ziti", 80, "kubeA.reflect.id@kubeA.reflect.scrape.svc"),
        ("dns.example", 53, "dns.example-53-me@wide"),
        // a service's name, any port
        ("kubeA.reflect.svc", 8080, "@kubeA.reflect.svc"),
        ("kubea.REFLECT.svc", 8080, "@kubeA.reflect.svc"),
        ("kubeB.prometheus.svc", 80, "@kubeB.prometheus.svc"),
        ("kubeB.prometheus.svc", 9090, "@kubeB.prometheus.svc"),
        ("Same", 1, "@Same"),
        ("same", 1, "@same"),
        ("SAME", 1, "ambiguous service 'Same'|service 'same'"),
        // <instance>.<service>.hesper
        ("kubeA.reflect.id.kubeA.reflect.scrape.svc.hesper", 80, "kubeA.reflect.id@kubeA.reflect.scrape.svc"),
        ("kubeA.reflect.scrape.svc.HESPER", 80, "@kubeA.reflect.scrape.svc"),
        ("payments.metrics.hesper", 443, "payments@metrics"),
        ("PAYMENTS.metrics.hesper", 443, "payments@metrics"),
        ("gone.metrics.hesper", 80, "gone@metrics"),
        ("payments-id.metrics-id.hesper", 80, "payments@metrics"),
        (
            "two.metrics.hesper",
            80,
            "ambiguous instance 'x' of service 'metrics'|instance 'y' of service 'metrics'",
        ),
        ("x.metrics.hesper", 80, "x@metrics"),
        ("only.solo.hesper", 80, "@solo"),
        ("solo.hesper", 80, "@solo"),
        (".solo.hesper", 80, "unknown"),
        ("hesper", 80, "unknown"),
        (".hesper", 80, "unknown"),
        // dots on both sides: the hosts decide, else nobody
        (
            "a.b.metrics.hesper",
            80,
            "ambiguous instance 'a.b' of service 'metrics'|instance 'a' of service 'b.metrics'",
        ),
        ("lonely.b.metrics.hesper", 80, "no instance lonely b.metrics"),
        (
            "c.b.metrics.hesper",
            80,
            "ambiguous instance 'c.b' of service 'metrics'|instance 'c' of service 'b.metrics'",
        ),
        // wildcards and ranges, the longest first
        ("x.example", 80, "x.example-80-me@wide"),
        ("x.eu.example", 443, "@narrow"),
        ("x.eu.example", 80, "x.eu.example-80-me@wide"),
        ("example", 80, "unknown"),
        ("10.2.0.1", 443, "-443-me@wide"),
        ("10.1.0.1", 443, "@narrow"),
        ("11.0.0.1", 443, "unknown"),
        // nothing
        ("secret", 80, "forbidden secret"),
        ("secret.hesper", 80, "unknown"),
        ("prometheus.io", 80, "unknown"),
        ("", 80, "unknown"),
        ("é.hesper", 80, "unknown"),
        ("[::1]", 80, "unknown"),
    ] {
        assert_eq!(show(names.resolve(host, port)), expected, "{host}:{port}");
    }
}

#[test]
fn an_intercepts_timeout_counts() {
    let resolved = names().resolve("x.example", 1).expect("known");
    assert_eq!(resolved.timeout, Some(Duration::from_secs(3)));
    assert_eq!(names().resolve("solo", 1).expect("known").timeout, None);
}

#[test]
fn an_address_of_two_services_is_neither() {
    let config =
        json!({"protocols": ["tcp"], "addresses": ["shared"], "portRanges": [{"low": 80, "high": 80}]});
    let names = Names::of(&view(vec![
        service("one").config("intercept.v1", config.clone()),
        service("two").config("intercept.v1", config.clone()),
        service("shared"),
        service("mine").config("intercept.v1", config).bind_only(),
    ]));
    let error = names.resolve("shared", 80).expect_err("ambiguous").to_string();
    assert_eq!(
        error,
        "'shared' is ambiguous, it may mean service 'one' or service 'two' or service 'shared'; use a name that means one"
    );
    assert_eq!(show(names.resolve("shared", 81)), "@shared");
}

proptest! {
    #[test]
    fn any_host_has_an_answer(host in "[a-z.é*\\[\\]:0-9-]{0,30}(\\.hesper)?", port: u16) {
        if let Ok(resolved) = names().resolve(&host, port) {
            prop_assert_ne!(resolved.service, "secret");
        }
    }
}
