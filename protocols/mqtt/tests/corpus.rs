//! Replays the corpus of the fuzz target `mqtt_decode` through the function that the target runs.

#[test]
fn every_file_of_the_corpus_is_read_without_panic() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpora/mqtt_decode");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        mqtt::codec::exercise(&data);
        // What a peer sends may be cut anywhere.
        for end in 0..data.len() {
            mqtt::codec::exercise(&data[..end]);
        }
        files += 1;
    }
    assert!(files >= 39, "{files} files in {folder}");
}
