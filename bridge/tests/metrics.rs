//! The list of metrics is complete, and README shows it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bridge::catalog::{METRICS, markdown};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("catalog.rs")
        {
            found.push(path);
        }
    }
}

#[test]
fn the_list_is_what_the_sources_count() {
    let mut files = Vec::new();
    for folder in ["routing", "protocols", "connectors", "bridge/src"] {
        sources(&root().join(folder), &mut files);
    }
    let mut counted = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let names = text.split('"').filter(|part| part.starts_with("weft_") && !part.contains([' ', '\n']));
        counted.extend(names.map(str::to_owned));
    }
    let listed: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    let (missing, gone): (Vec<_>, Vec<_>) =
        (counted.difference(&listed).collect(), listed.difference(&counted).collect());
    assert!(
        missing.is_empty() && gone.is_empty(),
        "bridge/src/catalog.rs lacks {missing:?} and has too much {gone:?}"
    );
    assert_eq!(listed.len(), METRICS.len(), "a metric is listed twice");
}

#[test]
fn readme_shows_the_list() {
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = readme.split_once("<!-- metrics -->\n").unwrap();
    let (shown, tail) = rest.split_once("<!-- end -->").unwrap();
    if shown != markdown() && std::env::var_os("WEFT_BLESS").is_some() {
        std::fs::write(&path, format!("{head}<!-- metrics -->\n{}<!-- end -->{tail}", markdown())).unwrap();
        return;
    }
    assert!(shown == markdown(), "README.md is not up to date; run: WEFT_BLESS=1 cargo test -p weft-bridge");
}
