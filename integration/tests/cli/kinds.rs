//! What each kind of entity goes through.

use hesper_integration::Stack;

/// One kind and what is typed for it. `update` sets what `shows` is then seen in the list.
pub(crate) struct Kind {
    one: &'static str,
    many: &'static str,
    noun: &'static str,
    create: &'static [&'static str],
    update: &'static [&'static str],
    headers: &'static str,
    shows: &'static str,
}

/// Every kind that has names.
pub(crate) const KINDS: [Kind; 8] = [
    Kind {
        one: "identity",
        many: "identities",
        noun: "identity",
        create: &["-a", "old"],
        update: &["-a", "new"],
        headers: "ID,Name,Type,Attributes,Auth-Policy",
        shows: "thing,Default,new,Default",
    },
    Kind {
        one: "service",
        many: "services",
        noun: "service",
        create: &["-a", "old"],
        update: &["--terminator-strategy", "weighted", "-a", "new"],
        headers: "ID,Name,Encryption Required,Terminator Strategy,Attributes",
        shows: "thing,true,weighted,new",
    },
    Kind {
        one: "config",
        many: "configs",
        noun: "config",
        create: &["scrape.v1", r#"{"path":"/old"}"#],
        update: &["-d", r#"{"path":"/new"}"#],
        headers: "ID,Name,Config Type",
        shows: "thing,scrape.v1",
    },
    Kind {
        one: "config-type",
        many: "config-types",
        noun: "config type",
        create: &[r#"{"type":"object"}"#],
        update: &["-s", r#"{"type":"object","required":["a"]}"#],
        headers: "ID,Name,Target",
        shows: "thing,",
    },
    Kind {
        one: "service-policy",
        many: "service-policies",
        noun: "service policy",
        create: &["Dial", "--service-roles", "#old", "--identity-roles", "#all"],
        update: &["--service-roles", "#new", "--semantic", "AllOf"],
        headers: "ID,Name,Type,Semantic,Service Roles,Identity Roles,Posture Check Roles",
        shows: "thing,Dial,AllOf,#new,#all,",
    },
    Kind {
        one: "edge-router",
        many: "edge-routers",
        noun: "edge router",
        create: &["-a", "old"],
        update: &["-a", "new", "--cost", "7", "--no-traversal"],
        headers: "ID,Name,Online,Allow Transit,Cost,Attributes",
        shows: "thing,false,false,7,new",
    },
    Kind {
        one: "edge-router-policy",
        many: "edge-router-policies",
        noun: "edge router policy",
        create: &["--edge-router-roles", "#old", "--identity-roles", "#all"],
        update: &["--edge-router-roles", "#new"],
        headers: "ID,Name,Edge Router Roles,Identity Roles",
        shows: "thing,#new,#all",
    },
    Kind {
        one: "service-edge-router-policy",
        many: "service-edge-router-policies",
        noun: "service edge router policy",
        create: &["--edge-router-roles", "#all", "--service-roles", "#old"],
        update: &["--service-roles", "#new"],
        headers: "ID,Name,Service Roles,Edge Router Roles",
        shows: "thing,#new,#all",
    },
];

/// Create → list in three forms → update → list → delete, each behind `prefix`.
pub(crate) fn life_of(stack: &Stack, kind: &Kind, prefix: &[&str]) {
    let only = "name = \"thing\"";
    let typed = |words: &[&str]| stack.cli([prefix, words].concat()).ok();
    let made = typed(&[&["create", kind.one, "thing"], kind.create].concat()).stdout;
    let id = made.trim_end().strip_prefix(&format!("New {} thing created with id: ", kind.noun));
    let id = id.unwrap_or_else(|| panic!("{made}")).to_owned();

    let table = typed(&["list", kind.many, only]).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with('╭') && lines[0].ends_with('╮') && lines[4].starts_with('╰'), "{table}");
    for header in kind.headers.split(',') {
        assert!(lines[1].contains(&header.to_uppercase()), "{table}");
    }
    assert!(lines[3].contains(&id) && lines[5] == "results: 1-1 of 1", "{table}");
    let json = typed(&["list", kind.many, only, "-j"]).json();
    assert_eq!((&json["data"][0]["id"], &json["data"][0]["name"]), (&id.as_str().into(), &"thing".into()));

    assert_eq!(
        typed(&[&["update", kind.one, "thing"], kind.update].concat()).stdout,
        "",
        "as OpenZiti: silent"
    );
    let csv = typed(&["list", kind.many, only, "--csv"]).stdout;
    assert_eq!(csv, format!("{}\n{id},{}\n", kind.headers, kind.shows));

    let gone = typed(&["delete", kind.one, "thing"]).stdout;
    assert_eq!(gone, format!("delete of {} with id {id}: OK\n", kind.one));
    let table = typed(&["list", kind.many, only]).stdout;
    assert!(table.ends_with("results: none\n"), "{table}");
}
