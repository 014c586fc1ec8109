//! Configs of services, and the schemas of config types.

use hesper_model::config::{
    HostV1, HostV2, InterceptV1, OtlpV1, ProxyV1, ScrapeV1, builtin, check_schema, validate,
};
use serde_json::Value;

/// The first byte chooses a built-in type, the rest is its data; beyond the types, the first line is a schema and the rest is data.
///
/// # Panics
/// When the Rust type does not read what the schema lets in.
pub fn run(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let types = builtin();
    let Some(of_type) = types.get(usize::from(choice % 8)) else { return own_schema(rest) };
    let Ok(data) = serde_json::from_slice::<Value>(rest) else { return };
    if let Err(faults) = validate(&of_type.schema, &data) {
        assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.reason.is_empty()));
        return;
    }
    let read = match of_type.name {
        HostV1::NAME => serde_json::from_value::<HostV1>(data.clone()).err(),
        HostV2::NAME => serde_json::from_value::<HostV2>(data.clone()).err(),
        InterceptV1::NAME => serde_json::from_value::<InterceptV1>(data.clone()).err(),
        OtlpV1::NAME => serde_json::from_value::<OtlpV1>(data.clone()).err(),
        ProxyV1::NAME => serde_json::from_value::<ProxyV1>(data.clone()).err(),
        ScrapeV1::NAME => serde_json::from_value::<ScrapeV1>(data.clone()).err(),
        other => panic!("{other} has no target"),
    };
    assert!(read.is_none(), "{} lets in what cannot be read: {data}: {read:?}", of_type.name);
}

fn own_schema(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let Ok(schema) = serde_json::from_slice::<Value>(&input[..end]) else { return };
    let usable = check_schema(&schema).is_ok();
    let data = serde_json::from_slice::<Value>(input.get(end + 1..).unwrap_or_default());
    if let Ok(data) = data {
        assert!(usable || validate(&schema, &data).is_err(), "a schema that cannot be used refuses all");
    }
}
