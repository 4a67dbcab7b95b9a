//! Requests of EventMesh over HTTP, and what becomes of what they publish.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eventmesh_http::exercise(data));
