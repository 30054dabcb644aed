//! What a proved peer sends; see `fuzzing::heartbeat`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::heartbeat(bytes));
