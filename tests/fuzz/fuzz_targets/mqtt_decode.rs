//! Any bytes as what an MQTT client or server sends.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt::codec::exercise(data));
