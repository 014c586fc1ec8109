//! A stream on standard input and output: each direction ends by itself.

use crate::{serve::Stop, tunnel::Who};
use anyhow::{Context as _, Result, bail};
use hesper_sdk::{Context, DialOptions, RecvHalf, SendHalf, Stream};
use std::{io::Read, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, timeout},
};

/// Bytes taken from standard input at once, and pieces that wait for the stream.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 4;
/// How long the other side may take to acknowledge the last bytes.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Dials and copies until both directions have ended.
///
/// # Errors
/// There is no stream within `patience`, it broke, or somebody interrupted it.
pub(crate) async fn pipe(who: &Who, service: &str, patience: Duration) -> Result<()> {
    let mut stop = Stop::catch()?;
    let ctx = who.node("node").await?.ctx;
    // The command's end takes leave of the mesh.
    tokio::select! {
        copied = dial_and_copy(&ctx, service, patience) => copied,
        () = stop.asked() => Err(anyhow::anyhow!("interrupted")),
    }
}

async fn dial_and_copy(ctx: &Context, service: &str, patience: Duration) -> Result<()> {
    let stream = dial(ctx, service, patience).await?;
    let (send, recv) = stream.into_parts();
    tokio::try_join!(upload(send), download(recv)).map(drop)
}

/// A stream within `patience`, the wait for controller and router included.
///
/// # Errors
/// Why there is none.
pub(super) async fn dial(ctx: &Context, service: &str, patience: Duration) -> Result<Stream> {
    let until = Instant::now() + patience;
    ctx.ready(patience).await?;
    let left = until.saturating_duration_since(Instant::now());
    let options = DialOptions { timeout: left, ..DialOptions::default() };
    ctx.dial_with(service, options).await.with_context(|| format!("cannot dial service '{service}'"))
}

async fn upload(mut send: SendHalf) -> Result<()> {
    let mut typed = standard_input();
    loop {
        tokio::select! {
            piece = typed.recv() => match piece {
                Some(piece) => {
                    let piece = piece.context("cannot read standard input")?;
                    send.write_all(&piece).await.context("the stream broke")?;
                }
                None => break,
            },
            // Whatever is typed from now on would be for nobody.
            () = send.stopped() => return Ok(()),
        }
    }
    send.shutdown().await.context("the stream broke")?;
    if timeout(LAST_WORDS, send.stopped()).await.is_err() {
        bail!("the other side has not acknowledged the last bytes within {} s", LAST_WORDS.as_secs());
    }
    Ok(())
}

/// A thread of its own: a read from a terminal cannot be taken back, and must not keep the program from ending.
fn standard_input() -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(len) => Ok(buffer[..len].to_vec()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

async fn download(mut recv: RecvHalf) -> Result<()> {
    let mut output = tokio::io::stdout();
    let mut buffer = vec![0; PIECE];
    loop {
        let len = recv.read(&mut buffer).await.context("the stream broke")?;
        if len == 0 {
            return Ok(());
        }
        output.write_all(&buffer[..len]).await?;
        output.flush().await?;
    }
}
