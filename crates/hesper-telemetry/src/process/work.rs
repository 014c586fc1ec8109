//! A batch under the hands of processors: bytes until somebody needs messages.

use bytes::Bytes;
use hesper_otlp::{Batch, Refusal, Signal};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message;

/// A batch that is worked on.
#[derive(Clone, Debug)]
pub struct Work {
    signal: Signal,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Bytes(Bytes),
    Messages(Box<Messages>),
}

/// The decoded request.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the signals")]
pub enum Messages {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
    Profiles(ExportProfilesServiceRequest),
}

/// The bytes are not what the receiver should have let in.
#[derive(Debug, thiserror::Error)]
#[error("the {signal} cannot be decoded: {source}")]
pub struct WorkError {
    signal: Signal,
    source: prost::DecodeError,
}

impl From<WorkError> for Refusal {
    fn from(error: WorkError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Work {
    /// A batch that nobody has touched.
    pub fn new(batch: Batch) -> Self {
        Self { signal: batch.signal, form: Form::Bytes(batch.payload) }
    }

    /// Of which signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The messages, to read and change; decoded the first time.
    ///
    /// # Errors
    /// The bytes are no request.
    pub fn messages(&mut self) -> Result<&mut Messages, WorkError> {
        if let Form::Bytes(bytes) = &self.form {
            let messages = Messages::decode(self.signal, bytes.clone())
                .map_err(|source| WorkError { signal: self.signal, source })?;
            self.form = Form::Messages(Box::new(messages));
        }
        match &mut self.form {
            Form::Messages(messages) => Ok(messages),
            Form::Bytes(_) => unreachable!("decoded above"),
        }
    }

    /// The batch: the bytes as they came if nobody asked for messages, else encoded anew.
    pub fn into_batch(self) -> Batch {
        let payload = match self.form {
            Form::Bytes(bytes) => bytes,
            Form::Messages(messages) => messages.encode(),
        };
        Batch { signal: self.signal, payload }
    }
}

impl Messages {
    /// Decodes a request.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn decode(signal: Signal, bytes: Bytes) -> Result<Self, prost::DecodeError> {
        Ok(match signal {
            Signal::Traces => Self::Traces(ExportTraceServiceRequest::decode(bytes)?),
            Signal::Metrics => Self::Metrics(ExportMetricsServiceRequest::decode(bytes)?),
            Signal::Logs => Self::Logs(ExportLogsServiceRequest::decode(bytes)?),
            Signal::Profiles => Self::Profiles(ExportProfilesServiceRequest::decode(bytes)?),
        })
    }

    /// The bytes.
    pub fn encode(&self) -> Bytes {
        let bytes = match self {
            Self::Traces(request) => request.encode_to_vec(),
            Self::Metrics(request) => request.encode_to_vec(),
            Self::Logs(request) => request.encode_to_vec(),
            Self::Profiles(request) => request.encode_to_vec(),
        };
        bytes.into()
    }
}
