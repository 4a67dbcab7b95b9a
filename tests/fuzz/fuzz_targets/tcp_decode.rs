//! Frames of EventMesh's TCP protocol, in both dialects.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tcp::codec::exercise(data));
