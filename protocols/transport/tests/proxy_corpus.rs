//! The corpus of the fuzz target `proxy_header`, replayed.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "corpus/check.rs"]
mod check;

#[test]
fn the_corpus_of_proxy_headers_is_harmless() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpora/proxy_header");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 5, "the corpus is there");
    for file in files {
        check::check(&std::fs::read(file).unwrap());
    }
}
