//! What a person writes as settings; see `fuzzing::settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::settings(bytes));
