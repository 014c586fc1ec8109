//! gRPC calls that are none.

use crate::support::{GRPC, Plan, frame, payload};
use hesper_otlp::{Signal, status::Code};
use proptest::{prelude::*, test_runner::TestRunner};

const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[tokio::test]
async fn exactly_one_whole_message() {
    let server = Plan::of(GRPC).run().await;
    let message = payload(Signal::Traces, 1);
    let two = [frame(0, &message), frame(0, &message)].concat();
    for (body, why) in [
        (vec![], "no message"),
        (two, "more than one message"),
        (frame(0, &message)[..9].to_vec(), "bytes are missing"),
        (b"\0\0".to_vec(), "cut short"),
        (frame(7, &message).to_vec(), "byte 7"),
        (frame(1, &message).to_vec(), "no grpc-encoding"),
    ] {
        let status = server.call(PATH, &[], body).await.grpc();
        assert_eq!(status.code(), Code::InvalidArgument, "{why}");
        assert!(status.message.contains(why), "{}", status.message);
    }
    for (header, value) in [("grpc-timeout", "soon"), ("grpc-timeout", "-1S")] {
        let status = server.call(PATH, &[(header, value)], frame(0, &message)).await.grpc();
        assert_eq!(status.code(), Code::InvalidArgument, "{value}");
    }
    assert_eq!(server.sink.take().len(), 0);
    assert_eq!(
        server.call(PATH, &[("grpc-timeout", "10S")], frame(0, &message)).await.grpc().code(),
        Code::Ok
    );
}

/// Whatever is sent, it is answered, and taken exactly when it is a frame with a request.
#[test]
fn noise_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(Plan::of(GRPC).run());
    let request = payload(Signal::Traces, 2);
    let noise = prop::collection::vec(any::<u8>(), 0..60);
    let nearly = (any::<prop::sample::Index>(), any::<u8>(), 0u8..2).prop_map(move |(at, byte, flag)| {
        let mut bytes = frame(flag, &request).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let codings = prop::sample::select(vec!["identity", "gzip", "zstd", "snappy"]);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&(prop_oneof![noise, nearly], codings), |(body, coding)| {
        let reply = runtime.block_on(server.call(PATH, &[("grpc-encoding", coding)], body.clone()));
        let good = body.len() >= 5
            && body[0] == 0
            && body[1..5] == u32::try_from(body.len() - 5).expect("short").to_be_bytes()
            && hesper_otlp::validate(Signal::Traces, &body[5..]).is_ok();
        let taken = server.sink.take();
        prop_assert_eq!(taken.len(), usize::from(reply.grpc().code() == Code::Ok));
        if body.first() == Some(&0) {
            let code = reply.grpc().code();
            let fits = match code {
                Code::Ok => good,
                code => !good && [Code::InvalidArgument, Code::ResourceExhausted].contains(&code),
            };
            prop_assert!(fits, "{:?}", code);
        }
        Ok(())
    });
    result.expect("every answer fits");
}
