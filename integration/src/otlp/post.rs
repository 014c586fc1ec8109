//! POST of OTLP as a program in trouble does it: bodies that come slowly, or are small on the wire only; the answer is read while the
//! body is still being written.

use flate2::{Compression, write::GzEncoder};
use std::{io::Write, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// A slow body comes in so many pieces, with a pause before each.
const PIECES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// No answer is longer.
const ANSWER: u64 = 64 << 10;

/// The body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// As it is, as fast as it goes.
    Plain,
    /// Compressed by gzip.
    Gzip,
    /// As it is, piece by piece.
    Slow,
}

/// Where to, and how.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) to: SocketAddr,
    pub(super) body: Body,
}

impl Post {
    /// Sends a request for traces; why it was not taken: the status and what it says of coming again, or what happened to the connection.
    pub(super) async fn send(&self, request: &[u8]) -> Result<(), String> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let (body, encoding) = match self.body {
            Body::Plain | Body::Slow => (request.to_vec(), ""),
            Body::Gzip => {
                encoder.write_all(request).map_err(|e| e.to_string())?;
                (encoder.finish().map_err(|e| e.to_string())?, "content-encoding: gzip\r\n")
            }
        };
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-protobuf\r\n{encoding}content-length: {}\r\nconnection: close\r\n\r\n",
            self.to,
            body.len()
        );
        let stream = TcpStream::connect(self.to).await.map_err(|error| format!("connect: {error}"))?;
        let (from, mut to) = stream.into_split();
        let (mut from, mut answer) = (from.take(ANSWER), Vec::new());
        let writing = async {
            to.write_all(head.as_bytes()).await?;
            let pieces = if self.body == Body::Slow { PIECES } else { 1 };
            trickle(&mut to, &body, pieces).await
        };
        // Whoever is refused need not send the rest.
        let reading = from.read_to_end(&mut answer);
        tokio::pin!(reading);
        let read = tokio::select! {
            read = &mut reading => read,
            _ = writing => reading.await,
        };
        let text = String::from_utf8_lossy(&answer);
        match text.split_once("\r\n\r\n") {
            Some((head, _)) => verdict(head),
            None => Err(format!("no answer: {read:?}")),
        }
    }
}

async fn trickle(to: &mut (impl AsyncWrite + Unpin), body: &[u8], pieces: usize) -> std::io::Result<()> {
    for piece in body.chunks(body.len().div_ceil(pieces).max(1)) {
        if pieces > 1 {
            tokio::time::sleep(PAUSE).await;
        }
        to.write_all(piece).await?;
    }
    Ok(())
}

fn verdict(head: &str) -> Result<(), String> {
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status.split_once(' ').map_or(status, |(_, status)| status);
    if status.starts_with("200") {
        return Ok(());
    }
    let after = headers.lines().find(|line| line.to_ascii_lowercase().starts_with("retry-after:"));
    Err(format!("{status}; {}", after.unwrap_or("no retry-after")))
}
