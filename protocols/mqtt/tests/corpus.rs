//! Replays the corpora of the fuzz targets `mqtt_decode` and `mqtt_connection` through the functions that the targets run.

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

#[test]
fn every_script_of_the_corpus_runs_without_panic() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpora/mqtt_connection");
    let start = std::time::Instant::now();
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let script = std::fs::read(entry.unwrap().path()).unwrap();
        mqtt::connection::exercise(&script, start);
        files += 1;
    }
    assert!(files >= 20, "{files} files in {folder}");
}
