//! Any bytes as what a disk holds: bodies of records, segments, checkpoints.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| embedded::exercise(data));
