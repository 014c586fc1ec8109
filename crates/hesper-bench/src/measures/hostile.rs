//! One peer misbehaves; what is left for the others, as a share of what they had just before.

use super::{Effort, nodes};
use crate::{
    attached::half_handshakes, bulk, load, report::Recorder, stack::Stack, subjects::Surroundings,
    target::Mode, watch::Watch,
};
use anyhow::{Context as _, Result};
use hesper_pki::identity_file::IdentityFile;
use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt,
    sync::Notify,
    time::{sleep, timeout},
};

const SERVICE: &str = "hostile";
/// Streams that are opened and never read, or fewer, when the connection takes no more.
const STREAMS: usize = 200;
/// Junk packets per second, in bursts.
const JUNK_PER_SECOND: u32 = 50_000;
const JUNK_BURST: u32 = 50;
/// Handshakes per second that are never finished.
const HANDSHAKES_PER_SECOND: u32 = 500;
/// What the hostile side has set in motion comes to its end, or to its full rate.
const SETTLE: Duration = Duration::from_secs(2);
/// How long it may take to get going.
const PATIENCE: Duration = Duration::from_secs(30);

type Hostile = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

pub(super) async fn run(around: &Surroundings, effort: &Effort, to: &mut Recorder) -> Result<()> {
    let mut stack = Stack::start(&around.hesper).await?;
    let files = bulk::identities(&mut stack, "hostile", "hostile", 2).await?;
    let (host, client) = (stack.enroll("host")?, stack.enroll("client")?);
    stack.publish(SERVICE, around.target, "host")?;
    let _host = stack.tunnel("binder", &["host", "-i", &host]).await?;
    let mut proxy = stack.tunnel("dialer", &["proxy", "-i", &client, &format!("{SERVICE}:0")]).await?;
    let told = |line: &str| line.split_whitespace().find_map(|w| w.strip_prefix("hostile=")?.parse().ok());
    let address: SocketAddr = proxy.line(told).await?;
    let watch = Arc::new(Watch::open(&files[1]).await?);
    let router: SocketAddr =
        watch.first.routers.first().and_then(|r| r.addresses.first()).context("a router")?.parse()?;
    let span = Duration::from_secs_f64(effort.seconds);
    throughput(address, span).await.context("without anybody hostile")?;
    for round in 0..effort.rounds {
        let going = Arc::new(Notify::new());
        let cases: [(&str, Hostile); 3] = [
            ("reads nothing", Box::pin(reads_nothing(files[0].clone(), going.clone()))),
            ("floods", Box::pin(floods(router, going.clone()))),
            ("half handshakes", Box::pin(shakes(watch.clone(), going.clone()))),
        ];
        for (case, hostile) in cases {
            let alone = throughput(address, span).await?;
            let hostile = tokio::spawn(hostile);
            timeout(PATIENCE, going.notified())
                .await
                .with_context(|| format!("{case}: does not get going"))?;
            sleep(SETTLE).await;
            let beside = throughput(address, span).await?;
            let failed = hostile.is_finished();
            hostile.abort();
            match hostile.await {
                Ok(Err(error)) if failed => to.skip(case, &format!("{error:#}")),
                _ => to.add("hostile_share", "hesper", case, round, beside / alone),
            }
        }
    }
    Ok(())
}

/// Bytes per second of one honest stream.
async fn throughput(to: SocketAddr, span: Duration) -> Result<f64> {
    let total = AtomicU64::new(0);
    let begun = Instant::now();
    // Ends by the clock; a failure before that is one.
    if let Ok(ended) = timeout(span, load::keep_sending(to, &total)).await {
        ended.context("the honest stream broke")?;
    }
    Ok(total.load(Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

/// Asks for bytes without end on many streams and takes none.
async fn reads_nothing(file: IdentityFile, going: Arc<Notify>) -> Result<()> {
    let mut contexts = nodes::start(vec![file]).await?;
    let node = contexts.pop().context("a node")?;
    let mut streams = Vec::new();
    while streams.len() < STREAMS {
        let open = async {
            let mut stream = node.dial(SERVICE).await?;
            stream.write_u8(Mode::Give as u8).await?;
            anyhow::Ok(stream)
        };
        match timeout(SETTLE, open).await {
            Ok(stream) => streams.push(stream?),
            // The connection's window is full: no answer comes through to this peer any more.
            Err(_) => break,
        }
    }
    going.notify_one();
    std::future::pending().await
}

/// Sends the router packets that mean nothing.
async fn floods(router: SocketAddr, going: Arc<Notify>) -> Result<()> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    let mut tick = tokio::time::interval(Duration::from_secs(1) * JUNK_BURST / JUNK_PER_SECOND);
    going.notify_one();
    let mut junk = [0x40; 1_200];
    loop {
        tick.tick().await;
        for _ in 0..JUNK_BURST {
            junk[1..17].copy_from_slice(&rand::random::<[u8; 16]>());
            // A full buffer drops, as the network would.
            let _ = socket.try_send_to(&junk, router);
        }
    }
}

async fn shakes(watch: Arc<Watch>, going: Arc<Notify>) -> Result<()> {
    going.notify_one();
    half_handshakes(&watch, HANDSHAKES_PER_SECOND).await
}
