//! A stream lives only by grants: it outlives many of them, whoever does not renew is cut at the end of the last one, and a dialer that
//! does not listen is cut by its host and its router.

use crate::load::{Doomed, SOON, Survivors, audited};
use hesper_integration::{
    Oracle, Place, Process, Stack, StackOptions,
    hostile::{Ask, HostileNode, open},
    wait_for, wait_until,
};
use hesper_overlay::{
    peer::Peer,
    stream::{Stream, StreamError},
};
use hesper_proto::control::DialResponse;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    time::timeout,
};

/// The shortest that can be set.
const GRANT: Duration = Duration::from_secs(5);

/// How a connection to the target ended, and when.
type End = (SystemTime, Option<io::ErrorKind>);

/// Gives back whatever it is sent, and knows how each connection ended.
struct Echo {
    address: SocketAddr,
    ends: Arc<Mutex<Vec<End>>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let ends: Arc<Mutex<Vec<End>>> = Arc::default();
        let known = ends.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let known = known.clone();
                thread::spawn(move || {
                    let error = io::copy(&mut &stream, &mut &stream).err();
                    let end = (SystemTime::now(), error.map(|e| e.kind()));
                    known.lock().unwrap_or_else(PoisonError::into_inner).push(end);
                });
            }
        });
        Self { address, ends }
    }

    /// The first end, once there is one.
    fn end(&self) -> Option<End> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).first().copied()
    }
}

struct Mesh {
    stack: Stack,
    oracle: Oracle,
    echo: Echo,
    _host: Process,
    proxy: Process,
    mallory: String,
}

impl Mesh {
    fn start(options: StackOptions) -> Self {
        let stack = options.start();
        let (oracle, echo) = (Oracle::start(), Echo::start());
        let [host, client, mallory] = ["host", "client", "mallory"].map(|name| stack.enroll(name, &[]));
        for (service, target, dialer) in
            [("oracle", oracle.address(), "@client"), ("echo", echo.address, "@mallory")]
        {
            stack.publish(service, target, "@host");
            stack.allow("Dial", service, dialer);
        }
        let host = stack.tunnel("host", &["host", "-i", &host]);
        wait_until("all are hosted", Stack::PATIENCE, || {
            host.lines().iter().filter(|l| l.contains("service bound")).count() == 2
        });
        let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "oracle:0"]);
        Self { stack, oracle, echo, _host: host, proxy, mallory }
    }

    fn survivors(&self) -> Survivors {
        let mut survivors = Survivors::none();
        survivors.add("of an honest dialer", &self.oracle, &Place::host(), self.proxy.told("oracle"));
        survivors
    }

    /// One stream of a dialer that keeps no rules, by a grant that is good so far.
    async fn hostile(&self) -> Hostile {
        let mallory = HostileNode::start(&self.mallory).await;
        let honest = mallory.grant("echo").await;
        let peer = mallory.connect_by(&honest).await;
        let ask = Ask::from(&honest);
        let stream = open(&peer, &ask).await.expect("a stream by a good grant");
        Hostile { mallory, honest, peer, ask, stream }
    }

    fn renewals(&self) -> usize {
        let dials = audited(&self.stack, "dial");
        dials.iter().filter(|e| e["renewal"] == true && e["outcome"] == "success").count()
    }

    fn pairs(&self) -> f64 {
        self.stack.router_metric(0, "hesper_router_open_pairs")
    }
}

/// See [`Mesh::hostile`].
struct Hostile {
    mallory: HostileNode,
    honest: DialResponse,
    peer: Peer,
    ask: Ask,
    stream: Stream,
}

/// Talks until the stream ends; why it does.
async fn until_cut(stream: &mut Stream) -> StreamError {
    let mut heard = [0; 5];
    let error = loop {
        let talk = async {
            stream.write_all(b"hello").await?;
            stream.read_exact(&mut heard).await
        };
        match timeout(Stack::PATIENCE, talk).await.expect("an answer or an end") {
            Ok(_) => assert_eq!(&heard, b"hello"),
            Err(error) => break error,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<StreamError>());
    reason.unwrap_or_else(|| panic!("an end without a reason: {error}")).clone()
}

#[test]
fn a_stream_lives_as_long_as_its_grants_are_renewed() {
    let mesh = Mesh::start(StackOptions::default().setting("grantValidity", "5s"));
    let survivors = mesh.survivors();
    survivors.go_on();
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let Hostile { mallory, honest, peer, ask, mut stream } = mesh.hostile().await;
        let talks = tokio::spawn(async move { until_cut(&mut stream).await });
        let (at, error) = wait_for("the target has seen the end", GRANT + Stack::PATIENCE, || {
            mesh.echo.end().ok_or_else(|| "the stream goes on".to_owned())
        });
        let at = at.duration_since(SystemTime::UNIX_EPOCH).expect("a time");
        let late = at.saturating_sub(Duration::from_secs(honest.expires_at));
        println!("not renewed: cut {late:.2?} after the end of its grant");
        assert!(at.as_secs() >= honest.expires_at, "cut while its grant was good");
        assert!(late < SOON, "{late:?}");
        assert_eq!(error, Some(io::ErrorKind::ConnectionReset), "the target sees a reset");
        // Its pass has ended too: what the host says of it may not come through any more.
        let reason = timeout(Stack::PATIENCE, talks).await.expect("it hears of the end").expect("no panic");
        assert!(matches!(reason, StreamError::Expired | StreamError::PeerLost(_)), "{reason:?}");
        assert!(open(&peer, &ask).await.is_err(), "the grant opens nothing any more");
        assert!(mallory.show_pass(&honest).await.is_err(), "the pass opens nothing any more");
    });
    wait_until("the honest one has renewed again and again", Stack::PATIENCE, || mesh.renewals() >= 5);
    survivors.go_on();

    // Whoever cannot renew because it stands still is cut too.
    let here = Place::host();
    let stream = Doomed::idle(&mesh.oracle, &here, mesh.proxy.told("oracle"));
    stream.is_open();
    survivors.finish();
    mesh.proxy.freeze();
    let frozen = Instant::now();
    wait_until("the host ends the stream of a frozen dialer", GRANT + 3 * SOON, || {
        stream.faults().contains_key("the server receives")
    });
    println!("frozen: cut after {:.2?}", frozen.elapsed());
    let fault = stream.faults()["the server receives"].clone();
    assert!(fault.contains("broke"), "no reset but an end: {fault}");
    mesh.proxy.thaw();
    wait_until("it knows when it wakes up", Stack::PATIENCE, || {
        stream.faults().get("the client receives").is_some_and(|fault| fault.contains("broke"))
    });
    let mut again = Survivors::none();
    again.add("of the dialer that woke up", &mesh.oracle, &here, mesh.proxy.told("oracle"));
    again.go_on();
    again.finish();
}

#[test]
fn a_dialer_that_does_not_listen_is_cut_by_its_host_and_its_router() {
    let mesh = Mesh::start(StackOptions::default());
    let survivors = mesh.survivors();
    survivors.go_on();
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let Hostile { mallory, honest, peer, ask, mut stream } = mesh.hostile().await;
        let talks = tokio::spawn(async move { (until_cut(&mut stream).await, Instant::now()) });
        assert_eq!(mesh.pairs(), 2.0);
        let begun = Instant::now();
        mesh.stack.cli(["delete", "service-policy", "echo.dial"]).ok();
        wait_until("the router has closed the pair", SOON, || mesh.pairs() == 1.0);
        println!("does not listen: pair closed after {:.2?}", begun.elapsed());
        wait_until("the target has seen the end", SOON, || mesh.echo.end().is_some());
        assert_eq!(mesh.echo.end().and_then(|end| end.1), Some(io::ErrorKind::ConnectionReset));
        // The router may have closed the pair before the host's word came through.
        let (reason, at) = timeout(2 * SOON, talks).await.expect("cut soon").expect("no panic");
        println!("does not listen: cut after {:.2?}: {reason}", at - begun);
        assert!(matches!(reason, StreamError::Revoked | StreamError::PeerLost(_)), "{reason:?}");
        assert!(mallory.show_pass(&honest).await.is_err(), "the pass opens nothing any more");
        let again = timeout(2 * SOON, open(&peer, &ask)).await;
        assert!(!matches!(again, Ok(Ok(_))), "the grant opens nothing any more");
        assert_eq!(mesh.pairs(), 1.0);
    });
    survivors.go_on();
    survivors.finish();
}
