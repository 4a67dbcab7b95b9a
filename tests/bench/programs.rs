//! The programs that a run needs, built in release: the load and the brokers that are crates.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tests::weft::root;
use tokio::process::Command;

/// Where they are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) mqload: PathBuf,
    pub(crate) clients: PathBuf,
    pub(crate) weft: PathBuf,
    pub(crate) rumqttd: PathBuf,
}

impl Programs {
    /// Builds them.
    pub(crate) async fn build() -> Self {
        let mqload = mqload().await;
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--release", "--message-format", "json", "-p", "weft-bridge", "--bin", "weft"]);
        cargo.args(["-p", "weft-tests", "--features", "weft-tests/peers"]);
        cargo.args(["--example", "rumqttd_peer", "--example", "bench_clients"]);
        let output = cargo.current_dir(root()).stderr(Stdio::inherit()).output().await.unwrap();
        assert!(output.status.success(), "the brokers do not build");
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let programs: Vec<PathBuf> =
            lines.filter_map(|line| Some(PathBuf::from(line["executable"].as_str()?))).collect();
        let named = |name: &str| {
            let program = programs.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name));
            program.expect("cargo names the program").clone()
        };
        Self { mqload, clients: named("bench_clients"), weft: named("weft"), rumqttd: named("rumqttd_peer") }
    }
}

/// The load: `MQLOAD`, or built from the folder beside the checkout.
async fn mqload() -> PathBuf {
    if let Some(program) = std::env::var_os("MQLOAD") {
        return PathBuf::from(program);
    }
    let source = root().join("../shared/bench/mqload");
    let target = root().join("target/mqload");
    if !source.join("Cargo.toml").exists() {
        eprintln!("mqload is not in {}: set MQLOAD to the program", source.display());
        std::process::exit(1);
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--manifest-path"]).arg(source.join("Cargo.toml"));
    cargo.env("CARGO_TARGET_DIR", &target);
    assert!(cargo.status().await.unwrap().success(), "mqload does not build");
    target.join("release/mqload")
}
