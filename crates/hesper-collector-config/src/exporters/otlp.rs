//! `otlp_grpc` (`otlp` before v0.144): OTLP over gRPC.

use crate::{
    GrpcClient, Retry, SendingQueue,
    common::{grpc_client, queue, retry},
    section::Section,
};
use std::time::Duration;

/// Where to and how.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpExporter {
    /// The connection.
    pub client: GrpcClient,
    /// Longest time for one call (5 s); zero: no limit.
    pub timeout: Duration,
    /// `retry_on_failure`
    pub retry_on_failure: Retry,
    /// `sending_queue`
    pub sending_queue: SendingQueue,
}

pub(crate) fn read(s: &Section<'_>) -> OtlpExporter {
    OtlpExporter {
        client: grpc_client(s),
        timeout: s.duration("timeout", Duration::from_secs(5)),
        retry_on_failure: retry(s, Retry::default()),
        sending_queue: queue(s),
    }
}
