//! Requests of OTLP in JSON.

use crate::otlp::canonical;
use hesper_otlp::{Signal, json, validate};

/// A text, read as the request of each signal.
///
/// # Panics
/// When it is read as something that is no request, or that is another after it was written.
pub fn run(text: &[u8]) {
    for signal in Signal::ALL {
        let Ok(payload) = json::decode(signal, text) else { continue };
        assert!(payload.len() <= 4 * text.len(), "a payload in proportion to its text");
        assert!(validate(signal, &payload).is_ok(), "a request");
        let written = json::encode(signal, &payload).expect("a request is written");
        let again = json::decode(signal, &written).expect("our own text");
        assert_eq!(canonical(signal, &again), canonical(signal, &payload));
    }
}
