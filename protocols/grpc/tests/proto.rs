//! The messages are those of `proto/*.proto`.

use std::path::Path;

use prost::Message as _;

/// The descriptor set, for reflection. If this fails: `WEFT_BLESS=1 cargo test -p weft-grpc --test proto`.
#[test]
fn descriptors_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let set = protox::compile(["cloudevents.proto", "simple.proto"], [&folder]).unwrap();
    let file = folder.join("descriptors.bin");
    let made = set.encode_to_vec();
    if std::env::var_os("WEFT_BLESS").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    assert!(
        std::fs::read(&file).unwrap() == made,
        "proto/*.proto changed: run WEFT_BLESS=1 cargo test -p weft-grpc --test proto"
    );
}
