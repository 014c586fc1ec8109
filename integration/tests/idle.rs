//! What nodes cost that do nothing: packets are bounded by the test; processor time and memory are printed for people to look at.

use hesper_integration::{Process, Stack, StackOptions, wait_until};
use hesper_sdk::Context;
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long everybody is watched doing nothing.
const WATCH: Duration = Duration::from_secs(10);
/// Datagrams both ways that an idle attachment may cost in that time: a ping every 2 s, a keep-alive every 3 s, and their acknowledgements,
/// doubled for a slow machine.
const OF_ATTACHMENT: u64 = 60;
/// The same for an idle connection between two nodes, of whose datagrams each passes two links.
const OF_PEER: u64 = 40;
/// Peers of the node with many: sessions of one identity, of which it may have 64.
const PEERS: usize = 50;

/// Of a process: processor time since its start and memory (`VmRSS`), in milliseconds and kB.
fn cost(process: &Process) -> (u64, u64) {
    let read = |file| fs::read_to_string(format!("/proc/{}/{file}", process.pid())).expect("a process");
    let stat = read("stat");
    // After the name, which may contain blanks: field 3 is the state, 14 and 15 are the times in 1/100 s.
    let fields: Vec<_> = stat.rsplit_once(") ").expect("fields").1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields[*at].parse::<u64>().ok()).sum();
    let status = read("status");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory");
    (ticks * 10, rss.trim().trim_end_matches(" kB").parse().expect("a number"))
}

/// What the processes and the links do while nobody does anything; returns datagrams both ways over all links.
fn watch(stack: &Stack, what: &str, processes: &[(&str, &Process)]) -> u64 {
    let count = || {
        let counters = (0..stack.router_count()).map(|r| stack.link_of(r).counters());
        counters.map(|c| c.to_router.arrived + c.to_client.arrived).sum::<u64>()
    };
    let before: Vec<_> = processes.iter().map(|(_, p)| cost(p).0).collect();
    let (packets, begun) = (count(), Instant::now());
    thread::sleep(WATCH);
    let packets = count() - packets;
    println!("{what}: {packets} datagrams in {:.1?}", begun.elapsed());
    for ((name, process), before) in processes.iter().zip(before) {
        let (millis, rss) = cost(process);
        println!("  {name}: {} ms of processor time, {rss} kB", millis - before);
    }
    packets
}

#[test]
fn nodes_that_do_nothing_say_little() {
    let stack = StackOptions::default().routers(2).linked().start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut word = [0; 4];
                while stream.read_exact(&mut word).is_ok() && stream.write_all(&word).is_ok() {}
            });
        }
    });
    let files = ["host", "client"].map(|name| stack.enroll(name, &[]));
    stack.publish("echo", target, "@host");
    stack.allow("Dial", "echo", "@client");
    let mut host = stack.tunnel("host", &["host", "-i", &files[0]]);
    host.wait_for_line("it hosts", Stack::PATIENCE, |l| l.contains("service bound").then_some(()));
    let client = stack.tunnel("client", &["proxy", "-i", &files[1], "echo:0"]);
    let attached = |node: &Process| node.lines().iter().filter(|l| l.contains(" attached ")).count() >= 2;
    wait_until("both are attached to both", Stack::PATIENCE, || attached(&host) && attached(&client));
    let everybody = [("router", stack.router_of(0)), ("host", &host), ("client", &client)];
    let packets = watch(&stack, "two idle nodes at two routers", &everybody);
    // Both nodes at both routers, and the link between those.
    assert!(packets <= 5 * OF_ATTACHMENT, "{packets}");

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let streams = runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..PEERS {
            let context = Context::from_identity_file(files[1].as_ref()).expect("an identity");
            context.ready(Stack::PATIENCE).await.expect("a network");
            let mut stream = context.dial("echo").await.expect("a stream");
            stream.write_all(b"ping").await.expect("taken");
            stream.read_exact(&mut [0; 4]).await.expect("answered");
            streams.push((context, stream));
        }
        streams
    });
    let packets = watch(&stack, &format!("{PEERS} idle peers"), &everybody);
    let bound = (5 + 2 * PEERS as u64) * OF_ATTACHMENT + PEERS as u64 * OF_PEER;
    assert!(packets <= bound, "{packets} of {bound}");
    runtime.block_on(async {
        for (_, mut stream) in streams {
            stream.write_all(b"ping").await.expect("still taken");
            stream.read_exact(&mut [0; 4]).await.expect("still answered");
        }
    });
}
