//! Traces of an unmodified OpenTelemetry SDK reach a receiver that listens on loopback of another machine's: the SDK talks to
//! `tunnel proxy`, the receiver is hosted by `tunnel host`.

use hesper_integration::{
    Stack,
    python::{TraceReceiver, run_peer},
    wait_for,
};

/// More than one batch of the SDK's exporter (512 spans).
const SPANS: usize = 1_000;

#[test]
fn exactly_the_spans_sent_arrive_over_grpc_and_http() {
    let stack = Stack::start();
    let (collector, app) = (stack.enroll("collector", &[]), stack.enroll("app", &[]));
    let protocols = [("grpc", "traces-grpc", ""), ("http", "traces-http", "/v1/traces")];
    let receivers = protocols.map(|(protocol, service, _)| {
        let receiver = TraceReceiver::start(protocol);
        assert!(receiver.address.ip().is_loopback());
        stack.publish(service, receiver.address, "@collector");
        stack.allow("Dial", service, "@app");
        receiver
    });
    let mut host = stack.tunnel("host", &["host", "-i", &collector]);
    for (_, service, _) in protocols {
        let bound = format!("service bound service=\"{service}\"");
        host.wait_for_line("it hosts", Stack::PATIENCE, |line| line.contains(&bound).then_some(()));
    }
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &app, "traces-grpc:0", "traces-http:0"]);

    for ((protocol, service, path), receiver) in protocols.into_iter().zip(&receivers) {
        let endpoint = format!("http://{}{path}", proxy.told(service));
        let sent = run_peer("send_trace.py", &[protocol, &endpoint, &SPANS.to_string()]).ok().stdout;
        let mut sent: Vec<_> = sent.lines().map(|ids| format!("{ids} python-{protocol}")).collect();
        sent.sort_unstable();
        assert_eq!(sent.len(), SPANS);
        let mut arrived = wait_for("all spans have arrived", Stack::PATIENCE, || {
            let lines = receiver.process.lines();
            let spans: Vec<_> = lines.into_iter().filter(|line| !line.starts_with("listening on ")).collect();
            if spans.len() < SPANS { Err(format!("{} of {SPANS}", spans.len())) } else { Ok(spans) }
        });
        arrived.sort_unstable();
        assert_eq!(arrived, sent, "{protocol}");
    }
}
