//! What answers at the port of a node that has ended; see `fuzzing::tombstone`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::tombstone(bytes));
