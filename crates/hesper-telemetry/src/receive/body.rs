//! Bodies of requests on their way in, and of answers on their way out.

use super::{admission::Lease, intake::Intake};
use bytes::Bytes;
use hesper_otlp::Refusal;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// The body of an answer: at most one piece, and trailers.
#[derive(Debug, Default)]
pub struct Answer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    /// These bytes.
    pub(crate) fn of(data: impl Into<Bytes>) -> Self {
        Self { data: Some(data.into()).filter(|data| !data.is_empty()), trailers: None }
    }

    /// These bytes, then trailers.
    pub(crate) fn with_trailers(data: Bytes, trailers: HeaderMap) -> Self {
        Self { data: Some(data), trailers: Some(trailers) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let len = self.data.as_ref().map_or(0, Bytes::len) as u64;
        if self.trailers.is_some() { SizeHint::default() } else { SizeHint::with_exact(len) }
    }
}

/// The body of a request.
pub(crate) struct Arriving {
    incoming: Incoming,
    ended: bool,
}

impl Arriving {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { ended: incoming.is_end_stream(), incoming }
    }

    /// How long it claims to be.
    pub(crate) fn claims(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Has all of it come?
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Throws away what is still to come.
    pub(crate) async fn discard(mut self) {
        while let Some(Ok(_)) = self.incoming.frame().await {}
    }

    /// Reads it to its end.
    pub(crate) async fn read(&mut self, intake: &mut impl Intake, lease: &mut Lease) -> Result<(), Refusal> {
        while let Some(frame) = self.incoming.frame().await {
            let frame =
                frame.map_err(|error| Refusal::Malformed(format!("the body ended early: {error}")))?;
            if let Ok(data) = frame.into_data() {
                intake.push(data, lease)?;
            }
        }
        self.ended = true;
        Ok(())
    }
}
