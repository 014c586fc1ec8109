//! A router sees tags and sizes: what passes through it and whose it is can be found neither in its packets nor in its memory, and the worst
//! that it can do is to lose packets.

use hesper_integration::{
    Oracle, Plan, Process, Stack, StackOptions, Tamper,
    hostile::{Ask, HostileNode, open},
    search::{Needle, found_in, found_in_memory},
    wait_until,
};
use hesper_model::id::Tag;
use hesper_overlay::peer::OpenError;
use rand::Rng;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    time::timeout,
};

const PATIENCE: Duration = Stack::PATIENCE;
/// Length of what is looked for.
const CANARY: usize = 64;
/// Parts of it that are looked for too.
const PART: usize = 16;

/// Letters that nobody can foresee, so that they are found nowhere by accident.
fn letters(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect()
}

/// Sends back whatever comes.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &connection, &mut &connection));
        }
    });
    address
}

/// A client and a host with names that stand nowhere else, and a service between them.
struct Mesh {
    names: [String; 3],
    host: Process,
    proxy: Process,
    stack: Stack,
}

impl Mesh {
    fn start(target: SocketAddr) -> Self {
        let stack = StackOptions::default().linked().start();
        let names = [(); 3].map(|()| letters(24));
        let [service, host, client] = &names;
        let files = [host, client].map(|name| stack.enroll(name, &[]));
        stack.publish(service, target, &format!("@{host}"));
        stack.allow("Dial", service, &format!("@{client}"));
        stack.link().capture();
        let mut hosting = stack.tunnel("host", &["host", "-i", &files[0]]);
        hosting.wait_for_line("it hosts", PATIENCE, |l| l.contains("service bound").then_some(()));
        let proxy = stack.tunnel("proxy", &["proxy", "-i", &files[1], &format!("{service}:0")]);
        Self { names, host: hosting, proxy, stack }
    }

    fn service(&self) -> SocketAddr {
        self.proxy.told(&self.names[0])
    }
}

#[test]
fn neither_packets_nor_the_routers_memory_hold_what_passes_or_whose_it_is() {
    let mesh = Mesh::start(echo());
    let canary = letters(CANARY);
    let mut needles: Vec<_> = mesh.names.iter().map(|name| Needle::new(name, name.as_str())).collect();
    needles.push(Needle::new("the canary", canary.as_str()));
    for (number, part) in canary.as_bytes().chunks(PART).enumerate() {
        needles.push(Needle::new(&format!("part {number} of the canary"), part));
    }

    // Again and again, so that it is under way while the router is looked at.
    let text = canary.repeat(2_000);
    let stream = TcpStream::connect(mesh.service()).expect("a way to the service");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    let rounds = 20;
    let (found, looked) = thread::scope(|scope| {
        scope.spawn(|| (0..rounds).for_each(|_| (&stream).write_all(text.as_bytes()).expect("sent")));
        let mut back = vec![0; text.len()];
        let mut take = || {
            (&stream).read_exact(&mut back).expect("an echo");
            assert!(back == text.as_bytes(), "altered");
        };
        (0..rounds / 2).for_each(|_| take());
        let router = mesh.stack.router();
        router.freeze();
        let result = found_in_memory(router.pid(), &needles);
        // The search finds what is there: a router knows its own tag and its own name.
        let (own, _) = found_in_memory(router.pid(), &[Needle::new("its home", mesh.stack.path("router"))]);
        router.thaw();
        assert_eq!(own, ["its home"]);
        (rounds / 2..rounds).for_each(|_| take());
        result
    });
    println!("looked through {looked} bytes of the router's memory");
    assert_eq!(found, [""; 0], "in the router's memory");
    assert!(looked > 1 << 20, "{looked}");

    let packets = mesh.stack.link().captured();
    let bytes: usize = packets.iter().map(|packet| packet.bytes.len()).sum();
    println!("looked through {} packets of {bytes} bytes", packets.len());
    assert!(bytes > 2 * rounds * text.len(), "all of it passed the link, to the router and from it");
    assert_eq!(mesh.stack.link().counters().not_captured, 0);
    let all: Vec<u8> = packets.iter().flat_map(|packet| packet.bytes.iter().copied()).collect();
    assert_eq!(found_in(&all, &needles), [""; 0], "in the packets");
}

#[test]
fn a_router_that_flips_replays_and_cross_delivers_only_loses_packets() {
    let oracle = Oracle::start();
    let mesh = Mesh::start(oracle.address());
    // A stream of another client, so that there is somebody to deliver to.
    let bystander = oracle.transfer(mesh.service(), Plan::until_stopped().rate(100_000).seed(2));
    let link = mesh.stack.link();
    for (seed, share) in [(1, 0.02), (2, 0.05)] {
        link.tamper(Tamper::hostile(seed, share));
        let before = link.counters();
        let report = oracle.transfer(mesh.service(), Plan::bytes(4 << 20).seed(seed)).finish(PATIENCE);
        let after = link.counters();
        println!("{share} of each evil: {report}");
        assert!(after.let_through - before.let_through > after.tampered - before.tampered, "{after:?}");
    }
    link.honest();
    println!("the bystander: {}", bystander.finish(PATIENCE));
    // The router cut the handshakes of nobody short, either: a new stream, and the two nodes as attached as before.
    oracle.transfer(mesh.service(), Plan::bytes(100_000)).finish(PATIENCE);
    assert_eq!(oracle.accepted(), 4, "no stream came into being that nobody opened");
    for process in [&mesh.host, &mesh.proxy] {
        assert!(!process.said("rejected"), "{:?}", process.lines());
    }
}

#[test]
fn a_router_that_lets_everybody_through_opens_no_stream_that_the_binder_refuses() {
    let stack = StackOptions::default().linked().start();
    let files = ["binder", "mallory", "alice"].map(|name| stack.enroll(name, &[]));
    for service in ["open", "closed"] {
        stack.publish(service, echo(), "@binder");
        stack.allow("Dial", service, "@alice");
    }
    let host = stack.tunnel("host", &["host", "-i", &files[0]]);
    wait_until("it hosts", PATIENCE, || {
        host.lines().iter().filter(|l| l.contains("service bound")).count() == 2
    });
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (mallory, alice) = (HostileNode::start(&files[1]).await, HostileNode::start(&files[2]).await);
        let honest = alice.grant("open").await;
        let binder_tag = Tag::from_slice(&honest.binder_tag).expect("a tag");
        // An honest router carries nothing to a binder without a pass.
        let nothing = mallory.connect(&honest.binder_id, binder_tag).await.expect_err("no pair is open");
        assert!(!matches!(nothing, OpenError::Refused { .. }), "{nothing}");

        stack.link().tamper(Tamper::allow_all());
        let peer = mallory
            .connect(&honest.binder_id, binder_tag)
            .await
            .expect("the binder is reached without a pass");
        let closed = alice.grant("closed").await;
        let tries = [
            ("no grant", Ask { grant: String::new(), ..Ask::from(&honest) }),
            ("another dialer's grant", Ask::from(&honest)),
            ("another dialer's grant for another service", Ask::from(&closed)),
            ("a grant that does not fit", Ask { grant: closed.grant.clone(), ..Ask::from(&honest) }),
            ("a pass", Ask { grant: honest.pass.clone(), ..Ask::from(&honest) }),
            ("its own session token", Ask { grant: mallory.session_token().into(), ..Ask::from(&honest) }),
            ("what the controller would not give", Ask { service_id: String::new(), ..Ask::from(&honest) }),
        ];
        for (what, ask) in &tries {
            match open(&peer, ask).await {
                Err(OpenError::Refused { code, .. }) => println!("{what}: {code}"),
                other => panic!("{what}: {other:?}"),
            }
        }
        // Not because nothing works that way: who may, may also without a pass.
        let peer = alice.connect(&honest.binder_id, binder_tag).await.expect("reached without a pass");
        let mut stream = open(&peer, &Ask::from(&honest)).await.expect("a stream");
        stream.write_all(b"hi").await.expect("sent");
        let mut back = [0; 2];
        timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("in time").expect("an echo");
        assert_eq!(&back, b"hi");
    });
    assert!(host.said("dial rejected"));
}
