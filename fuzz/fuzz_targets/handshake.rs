//! What strangers send before the proof of the key; see `fuzzing::handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::handshake(bytes));
