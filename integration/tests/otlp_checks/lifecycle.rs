//! Many at once, connections, the end, several destinations, and what an answer promises. Checks 54 to 58.

use crate::{
    client::{TRACES, TRACES_RPC, block_on, call, proto, spawn},
    data::{ITEMS, names, signals, span, spans},
    ground::{AT_ONCE, BOTH, QUICK, collector, config, metric, settled_of, to_grpc, to_http},
    peer::Peer,
};
use hesper_integration::{
    Collector, Stack,
    otlp::{Failure, OtlpSink},
    wait_until,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use std::{net::SocketAddr, process::Command};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

/// The streams at once that a server of HTTP/2 allows (RFC 9113 §6.5.2).
async fn max_concurrent_streams(at: SocketAddr) -> Option<u32> {
    let mut io = TcpStream::connect(at).await.expect("a connection");
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("written");
    let mut head = [0; 9];
    io.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[3], 4, "settings come first");
    let mut settings = vec![0; usize::from(head[2])];
    io.read_exact(&mut settings).await.expect("a frame");
    let found = settings.chunks(6).find(|pair| pair[..2] == [0, 3])?;
    Some(u32::from_be_bytes([found[2], found[3], found[4], found[5]]))
}

#[test]
fn check_54_calls_run_side_by_side_and_how_many_is_configurable() {
    const CALLS: usize = 100;
    let peer = Peer::taking();
    peer.hold();
    // Without a queue a call is under way as long as the destination's.
    let direct = collector(BOTH, &[to_grpc(peer.at, &format!("timeout: 60s, {AT_ONCE}"))]);
    let client = block_on(TraceServiceClient::connect(format!("http://{}", direct.told("otlp"))));
    let client = client.expect("a connection");
    let calls: Vec<_> = (0..CALLS)
        .map(|number| {
            let mut client = client.clone();
            spawn(async move { client.export(spans([number.to_string()])).await.map(drop) })
        })
        .collect();
    wait_until("all are under way at once", Stack::PATIENCE, || peer.most_at_once() == CALLS);
    peer.release();
    for call in calls {
        block_on(call).expect("no panic").expect("taken");
    }
    assert_eq!(peer.connections(), 1, "one connection is enough");

    assert_eq!(block_on(max_concurrent_streams(direct.told("otlp"))), Some(256));
    let few = "grpc: {endpoint: '127.0.0.1:0', max_concurrent_streams: 2}";
    let slow = Peer::taking();
    slow.hold();
    let few = collector(few, &[to_grpc(slow.at, "timeout: 60s, sending_queue: {num_consumers: 3}")]);
    assert_eq!(block_on(max_concurrent_streams(few.told("otlp/grpc"))), Some(2));
    for number in 0..10 {
        assert_eq!(call(few.told("otlp/grpc"), TRACES_RPC, &span(&number.to_string())).code(), Code::Ok);
    }
    slow.wait(3);
    slow.release();
    assert_eq!(settled_of(&few, "", 10).delivered, 10);
    assert_eq!(slow.most_at_once(), 3);
}

const REQUEST: &str =
    "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

#[test]
fn check_55_connections_are_kept_and_their_number_is_configurable() {
    let peer = Peer::taking();
    let exporters = [to_http(peer.at, AT_ONCE)];
    let kept = collector("http: {endpoint: '127.0.0.1:0'}", &exporters);
    let at = kept.told("otlp/http");
    block_on(async {
        let mut io = TcpStream::connect(at).await.expect("a connection");
        for _ in 0..3 {
            io.write_all(REQUEST.as_bytes()).await.expect("written");
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n{}") {
                assert!(io.read_buf(&mut answer).await.expect("a connection") > 0, "{answer:?}");
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
        }
    });
    peer.wait(3);
    assert_eq!(peer.connections(), 1, "and the exporter keeps its own");

    let once = collector("http: {endpoint: '127.0.0.1:0', keep_alives_enabled: false}", &exporters);
    let answer = block_on(async {
        let mut io = TcpStream::connect(once.told("otlp/http")).await.expect("a connection");
        io.write_all(REQUEST.as_bytes()).await.expect("written");
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.expect("its end");
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");

    let (narrow, wide) = (Peer::taking(), Peer::taking());
    narrow.hold();
    wide.hold();
    let most = "timeout: 60s, max_conns_per_host: 2";
    let exporters =
        [to_http(narrow.at, most), to_http(wide.at, "timeout: 60s").replace("otlp_http", "otlp_http/wide")];
    let many = collector(BOTH, &exporters);
    for number in 0..10 {
        assert_eq!(proto(many.told("otlp"), TRACES, &[], span(&number.to_string())).status, 200);
    }
    // As many as there are consumers.
    wide.wait(10);
    narrow.wait(2);
    narrow.release();
    wide.release();
    assert_eq!(settled_of(&many, "", 20).delivered, 20);
    assert_eq!((narrow.connections(), narrow.most_at_once()), (2, 2));
    assert_eq!((wide.connections(), wide.most_at_once()), (10, 10));
}

/// Sends SIGTERM, and does not wait.
fn ask_to_end(collector: &mut Collector) {
    let pid = collector.process().pid().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|status| status.success()));
}

#[test]
fn check_56_the_end_waits_for_answers_and_writes_down_what_is_left() {
    let peer = Peer::taking();
    peer.hold();
    let mut direct = collector(BOTH, &[to_http(peer.at, &format!("timeout: 60s, {AT_ONCE}"))]);
    let at = direct.told("otlp");
    let client = block_on(TraceServiceClient::connect(format!("http://{at}"))).expect("a connection");
    let mut caller = client.clone();
    let pending = spawn(async move { caller.export(spans(["a"])).await.map(drop) });
    peer.wait(1);
    ask_to_end(&mut direct);
    wait_until("the port is closed", Stack::PATIENCE, || block_on(TcpStream::connect(at)).is_err());
    assert!(direct.process().ended().is_none(), "a call is under way");
    peer.release();
    block_on(pending).expect("no panic").expect("it was taken, and is answered");
    assert!(direct.terminate().success());

    // A destination that does not answer: the end comes all the same, and the ledger knows what was not delivered.
    peer.hold();
    let stored = config(BOTH, &[to_http(peer.at, "timeout: 60s, sending_queue: {storage: file_storage}")]);
    let stored = stored.replace("service:\n", "service:\n  extensions: [file_storage]\n");
    let storage = "extensions: {file_storage: {directory: DIRECTORY/queue, create_directory: true}}";
    let mut stored = Collector::new("stored", &format!("{storage}\n{stored}")).start();
    let body = spans(["a", "b", "c"]);
    assert_eq!(proto(stored.told("otlp"), TRACES, &[], body.encode_to_vec()).status, 200);
    peer.wait(2);
    assert!(stored.terminate().success());
    let file = stored.path("config.yaml").display().to_string();
    let ledger = stored.cli(["ledger", "--config", &file, "-j"]).ok().json();
    let row = &ledger[0]["rows"][0];
    assert_eq!(
        (&row["accepted"], &row["delivered"], &row["queued"]),
        (&3.into(), &0.into(), &3.into()),
        "{ledger}"
    );
    // In memory it is lost, and that is told.
    let mut memory = collector(BOTH, &[to_http(peer.at, "timeout: 60s")]);
    assert_eq!(proto(memory.told("otlp"), TRACES, &[], span("d")).status, 200);
    peer.wait(3);
    ask_to_end(&mut memory);
    memory.process().wait_for_line("what is lost", Stack::PATIENCE, |line| {
        (line.contains("WARN") && line.contains("lost")).then_some(())
    });
    assert!(memory.terminate().success());
}

#[test]
fn check_57_a_slow_destination_never_blocks_another() {
    let (slow, quick) = (Peer::taking(), Peer::taking());
    slow.hold();
    let exporters = [to_http(slow.at, "timeout: 60s"), to_grpc(quick.at, QUICK)];
    let collector = collector(BOTH, &exporters);
    let sent: Vec<_> = (0..50).map(|number| format!("span-{number}")).collect();
    for name in &sent {
        assert_eq!(proto(collector.told("otlp"), TRACES, &[], span(name)).status, 200);
    }
    assert_eq!(settled_of(&collector, "exporter=\"otlp_grpc\"", 50).delivered, 50);
    let queued = |exporter: &str| {
        metric(&collector, "hesper_ledger_queued_items", &format!("exporter=\"{exporter}\""))
    };
    assert_eq!((queued("otlp_http"), queued("otlp_grpc")), (Ok(50), Ok(0)));
    slow.release();
    assert_eq!(settled_of(&collector, "exporter=\"otlp_http\"", 50).delivered, 50);
    for peer in [&slow, &quick] {
        let mut came: Vec<_> = peer.take().iter().flat_map(|request| names(request)).collect();
        came.sort();
        let mut expected = sent.clone();
        expected.sort();
        assert_eq!(came, expected, "each has it once");
    }
}

/// The answer says what this hop has done, and the hop keeps it: what was answered is on disk, and survives `kill -9`.
#[test]
fn check_58_an_answer_is_a_promise_of_this_hop_and_is_kept() {
    let sink = OtlpSink::start();
    sink.fail(Failure::Unavailable(None));
    let config =
        config(BOTH, &[to_grpc(sink.grpc(), &format!("sending_queue: {{storage: file_storage}}, {QUICK}"))]);
    let config = config.replace("service:\n", "service:\n  extensions: [file_storage]\n");
    let storage = "extensions: {file_storage: {directory: DIRECTORY/queue, create_directory: true}}";
    let mut collector = Collector::new("collector", &format!("{storage}\n{config}")).start();
    for (number, signal) in signals().into_iter().enumerate() {
        let at = collector.told("otlp");
        if number % 2 == 0 {
            assert_eq!(proto(at, signal.path, &[], signal.request).status, 200);
        } else {
            assert_eq!(call(at, signal.rpc, &signal.request).code(), Code::Ok);
        }
    }
    assert_eq!(sink.received().len(), 0, "nobody else has it yet");
    collector.kill();
    sink.fail(Failure::None);
    assert_eq!(sink.received().len(), 0);
    collector.restart();
    wait_until("every signal has arrived", Stack::PATIENCE, || sink.received().len() >= 4);
    let items = (4 * ITEMS) as u64;
    assert_eq!(settled_of(&collector, "", items).delivered, items);
    assert_eq!(sink.received().len(), 4, "and once");
}
