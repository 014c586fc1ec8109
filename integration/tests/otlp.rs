//! What unmodified OpenTelemetry SDKs send reaches a receiver that listens on loopback of another machine's: the SDK talks to
//! `tunnel proxy`, the receiver is hosted by `tunnel host`.

use hesper_integration::{
    Stack,
    otlp::{OtlpSink, Sdk},
};

/// Of each signal; more than one batch of the SDKs' exporters (512).
const COUNT: usize = 1_000;

#[test]
fn exactly_what_is_sent_arrives_over_grpc_and_http() {
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let (collector, app) = (stack.enroll("collector", &[]), stack.enroll("app", &[]));
    let protocols = [("grpc", "otlp-grpc", sink.grpc()), ("http", "otlp-http", sink.http())];
    for (_, service, address) in protocols {
        assert!(address.ip().is_loopback());
        stack.publish(service, address, "@collector");
        stack.allow("Dial", service, "@app");
    }
    let mut host = stack.tunnel("host", &["host", "-i", &collector]);
    for (_, service, _) in protocols {
        let bound = format!("service bound service=\"{service}\"");
        host.wait_for_line("it hosts", Stack::PATIENCE, |line| line.contains(&bound).then_some(()));
    }
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &app, "otlp-grpc:0", "otlp-http:0"]);

    let mut sent = Vec::new();
    for (protocol, service, _) in protocols {
        for sdk in [Sdk::Python, Sdk::JavaScript] {
            let endpoint = format!("http://{}", proxy.told(service));
            let name = format!("{sdk:?}-{protocol}");
            sent.extend(sdk.send(protocol, &endpoint, COUNT, &name, &[]).acknowledged(3 * COUNT));
        }
    }
    sink.wait_exactly(&sent, &[], Stack::PATIENCE);
}
