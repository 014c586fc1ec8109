//! The program behind every tunnel: takes bytes, gives bytes, or echoes them. Runs as a process of its own.
//!
//! The first byte of a connection says what: `S` and a length (8 bytes, big-endian): that many bytes follow, answered by one; again and
//! again. `E`: everything comes back. `G`: bytes without end. So nothing depends on how a tunnel passes on the end of a direction.

use anyhow::Result;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Length of one read or write.
pub(crate) const CHUNK: usize = 256 << 10;
/// Length of a message of the exchange.
pub(crate) const MESSAGE: usize = 64;

/// What the connection is for: the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// A counted number of bytes to the target.
    Sink = b'S',
    /// Messages there and back.
    Echo = b'E',
    /// Bytes from the target until nobody takes them.
    Give = b'G',
}

/// Listens, says where, serves until killed.
pub(crate) async fn run(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("ready {}", listener.local_addr()?);
    loop {
        // Out of files for a moment: those who wait are served when others have left.
        if let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(tcp));
        }
    }
}

/// One connection; how it ends is the client's business.
async fn serve(mut tcp: TcpStream) -> Result<()> {
    tcp.set_nodelay(true)?;
    match tcp.read_u8().await? {
        mode if mode == Mode::Sink as u8 => loop {
            let mut left = tcp.read_u64().await?;
            let mut buf = vec![0; CHUNK];
            while left > 0 {
                let most = left.min(CHUNK as u64) as usize;
                match tcp.read(&mut buf[..most]).await? {
                    0 => return Ok(()),
                    n => left -= n as u64,
                }
            }
            tcp.write_u8(1).await?;
        },
        mode if mode == Mode::Echo as u8 => {
            let mut buf = vec![0; 16 << 10];
            loop {
                match tcp.read(&mut buf).await? {
                    0 => return Ok(()),
                    n => tcp.write_all(&buf[..n]).await?,
                }
            }
        }
        mode if mode == Mode::Give as u8 => {
            let buf = vec![0; CHUNK];
            loop {
                tcp.write_all(&buf).await?;
            }
        }
        _ => Ok(()),
    }
}
