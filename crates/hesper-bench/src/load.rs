//! What is sent through a tunnel, and how long it takes. Every wait has a deadline: a tunnel that hangs is reported, not waited for.

use crate::target::{CHUNK, MESSAGE, Mode};
use anyhow::{Context, Result};
use std::{
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// Longest time for one measurement.
const DEADLINE: Duration = Duration::from_secs(120);

async fn within<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, work)
        .await
        .with_context(|| format!("{what}: no end within {DEADLINE:?}"))?
}

async fn open(to: SocketAddr, mode: Mode) -> Result<TcpStream> {
    let mut tcp = TcpStream::connect(to).await?;
    tcp.set_nodelay(true)?;
    tcp.write_u8(mode as u8).await?;
    Ok(tcp)
}

/// Sends `bytes` over one connection until the target has them; seconds.
pub(crate) async fn upload(to: SocketAddr, bytes: u64) -> Result<f64> {
    within("upload", async {
        let mut tcp = open(to, Mode::Sink).await?;
        // The path is open once a first byte has come through.
        send(&mut tcp, 1).await?;
        let begun = Instant::now();
        send(&mut tcp, bytes).await?;
        Ok(begun.elapsed().as_secs_f64())
    })
    .await
}

/// The same over several connections at the same time, `bytes` in all.
pub(crate) async fn upload_by(to: SocketAddr, streams: usize, bytes: u64) -> Result<f64> {
    within("uploads", async {
        let mut open_streams = Vec::new();
        for _ in 0..streams {
            let mut tcp = open(to, Mode::Sink).await?;
            send(&mut tcp, 1).await?;
            open_streams.push(tcp);
        }
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for mut tcp in open_streams {
            let share = bytes / streams as u64;
            tasks.spawn(async move { send(&mut tcp, share).await });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(begun.elapsed().as_secs_f64())
    })
    .await
}

async fn send(tcp: &mut TcpStream, bytes: u64) -> Result<()> {
    let buf = vec![0x5a; CHUNK.min(bytes as usize)];
    tcp.write_u64(bytes).await?;
    let mut left = bytes;
    while left > 0 {
        let n = left.min(buf.len() as u64) as usize;
        tcp.write_all(&buf[..n]).await?;
        left -= n as u64;
    }
    tcp.read_u8().await.context("the target went away")?;
    Ok(())
}

/// Sends without end, for as long as it is polled; adds what was sent to `total`.
pub(crate) async fn keep_sending(to: SocketAddr, total: &std::sync::atomic::AtomicU64) -> Result<()> {
    let mut tcp = open(to, Mode::Sink).await?;
    loop {
        send(&mut tcp, CHUNK as u64).await?;
        total.fetch_add(CHUNK as u64, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Messages there and back on one open connection, for so long; microseconds each.
pub(crate) async fn exchanges(to: SocketAddr, span: Duration) -> Result<Vec<f64>> {
    within("exchanges", async {
        let mut tcp = open(to, Mode::Echo).await?;
        exchange(&mut tcp).await?;
        let (begun, mut times) = (Instant::now(), Vec::new());
        while begun.elapsed() < span {
            let sent = Instant::now();
            exchange(&mut tcp).await?;
            times.push(micros(sent));
        }
        Ok(times)
    })
    .await
}

/// One exchange on a connection of its own; microseconds.
async fn dial(to: SocketAddr) -> Result<f64> {
    let begun = Instant::now();
    let mut tcp = open(to, Mode::Echo).await?;
    exchange(&mut tcp).await?;
    drop(tcp);
    Ok(micros(begun))
}

/// New connections, one exchange each, `at_once` at any time, for so long: microseconds of each.
pub(crate) async fn dials(to: SocketAddr, at_once: usize, span: Duration) -> Result<Vec<f64>> {
    within("dials", async {
        dial(to).await?;
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            tasks.spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < span {
                    times.push(dial(to).await?);
                }
                anyhow::Ok(times)
            });
        }
        let mut all = Vec::new();
        while let Some(times) = tasks.join_next().await {
            all.extend(times??);
        }
        Ok(all)
    })
    .await
}

/// One message there and back.
pub(crate) async fn exchange(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> Result<()> {
    let mut message = [7; MESSAGE];
    stream.write_all(&message).await?;
    stream.read_exact(&mut message).await.context("no echo")?;
    Ok(())
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target;
    use tokio::net::TcpListener;

    /// A target in this process.
    async fn target() -> SocketAddr {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        tokio::spawn(target::run(free));
        while TcpStream::connect(free).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        free
    }

    #[tokio::test]
    async fn everything_arrives_and_is_counted() {
        let to = target().await;
        assert!(upload(to, 1_000_003).await.unwrap() > 0.0);
        assert!(upload_by(to, 3, 300_000).await.unwrap() > 0.0);
        let span = Duration::from_millis(20);
        assert!(!exchanges(to, span).await.unwrap().is_empty());
        assert!(dials(to, 2, span).await.unwrap().len() >= 2);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(upload(free, 1).await.is_err());
    }
}
