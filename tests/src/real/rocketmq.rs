//! A real RocketMQ with its Java client, by way of `tests/rocketmq/rmq.sh`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::Process;
use crate::util::eventually;
use crate::weft::root;

/// A name server and a broker. Gone when dropped.
#[derive(Debug)]
pub struct RocketMq {
    /// Address of the name server.
    pub name_server: String,
    /// Address of the broker.
    pub broker: String,
    folder: TempDir,
}

/// A message as the Java consumer got it.
#[derive(Clone, Debug, Deserialize)]
pub struct Received {
    /// RocketMQ topic.
    pub topic: String,
    /// Queue of the topic.
    #[serde(rename = "queueId")]
    pub queue: u32,
    /// Its place in the queue.
    #[serde(rename = "queueOffset")]
    pub offset: u64,
    /// Properties, the system's own included.
    pub properties: std::collections::BTreeMap<String, String>,
    body: String,
}

impl Received {
    /// The body.
    pub fn body(&self) -> Vec<u8> {
        STANDARD.decode(&self.body).expect("base64")
    }
}

impl RocketMq {
    /// Starts one of this version.
    pub async fn start(version: &str) -> Self {
        Self::start_with(version, &[]).await
    }

    /// As [`Self::start`], with more options of `rmq.sh up`.
    pub async fn start_with(version: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(script());
        command.arg("up").arg(folder.path()).args(["--version", version]);
        command.args(["--owner", &std::process::id().to_string()]).args(options);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "rmq.sh up: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
        };
        Self { name_server: value("RMQ_NAMESRV"), broker: value("RMQ_BROKER"), folder }
    }

    /// Kills the broker (SIGKILL).
    pub async fn kill_broker(&self) {
        self.kill("broker").await;
    }

    /// Kills a process by its name in `rmq.sh`.
    pub async fn kill(&self, node: &str) {
        self.run(&["kill", node]).await;
    }

    /// Sends a process a signal by name, such as `STOP`, `CONT`.
    pub async fn signal(&self, node: &str, name: &str) {
        self.run(&["kill", node, name]).await;
    }

    /// The broker that leads a group now.
    pub async fn leader(&self) -> String {
        self.run(&["leader"]).await.trim().to_owned()
    }

    /// Starts the broker again and waits until it answers.
    pub async fn restart_broker(&self) {
        self.run(&["restart", "broker"]).await;
    }

    /// A Java consumer that runs until it is dropped. Returns once it is started.
    pub async fn consume(
        &self,
        group: &str,
        topics: &[&str],
        on_message: impl FnMut(Received) + Send + 'static,
    ) -> Process {
        let on_message = Arc::new(Mutex::new(on_message));
        // On a loaded machine the client gives up at its first request, after a second.
        for _ in 0..5 {
            let mut command = self.java("RmqConsume");
            command.args([&self.name_server, group, "0"]).args(topics);
            let on_message = on_message.clone();
            let mut process = Process::start("RmqConsume", command, move |line| {
                let message = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                (on_message.lock().unwrap())(message);
            });
            let output = process.output();
            let ready = eventually(Duration::from_secs(60), "the Java consumer starts or ends", || {
                let state =
                    if output.text().contains("ready") { Some(true) } else { process.ended().map(|_| false) };
                std::future::ready(state)
            });
            if ready.await {
                return process;
            }
        }
        panic!("the Java consumer does not start");
    }

    /// A Java producer that sends each line written to it; `on_sent` gets the number of each that was stored, from 0.
    pub fn produce(
        &self,
        topic: &str,
        properties: &[&str],
        mut on_sent: impl FnMut(u64) + Send + 'static,
    ) -> Process {
        let mut command = self.java("RmqSend");
        command.args([&self.name_server, topic]).args(properties);
        let mut count = 0;
        Process::start("RmqSend", command, move |line| {
            if line.contains("\"status\":\"SEND_OK\"") {
                on_sent(count);
            }
            count += 1;
        })
    }

    /// Runs a class of `tests/rocketmq/java`.
    pub fn java(&self, class: &str) -> Command {
        let mut command = Command::new(script());
        command.arg("java").arg(self.folder.path()).arg(class);
        command
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(script());
        command.arg(arguments[0]).arg(self.folder.path()).args(&arguments[1..]);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "rmq.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for RocketMq {
    fn drop(&mut self) {
        std::process::Command::new(script()).arg("down").arg(self.folder.path()).status().unwrap();
    }
}

fn script() -> PathBuf {
    root().join("tests/rocketmq/rmq.sh")
}
