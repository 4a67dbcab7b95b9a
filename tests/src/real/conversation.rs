//! The programs of `tests/real` that hold the same conversation with Weft, each in another client.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::browser::Browser;
use crate::process::Process;
use crate::util::PATIENCE;
use crate::weft::root;

/// A program that holds the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// `mosquitto_pub` and `mosquitto_sub`.
    Mosquitto,
    /// Eclipse Paho for Python.
    PahoPython,
    /// Eclipse Paho for Go.
    PahoGo,
    /// Eclipse Paho for Java.
    PahoJava,
    /// HiveMQ's client for Java.
    HiveMq,
    /// MQTT.js in Node.
    MqttJs,
}

impl Speaker {
    /// Holds the conversation at `url` in MQTT 3.1.1 (4) or 5, under `name`; panics unless each of `steps` is done.
    pub async fn converse(self, url: &str, version: u8, name: &str, steps: &[&str]) {
        self.converse_by(self.command(), url, version, name, steps).await;
    }

    /// As [`Self::converse`], trusting the CA in this file. Not for the clients in Java, which need a store of their own kind.
    pub async fn converse_trusting(self, ca: &Path, url: &str, version: u8, name: &str, steps: &[&str]) {
        let mut command = self.command();
        command.env("NODE_EXTRA_CA_CERTS", ca).env("SSL_CERT_FILE", ca);
        self.converse_by(command, url, version, name, steps).await;
    }

    async fn converse_by(self, mut command: Command, url: &str, version: u8, name: &str, steps: &[&str]) {
        command.args([url, &version.to_string(), name]).args(steps);
        hold(command, name, url, steps).await;
    }

    fn command(self) -> Command {
        match self {
            Self::Mosquitto => Command::new(root().join("tests/real/mosquitto/conversation.sh")),
            Self::PahoPython => {
                let mut command = Command::new(super::paho::python());
                command.arg(root().join("tests/real/paho-python/conversation.py"));
                command
            }
            Self::PahoGo => Command::new(built("paho-go").join("conversation")),
            Self::PahoJava => java("paho"),
            Self::HiveMq => java("hivemq"),
            Self::MqttJs => {
                let mut command = Command::new("node");
                command.arg(built("mqttjs").join("node.js"));
                command
            }
        }
    }
}

/// Runs a program that prints each of `steps` when it is done.
pub(super) async fn hold(command: Command, name: &str, url: &str, steps: &[&str]) {
    let (say, mut said) = mpsc::channel(100);
    let mut process =
        Process::start(name, command, move |line| say.try_send(line.to_owned()).unwrap_or_default());
    let status = process.wait(PATIENCE).await;
    let mut done = Vec::new();
    while let Ok(step) = said.try_recv() {
        done.push(step);
    }
    assert!(status.success(), "{name} at {url}: {status} after {done:?}\n{}", process.output().tail(30));
    assert_eq!(done, steps, "{name} at {url}");
}

fn java(library: &str) -> Command {
    let mut command = Command::new("java");
    // Short programs: compile less, collect garbage in one thread.
    command.args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-cp",
        "classes:lib/*",
        "Conversation",
        library,
    ]);
    command.current_dir(built("java"));
    command
}

/// Holds the conversation with MQTT.js in a headless Chromium.
pub async fn converse_in_browser(url: &str, version: u8, name: &str, steps: &[&str]) {
    let folder = built("mqttjs");
    let files = vec![
        ("/page.html", folder.join("page.html")),
        ("/conversation.js", folder.join("conversation.js")),
        ("/mqtt.esm.js", folder.join("node_modules/mqtt/dist/mqtt.esm.js")),
    ];
    let setting = json!({ "url": url, "version": version, "name": name, "steps": steps });
    let (say, mut said) = mpsc::channel(100);
    let _browser =
        Browser::show(files, &setting, move |value: Value| say.try_send(value).unwrap_or_default()).await;
    let last = tokio::time::timeout(PATIENCE, said.recv()).await.expect("the page ends its conversation");
    assert_eq!(last, Some(json!({ "done": steps })), "{name} at {url}");
}

/// Whether `tests/real/build.sh` built the clients of this folder from the sources as they are.
pub(super) fn is_built(name: &str) -> bool {
    let same = |file: &Path| {
        let copy = file.file_name().map(|own| built(name).join(own));
        copy.is_some_and(|copy| std::fs::read(copy).ok() == std::fs::read(file).ok())
    };
    let sources = std::fs::read_dir(root().join("tests/real").join(name)).expect("the sources");
    sources.map(|file| file.unwrap().path()).all(|file| same(&file))
}

/// Where `tests/real/build.sh` puts the program of this folder.
pub(super) fn built(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(home).join("weft-ci/clients").join(name)
}
