//! `config/weft.toml` is what the source says, and changes nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use config::{Config, Sources, load, reference};

fn here(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn as_toml(config: &Config) -> String {
    toml::to_string(config).unwrap()
}

#[test]
fn the_file_is_the_reference() {
    let path = here("weft.toml");
    if std::env::var_os("WEFT_BLESS").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        file == reference(),
        "config/weft.toml is not up to date; run: WEFT_BLESS=1 cargo test -p weft-config"
    );
}

#[test]
fn the_reference_sets_every_default() {
    let loaded = load(&Sources { file: Some(here("weft.toml")), ..Sources::default() }).unwrap();
    assert_eq!(as_toml(&loaded.config), as_toml(&Config::default()));
}

#[test]
fn its_examples_are_valid() {
    // An example line is a comment that is TOML: a table, or a key of letters and its value.
    let text: String = reference().lines().filter_map(uncommented).map(|line| format!("{line}\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.toml");
    std::fs::write(&path, &text).unwrap();
    let loaded = load(&Sources { file: Some(path), ..Sources::default() })
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(
        !loaded.config.routes.is_empty()
            && !loaded.config.bridges.is_empty()
            && !loaded.config.rocketmq.is_empty()
            && !loaded.config.hooks.is_empty()
    );
}

#[test]
fn the_smallest_file_is_valid() {
    load(&Sources { file: Some(here("weft.min.toml")), ..Sources::default() }).unwrap();
}

#[test]
fn every_key_is_documented() {
    let text = reference();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        let is_key = |line: &str| !line.starts_with('#') && line.contains(" = ");
        assert!(!is_key(pair[1]) || pair[0].starts_with("# "), "no documentation: {}", pair[1]);
    }
}

fn uncommented(line: &str) -> Option<&str> {
    let line = line.strip_prefix("# ")?;
    let name = line.split(" = ").next()?;
    let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
    (line.starts_with('[') || (is_name && line.contains(" = "))).then_some(line)
}
