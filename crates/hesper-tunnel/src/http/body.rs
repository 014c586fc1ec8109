//! The body of an answer on its way from the target: streamed, never gathered, and never for ever.

use super::{Body, BoxError, client::Client};
use bytes::Bytes;
use hesper_observe::metrics::Counter;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    task::AbortHandle,
    time::{Instant, Sleep},
};

/// Without a scraper's deadline, a body that brings nothing for so long is given up.
const IDLE: Duration = Duration::from_secs(300);

/// Ends the connection to the target when dropped.
#[derive(Debug)]
pub(super) struct EndsConnection(pub(super) AbortHandle);

impl Drop for EndsConnection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A target's body that ends with an error at the deadline, or when it brings nothing for [`IDLE`]. Until it has ended well, the
/// client's connection closes by a reset.
struct Timed {
    inner: Incoming,
    until: Pin<Box<Sleep>>,
    has_deadline: bool,
    client: Client,
    bytes: Counter,
    _connection: EndsConnection,
}

/// Wraps the body of a target's answer, whose bytes are counted as they come.
pub(super) fn timed(
    inner: Incoming,
    deadline: Option<Instant>,
    connection: EndsConnection,
    client: Client,
    bytes: Counter,
) -> Body {
    client.closes_by_reset(!inner.is_end_stream());
    let until = Box::pin(tokio::time::sleep_until(deadline.unwrap_or_else(|| Instant::now() + IDLE)));
    Timed { inner, until, has_deadline: deadline.is_some(), client, bytes, _connection: connection }
        .boxed_unsync()
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if !self.has_deadline {
                self.until.as_mut().reset(Instant::now() + IDLE);
            }
            if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()?.data_ref()) {
                self.bytes.inc_by(data.len() as u64);
            }
            if frame.is_none() || (matches!(frame, Some(Ok(_))) && self.inner.is_end_stream()) {
                self.client.closes_by_reset(false);
            }
            return Poll::Ready(frame.map(|f| f.map_err(Into::into)));
        }
        match self.until.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the target's answer did not end in time".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
