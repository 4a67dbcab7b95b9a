//! Replays the corpus of the fuzz target `remoting_decode`.

#[path = "corpus/check.rs"]
mod check;

#[test]
fn the_corpus_decodes_or_fails_cleanly() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpora/remoting_decode");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        check::check(&std::fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen >= 12, "{seen} files in {folder}");
}
