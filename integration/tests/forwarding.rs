//! Telemetry by way of the controller, with a real receiver behind it: who may, what arrives and as whose, and what is told.

use hesper_client::channel::ControlChannel;
use hesper_integration::{
    Collector, Stack, StackOptions, binaries, free_port, http,
    otlp::{Item, Load, OtlpSink, Requests},
    run, wait_until,
};
use hesper_pki::{credentials::SharedCredentials, identity_file::IdentityFile};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
        trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, span::SpanKind},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::SocketAddr, process::Command, time::Duration};
use tokio::runtime::Runtime;
use tonic::{Code, Status, transport::Channel};

/// After which everything has arrived.
const ARRIVED: Duration = Duration::from_secs(120);

/// A mesh whose controller forwards to this receiver.
fn stack(sink: &OtlpSink) -> Stack {
    forwarding_to(&format!("grpc://{}", sink.grpc()))
}

fn forwarding_to(url: &str) -> Stack {
    let tracing = json!({ "exporter_url": url });
    StackOptions::default().setting("tracing", tracing).start()
}

/// A channel to the controller with the certificate of this identity file.
fn channel(stack: &Stack, identity: &str) -> impl FnOnce() -> Channel + Send + use<> {
    let url = format!("https://{}", stack.controller_address());
    let file = IdentityFile::load(identity.as_ref()).expect("an identity file");
    move || {
        let credentials = SharedCredentials::new(file.credentials().expect("credentials"));
        ControlChannel::new(&[url], credentials).expect("a channel").channel()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Any::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// One span that lies about whose it is, with so much beside it.
fn lie(weight: usize) -> ExportTraceServiceRequest {
    let lies = || {
        let keys =
            ["hesper.identity.id", "hesper.identity.name", "hesper.identity.name", "hesper.forwarded.for"];
        keys.map(|key| text(key, "root")).into_iter().chain([text("mesh.service.name", "kept")])
    };
    let span = Span {
        trace_id: rand::random::<[u8; 16]>().to_vec(),
        span_id: rand::random::<[u8; 8]>().to_vec(),
        name: "lie".to_owned(),
        attributes: lies().chain([text("weight", &"x".repeat(weight))]).collect(),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: lies().collect(), ..Resource::default() });
    let spans = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

fn send(runtime: &Runtime, channel: &Channel, request: ExportTraceServiceRequest) -> Result<(), Status> {
    let mut client = TraceServiceClient::new(channel.clone());
    runtime.block_on(client.export(request)).map(drop)
}

/// A text among a span's attributes; empty = there is none.
fn attribute(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.clone()?.value);
    match value {
        Some(Any::StringValue(text)) => text,
        _ => String::new(),
    }
}

fn denials(stack: &Stack) -> Vec<Value> {
    let told = stack.cli(["events", "-j", "--event", "send", "--outcome", "denied"]).ok();
    told.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The spans of the only trace that came.
fn trace(sink: &OtlpSink) -> Vec<Span> {
    let requests = sink.received().into_iter().filter_map(|received| match received.request {
        Requests::Traces(request) => Some(request),
        _ => None,
    });
    let resources = requests.flat_map(|request| request.resource_spans);
    resources.flat_map(|r| r.scope_spans).flat_map(|scope| scope.spans).collect()
}

#[test]
fn a_command_is_one_trace_from_its_first_word_to_the_store() {
    let sink = OtlpSink::start();
    let stack = stack(&sink);
    let listed = stack.cli(["--trace", "list", "services"]).ok();
    assert_eq!(listed.stderr, "", "nothing is lost");
    let names = ["hesper list services", "GET", "GET /edge/management/v1/services", "store get"];
    wait_until("the trace is whole", ARRIVED, || {
        let spans = trace(&sink);
        names.iter().all(|name| spans.iter().any(|span| span.name == *name))
    });
    let spans = trace(&sink);
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| &*span.trace_id).collect();
    assert_eq!(traces.len(), 1, "one trace: {spans:?}");
    // Each of the calls of the command: a client's span in the command's, and in it a server's.
    let root = spans.iter().find(|span| span.name == names[0]).expect("the root");
    assert_eq!(root.parent_span_id, Vec::<u8>::new());
    let server = spans.iter().find(|span| span.name == names[2]).expect("the server's");
    assert_eq!(server.kind, SpanKind::Server as i32);
    let client = spans.iter().find(|span| span.span_id == server.parent_span_id).expect("its client's");
    assert_eq!((&*client.name, client.kind), ("GET", SpanKind::Client as i32));
    assert_eq!(client.parent_span_id, root.span_id);
    let stored = spans.iter().filter(|span| span.name == "store get");
    assert!(
        stored.clone().any(|span| span.parent_span_id == server.span_id),
        "the session is looked up in it"
    );
    let ids: BTreeSet<&[u8]> = spans.iter().map(|span| &*span.span_id).collect();
    for span in spans.iter().filter(|span| !std::ptr::eq(*span, root)) {
        assert!(ids.contains(&*span.parent_span_id), "{} hangs nowhere", span.name);
    }
    // What came by way of the controller says whose it is.
    let of_command = |item: &Item| item.resource.get("service.name").as_deref() == Some("hesper");
    let items = sink.items();
    let forwarded: Vec<_> = items.iter().filter(|item| of_command(item)).collect();
    assert!(!forwarded.is_empty());
    for item in forwarded {
        assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some("Default Admin"));
        assert_eq!(item.resource.get("hesper.forwarded.for").as_deref(), Some("[Default Admin]"));
    }
}

#[test]
fn who_forwards_through_a_controller_without_an_exporter_is_told_in_one_line() {
    let stack = Stack::separate();
    let listed = stack.cli(["--trace", "list", "services"]).ok();
    let lines: Vec<&str> = listed.stderr.lines().collect();
    let [line] = &lines[..] else { panic!("{}", listed.stderr) };
    for part in [
        "WARN",
        "of this trace were not exported",
        "the controller has no exporter",
        "--tracing-exporter-url",
        "--trace-exporter",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!line.contains("hesper://"), "{line}");
    let without = stack.cli(["list", "services"]).ok();
    assert_eq!(listed.stdout, without.stdout);
}

#[test]
fn identities_forward_as_long_as_they_may_and_what_they_claim_is_taken_out() {
    let (sink, runtime) = (OtlpSink::start(), Runtime::new().expect("a runtime"));
    let stack = stack(&sink);
    let identity = stack.enroll("shop", &[]);
    let channel = runtime.block_on(async { channel(&stack, &identity)() });
    let denied = send(&runtime, &channel, lie(0)).expect_err("it may not");
    assert_eq!(denied.code(), Code::PermissionDenied);
    let rule = "identity 'shop' has not the permission telemetry.forward";
    assert!(denied.message().starts_with(rule), "{denied}");
    assert!(
        denied.message().contains("hesper update identity shop --permissions telemetry.forward"),
        "{denied}"
    );
    let told = denials(&stack);
    let [event] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        (&event["identity"], &event["service"], &event["rule"]),
        (&json!("shop"), &json!("telemetry"), &json!(rule))
    );

    stack.cli(["update", "identity", "shop", "--permissions", "telemetry.forward"]).ok();
    assert_eq!(
        stack.cli(["list", "identities", "name = \"shop\"", "-j"]).ok().json()["data"][0]["permissions"],
        json!(["telemetry.forward"])
    );
    send(&runtime, &channel, lie(0)).expect("it may");
    let record = LogRecord { attributes: vec![text("test.id", "log-1")], ..LogRecord::default() };
    let logs = ResourceLogs {
        scope_logs: vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }],
        ..ResourceLogs::default()
    };
    let logs = ExportLogsServiceRequest { resource_logs: vec![logs] };
    runtime.block_on(LogsServiceClient::new(channel.clone()).export(logs)).expect("logs too");
    wait_until("both arrive", ARRIVED, || sink.items().len() == 2);
    for item in sink.items() {
        assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some("shop"), "{item:?}");
        assert_eq!(item.resource.get("hesper.forwarded.for").as_deref(), Some("[shop]"), "{item:?}");
        assert!(!format!("{item:?}").contains("root"), "{item:?}");
        if item.line.starts_with("span") {
            assert_eq!(
                item.attributes.get("mesh.service.name").as_deref(),
                Some("kept"),
                "no claim about anybody"
            );
        }
    }

    // A connection that is open is no right that stays.
    stack.cli(["update", "identity", "shop", "--permissions", ""]).ok();
    let denied = send(&runtime, &channel, lie(0)).expect_err("not any more");
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(sink.items().len(), 2);
}

#[test]
fn routers_forward_and_strangers_do_not() {
    let (sink, runtime) = (OtlpSink::start(), Runtime::new().expect("a runtime"));
    let stack = stack(&sink);
    let identity = stack.path("router/router.json");
    let router = runtime.block_on(async { channel(&stack, &identity)() });
    send(&runtime, &router, lie(0)).expect("a part of the mesh");
    wait_until("it arrives", ARRIVED, || sink.items().len() == 1);
    let item = &sink.items()[0];
    assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some(stack.router_name(0)));

    let client = stack.enroll("shop", &[]);
    let shop = runtime.block_on(async { channel(&stack, &client)() });
    let mut forged = TraceServiceClient::with_interceptor(shop, |mut call: tonic::Request<()>| {
        call.metadata_mut().insert("authorization", "Bearer nobody".parse().expect("a value"));
        Ok(call)
    });
    let refused = runtime.block_on(forged.export(lie(0))).expect_err("no session");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("log in again"), "{refused}");
    assert_eq!(sink.items().len(), 1);
}

#[test]
fn a_dial_says_by_which_rule_it_was_decided_and_what_was_granted() {
    let sink = OtlpSink::start();
    let stack = stack(&sink);
    let (host, client) = (stack.enroll("host", &[]), stack.enroll("client", &[]));
    stack.cli(["update", "identity", "client", "--permissions", "telemetry.forward"]).ok();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let target = listener.local_addr().expect("an address");
    std::thread::spawn(move || while listener.accept().is_ok() {});
    stack.publish("web", target, "@host");
    let _host = stack.tunnel("host", &["host", "-i", &host]);
    let dial = || stack.cli(["--trace", "dial", "web", "-i", &client, "--timeout", "5"]);
    let decided = |outcome: &str| {
        let spans = trace(&sink);
        let server =
            |s: &&Span| s.name == "hesper.control.v1.NodeControl/Dial" && s.kind == SpanKind::Server as i32;
        let server = spans.iter().filter(server);
        let policy = |s: &&Span| s.name == "policy decide" && attribute(s, "mesh.outcome") == outcome;
        let mut decisions = spans.iter().filter(policy);
        decisions.find_map(|d| {
            let of = server.clone().find(|s| s.span_id == d.parent_span_id)?;
            Some((d.clone(), of.clone(), spans.clone()))
        })
    };
    assert_eq!(dial().code, 1);
    wait_until("the refusal is there", ARRIVED, || decided("denied").is_some());
    let (decision, call, _) = decided("denied").expect("just seen");
    let rule = "no Dial service-policy has both identity 'client' and service 'web'";
    for span in [&decision, &call] {
        assert_eq!(attribute(span, "mesh.policy.rule"), rule, "{span:?}");
        assert_eq!(attribute(span, "mesh.outcome"), "denied");
        assert_eq!(attribute(span, "mesh.identity.name"), "client");
        assert!(span.status.as_ref().is_none_or(|s| s.code == 0), "no error of ours: {span:?}");
    }
    stack.allow("Dial", "web", "@client");
    wait_until("it may dial", ARRIVED, || dial().code == 0);
    wait_until("the grant is there", ARRIVED, || {
        let Some((_, call, spans)) = decided("allowed") else { return false };
        spans.iter().any(|s| {
            s.name == "grant issue"
                && s.parent_span_id == call.span_id
                && attribute(s, "mesh.service.name") == "web"
                && !attribute(s, "mesh.grant.id").is_empty()
        })
    });
}

#[test]
fn a_collector_behind_it_gets_everything_and_the_metrics_tell_so() {
    let (sink, port) = (OtlpSink::start(), free_port());
    let config = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{port}'}}}}}}}}
exporters: {{otlp: {{endpoint: '{}', tls: {{insecure: true}}}}}}
service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [otlp]}}}}}}
",
        sink.grpc()
    );
    let _collector = Collector::new("behind", &config).start();
    let stack = forwarding_to(&format!("grpc://{}", SocketAddr::from(([127, 0, 0, 1], port))));
    let identity = stack.enroll("shop", &[]);
    stack.cli(["update", "identity", "shop", "--permissions", "telemetry.forward"]).ok();
    let load = Load::over(channel(&stack, &identity), "shop", 20, 2);
    load.wait_acknowledged(400);
    let sent = load.stop();
    sink.wait_all(&sent.acknowledged, &sent.unsure, ARRIVED);
    let page = || {
        let url = format!("https://{}/metrics", stack.controller_address());
        http::curl(None, &["-k", &url]).expect("the metrics").body
    };
    let count = sent.acknowledged.len();
    wait_until("they are counted", ARRIVED, || {
        page().contains(&format!("hesper_forward_delivered_items_total{{signal=\"traces\"}} {count}"))
    });
    let accepted = format!("hesper_forward_items_total{{signal=\"traces\",outcome=\"accepted\"}} {count}");
    assert!(page().contains(&accepted), "{}", page());
    let mut promtool = Command::new(binaries::installed("promtool", "prometheus"));
    promtool.args(["check", "metrics"]);
    assert_eq!(run(promtool, &page(), ARRIVED).ok().stderr, "", "promtool has complaints");
}

#[test]
fn what_is_too_large_or_too_fast_is_refused_as_exporters_understand_it() {
    let (sink, runtime) = (OtlpSink::start(), Runtime::new().expect("a runtime"));
    let stack = stack(&sink);
    let identity = stack.enroll("shop", &[]);
    stack.cli(["update", "identity", "shop", "--permissions", "telemetry.forward"]).ok();
    let channel = runtime.block_on(async { channel(&stack, &identity)() });
    let large = send(&runtime, &channel, lie(5 << 20)).expect_err("too large");
    assert_eq!(large.code(), Code::ResourceExhausted);
    assert!(
        large.message().contains("4194304 bytes") && large.details().is_empty(),
        "it never will be taken: {large}"
    );
    // The burst is used up however fast this is: a second gives back less than one of these.
    let fast = (0..20).find_map(|_| send(&runtime, &channel, lie(3 << 20)).err()).expect("too fast");
    assert_eq!(fast.code(), Code::ResourceExhausted);
    assert!(fast.message().contains("'shop' sends more than the controller forwards"), "{fast}");
    assert!(!fast.details().is_empty(), "a RetryInfo says when to come again: {fast}");
    // Others are not held up by it.
    let other = stack.cli(["--trace", "list", "services"]).ok();
    assert_eq!(other.stderr, "");
}

#[test]
fn what_was_acknowledged_arrives_though_the_controller_is_killed() {
    let mut sink = OtlpSink::start();
    let mut stack = stack(&sink);
    let identity = stack.enroll("shop", &[]);
    stack.cli(["update", "identity", "shop", "--permissions", "telemetry.forward"]).ok();
    // Nothing leaves the controller: all of it is only on its disk.
    sink.stop();
    let load = Load::over(channel(&stack, &identity), "shop", 20, 2);
    load.wait_acknowledged(400);
    stack.kill_controller();
    stack.start_controller();
    load.wait_acknowledged(load.acknowledged() + 200);
    sink.resume();
    load.wait_acknowledged(load.acknowledged() + 200);
    stack.kill_controller();
    stack.start_controller();
    load.wait_acknowledged(load.acknowledged() + 200);
    let sent = load.stop();
    sink.wait_all(&sent.acknowledged, &sent.unsure, ARRIVED);
    for item in
        sink.items().iter().filter(|item| item.resource.get("service.name").as_deref() == Some("shop"))
    {
        assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some("shop"), "{item:?}");
    }
}
