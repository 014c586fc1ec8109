//! The grammar of the command line, as an administrator types it, against a real network.

mod kinds;

use hesper_integration::{Output, Stack};
use kinds::{KINDS, life_of};
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path};

/// The rows of `--csv`, without the headers.
fn rows(stack: &Stack, words: &[&str]) -> Vec<Vec<String>> {
    let output = stack.cli([&["list"], words, &["--csv"]].concat()).ok();
    output.stdout.lines().skip(1).map(|row| row.split(',').map(str::to_owned).collect()).collect()
}

/// The second column: names, or what stands in their place.
fn names(stack: &Stack, words: &[&str]) -> Vec<String> {
    rows(stack, words).into_iter().map(|row| row[1].clone()).collect()
}

/// Runs what must succeed without a word on standard error.
#[track_caller]
fn ok(stack: &Stack, words: &[&str]) -> String {
    let Output { command, stdout, stderr, .. } = stack.cli(words).ok();
    assert_eq!(stderr, "", "{command}");
    stdout
}

/// Creates something and gives its id, from the line that OpenZiti prints.
#[track_caller]
fn created(stack: &Stack, words: &[&str], line: &str) -> String {
    let output = stack.cli([&["create"], words].concat()).ok();
    let id = output.stdout.lines().next().and_then(|l| l.strip_prefix(line)).map(str::to_owned);
    id.unwrap_or_else(|| panic!("not '{line}ID' but {}", output.stdout))
}

#[test]
fn every_kind_is_created_listed_changed_and_deleted_with_and_without_edge() {
    let stack = Stack::start();
    for kind in &KINDS {
        life_of(&stack, kind, &[]);
        life_of(&stack, kind, &["edge"]);
    }
    stack.cli(["create", "service", "web"]).ok();
    stack.cli(["create", "identity", "host"]).ok();
    let words = ["terminator", "web", "router-quickstart", "tcp:127.0.0.1:80", "--host", "host", "-c", "3"];
    let terminator = created(&stack, &words, "New terminator created with id: ");
    assert_eq!(ok(&stack, &["update", "terminator", &terminator, "-c", "5", "-p", "required"]), "");
    let row = [
        &terminator,
        "web",
        "router-quickstart",
        "edge_transport",
        "tcp:127.0.0.1:80",
        "",
        "5",
        "required",
        "0",
    ];
    assert_eq!(rows(&stack, &["terminators"]), [row]);
    let token = created(
        &stack,
        &["enrollment", "ott", "host", "-o", "again.jwt"],
        "New enrollment created with id: ",
    );
    assert_eq!(
        rows(&stack, &["identity", "enrollments", "host"])[0][..4],
        [&token, "ott", "pending", "host"]
    );
    for (kind, id) in [("terminator", &terminator), ("enrollment", &token)] {
        assert_eq!(ok(&stack, &["delete", kind, id]), format!("delete of {kind} with id {id}: OK\n"));
    }
    assert_eq!(rows(&stack, &["terminators"]).len(), 0);
}

#[test]
fn identities_are_made_in_both_forms_and_their_files_are_private() {
    let stack = Stack::start();
    let mode = |path: &str| fs::metadata(path).expect(path).permissions().mode() & 0o777;
    for (name, words) in [
        (
            "kube.one",
            &["edge", "create", "identity", "device", "kube.one", "-o", "one.jwt", "-a", "a,b", "-a", "c"][..],
        ),
        ("kube.two", &["create", "identity", "kube.two", "-a", "a", "--jwt-output-file", "one.jwt"]),
        ("kube.three", &["create", "identity", "-o", "one.jwt", "service", "kube.three"]),
        ("kube.four", &["create", "identity", "user", "kube.four", "-o=one.jwt"]),
    ] {
        let made = ok(&stack, words);
        let lines: Vec<&str> = made.lines().collect();
        assert!(lines[0].starts_with(&format!("New identity {name} created with id: ")), "{made}");
        assert!(lines[1].starts_with("Enrollment expires at ") && lines[1].ends_with('Z'), "{made}");
        let token = fs::read_to_string(stack.path("one.jwt")).expect("the token");
        assert_eq!(
            (token.matches('.').count(), token.trim_end(), mode(&stack.path("one.jwt"))),
            (2, &*token, 0o600)
        );
        let enrolled = stack.cli(["edge", "enroll", "one.jwt"]).ok();
        assert_eq!(enrolled.stdout, "");
        assert!(
            enrolled.stderr.ends_with("INFO    enrolled successfully. identity file written to: one.json\n")
        );
        let file = stack.path("one.json");
        assert_eq!(mode(&file), 0o600);
        let identity: serde_json::Value =
            serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON");
        for value in ["key", "cert", "ca"] {
            assert!(
                identity["id"][value].as_str().is_some_and(|v| v.starts_with("pem:-----BEGIN")),
                "{value}"
            );
        }
        assert!(
            identity["ztAPI"].as_str().is_some_and(|url| url.starts_with("https://")),
            "{}",
            identity["ztAPI"]
        );
        assert!(!Path::new(&stack.path("one.jwt")).exists(), "a used token is removed");
        assert!(!Path::new(&stack.path("one.json.key.pending")).exists());
        fs::remove_file(file).expect("removed");
    }
    let shown = stack.cli(["list", "identities", "name = \"kube.one\"", "-j"]).ok().json();
    assert_eq!(shown["data"][0]["roleAttributes"], serde_json::json!(["a", "b", "c"]));
    assert!(!shown.to_string().contains("eyJ"), "a token is told once only");
    assert_eq!(
        names(&stack, &["identities", "anyOf(roleAttributes) = \"a\" sort by name"]),
        ["kube.one", "kube.two"]
    );
    assert_eq!(mode(&stack.path("config/hesper-cli.json")), 0o600);
    assert_eq!(mode(&stack.path("config")), 0o700);
}

#[test]
fn lists_are_filtered_sorted_paged_and_deleted_by_filter() {
    let stack = Stack::start();
    for n in 1..=5 {
        stack
            .cli(["create", "service", &format!("s{n}"), "-a", if n % 2 == 0 { "even" } else { "odd" }])
            .ok();
    }
    stack.cli(["create", "service", "other"]).ok();
    for (filter, found) in [
        ("name contains \"s\" sort by name desc limit 2", &["s5", "s4"][..]),
        ("name contains \"s\" sort by name skip 3", &["s4", "s5"]),
        ("anyOf(roleAttributes) = \"even\" sort by name", &["s2", "s4"]),
        ("not (name in [\"s1\",\"s2\"]) and name != \"other\" SORT BY name LIMIT none", &["s3", "s4", "s5"]),
        ("isEmpty(roleAttributes)", &["other"]),
    ] {
        assert_eq!(names(&stack, &["services", filter]), found, "{filter}");
    }
    let paging = |filter: &str| {
        let table = ok(&stack, &["list", "services", filter]);
        table.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(paging("name contains \"s\" limit 2"), "results: 1-2 of 5");
    assert_eq!(paging("name contains \"s\" skip 2 limit 2"), "results: 3-4 of 5");
    assert_eq!(paging("name = \"nothing\""), "results: none");
    assert_eq!(names(&stack, &["services", "--role-filters", "#odd,@s2"]), ["s1", "s2", "s3", "s5"]);
    assert_eq!(
        names(
            &stack,
            &["services", "--role-filters", "#odd", "--role-filters", "#even", "--role-semantic", "AllOf"]
        ),
        [""; 0]
    );
    assert_eq!(rows(&stack, &["service-role-attributes"]), [["even"], ["odd"]]);
    let counted = stack.cli(["list", "summary", "-j"]).ok().json();
    assert_eq!(counted["data"]["services"], 6);
    assert!(ok(&stack, &["list", "summary", "--csv"]).contains("\nservices,6\n"));

    let gone = ok(&stack, &["delete", "services", "where", "name contains \"s\" sort by name limit none"]);
    assert!(gone.starts_with("filter returned results: 1-5 of 5\n"), "{gone}");
    assert_eq!(
        gone.lines().filter(|l| l.starts_with("delete of service with id ") && l.ends_with(": OK")).count(),
        5
    );
    let gone = ok(&stack, &["delete", "service", "where", "name", "=", "\"nothing\""]);
    assert_eq!(gone, "filter returned results: none\n");
    assert_eq!(names(&stack, &["services"]), ["other"]);
    let missing = ok(&stack, &["delete", "service", "nobody", "--ignore-missing"]);
    assert_eq!(missing, "Found 0 services with id or name matching nobody\n");
}

#[test]
fn short_and_singular_names_mean_the_same() {
    let stack = Stack::start();
    for words in [
        &["create", "sp", "p", "Bind", "--service-roles", "#x", "--identity-roles", "#y"][..],
        &["create", "er", "p"],
        &["create", "erp", "p", "--edge-router-roles", "@p", "--identity-roles", "#y"],
        &["create", "serp", "p", "--edge-router-roles", "@p", "--service-roles", "#x"],
    ] {
        stack.cli(words).ok();
    }
    for (plural, others) in [
        ("service-policies", &["sps", "sp", "service-policy"][..]),
        ("edge-routers", &["ers", "er", "edge-router", "gateways"]),
        ("edge-router-policies", &["erps", "erp", "edge-router-policy"]),
        ("service-edge-router-policies", &["serps", "serp", "service-edge-router-policy"]),
        ("identities", &["identity"]),
        ("services", &["service"]),
        ("configs", &["config"]),
        ("config-types", &["config-type"]),
        ("terminators", &["terminator"]),
        ("enrollments", &["enrollment"]),
    ] {
        let expected = ok(&stack, &["list", plural]);
        for other in others {
            for prefix in [&["list"][..], &["ls"], &["edge", "list"]] {
                assert_eq!(ok(&stack, &[prefix, &[other]].concat()), expected, "{prefix:?} {other}");
            }
        }
    }
    for short in ["sp", "erp", "serp", "er"] {
        assert_eq!(ok(&stack, &["update", short, "p", "-n", "q"]), "");
        assert!(ok(&stack, &["delete", short, "q"]).ends_with(": OK\n"));
    }
    let id = rows(&stack, &["identities"])[0][0].clone();
    assert!(ok(&stack, &["update", "identity", &format!("id:{id}"), "-a", "x"]).is_empty());
    assert!(ok(&stack, &["update", "identity", "name:Default Admin", "-a", ""]).is_empty());
}

#[test]
fn roles_name_entities_and_sub_lists_follow_them() {
    let stack = Stack::start();
    for words in [
        &["create", "identity", "server", "-a", "servers"][..],
        &["create", "identity", "client", "-a", "clients"],
        &["create", "config", "web.host", "host.v1", r#"{"protocol":"tcp","address":"127.0.0.1","port":80}"#],
        &["create", "service", "web", "-c", "web.host", "-a", "w"],
        &["create", "sp", "bind", "Bind", "--service-roles", "@web", "--identity-roles", "@server,#servers"],
        &[
            "create",
            "sp",
            "dial",
            "Dial",
            "--service-roles",
            "#w",
            "--service-roles",
            "@web",
            "--identity-roles",
            "#all",
        ],
    ] {
        stack.cli(words).ok();
    }
    let roles: Vec<_> = rows(&stack, &["sps", "name = \"bind\""]);
    assert_eq!(roles[0][2..4], ["Bind", "AnyOf"]);
    let shown = stack.cli(["list", "sps", "name = \"bind\"", "-j"]).ok().json();
    let shown: BTreeSet<&str> = shown["data"][0]["identityRolesDisplay"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|role| role["name"].as_str())
        .collect();
    assert_eq!(shown, BTreeSet::from(["@server", "#servers"]));
    let admin = "Default Admin";
    for (words, found) in [
        (&["service", "configs", "web"][..], &["web.host"][..]),
        (&["service", "service-policies", "web"], &["bind", "dial"]),
        (&["service", "service-edge-router-policies", "web"], &["all-routers-all-services"]),
        (&["service", "terminators", "web"], &[]),
        (&["service", "identities", "web"], &[admin, "client", "server"]),
        (&["service", "edge-routers", "web"], &["router-quickstart"]),
        (&["identity", "services", "client"], &["web"]),
        (&["identity", "service-policies", "client"], &["dial"]),
        (&["identity", "edge-router-policies", "client"], &["all-endpoints-public-routers"]),
        (&["identity", "edge-routers", "client"], &["router-quickstart"]),
        (&["edge-router", "identities", "router-quickstart"], &[admin, "client", "server"]),
        (&["edge-router", "services", "router-quickstart"], &["web"]),
        (&["edge-router", "edge-router-policies", "router-quickstart"], &["all-endpoints-public-routers"]),
        (&["sp", "services", "bind"], &["web"]),
        (&["sp", "identities", "bind", "name = \"server\""], &["server"]),
        (&["erp", "edge-routers", "all-endpoints-public-routers"], &["router-quickstart"]),
        (&["serp", "services", "all-routers-all-services"], &["web"]),
        (&["config", "services", "web.host"], &["web"]),
        (&["config-type", "configs", "host.v1"], &["web.host"]),
        (&["services", "--as-identity", "client"], &["web"]),
    ] {
        assert_eq!(names(&stack, words), found, "{words:?}");
    }
    let host = stack.cli(["show", "config", "web.host"]).ok().json();
    assert_eq!(host, serde_json::json!({"protocol": "tcp", "address": "127.0.0.1", "port": 80}));
    assert_eq!(stack.cli(["show", "config-type", "host.v1"]).ok().json()["type"], "object");
    // A name that goes takes its roles along.
    ok(&stack, &["delete", "identity", "server"]);
    assert_eq!(rows(&stack, &["sps", "name = \"bind\""])[0][4..6], ["@web", "#servers"]);
}

#[test]
fn hints_and_the_advisor_tell_what_is_missing_until_nothing_is() {
    let stack = Stack::start();
    stack.cli(["create", "identity", "ann", "-a", "clients"]).ok();
    stack.cli(["create", "identity", "bob", "-a", "hosts"]).ok();
    let hint = |words: &[&str]| {
        let output = stack.cli(words).ok();
        assert_eq!(output.stdout.lines().count(), 1, "{}", output.command);
        output.stderr
    };
    let first = hint(&["create", "service", "web"]);
    assert!(first.starts_with("hint: before 'web' can be dialed it still needs a Bind policy"), "{first}");
    assert!(first.contains("a Dial policy") && first.lines().count() == 1, "{first}");
    let second =
        hint(&["create", "sp", "b", "Bind", "--service-roles", "@web", "--identity-roles", "#hosts"]);
    assert!(second.contains("a Dial policy") && !second.contains("a Bind policy"), "{second}");
    assert_eq!(
        hint(&["create", "sp", "d", "Dial", "--service-roles", "@web", "--identity-roles", "#clients"]),
        ""
    );
    let nobody =
        hint(&["create", "sp", "n", "Dial", "--service-roles", "@web", "--identity-roles", "#nobody"]);
    assert!(nobody.contains("matches no identity yet: check its --identity-roles"), "{nobody}");

    let advice = |words: &[&str]| ok(&stack, &[&["policy-advisor"], words, &["-q"]].concat());
    let ann = "OKAY : ann (1) -> web (1) Common Routers: (1/1) Dial: Y Bind: N \n\n";
    let bob = "OKAY : bob (1) -> web (1) Common Routers: (1/1) Dial: N Bind: Y \n\n";
    assert_eq!(advice(&["identities", "ann", "web"]), ann);
    assert_eq!(advice(&["identities", "ann"]), ann);
    assert_eq!(advice(&["services", "web", "bob"]), bob);
    let both = advice(&["services", "web"]);
    assert!(both.contains(ann) && both.contains(bob) && both.len() == ann.len() + bob.len(), "{both}");
    let legend = ok(&stack, &["policy-advisor", "identities", "ann", "web"]);
    assert!(legend.ends_with(ann) && legend.len() > ann.len(), "{legend}");

    ok(&stack, &["delete", "sp", "d", "n"]);
    let advised = advice(&["identities", "ann", "web"]);
    assert_eq!(
        advised,
        "ERROR: ann (1) -> web (1) Common Routers: (1/1) Dial: N Bind: N \n  - No access to service. Adjust service policies.\n\n"
    );
    assert_eq!(
        advice(&["identities", "ann"]),
        "ERROR: ann \n  - Identity does not have access to any services. Adjust service policies.\n\n"
    );
    ok(&stack, &["delete", "erp", "where", "true limit none"]);
    let advised = advice(&["identities", "bob", "web"]);
    assert!(
        advised.contains("- Identity has no edge routers assigned. Adjust edge router policies."),
        "{advised}"
    );
    ok(&stack, &["delete", "serp", "where", "true limit none"]);
    let advised = advice(&["services", "web", "bob"]);
    assert!(advised.contains("- Service has no edge routers assigned. Adjust service edge router policies."));
    let last = hint(&["create", "service", "dark"]);
    assert!(last.contains("a service-edge-router-policy"), "{last}");
}

#[test]
fn administrators_log_in_by_certificate_and_several_logins_are_kept() {
    let stack = Stack::start();
    ok(&stack, &["create", "identity", "root", "-A", "-o", "root.jwt"]);
    stack.cli(["enroll", "root.jwt"]).ok();
    let controller = stack.controller_address();
    let saved = ok(&stack, &["login", &controller, "-f", "root.json", "-i", "root"]);
    assert_eq!(saved, format!("Saving identity 'root' to {}\n", stack.path("config/hesper-cli.json")));
    stack.cli(["create", "service", "by-certificate"]).ok();
    assert_eq!(names(&stack, &["services", "-i", "default"]), ["by-certificate"]);

    let file: serde_json::Value =
        serde_json::from_slice(&fs::read(stack.path("root.json")).expect("readable")).expect("JSON");
    let pem = |value: &str| {
        file["id"][value].as_str().and_then(|v| v.strip_prefix("pem:")).expect(value).to_owned()
    };
    let (cert, key, ca) = (
        stack.file("c.pem", &pem("cert")),
        stack.file("k.pem", &pem("key")),
        stack.file("ca.pem", &pem("ca")),
    );
    ok(&stack, &["login", &controller, "-c", &cert, "-k", &key, "--ca", &ca, "-i", "pem"]);
    assert_eq!(names(&stack, &["services", "-i", "pem"]), ["by-certificate"]);

    let guest = stack.enroll("guest", &[]);
    let refused = stack.cli(["login", &controller, "-f", &guest, "-i", "guest"]).fails_with(1);
    assert!(refused.stderr.starts_with("error: "), "{}", refused.stderr);
    ok(&stack, &["update", "identity", "root", "--disabled"]);
    let refused = stack.cli(["login", &controller, "-f", "root.json", "-i", "root"]).fails_with(1);
    assert!(refused.stderr.starts_with("error: "), "{}", refused.stderr);
    stack.login();
    assert_eq!(ok(&stack, &["logout"]), "Logged out of identity 'default'\n");
    stack.cli(["list", "services"]).fails_with(1);
}

#[test]
fn completions_know_the_commands() {
    let stack = Stack::start();
    for shell in ["bash", "zsh", "fish"] {
        let script = ok(&stack, &["completion", shell]);
        for word in ["policy-advisor", "service-edge-router-policy", "quickstart"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    fs::write(stack.path("complete.bash"), ok(&stack, &["completion", "bash"])).expect("written");
    let asked = "source complete.bash; COMP_WORDS=(hesper create ''); COMP_CWORD=2; _hesper hesper '' create; echo \"${COMPREPLY[@]}\"";
    let offered = stack.script(asked).ok().stdout;
    assert!(offered.contains("identity") && offered.contains("service-policy"), "{offered}");
    let asked = "source complete.bash; COMP_WORDS=(hesper policy ''); COMP_CWORD=2; _hesper hesper '' policy; echo \"${COMPREPLY[@]}\"";
    let offered = stack.script(asked).ok().stdout;
    assert!(["check", "diff", "apply", "export"].iter().all(|word| offered.contains(word)), "{offered}");
}
