//! A batch under the hands of processors: bytes until somebody needs messages.

use bytes::Bytes;
use hesper_otlp::{
    Batch, Refusal, Signal,
    edit::{self, Edits, Target},
};
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
    /// Items, when they were counted and nobody has changed them since.
    items: Option<u64>,
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

/// Most messages that are decoded from one request. Decoded they have some hundred bytes each, though two bytes are enough to send one: so
/// there is a bound. Of the attributes of honest senders each is two messages in some 30 bytes, so that it is beyond 64 MiB of them.
pub const MAX_MESSAGES: u64 = 8 << 20;

/// Why there are no messages.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The bytes are not what the receiver should have let in.
    #[error("the {signal} cannot be decoded: {source}")]
    Malformed {
        /// Of which signal it should be.
        signal: Signal,
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// Decoded it would take too much memory.
    #[error("the request has {messages} messages in it, more than {MAX_MESSAGES}; send smaller batches")]
    TooMany {
        /// How many.
        messages: u64,
    },
}

impl From<WorkError> for Refusal {
    fn from(error: WorkError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Work {
    /// A batch that nobody has touched.
    pub fn new(batch: Batch) -> Self {
        Self { signal: batch.signal, form: Form::Bytes(batch.payload), items: None }
    }

    /// Of which signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// How many spans, data points, log records or profiles it has.
    pub fn items(&mut self) -> u64 {
        let items = match (&self.form, self.items) {
            (_, Some(items)) => items,
            (Form::Bytes(bytes), None) => hesper_otlp::count(self.signal, bytes).items,
            (Form::Messages(messages), None) => messages.items(),
        };
        self.items = Some(items);
        items
    }

    /// Is it still what came, or edited bytes?
    pub fn is_bytes(&self) -> bool {
        matches!(self.form, Form::Bytes(_))
    }

    /// Edits the bytes; messages are encoded first.
    ///
    /// # Errors
    /// It would grow too much, or the bytes are no request.
    pub fn edit(&mut self, target: Target, edits: &Edits) -> Result<(), Refusal> {
        let bytes = match &self.form {
            Form::Bytes(bytes) => bytes.clone(),
            Form::Messages(messages) => messages.encode(),
        };
        let edited = edit::edit(self.signal, &bytes, target, edits);
        self.form = Form::Bytes(edited.map_err(|error| Refusal::Malformed(error.to_string()))?);
        Ok(())
    }

    /// The messages, to read and change; decoded the first time.
    ///
    /// # Errors
    /// The bytes are no request, or there are more than [`MAX_MESSAGES`] in it.
    pub fn messages(&mut self) -> Result<&mut Messages, WorkError> {
        self.items = None;
        if let Form::Bytes(bytes) = &self.form {
            // Most batches are too short for so many.
            let most = bytes.len() as u64 / 2;
            let messages = if most > MAX_MESSAGES { hesper_otlp::nested(self.signal, bytes) } else { 0 };
            if messages > MAX_MESSAGES {
                return Err(WorkError::TooMany { messages });
            }
            let messages = Messages::decode(self.signal, bytes.clone())
                .map_err(|source| WorkError::Malformed { signal: self.signal, source })?;
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
