//! What a TCP client sends while its dial is not yet answered is used by one host at most.

use hesper_integration::Stack;
use hesper_sdk::{Context, DialError, DialErrorKind, DialOptions, Incoming, TcpDialed};
use std::{collections::HashMap, future::Future, io, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc,
    time::timeout,
};

const PATIENCE: Duration = Stack::PATIENCE;
const SERVICE: &str = "payments";
const REQUEST: &str = "pay 5 to bob";

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

/// A client, and hosts whose dials wait for the test's word.
struct World {
    client: Context,
    hosts: HashMap<&'static str, Context>,
    _stack: Stack,
}

type Dials = mpsc::UnboundedReceiver<(&'static str, Incoming)>;

impl World {
    async fn start(stack: Stack, names: &[&'static str]) -> (Self, Dials) {
        stack.cli(["create", "service", SERVICE]).ok();
        stack.allow("Bind", SERVICE, "#hosts");
        stack.allow("Dial", SERVICE, "#clients");
        let client = context(&stack, "client", &["clients"]).await;
        let (sender, dials) = mpsc::unbounded_channel();
        let mut hosts = HashMap::new();
        for &name in names {
            let ctx = context(&stack, name, &["hosts"]).await;
            let mut listener = ctx.bind(SERVICE).await.expect("bound");
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Ok(incoming) = listener.accept().await {
                    let _ = sender.send((name, incoming));
                }
            });
            hosts.insert(name, ctx);
        }
        let count = hosts.len();
        let mut state = client.state();
        let known = state.wait_for(|v| v.service(SERVICE).is_some_and(|s| s.hosts.len() == count));
        in_time("the hosts are known", known).await.expect("alive");
        (Self { client, hosts, _stack: stack }, dials)
    }

    async fn dial(&self, tcp: TcpStream) -> Result<TcpDialed, DialError> {
        self.client.dial_tcp(SERVICE, DialOptions::default(), tcp).await
    }
}

async fn next(dials: &mut Dials) -> (&'static str, Incoming) {
    in_time("a dial", dials.recv()).await.expect("hosts")
}

async fn context(stack: &Stack, name: &str, attributes: &[&str]) -> Context {
    let ctx = Context::from_identity_file(Path::new(&stack.enroll(name, attributes))).expect("a context");
    ctx.ready(PATIENCE).await.expect("ready");
    ctx
}

/// A client that has sent `first`, and its connection at the dialer.
async fn client(first: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (mut client, (tcp, _)) = (client.expect("connected"), accepted.expect("accepted"));
    client.write_all(first.as_bytes()).await.expect("sent");
    if !first.is_empty() {
        tcp.readable().await.expect("it has come");
    }
    (client, tcp)
}

/// Reads the request, which has to be whole and there once, and answers.
async fn serve(incoming: Incoming) {
    let mut stream = incoming.into_stream().await.expect("a stream");
    let mut text = String::new();
    in_time("the request", stream.read_to_string(&mut text)).await.expect("a whole request");
    assert_eq!(text, REQUEST);
    stream.write_all(b"paid").await.expect("answered");
    stream.shutdown().await.expect("finished");
}

async fn assert_paid(mut client: TcpStream, dialed: TcpDialed) {
    let copying = tokio::spawn(dialed.splice());
    let mut answer = String::new();
    in_time("the answer", client.read_to_string(&mut answer)).await.expect("a whole answer");
    assert_eq!(answer, "paid");
    let copied = copying.await.expect("no panic").expect("a good end");
    assert_eq!((copied.sent, copied.received), (REQUEST.len() as u64, 4));
}

#[test]
fn a_request_that_one_host_refuses_is_served_by_another() {
    Runtime::new().expect("a runtime").block_on(async {
        let (world, mut dials) = World::start(Stack::start(), &["one", "two"]).await;
        let (mut client, tcp) = client(REQUEST).await;
        client.shutdown().await.expect("finished");
        let hosts = async {
            let (first, refused) = next(&mut dials).await;
            refused.refuse("not today").await;
            let (second, accepted) = next(&mut dials).await;
            assert_ne!(first, second);
            serve(accepted).await;
        };
        let pays = async { assert_paid(client, world.dial(tcp).await.expect("served")).await };
        tokio::join!(pays, hosts);
    });
}

#[test]
fn a_request_whose_host_is_lost_gets_to_no_other() {
    Runtime::new().expect("a runtime").block_on(async {
        let (world, mut dials) = World::start(Stack::start(), &["one", "two", "three"]).await;
        // A client that has not said anything is served by another.
        let (mut patient, tcp) = client("").await;
        let hosts = async {
            let (first, _waits) = next(&mut dials).await;
            world.hosts[first].shutdown().await;
            let (second, accepted) = next(&mut dials).await;
            assert_ne!(first, second);
            serve(accepted).await;
        };
        let pays = async {
            let dialed = world.dial(tcp).await.expect("served");
            patient.write_all(REQUEST.as_bytes()).await.expect("sent");
            patient.shutdown().await.expect("finished");
            assert_paid(patient, dialed).await;
        };
        tokio::join!(pays, hosts);
        // One that has is told, by a reset.
        let (mut hasty, tcp) = client(REQUEST).await;
        let hosts = async {
            let (host, _waits) = next(&mut dials).await;
            world.hosts[host].shutdown().await;
        };
        let (lost, ()) = tokio::join!(world.dial(tcp), hosts);
        let lost = lost.expect_err("lost");
        assert_eq!(lost.kind(), DialErrorKind::NoRoute, "{lost}");
        assert!(lost.to_string().contains("may have arrived"), "{lost}");
        let end = in_time("the reset", hasty.read(&mut [0; 1])).await.expect_err("a reset");
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        assert!(dials.try_recv().is_err(), "the third has heard of it");
    });
}
