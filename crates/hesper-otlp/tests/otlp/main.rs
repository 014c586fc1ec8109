//! OTLP as bytes, held against opentelemetry-proto and prost-reflect: `validate` against decoding, `stamp` and `edit` against decoding, editing and
//! encoding, `split` against decoding, `json` against a second implementation; then what attackers and the specification's examples look like.

mod editing;
mod json;
mod oracle;
mod split;
mod spoofing;
mod support;
mod validate;
