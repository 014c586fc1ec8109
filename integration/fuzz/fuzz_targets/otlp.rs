#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hesper_fuzz_targets::otlp::run(input));
