//! A dial that was let in and waits for the hosting program's word, and how the word gets back to the dialer.

use crate::{admission::code, frame, stream::Stream};
use hesper_model::{
    config::otlp::SenderTerms,
    id::{IdentityId, ServiceId, TerminatorId},
};
use hesper_proto::overlay::DialResult;
use hesper_trace::TraceContext;
use quinn::{RecvStream, SendStream};
use std::{io, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long the answer to a dial may take to be written; it is the first thing on its stream.
const RESULT_DEADLINE: Duration = Duration::from_secs(5);

/// A dial that was admitted and waits for the hosting program's word. Dropped, it is refused.
#[derive(Debug)]
pub struct Arrival {
    /// Who dials, as the handshake proved it.
    pub dialer: IdentityId,
    /// Its name, as the controller signed it into the grant.
    pub dialer_name: String,
    /// What it may send over this stream, if the service has an `otlp.v1` config. Stays true as long as the stream lives: when the
    /// config says something else, the stream ends.
    pub sender_terms: Option<Arc<SenderTerms>>,
    /// The dialed service.
    pub service: ServiceId,
    /// The dialed terminator.
    pub terminator: TerminatorId,
    /// What the dialer tells the program, JSON; empty = nothing.
    pub app_data: String,
    /// From its header to the program's word; none unless it is recorded.
    pub span: tracing::Span,
    /// The dialer's trace, as it came.
    pub(super) trace: (String, String),
    pub(super) stream: Stream,
}

impl Arrival {
    /// Is it dialed for datagrams (see [`Stream::into_datagrams`])?
    pub fn is_datagrams(&self) -> bool {
        self.stream.is_datagrams()
    }

    /// What is done for this dial is a part of this trace: of the span here if it is recorded, else of the dialer's. None: of no trace.
    pub fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::of(&self.span).or_else(|| TraceContext::parse(&self.trace.0, &self.trace.1))
    }

    /// Accepts the dial.
    ///
    /// # Errors
    /// The dialer is gone, or its grant has just ended.
    pub async fn accept(mut self) -> io::Result<Stream> {
        let answered = answer(&mut self.stream, DialResult::default()).await;
        match &answered {
            Ok(()) => hesper_trace::set(&self.span, "mesh.outcome", "accepted"),
            Err(error) => hesper_trace::fail(&self.span, error),
        }
        answered.map(|()| self.stream)
    }

    /// Refuses it, with a reason for the dialer.
    pub async fn refuse(mut self, reason: &str) {
        hesper_trace::set(&self.span, "mesh.outcome", "refused");
        let result = DialResult { code: code::REFUSED.into(), message: reason.into() };
        // A dialer that is gone needs no answer.
        if answer(&mut self.stream, result).await.is_ok() {
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await;
        }
    }
}

async fn answer(stream: &mut (impl tokio::io::AsyncWrite + Unpin), result: DialResult) -> io::Result<()> {
    match timeout(RESULT_DEADLINE, frame::write_message(stream, &result)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(frame::FrameError::Io(e))) => Err(e),
        Ok(Err(e)) => Err(io::Error::other(e)),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Rejects a dial whose stream was set up already.
pub(super) async fn say_no(stream: &mut Stream, code: &str, message: &str) {
    if answer(stream, DialResult { code: code.into(), message: message.into() }).await.is_ok() {
        let _ = tokio::io::AsyncWriteExt::shutdown(stream).await;
    }
}

/// Rejects a stream that has not come so far.
pub(super) async fn refuse(mut send: SendStream, _recv: RecvStream, code: &str, message: &str) {
    if answer(&mut send, DialResult { code: code.into(), message: message.into() }).await.is_ok() {
        let _ = send.finish();
    }
}
