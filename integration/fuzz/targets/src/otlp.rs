//! Requests of OTLP in protobuf.

use bytes::Bytes;
use hesper_otlp::{Signal, Stamp, json, stamp::stamp, validate};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message;

/// The first byte chooses the signal, the rest is the request.
///
/// # Panics
/// When it is taken although prost does not read it, or the other way round; when the stamp changes what is in it, or is not the same
/// the second time; when it comes back from JSON as another.
pub fn run(input: &[u8]) {
    let Some((choice, payload)) = input.split_first() else { return };
    let (signal, payload) = (Signal::ALL[usize::from(choice % 4)], Bytes::copy_from_slice(payload));
    let counts = validate(signal, &payload);
    let known = canonical(signal, &payload);
    assert_eq!(counts.is_ok(), known.is_some(), "{counts:?}");
    let sender = Stamp::default().with("hesper.identity.id", "i").with_list("hesper.forwarded.for", ["g"]);
    let stamped = stamp(signal, &payload, &sender);
    let Ok(counts) = counts else { return };
    let stamped = stamped.expect("a request is stamped");
    assert_eq!(validate(signal, &stamped), Ok(counts), "the stamp leaves what is counted");
    assert_eq!(stamp(signal, &stamped, &sender).as_ref(), Ok(&stamped), "the stamp replaces itself");
    let text = json::encode(signal, &payload).expect("a request is written");
    // Ids of other lengths have no form in JSON that is read.
    if let Ok(back) = json::decode(signal, &text) {
        let again = json::encode(signal, &back).expect("a request is written");
        assert!(again == text || canonical(signal, &back) == known, "JSON brings back the same");
    }
}

/// What prost reads, written by it.
pub(crate) fn canonical(signal: Signal, payload: &[u8]) -> Option<Vec<u8>> {
    fn again<M: Message + Default>(payload: &[u8]) -> Option<Vec<u8>> {
        M::decode(payload).ok().map(|message| message.encode_to_vec())
    }
    match signal {
        Signal::Traces => again::<ExportTraceServiceRequest>(payload),
        Signal::Metrics => again::<ExportMetricsServiceRequest>(payload),
        Signal::Logs => again::<ExportLogsServiceRequest>(payload),
        Signal::Profiles => again::<ExportProfilesServiceRequest>(payload),
    }
}
