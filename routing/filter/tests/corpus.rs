//! Replays the corpus of the fuzz target `filter` through the function that the target runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails that way"
)]

#[path = "corpus/check.rs"]
mod check;

#[test]
fn the_corpus_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpora/filter");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        check::check(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 20, "{files} files");
}
