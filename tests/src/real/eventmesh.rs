//! The acceptance suite of EventMesh: the SDK for Java of Maven Central, and plain sockets, against a server.
//! `tests/real/eventmesh.sh` builds it from `../shared/eventmesh/acceptance`, whose README says what it can do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::process::Command;

use crate::process::Process;
use crate::weft::root;

/// Where the server listens; cases of protocols without an address are skipped by the suite.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventMesh {
    /// The TCP protocol.
    pub tcp: Option<SocketAddr>,
    /// The HTTP protocol.
    pub http: Option<SocketAddr>,
    /// The gRPC protocol.
    pub grpc: Option<SocketAddr>,
    /// The admin API.
    pub admin: Option<SocketAddr>,
}

impl EventMesh {
    /// Runs `cases`; what the suite says of each: "PASS …", "FAIL …: why" or "SKIP …: why".
    pub async fn accept(&self, cases: &[String]) -> BTreeMap<String, String> {
        let jar = build().await;
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-XX:+UseSerialGC", "-jar"]).arg(jar);
        let addresses =
            [("--tcp", self.tcp), ("--http", self.http), ("--grpc", self.grpc), ("--admin", self.admin)];
        for (flag, address) in addresses.into_iter().filter_map(|(flag, address)| Some((flag, address?))) {
            command.arg(flag).arg(address.to_string());
        }
        if self.admin.is_some() {
            // As real operators do; Weft needs no topic to be created.
            command.arg("--create-topics");
        }
        command.args(["--jobs", "6", "--only", &format!("^({})$", cases.join("|"))]);
        let said = Arc::new(Mutex::new(BTreeMap::new()));
        let say = Arc::clone(&said);
        let mut process = Process::start("EventMesh's SDK", command, move |line| {
            let verdict = ["PASS ", "FAIL ", "SKIP "].iter().find_map(|word| line.strip_prefix(word));
            if let Some(name) = verdict.and_then(|rest| rest.split([' ', ':']).next()) {
                say.lock().unwrap().insert(name.to_owned(), line.to_owned());
            }
        });
        process.wait(Duration::from_secs(900)).await;
        said.lock().unwrap().clone()
    }
}

/// The cases that have to pass: lines of `tests/real/eventmesh.txt`.
pub fn eventmesh_cases() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("tests/real/eventmesh.txt")).expect("the list of cases");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// Whether the suite's sources are there.
pub(super) fn is_there() -> bool {
    root().join("../shared/eventmesh/acceptance/pom.xml").exists()
}

/// Builds the suite where that was not done yet; its program.
async fn build() -> PathBuf {
    let output = Command::new(root().join("tests/real/eventmesh.sh")).output().await.unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "eventmesh.sh: {out}{errors}");
    PathBuf::from(out.trim())
}
