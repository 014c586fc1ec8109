//! Each kind of exporter URL, against what really receives there.

use crate::ground::{Span, spans, way};
use hesper_integration::{
    Collector, Process, Stack, StackOptions, free_port, http,
    otlp::{OtlpSink, Requests},
    pki, wait_for, wait_until,
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The two spans of `list identities`, once they have come: the command, and its request inside of it.
#[track_caller]
fn has_command(sink: &OtlpSink) -> Vec<Span> {
    wait_for("the trace of the command", PATIENCE, || {
        let all = spans(sink);
        let get = all.iter().find(|span| span.name() == "GET" && span.service == "hesper");
        let way = get.map(|get| way(&all, get)).unwrap_or_default();
        let wanted = ["hesper: hesper list identities", "hesper: GET"];
        if way == wanted { Ok(all) } else { Err(format!("{way:?} of {all:?}")) }
    })
}

#[track_caller]
fn list(stack: &Stack, exporter: &str) {
    let listed = stack.cli(["list", "identities", "--trace", "--trace-exporter", exporter]).ok();
    assert_eq!(listed.stderr, "", "nothing to be said of an exporter that takes it");
}

#[test]
fn grpc_with_and_without_its_scheme_and_http() {
    let (stack, plain, bare, http) =
        (Stack::start(), OtlpSink::start(), OtlpSink::start(), OtlpSink::start());
    list(&stack, &format!("grpc://{}", plain.grpc()));
    list(&stack, &bare.grpc().to_string());
    list(&stack, &format!("http://{}", http.http()));
    for sink in [&plain, &bare, &http] {
        let all = has_command(sink);
        let trace = &all[0].raw.trace_id;
        assert!(all.iter().all(|span| &span.raw.trace_id == trace), "one command, one trace: {all:?}");
    }
}

#[test]
fn the_variables_of_opentelemetry() {
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let endpoint = format!("http://{}", sink.grpc());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_SERVICE_NAME", "ops"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=mesh"),
    ];
    stack.cli_with(["list", "services"], &variables, "").ok();
    stack.cli_with(["list", "identities", "--trace"], &variables, "").ok();
    let all = wait_for("a trace", PATIENCE, || {
        Some(spans(&sink)).filter(|all| all.len() >= 2).ok_or_else(|| "none".to_owned())
    });
    assert!(all.iter().all(|span| span.service == "ops"), "{all:?}");
    assert!(
        all.iter().all(|span| span.name() != "hesper list services"),
        "a command without --trace is not traced: {all:?}"
    );
    let resources: Vec<_> = sink.received().iter().flat_map(|r| r.request.resources()).collect();
    assert!(resources.iter().all(|r| r.get("team").as_deref() == Some("mesh")), "{resources:?}");
}

#[test]
fn a_sampled_parent_in_the_environment_is_joined() {
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let endpoint = format!("http://{}", sink.http());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let variables = [("TRACEPARENT", parent), ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)];
    stack.cli_with(["list", "identities"], &variables, "").ok();
    let all = wait_for("a trace", PATIENCE, || {
        Some(spans(&sink)).filter(|all| all.len() >= 2).ok_or_else(|| "none".to_owned())
    });
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(all.iter().all(|span| hex(&span.raw.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736"), "{all:?}");
    let command = all.iter().find(|span| span.name() == "hesper list identities").expect("the command");
    assert_eq!(hex(&command.raw.parent_span_id), "00f067aa0ba902b7");
    let unsampled =
        [("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), variables[1]];
    let before = spans(&sink).len();
    stack.cli_with(["list", "identities"], &unsampled, "").ok();
    assert_eq!(spans(&sink).len(), before, "who asks does not record it, so nobody does");
}

/// A collector that wants a certificate of whoever sends, over HTTPS and over gRPC with TLS.
#[test]
fn mutual_tls_by_both_protocols() {
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let server = pki::certificate(&["127.0.0.1"], dirs[0].path());
    let client = pki::certificate(&["ops"], dirs[1].path());
    let tls = format!(
        "tls: {{cert_file: '{}', key_file: '{}', client_ca_file: '{}'}}",
        server.certificate.display(),
        server.key.display(),
        client.authority.display()
    );
    let receiver = |protocol: &str| format!("{protocol}: {{endpoint: '127.0.0.1:0', {tls}}}");
    let config = forwarding(&format!("{}, {}", receiver("grpc"), receiver("http")), &sink);
    let collector = Collector::new("collector", &config).start();
    // One port for both.
    let at = collector.told("otlp");
    let urls = [format!("https://{at}"), format!("grpc://{at}")];
    let text = |path: &Path| path.display().to_string();
    let (ca, certificate, key) = (text(&server.authority), text(&client.certificate), text(&client.key));
    let ours = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &*ca),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &*certificate),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &*key),
    ];
    for (sent, url) in urls.iter().enumerate() {
        let arguments = ["list", "identities", "--trace", "--trace-exporter", url];
        for (variables, why) in
            [(&ours[..1], "no client certificate"), (&[][..], "an authority nobody trusts")]
        {
            let listed = stack.cli_with(arguments, variables, "").ok();
            assert!(listed.stderr.contains("not exported"), "{url}, {why}: {}", listed.stderr);
            assert_eq!(listed.stderr.lines().count(), 1, "{url}, {why}: {}", listed.stderr);
        }
        assert_eq!(stack.cli_with(arguments, &ours, "").ok().stderr, "", "{url}");
        wait_until("its spans", PATIENCE, || spans(&sink).len() == 2 * (sent + 1));
    }
    let half = [ours[1], ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1")];
    let refused = stack.cli_with(["list", "identities", "--trace"], &half, "").fails_with(2);
    assert!(refused.stderr.contains("key_file"), "{}", refused.stderr);
}

/// From these protocols of an OTLP receiver to a sink.
fn forwarding(protocols: &str, sink: &OtlpSink) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{{protocols}}}}}}}
exporters: {{otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}}}}}
service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_grpc]}}}}, telemetry: {{metrics: {{level: none}}}}}}
",
        sink.grpc()
    )
}

/// What it wrote is read by our own collector, as OTLP/JSON.
#[test]
fn files_that_a_collector_reads_back() {
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let dir = PathBuf::from(stack.path("traces"));
    let url = format!("file://{}?limit=6000&total=12000", dir.display());
    for _ in 0..12 {
        list(&stack, &url);
    }
    let files: Vec<_> =
        fs::read_dir(&dir).expect("the directory").map(|e| e.expect("a file").path()).collect();
    let size: u64 = files.iter().map(|path| fs::metadata(path).expect("a file").len()).sum();
    assert!(files.len() >= 2 && size <= 12_000, "{files:?} have {size} bytes");
    let config = forwarding("http: {endpoint: '127.0.0.1:0'}", &sink);
    let collector = Collector::new("reader", &config).start();
    let to = format!("http://{}/v1/traces", collector.told("otlp/http"));
    let mut lines = 0;
    for path in &files {
        for line in fs::read_to_string(path).expect("a file").lines() {
            let answer = http::curl(None, &["-H", "content-type: application/json", "-d", line, &to]);
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 200, "{}: {line}", answer.body);
            lines += 1;
        }
    }
    wait_until("every span of the files", PATIENCE, || spans(&sink).len() == 2 * lines);
    has_command(&sink);
}

/// A tunneler sends its spans to a collector that is itself a service of the mesh.
#[test]
fn a_dark_receiver() {
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let (collector_id, node) = (stack.enroll("collector", &[]), stack.enroll("node", &[]));
    stack.cli(["create", "service", "traces"]).ok();
    stack.allow("Bind", "traces", "@collector");
    stack.allow("Dial", "traces", "@node");
    let config = forwarding("grpc: {endpoint: hesper://traces}", &sink);
    let _collector = Collector::new("collector", &config).identity(&collector_id).start();
    let (_tunnel, proxy) = proxy(&stack, &node, &["--tracing-exporter-url", "hesper://traces", "--trace"]);
    wait_until("spans of the tunneler", PATIENCE, || {
        let _ = http::curl(None, &["-x", &format!("http://{proxy}"), "http://nobody/metrics"]);
        spans(&sink).iter().any(|span| span.service == "hesper-tunnel")
    });
    let resources: Vec<_> = sink.received().iter().flat_map(|r| r.request.resources()).collect();
    let stamped = |r: &hesper_integration::otlp::Attributes| r.get("hesper.identity.name");
    assert!(resources.iter().all(|r| stamped(r).as_deref() == Some("node")), "{resources:?}");
}

/// `tunnel run`, whose proxy is ready there.
#[track_caller]
fn proxy(stack: &Stack, identity: &str, more: &[&str]) -> (Process, SocketAddr) {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let arguments = [&["tunnel", "run", "-i", identity, "--proxy", &address][..], more].concat();
    let mut process = stack.node("tunnel", arguments);
    process.wait_for_line("it is ready", PATIENCE, |line| line.starts_with("ready ").then_some(()));
    (process, ([127, 0, 0, 1], port).into())
}

/// The block in controller.json: spans, and the controller's metrics and events by the same exporter.
#[test]
fn metrics_and_events_go_the_same_way() {
    let sink = OtlpSink::start();
    let block = serde_json::json!({
        "enabled": true, "exporter_url": format!("grpc://{}", sink.grpc()), "sampling_rate_per_million": 1_000_000,
        "metrics": true, "events": true,
    });
    let stack = StackOptions::default().setting("tracing", block).start();
    stack.cli(["create", "identity", "somebody"]).ok();
    wait_until("spans, metrics and events", PATIENCE, || {
        let all = sink.received();
        let metrics = all.iter().any(|received| match &received.request {
            Requests::Metrics(request) => format!("{request:?}").contains("hesper_build_info"),
            _ => false,
        });
        let events = all.iter().any(|received| match &received.request {
            Requests::Logs(request) => {
                let logs = request.resource_logs.iter().flat_map(|r| &r.scope_logs);
                logs.flat_map(|scope| &scope.log_records).any(|record| record.event_name == "hesper.change")
            }
            _ => false,
        });
        metrics && events && spans(&sink).iter().any(|span| span.service == "hesper-controller")
    });
    let resources: Vec<_> = sink.received().iter().flat_map(|r| r.request.resources()).collect();
    assert!(resources.iter().all(|r| r.get("service.name").as_deref() == Some("hesper-controller")));
}

/// Nothing waits for it: what does not fit into the queue is dropped, and every span is accounted for.
#[test]
fn a_role_whose_exporter_is_not_there_works_and_counts_what_it_drops() {
    let (stack, node) = {
        let stack = Stack::start();
        let node = stack.enroll("node", &[]);
        (stack, node)
    };
    let (proxy_port, nobody) = (free_port(), format!("http://127.0.0.1:{}", free_port()));
    let address = format!("127.0.0.1:{proxy_port}");
    let mut command =
        stack.hesper(&hesper_integration::Place::host(), ["tunnel", "run", "-i", &node, "--proxy", &address]);
    command.args(["--tracing-exporter-url", &nobody, "--tracing-sampling-rate-per-million", "1000000"]);
    command.env("OTEL_BSP_MAX_QUEUE_SIZE", "16").env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8");
    let mut tunnel = Process::ours("tunnel", command);
    tunnel.wait_for_line("it is ready", PATIENCE, |line| line.starts_with("ready ").then_some(()));
    for _ in 0..60 {
        let answer = http::curl(None, &["-x", &format!("http://{address}"), "http://nobody/metrics"]);
        assert_eq!(answer.expect("an answer").status, 404);
    }
    let page = http::get(&format!("http://{address}/metrics")).expect("metrics").body;
    let sum = |name: &str, labels: &str| http::sum(&page, name, labels);
    let dropped = sum("hesper_trace_spans_dropped_total", "queue_full");
    assert!(dropped > 0.0, "{page}");
    assert_eq!(sum("hesper_trace_spans_sent_total", ""), 0.0);
    let ended = sum("hesper_trace_spans_ended_total", "");
    let lost = sum("hesper_trace_spans_dropped_total", "");
    // What waits, and what is being tried.
    assert!(ended >= 60.0 && ended - lost <= 24.0, "{ended} ended, {lost} dropped");
}

#[test]
fn an_exporter_that_is_not_there_is_told_of_in_one_line_and_fails_nothing() {
    let stack = Stack::start();
    let nobody = format!("grpc://127.0.0.1:{}", free_port());
    let listed = stack.cli(["list", "identities", "--trace", "--trace-exporter", &nobody]).ok();
    let plain = stack.cli(["list", "identities"]).ok();
    assert_eq!(listed.stdout, plain.stdout);
    assert_eq!(listed.stderr.lines().count(), 1, "{}", listed.stderr);
    assert!(listed.stderr.contains("not exported") && listed.stderr.contains("refused"), "{}", listed.stderr);
    for bad in ["ftp://x", "grpc://x", "host", "hesper://", "file://relative"] {
        let refused = stack.cli(["list", "identities", "--trace", "--trace-exporter", bad]).fails_with(2);
        assert!(refused.stderr.contains("exporter URL"), "{}", refused.stderr);
    }
    stack.cli(["list", "identities", "--trace-exporter", &nobody]).fails_with(2);
    let config = stack.file("tracing.yaml", "tracing: {enabled: true}\n");
    let identity = stack.enroll("node", &[]);
    let refused = stack.cli(["tunnel", "host", "-i", &identity, "--tracing-config", &config]).fails_with(2);
    assert!(refused.stderr.contains("exporter_url"), "{}", refused.stderr);
}
