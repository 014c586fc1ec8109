//! What the roles say about themselves is correct by Prometheus' own tools, reaches a stock Prometheus through the mesh, and is what the
//! shipped dashboards and alerts are built on.

use hesper_integration::{
    Collector, NodeExporter, Process, Prometheus, Stack,
    binaries::{installed, repository},
    free_port, http,
    otlp::{Failure, OtlpSink},
    run, wait_for, wait_until,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// A service for the metrics of each role.
const SERVICES: [&str; 4] = ["controller-metrics", "router-metrics", "node-metrics", "collector-metrics"];
const OPEN_METRICS: &str = "accept: application/openmetrics-text;version=1.0.0";

/// Every role, each with its metrics bound dark where it can, and a tunneler that reaches them.
struct World {
    stack: Stack,
    _controller: Process,
    _router: Process,
    host: Process,
    tunneler: Process,
    collector: Collector,
    sink: OtlpSink,
    _exporter: NodeExporter,
    /// Where the collector takes OTLP over HTTP.
    otlp: u16,
    /// A tunneler that may dial nothing of what it asks for.
    stranger: Process,
}

impl World {
    fn start() -> Self {
        let mut stack = Stack::separate();
        for service in SERVICES {
            stack.cli(["create", "service", service, "-a", "metrics"]).ok();
            stack.allow("Bind", service, "#watched");
        }
        let roles = ["--service-roles", "#metrics", "--identity-roles", "#watchers"];
        stack.cli([&["create", "service-policy", "watch", "Dial"][..], &roles].concat()).ok();
        let exporter = NodeExporter::start();
        stack.publish("web", exporter.address, "#hosts");
        stack.allow("Dial", "web", "#watchers");
        let watched = |name: &str, more: &[&str]| stack.enroll(name, &[&["watched"], more].concat());
        let (for_controller, for_router) = (watched("controller-1", &[]), watched("router-2", &[]));
        // It may bind its metrics only later.
        let host = stack.enroll("host", &["hosts"]);
        let (collector, watcher) = (watched("collector", &[]), stack.enroll("prometheus", &["watchers"]));
        let stranger = stack.enroll("stranger", &[]);

        stack.terminate_controller();
        let home = stack.path("controller");
        let dark = |service: &str| format!("hesper://{service}");
        let metrics = ["--metrics", &dark(SERVICES[0]), "--metrics-identity", &for_controller];
        let arguments = [&["controller", "run", "--home", &home][..], &metrics].concat();
        let controller = ready(stack.node("controller", arguments));
        let router =
            second_router(&stack, &["--metrics", &dark(SERVICES[1]), "--metrics-identity", &for_router]);
        let traces = format!("file://{}", stack.path("traces"));
        let tracing = ["--tracing-exporter-url", &traces, "--tracing-sampling-rate-per-million", "1000000"];
        let host = ["host", "-i", &host, "--metrics", &dark(SERVICES[2])];
        let host = stack.tunnel("host", &[&host[..], &tracing].concat());
        let tunneler = stack.tunnel("tunneler", &["run", "-i", &watcher, "--proxy", "127.0.0.1:0"]);
        let stranger = stack.tunnel("stranger", &["proxy", "-i", &stranger, "web:0"]);
        let (sink, otlp) = (OtlpSink::start(), free_port());
        let collector =
            Collector::new("collector", &configuration(otlp, sink.grpc())).identity(&collector).start();
        Self {
            stack,
            _controller: controller,
            _router: router,
            host,
            tunneler,
            collector,
            sink,
            _exporter: exporter,
            otlp,
            stranger,
        }
    }

    fn proxy(&self) -> String {
        format!("http://{}", self.tunneler.told("proxy"))
    }

    fn through_proxy(&self, url: &str) -> http::Response {
        http::curl(None, &["-x", &self.proxy(), url]).expect("an answer of the proxy")
    }

    /// Does one of everything, so that each metric has something to say.
    fn exercise(&self) {
        self.stack.login();
        self.stack.enroll("another", &[]);
        wait_for("a scrape through the mesh", Stack::PATIENCE, || {
            let answer = self.through_proxy("http://host.web.hesper/metrics");
            if answer.status == 200 { Ok(()) } else { Err(answer.body) }
        });
        assert_eq!(self.through_proxy("http://nobody.nothing.hesper/metrics").status, 404);
        let denied = TcpStream::connect(self.stranger.told("web"));
        let mut nothing = Vec::new();
        let end = denied.expect("the local listener").read_to_end(&mut nothing);
        assert!(end.is_err() || nothing.is_empty(), "a stranger was served");
        self.send("arrives");
        wait_until("all arrives", Stack::PATIENCE, || self.sink.counts().values().sum::<usize>() == 3);
        self.sink.fail(Failure::Invalid);
        self.send("refused");
        let refused = http::curl(
            None,
            &["-d", "nonsense", "-H", "content-type: application/json", &self.path("traces")],
        );
        assert_eq!(refused.expect("an answer").status, 400);
    }

    fn path(&self, signal: &str) -> String {
        format!("http://127.0.0.1:{}/v1/{signal}", self.otlp)
    }

    /// A span, a point and a record.
    fn send(&self, name: &str) {
        let span = format!(
            r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"{name}","kind":1,"startTimeUnixNano":"1","endTimeUnixNano":"2"}}"#
        );
        let point =
            format!(r#"{{"name":"{name}","gauge":{{"dataPoints":[{{"timeUnixNano":"1","asInt":"1"}}]}}}}"#);
        let record = format!(r#"{{"timeUnixNano":"1","body":{{"stringValue":"{name}"}}}}"#);
        for (signal, body) in [
            ("traces", format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#)),
            ("metrics", format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{point}]}}]}}]}}"#)),
            ("logs", format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#)),
        ] {
            let json = ["-d", &body, "-H", "content-type: application/json", &self.path(signal)];
            let sent = http::curl(None, &json).expect("an answer of the collector");
            assert_eq!(sent.status, 200, "{signal}: {}", sent.body);
        }
    }

    /// Prometheus as roles.yml has it, but for where the tunneler listens, and more often.
    fn prometheus(&self) -> Prometheus {
        let config = fs::read_to_string(shipped("prometheus/roles.yml")).expect("roles.yml");
        let rules = shipped("prometheus/rules.yml").display().to_string();
        let proxy = self.tunneler.told("proxy").to_string();
        Prometheus::start(
            &config
                .replace("127.0.0.1:9180", &proxy)
                .replace("15s", "1s")
                .replace("- rules.yml", &format!("- {rules}")),
        )
    }
}

fn configuration(otlp: u16, to: SocketAddr) -> String {
    format!(
        "extensions: {{file_storage: {{directory: DIRECTORY/queue, create_directory: true}}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{otlp}'}}}}}}}}
exporters: {{otlp_grpc: {{endpoint: '{to}', tls: {{insecure: true}}, sending_queue: {{storage: file_storage}}}}}}
service:
  extensions: [file_storage]
  telemetry: {{metrics: {{address: 'hesper://collector-metrics'}}}}
  pipelines: {{traces: &p {{receivers: [otlp], exporters: [otlp_grpc]}}, metrics: *p, logs: *p}}
"
    )
}

fn ready(mut process: Process) -> Process {
    process.wait_for_line("it is ready", Stack::PATIENCE, |line| line.starts_with("ready ").then_some(()));
    process
}

fn second_router(stack: &Stack, metrics: &[&str]) -> Process {
    let (token, home) = (stack.path("dark.jwt"), stack.path("dark"));
    stack.cli(["create", "edge-router", "dark", "-o", &token]).ok();
    stack.cli(["router", "enroll", &token, "--home", &home]).ok();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())).to_string();
    let run = ["router", "run", "--home", &home, "--listen", &at, "--advertise", &at];
    ready(stack.node("dark", [&run[..], metrics].concat()))
}

/// A file of `examples/`.
fn shipped(name: &str) -> PathBuf {
    repository().join("examples").join(name)
}

fn promtool(arguments: &[&str], input: &str) -> hesper_integration::Output {
    let mut promtool = Command::new(installed("promtool", "prometheus"));
    promtool.args(arguments).current_dir(shipped("prometheus"));
    run(promtool, input, Duration::from_secs(60))
}

/// The metrics that a text speaks of.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours =
        words.filter(|word| ["hesper_", "otelcol_", "process_"].iter().any(|own| word.starts_with(own)));
    // The one label among them.
    ours.filter(|word| *word != "hesper_service").map(str::to_owned).collect()
}

/// The series of a page, by the name that an expression would use.
fn names(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

/// The page is OpenMetrics: one block for each family, no series twice, the end marked.
#[track_caller]
fn assert_open_metrics(role: &str, page: &http::Response) {
    let kind = page.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{role}: {kind}");
    assert!(page.body.ends_with("\n# EOF\n"), "{role}: no end");
    let mut seen = BTreeSet::new();
    for line in page.body.lines() {
        let unique = match line.strip_prefix("# TYPE ") {
            Some(family) => family,
            None if line.starts_with('#') => continue,
            None => line.rsplit_once(' ').expect("a sample").0,
        };
        assert!(seen.insert(unique), "{role} says {unique} twice");
    }
    let counters =
        page.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
    for counter in counters {
        assert!(
            !counter.ends_with("_total"),
            "{role}: OpenMetrics names the family {counter} without _total"
        );
    }
}

#[test]
fn every_roles_metrics_are_correct_and_all_that_dashboards_and_rules_use_is_there() {
    let mut world = World::start();
    world.exercise();

    // Nobody may bind for it yet; it hosts all the same, and says what is missing.
    world.host.wait_for_line("the reason", Stack::PATIENCE, |line| {
        line.contains("the metrics are not bound yet").then_some(())
    });
    world.stack.cli(["update", "identity", "host", "-a", "hosts,watched"]).ok();
    world.host.wait_for_line("its metrics are bound", Stack::PATIENCE, |line| {
        line.contains("metrics at hesper://node-metrics").then_some(())
    });

    let prometheus = world.prometheus();
    let up = prometheus.wait_all_up(r#"up{job="hesper"}"#, 5);
    let instances: BTreeSet<_> = up.iter().map(|sample| sample.labels["instance"].clone()).collect();
    for instance in ["controller-1", "router-2", "host", "collector"] {
        assert!(instances.contains(instance), "{instances:?}");
    }
    for (role, instance) in
        [("controller", "controller-1"), ("router", "router-2"), ("node", "host"), ("collector", "collector")]
    {
        let query = format!(r#"hesper_build_info{{role="{role}", instance="{instance}"}}"#);
        prometheus.wait_sample(&query, |sample| sample.value == 1.0);
    }
    let dropped =
        prometheus.wait_sample("sum(hesper_ledger_dropped_items_total)", |sample| sample.value >= 3.0);
    assert_eq!(dropped.value, 3.0);
    // A dial that the controller denies is known where somebody looks for it.
    prometheus.wait_sample(r#"hesper_dials_total{outcome="denied"}"#, |sample| sample.value >= 1.0);

    let mut there = BTreeSet::new();
    for (role, classic, open) in pages(&world) {
        assert_eq!(classic.status, 200, "{role}: {}", classic.body);
        let kind = classic.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{role}: {kind}");
        assert!(!classic.body.contains("# EOF"), "{role}: the older text has no end marker");
        let checked = promtool(&["check", "metrics"], &classic.body);
        assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "promtool has complaints of {role}");
        assert_open_metrics(role, &open);
        there.extend(names(&classic.body));
    }

    let mut wanted = BTreeMap::new();
    let boards =
        fs::read_dir(shipped("grafana")).expect("dashboards").map(|entry| entry.expect("a file").path());
    for file in boards.chain([shipped("prometheus/rules.yml")]) {
        let text = fs::read_to_string(&file).expect("a file");
        if file.extension().is_some_and(|kind| kind == "json") {
            let board: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(board["templating"]["list"][0]["type"], "datasource", "{}", file.display());
        }
        wanted.insert(file, metrics_in(&text));
    }
    assert_eq!(wanted.len(), 6);
    for (file, metrics) in wanted {
        let missing: Vec<_> = metrics.iter().filter(|metric| !there.contains(*metric)).collect();
        assert!(!metrics.is_empty() && missing.is_empty(), "{}: nobody has {missing:?}", file.display());
    }
}

/// Each role's page in both formats.
fn pages(world: &World) -> Vec<(&'static str, http::Response, http::Response)> {
    let (proxy, own) = (world.proxy(), format!("{}/metrics", world.proxy()));
    let controller = format!("https://{}/metrics", world.stack.controller_address());
    let of = |arguments: &[&str]| {
        let open = [&["-H", OPEN_METRICS][..], arguments].concat();
        (http::curl(None, arguments).expect("a page"), http::curl(None, &open).expect("a page"))
    };
    let dark = |url: &str| of(&["-x", &proxy, url]);
    let pages = [
        ("the controller", of(&["-k", &controller])),
        ("the dark controller", dark("http://controller-1.controller-metrics.hesper/metrics")),
        ("the router", of(&[world.stack.router_metrics_url(0)])),
        ("the dark router", dark("http://router-2.router-metrics.hesper/metrics")),
        ("the host", dark("http://host.node-metrics.hesper/metrics")),
        ("the tunneler", of(&[&own])),
        ("the collector", dark("http://collector.collector-metrics.hesper/metrics")),
    ];
    for url in [
        "http://controller-1.controller-metrics.hesper/healthz",
        "http://collector.collector-metrics.hesper/healthz",
    ] {
        assert_eq!(world.through_proxy(url).body, "ok\n", "{url}");
    }
    let _ = &world.collector;
    pages.map(|(role, (classic, open))| (role, classic, open)).into()
}

#[test]
fn what_is_shipped_for_prometheus_passes_its_own_checks() {
    promtool(&["check", "rules", "rules.yml"], "").ok();
    promtool(&["check", "config", "roles.yml"], "").ok();
    let tested = promtool(&["test", "rules", "rules_test.yml"], "").ok();
    assert!(tested.stdout.contains("SUCCESS"), "{}", tested.stdout);
}

#[test]
fn a_place_that_others_reach_or_nobody_can_bind_is_refused_with_what_to_do() {
    let stack = Stack::start();
    let refused = |arguments: &[&str], code, says: &str| {
        let refused = stack.cli(arguments).fails_with(code);
        assert!(refused.stderr.contains(says), "{arguments:?}: {}", refused.stderr);
    };
    let home = stack.path("other");
    let quickstart =
        ["quickstart", "--home", &home, "--ctrl-port", "0", "--router-port", "0", "-p", Stack::PASSWORD];
    let with = |metrics: &'static str| [&quickstart[..], &["--metrics", metrics]].concat();
    refused(&with("0.0.0.0:0"), 2, "or hesper://SERVICE to bind them as a service of the mesh");
    refused(&with("hesper://metrics"), 2, "give one with --metrics-identity FILE");
    refused(&with("http://127.0.0.1:1"), 2, "write hesper://SERVICE");

    assert!(fs::metadata(&home).is_err(), "what is refused leaves nothing behind");

    // Both roles of quickstart have one page.
    let at = format!("127.0.0.1:{}", free_port());
    let arguments = [&quickstart[..], &["--metrics", &at]].concat();
    let _quickstart = ready(stack.node("other", arguments));
    let page = http::get(&format!("http://{at}/metrics")).expect("metrics").body;
    let checked = promtool(&["check", "metrics"], &page);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "promtool has complaints");
    for role in ["controller", "router"] {
        assert_eq!(http::sum(&page, "hesper_build_info", &format!("role=\"{role}\"")), 1.0, "{page}");
    }
}
