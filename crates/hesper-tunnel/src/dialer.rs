//! How streams are opened: by the SDK, or by a test in memory.

use bytes::Bytes;
use hesper_sdk::{Context, Copied, DatagramFlow, DialError, DialOptions, Sent, Stream};
use std::{future::Future, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Opens streams to services.
pub trait Dialer: Clone + Send + Sync + 'static {
    /// What it opens.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What carries UDP.
    type Flow: Flow;

    /// Opens a stream to a service.
    fn dial(
        &self,
        service: &str,
        options: DialOptions,
    ) -> impl Future<Output = Result<Self::Stream, DialError>> + Send;

    /// Opens a flow of datagrams to a service.
    fn dial_datagrams(
        &self,
        service: &str,
        options: DialOptions,
    ) -> impl Future<Output = Result<Self::Flow, DialError>> + Send;

    /// How long the service lets a flow be idle, if it says so.
    fn max_idle(&self, service: &str) -> Option<Duration>;

    /// Sends `head`, then copies both ways until both have ended; a failure of one side aborts the other, and so does dropping it.
    fn splice(
        stream: Self::Stream,
        tcp: TcpStream,
        head: Bytes,
    ) -> impl Future<Output = io::Result<Copied>> + Send;

    /// Dials for a TCP client; the future that comes of it copies both ways, as [`Self::splice`]. Until that has ended well every close of
    /// `tcp` is a reset: no client must take it for an empty answer. What the client sends at once may go along with the dial.
    fn dial_tcp(
        &self,
        service: &str,
        options: DialOptions,
        tcp: TcpStream,
    ) -> impl Future<Output = Result<impl Future<Output = io::Result<Copied>> + Send, DialError>> + Send {
        async move {
            // Fails on what is no open socket.
            let _ = tcp.set_zero_linger();
            let stream = self.dial(service, options).await?;
            Ok(Self::splice(stream, tcp, Bytes::new()))
        }
    }
}

/// Datagrams to and from one hosting program.
pub trait Flow: Send + Sync + 'static {
    /// Sends or drops; never waits.
    ///
    /// # Errors
    /// The flow is over.
    fn send(&self, payload: &[u8]) -> io::Result<Sent>;

    /// The next one; none when the other side has ended the flow. Cancel-safe.
    fn recv(&mut self) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;

    /// How many were dropped because [`Self::recv`] was not called often enough.
    fn dropped(&self) -> u64;
}

impl Flow for DatagramFlow {
    fn send(&self, payload: &[u8]) -> io::Result<Sent> {
        Ok(Self::send(self, payload)?)
    }

    async fn recv(&mut self) -> io::Result<Option<Bytes>> {
        Ok(Self::recv(self).await?)
    }

    fn dropped(&self) -> u64 {
        Self::dropped(self)
    }
}

impl Dialer for Context {
    type Stream = Stream;
    type Flow = DatagramFlow;

    async fn dial(&self, service: &str, options: DialOptions) -> Result<Stream, DialError> {
        self.dial_with(service, options).await
    }

    async fn dial_datagrams(&self, service: &str, options: DialOptions) -> Result<DatagramFlow, DialError> {
        self.dial_datagrams_with(service, options).await
    }

    fn max_idle(&self, service: &str) -> Option<Duration> {
        let state = self.state();
        let view = state.borrow();
        let millis = view.service(service).map_or(0, |s| s.max_idle_time_millis);
        Some(Duration::from_millis(millis)).filter(|idle| !idle.is_zero())
    }

    async fn splice(stream: Stream, tcp: TcpStream, head: Bytes) -> io::Result<Copied> {
        stream.splice_tcp_after(head, tcp).await
    }

    async fn dial_tcp(
        &self,
        service: &str,
        options: DialOptions,
        tcp: TcpStream,
    ) -> Result<impl Future<Output = io::Result<Copied>> + Send, DialError> {
        let dialed = Self::dial_tcp(self, service, options, tcp).await?;
        Ok(dialed.splice())
    }
}
