//! Replays the corpora of the fuzz targets `tcp_decode` and `tcp_connection` through the functions that the targets run,
//! and the scripts once more with every byte changed by a seed.

#![allow(clippy::unwrap_used, reason = "test code")]

use event::testing::{Chance, seeds};

fn files(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/../../tests/fuzz/corpora/{target}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap();
    entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_file_of_the_corpus_is_read_without_panic() {
    let files = files("tcp_decode");
    assert!(files.len() >= 8, "{} files", files.len());
    for data in files {
        for end in 0..=data.len() {
            tcp::codec::exercise(data.get(..end).unwrap());
        }
    }
}

#[test]
fn every_script_of_the_corpus_runs_without_panic() {
    let (files, start) = (files("tcp_connection"), std::time::Instant::now());
    assert!(files.len() >= 6, "{} files", files.len());
    for script in &files {
        tcp::connection::exercise(script, start);
    }
    seeds(2, |seed, steps| {
        let mut chance = Chance(seed);
        for script in files.iter().cycle().take(files.len() * usize::try_from(steps).unwrap()) {
            let mut script = script.clone();
            for byte in &mut script {
                if chance.below(40) == 0 {
                    *byte = u8::try_from(chance.below(256)).unwrap();
                }
            }
            tcp::connection::exercise(&script, start);
        }
    });
}
