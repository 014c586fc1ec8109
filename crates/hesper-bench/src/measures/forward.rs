//! The router alone: packets of an open pair, made by hand, as fast as one thread can send them.
//!
//! Nobody reads at the far end: its socket fills and the kernel throws away what comes, so that only sender and router work. The window
//! is shorter than any idle timeout of the attach connections, which hear nothing meanwhile.

use super::{Effort, reconnect::metric};
use crate::{
    attached::AttachedNode, bulk, machine, process::cpu_seconds, report::Recorder, stack::Stack,
    subjects::Surroundings, watch::Watch,
};
use anyhow::{Context, Result};
use hesper_overlay::cid;
use hesper_proto::control::{BindRequest, DialRequest};
use quinn::udp::{Transmit, UdpSocketState};
use std::{
    io,
    net::UdpSocket,
    time::{Duration, Instant},
};

const SERVICE: &str = "forward";
/// Of one burst: below 64 KiB and what the kernel cuts up in one call.
const SEGMENTS: usize = 40;
const MOST_BYTES: usize = 63 << 10;
/// IP and UDP headers.
const HEADERS: usize = 28;

pub(super) async fn run(around: &Surroundings, effort: &Effort, to: &mut Recorder) -> Result<()> {
    let mut stack = Stack::start(&around.hesper).await?;
    let files = bulk::identities(&mut stack, "forward", "forward", 2).await?;
    stack.cli(["create", "service", SERVICE])?;
    for what in ["Dial", "Bind"] {
        stack.allow(what, SERVICE, "#forward")?;
    }
    let (dialer, binder) = (Watch::open(&files[0]).await?, Watch::open(&files[1]).await?);
    let bind = BindRequest { service: SERVICE.into(), ..BindRequest::default() };
    let (mut client, request) = binder.request(bind)?;
    client.bind(request).await?;
    let mut from = AttachedNode::attach(&dialer).await?;
    let far = AttachedNode::attach(&binder).await?;
    let granted = dial(&dialer).await?;
    from.present(granted).await?;
    let pid = stack.router_pid()?;
    let jumbo = (machine::loopback_mtu() as usize).clamp(1_500, 9_000) - HEADERS;
    for (part, length) in [("1452 bytes", 1_452), ("64 bytes", 64), ("jumbo", jumbo)] {
        if part == "jumbo" && length < 2_000 {
            continue;
        }
        for round in 0..effort.rounds {
            let packet = packet(far.tag, length);
            let count = || metric(stack.router_metrics(), "hesper_router_packets_forwarded_total");
            let (cpu, before) = (cpu_seconds(pid), count().await?);
            let socket = from.socket.try_clone()?;
            let span = Duration::from_secs_f64(effort.seconds.min(2.0));
            let begun = Instant::now();
            tokio::task::spawn_blocking(move || send(&socket, &packet, length, span)).await??;
            let seconds = begun.elapsed().as_secs_f64();
            let (cpu, packets) = (cpu_seconds(pid) - cpu, count().await? - before);
            to.add("forward_packets", "hesper", part, round, packets / seconds / 1e6);
            to.add("forward_rate", "hesper", part, round, packets * length as f64 * 8.0 / seconds / 1e9);
            to.add("forward_cpu", "hesper", part, round, cpu * 1e9 / packets.max(1.0));
        }
    }
    Ok(())
}

/// The pass of a permitted dial; the binder's attachment may not have been reported yet.
async fn dial(dialer: &Watch) -> Result<String> {
    let begun = Instant::now();
    loop {
        let (mut client, request) =
            dialer.request(DialRequest { service: SERVICE.into(), ..DialRequest::default() })?;
        match client.dial(request).await {
            Ok(answer) => return Ok(answer.into_inner().pass),
            Err(status) if begun.elapsed() > Duration::from_secs(20) => {
                return Err(status).context("the dial is refused");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What a router sees of a packet: a short header and the binder's tag; the rest is noise to it.
fn packet(to: hesper_model::id::Tag, length: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    packet[0] = 0x40;
    packet[1..=cid::CID_LEN].copy_from_slice(&cid::fresh_dcid(to));
    packet
}

fn send(socket: &UdpSocket, packet: &[u8], length: usize, span: Duration) -> io::Result<()> {
    let state = UdpSocketState::new(socket.into())?;
    let segments = (MOST_BYTES / length).min(SEGMENTS).min(state.max_gso_segments()).max(1);
    let burst = packet.repeat(segments);
    let destination = socket.peer_addr()?;
    let transmit = Transmit {
        destination,
        ecn: None,
        contents: &burst,
        segment_size: (segments > 1).then_some(length),
        src_ip: None,
    };
    let begun = Instant::now();
    while begun.elapsed() < span {
        match state.try_send(socket.into(), &transmit) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
