//! What a person imports as certificates and revocation lists; see `fuzzing::certificates`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::certificates(bytes));
