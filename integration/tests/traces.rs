//! One dial is one trace: dialer, both routers of a path over a link, and the hosting side, checked by parent ids. Routers and nodes are
//! in this process, with one recorder; nothing is recorded unless somebody asks for it.

#[path = "traces/recorder.rs"]
mod recorder;
#[path = "traces/world.rs"]
mod world;

use hesper_integration::http;
use hesper_sdk::{DialErrorKind, DialOptions};
use recorder::{Trace, text};
use std::future::Future;
use std::{
    io::{Read, Write},
    net::TcpListener as StdListener,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tracing::Instrument;
use world::World;

const PATIENCE: Duration = Duration::from_secs(60);
/// OTLP's numbers of the kinds of spans, and of the status of an error.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

impl World {
    /// Something done in this trace, as by a program that asked for it.
    fn within<T>(&self, trace: &Trace, what: impl Future<Output = T>) -> T {
        let span = hesper_trace::entry(
            Some(&trace.parent),
            || tracing::info_span!(target: "hesper_test", "root", otel.kind = "server"),
        );
        self.runtime.block_on(what.instrument(span))
    }

    /// `connect` to the target of the host, as the span has it.
    fn to_target(&self) -> String {
        format!("connect {}", self.target)
    }
}

/// Sends back what comes.
async fn echo(target: TcpListener) {
    while let Ok((mut tcp, _)) = target.accept().await {
        tokio::spawn(async move {
            let (mut recv, mut send) = tcp.split();
            let _ = tokio::io::copy(&mut recv, &mut send).await;
        });
    }
}

async fn says_hello(mut stream: hesper_sdk::Stream) {
    stream.write_all(b"hello").await.expect("sent");
    let mut back = [0; 5];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("in time").expect("an echo");
    assert_eq!(&back, b"hello");
}

#[test]
fn one_dial_is_one_trace_from_the_dialer_over_both_routers_to_the_target() {
    let (world, target) = World::start();
    world.runtime.spawn(echo(target));
    let ctx = world.client.clone();
    let dial = |trace: &Trace| {
        world.within(trace, async { says_hello(ctx.dial("tcp").await.expect("a stream")).await });
    };

    let trace = Trace::new(true);
    dial(&trace);
    let to_target = world.to_target();
    let rpc = "hesper.control.v1.NodeControl/Dial";
    let spans = trace.spans(&[
        "root",
        "dial tcp",
        "grant",
        rpc,
        "pass",
        "admit",
        "admit",
        "connect",
        "accept",
        "accept tcp",
        &to_target,
    ]);
    assert_eq!(spans.len(), 11, "{}", recorder::tree(&spans));
    let one = |name: &str| recorder::one(&spans, name);
    let (root, dialed) = (one("root"), one("dial tcp"));
    recorder::assert_chain(&spans, &[root, dialed, one("grant"), one(rpc)]);
    recorder::assert_chain(&spans, &[dialed, one("connect")]);
    recorder::assert_chain(&spans, &[dialed, one("accept"), one("accept tcp"), one(&to_target)]);
    let admits: Vec<_> = spans.iter().filter(|span| span.name == "admit").collect();
    let near =
        admits.iter().find(|span| span.parent_span_id == one("pass").span_id).expect("the first router");
    let far = admits.iter().find(|span| span.parent_span_id == near.span_id).expect("the second router");
    recorder::assert_chain(&spans, &[dialed, one("pass"), near, far]);
    assert_eq!((text(near, "mesh.path"), text(far, "mesh.path")), ("linked".into(), "direct".into()));
    assert_ne!(text(near, "mesh.router.id"), text(far, "mesh.router.id"));
    assert_eq!(text(one("pass"), "mesh.router.id"), text(near, "mesh.router.id"));
    assert_eq!(text(one("pass"), "mesh.router.name"), "near");
    assert_eq!(
        [dialed.kind, one("accept tcp").kind, one(&to_target).kind, near.kind],
        [CLIENT, SERVER, CLIENT, SERVER]
    );
    assert_eq!(text(dialed, "mesh.dial.cached"), "false");
    assert_eq!(text(dialed, "mesh.dial.attempts"), "1");
    assert_eq!(text(dialed, "mesh.terminator.id"), text(one("accept tcp"), "mesh.terminator.id"));
    assert_eq!(text(one("accept tcp"), "mesh.dialer.name"), "client");
    assert_eq!(text(one("accept tcp"), "mesh.outcome"), "accepted");
    assert_eq!(text(one(rpc), "rpc.response.status_code"), "OK");
    assert_eq!(text(one(&to_target), "server.port"), world.target.port().to_string());

    // Nobody is asked again: no grant, no pass.
    let unsampled = Trace::new(false);
    dial(&unsampled);
    let trace = Trace::new(true);
    dial(&trace);
    let spans = trace.spans(&["root", "dial tcp", "connect", "accept", "accept tcp", &to_target]);
    assert_eq!(spans.len(), 6, "{}", recorder::tree(&spans));
    assert_eq!(text(recorder::one(&spans, "dial tcp"), "mesh.dial.cached"), "true");
    assert!(!unsampled.is_recorded());

    early_bytes_and_datagrams(&world);
    failures(&world);
}

/// The other ways to dial are dials, too.
fn early_bytes_and_datagrams(world: &World) {
    let (trace, ctx) = (Trace::new(true), world.client.clone());
    world.within(&trace, async {
        let local = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = TcpStream::connect(local.local_addr().expect("address")).await.expect("connected");
        client.write_all(b"early").await.expect("sent");
        let (tcp, _) = local.accept().await.expect("a client");
        let dialed = ctx.dial_tcp("tcp", DialOptions::default(), tcp).await.expect("a stream");
        let copying = tokio::spawn(dialed.splice());
        let mut back = [0; 5];
        tokio::time::timeout(PATIENCE, client.read_exact(&mut back))
            .await
            .expect("in time")
            .expect("an echo");
        copying.abort();
    });
    let spans = trace.spans(&["root", "dial tcp", "accept", "accept tcp", &world.to_target()]);
    let one = |name: &str| recorder::one(&spans, name);
    recorder::assert_chain(&spans, &[one("root"), one("dial tcp"), one("accept"), one("accept tcp")]);

    let trace = Trace::new(true);
    world.within(&trace, async { ctx.dial_datagrams("udp").await.expect("a flow") });
    let to_target = format!("connect {}", world.udp);
    let spans = trace.spans(&["root", "dial udp", "accept", "accept udp", &to_target]);
    let one = |name: &str| recorder::one(&spans, name);
    recorder::assert_chain(&spans, &[one("dial udp"), one("accept"), one("accept udp"), one(&to_target)]);
    assert_eq!(text(one(&to_target), "network.transport"), "udp");
}

fn failures(world: &World) {
    let ctx = world.client.clone();
    let trace = Trace::new(true);
    let error = world.within(&trace, async { ctx.dial("closed").await.expect_err("nobody listens there") });
    assert_eq!(error.kind(), DialErrorKind::Refused, "{error}");
    let spans = trace.spans(&["root", "dial closed", "accept", "accept closed"]);
    let one = |name: &str| spans.iter().find(|span| span.name == name).expect("a span");
    let status = |name: &str| one(name).status.clone().unwrap_or_default();
    assert_eq!((status("dial closed").code, status("accept").code), (ERROR, ERROR));
    assert_eq!(text(one("dial closed"), "error.type"), "refused");
    assert!(
        status("dial closed").message.contains("cannot connect to the target"),
        "{:?}",
        status("dial closed")
    );
    // A no is an answer.
    assert_eq!(
        (text(one("accept closed"), "mesh.outcome"), status("accept closed").code),
        ("refused".into(), 0)
    );
    let target = spans.iter().find(|span| span.name.starts_with("connect 127.0.0.1:")).expect("the target");
    assert_eq!(target.status.as_ref().map(|status| status.code), Some(ERROR));
    recorder::assert_chain(&spans, &[one("accept closed"), target]);

    let trace = Trace::new(true);
    let error = world.within(&trace, async { ctx.dial("nothing").await.expect_err("there is none") });
    assert_eq!(error.kind(), DialErrorKind::Denied, "{error}");
    let rpc = "hesper.control.v1.NodeControl/Dial";
    let spans = trace.spans(&["root", "dial nothing", "grant", rpc]);
    assert_eq!(spans.len(), 4, "{}", recorder::tree(&spans));
    assert_eq!(text(recorder::one(&spans, rpc), "rpc.response.status_code"), "NOT_FOUND");
    assert_eq!(text(recorder::one(&spans, "dial nothing"), "error.type"), "denied");
}

/// Answers one request after the other, and hands out their heads.
fn serve(target: TcpListener) -> std::sync::mpsc::Receiver<String> {
    let target: StdListener = target.into_std().expect("a listener");
    target.set_nonblocking(false).expect("blocking");
    let (sender, heads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for tcp in target.incoming() {
            let mut tcp = tcp.expect("a connection");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && tcp.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n");
            if sender.send(String::from_utf8_lossy(&head).to_ascii_lowercase()).is_err() {
                return;
            }
        }
    });
    heads
}

#[test]
fn a_scrape_through_the_proxy_is_joined_and_so_is_its_target() {
    let (world, target) = World::start();
    let heads = {
        let _guard = world.runtime.enter();
        serve(target)
    };
    let proxy = format!("http://{}", world.proxy);
    let get = |trace: &Trace, arguments: &[&str]| {
        let header = format!("traceparent: {}", trace.parent.traceparent());
        http::curl(None, &[&["-H", &header], arguments].concat()).expect("an answer")
    };

    let trace = Trace::new(true);
    assert_eq!(get(&trace, &["-x", &proxy, "http://tcp/metrics?secret=1"]).status, 200);
    let to_target = world.to_target();
    let spans = trace.spans(&["GET", "dial tcp", "accept", "accept tcp", &to_target]);
    let one = |name: &str| recorder::one(&spans, name);
    let chain = [one("GET"), one("dial tcp"), one("accept"), one("accept tcp"), one(&to_target)];
    recorder::assert_chain(&spans, &chain);
    assert_eq!(recorder::hex(&one("GET").parent_span_id), trace.parent.span_id());
    assert_eq!((one("GET").kind, text(one("GET"), "http.response.status_code")), (SERVER, "200".into()));
    assert_eq!(
        (text(one("GET"), "server.address"), text(one("GET"), "mesh.service.name")),
        ("tcp".into(), "tcp".into())
    );
    assert!(!format!("{spans:?}").contains("secret"), "{spans:?}");
    // The target goes on from the proxy's span.
    let head = heads.recv_timeout(PATIENCE).expect("a request");
    let passed_on =
        format!("traceparent: 00-{}-{}-01", trace.parent.trace_id(), recorder::hex(&one("GET").span_id));
    assert!(head.contains(&passed_on), "{head}");

    // What is not recorded goes through as it came.
    let unsampled = Trace::new(false);
    assert_eq!(get(&unsampled, &["-x", &proxy, "http://tcp/metrics"]).status, 200);
    let head = heads.recv_timeout(PATIENCE).expect("a request");
    assert!(head.contains(&format!("traceparent: {}\r\n", unsampled.parent.traceparent())), "{head}");

    // Of the proxy's own pages discovery alone is worth a span.
    let (own, discovery) = (Trace::new(true), Trace::new(true));
    assert_eq!(get(&own, &[&format!("{proxy}/metrics")]).status, 200);
    assert_eq!(get(&discovery, &[&format!("{proxy}/sd")]).status, 200);
    assert_eq!(text(recorder::one(&discovery.spans(&["GET"]), "GET"), "http.route"), "/sd");
    let missing = Trace::new(true);
    assert_eq!(get(&missing, &["-x", &proxy, "http://nowhere/"]).status, 404);
    let spans = missing.spans(&["GET"]);
    assert_eq!(text(&spans[0], "error.type"), "unknown-service");
    assert_eq!(spans[0].status.clone().unwrap_or_default().code, 0, "the client's own mistake");
    assert!(!unsampled.is_recorded() && !own.is_recorded());
}
