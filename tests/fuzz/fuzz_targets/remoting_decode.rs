//! Any bytes as RocketMQ remoting frames, stored messages and property strings.
#![no_main]

#[path = "../../../connectors/remoting/tests/corpus/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
