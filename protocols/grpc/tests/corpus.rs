//! Replays the corpus of the fuzz target `grpc_binding`, and its files once more with some bytes changed by a seed.

#![allow(clippy::unwrap_used, reason = "test code")]

use event::testing::{Chance, seeds};

#[test]
fn every_message_of_the_corpus_is_read_without_panic() {
    let folder = format!("{}/../../tests/fuzz/corpora/grpc_binding", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap();
    let files: Vec<Vec<u8>> = entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(files.len() >= 8, "{} files", files.len());
    for data in &files {
        for end in 0..=data.len() {
            grpc::exercise(data.get(..end).unwrap());
        }
    }
    seeds(4, |seed, steps| {
        let mut chance = Chance(seed);
        for data in files.iter().cycle().take(files.len() * usize::try_from(steps).unwrap()) {
            let mut data = data.clone();
            for byte in &mut data {
                if chance.below(60) == 0 {
                    *byte = u8::try_from(chance.below(256)).unwrap();
                }
            }
            grpc::exercise(&data);
        }
    });
}
