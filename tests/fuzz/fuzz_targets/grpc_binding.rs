//! Messages of EventMesh over gRPC, of its newer and its older services, and what becomes of what they publish.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| grpc::exercise(data));
