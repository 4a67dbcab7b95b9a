//! Any bytes as the header of the PROXY protocol.
#![no_main]

#[path = "../../../protocols/transport/tests/corpus/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
