//! How streams are opened: by the SDK, or by a test in memory.

use bytes::Bytes;
use hesper_sdk::{Context, DialError, DialOptions, Stream};
use std::{future::Future, io};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Opens streams to services.
pub trait Dialer: Clone + Send + Sync + 'static {
    /// What it opens.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens a stream to a service.
    fn dial(
        &self,
        service: &str,
        options: DialOptions,
    ) -> impl Future<Output = Result<Self::Stream, DialError>> + Send;

    /// Sends `head`, then copies both ways until both have ended; a failure of one side aborts the other.
    fn splice(
        stream: Self::Stream,
        tcp: TcpStream,
        head: Bytes,
    ) -> impl Future<Output = io::Result<()>> + Send;
}

impl Dialer for Context {
    type Stream = Stream;

    async fn dial(&self, service: &str, options: DialOptions) -> Result<Stream, DialError> {
        self.dial_with(service, options).await
    }

    async fn splice(mut stream: Stream, tcp: TcpStream, head: Bytes) -> io::Result<()> {
        if !head.is_empty() {
            stream.write_all(&head).await?;
        }
        stream.splice_tcp(tcp).await.map(drop)
    }
}
