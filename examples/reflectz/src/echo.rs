//! `you sent me: <line>`, for every line of every connection.

use crate::metrics::Metrics;
use hesper_sdk::{Listener, Stream};
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// Longest line echoed, in bytes; a longer one ends the connection.
const MAX_LINE: u64 = 64 * 1024;

/// Accepts until the listener ends; one task for each connection.
pub(crate) async fn serve(mut listener: Listener, metrics: Metrics) -> anyhow::Result<()> {
    loop {
        let incoming = listener.accept().await?;
        metrics.connection();
        tracing::info!(dialer = %incoming.dialer_id(), "connection");
        let metrics = metrics.clone();
        tokio::spawn(async move {
            match incoming.into_stream().await {
                Ok(stream) => match echo(stream, &metrics).await {
                    Ok(()) => tracing::debug!("connection ended"),
                    Err(error) => tracing::info!(%error, "connection broke"),
                },
                Err(error) => tracing::info!(%error, "dialer went away"),
            }
        });
    }
}

async fn echo(stream: Stream, metrics: &Metrics) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = (&mut read).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if n == 0 {
            return write.shutdown().await;
        }
        if n as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line longer than {MAX_LINE} bytes"),
            ));
        }
        metrics.bytes(n as u64);
        write.write_all(b"you sent me: ").await?;
        write.write_all(&line).await?;
        write.flush().await?;
    }
}
