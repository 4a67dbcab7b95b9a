//! A real RocketMQ with its Java client, by way of `tests/rocketmq/rmq.sh`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use remoting::{Command, Decoder, Encoding, encode};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command as Program;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::process::Process;
use crate::util::{PATIENCE, eventually};
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
        let mut command = Program::new(script());
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

    /// The broker that leads a group now.
    pub async fn leader(&self) -> String {
        self.run(&["leader"]).await.trim().to_owned()
    }

    /// Starts the broker again and waits until it answers.
    pub async fn restart_broker(&self) {
        self.run(&["restart", "broker"]).await;
    }

    /// Sends the broker a signal, such as `STOP`.
    pub async fn signal_broker(&self, signal: &str) {
        self.run(&["kill", "broker", signal]).await;
    }

    /// Starts a process again by its name in `rmq.sh`, and waits until it answers.
    pub async fn restart(&self, node: &str) {
        self.run(&["restart", node]).await;
    }

    /// Kills the broker and starts it again with these lines at the end of its configuration.
    pub async fn restart_broker_with(&self, lines: &[&str]) {
        let file = self.folder.path().join("conf/broker.conf");
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{before}{}\n", lines.join("\n"))).unwrap();
        self.restart_broker().await;
    }

    /// Fills the disk, as the broker sees it, or frees it; returns once it has seen it.
    pub async fn fill_disk(&self, full: bool) {
        let mark = self.folder.path().join("run/disk-full");
        let log = self.folder.path().join("logs/broker.log");
        // Two of its tasks look, in words of their own.
        let says = |line: &&str| match full {
            true => line.contains("maybe full soon"),
            false => line.contains("physic disk space") && line.contains(" OK "),
        };
        let count = || std::fs::read_to_string(&log).unwrap_or_default().lines().filter(says).count();
        let before = count();
        if full {
            std::fs::write(&mark, "").unwrap()
        } else {
            std::fs::remove_file(&mark).unwrap()
        }
        let seen = || std::future::ready((count() > before).then_some(()));
        eventually("the broker looks at its disk", seen).await;
    }

    /// Makes a topic with four queues.
    pub async fn make_topic(&self, name: &str) {
        let command = Command::request(UPDATE_AND_CREATE_TOPIC)
            .with("topic", name)
            .with("defaultTopic", "TBW102")
            .with("readQueueNums", "4")
            .with("writeQueueNums", "4")
            .with("perm", "6")
            .with("topicFilterType", "SINGLE_TAG")
            .with("topicSysFlag", "0")
            .with("order", "false");
        ask(&self.broker, &command).await;
    }

    /// Deletes a topic with all that is in it.
    pub async fn delete_topic(&self, name: &str) {
        for (addr, code) in
            [(&self.broker, DELETE_TOPIC_IN_BROKER), (&self.name_server, DELETE_TOPIC_IN_NAMESRV)]
        {
            ask(addr, &Command::request(code).with("topic", name)).await;
        }
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
            let ready = eventually("the Java consumer starts or ends", || {
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

    /// An end of request and reply, as `RmqRpc.java` has them: "serve", or "ask" with the milliseconds it waits.
    pub async fn rpc(&self, role: &str, topic: &str, more: &str) -> JavaClient {
        let mut command = self.java("RmqRpc");
        command.args([&*self.name_server, role, topic, more]);
        JavaClient::start(role, command).await
    }

    /// Runs a class of `tests/rocketmq/java`.
    pub fn java(&self, class: &str) -> Program {
        let mut command = Program::new(script());
        command.arg("java").arg(self.folder.path()).arg(class);
        command
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let mut command = Program::new(script());
        command.arg(arguments[0]).arg(self.folder.path()).args(&arguments[1..]);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "rmq.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A Java program that a test talks to, line by line.
#[derive(Debug)]
pub struct JavaClient {
    process: Process,
    lines: mpsc::Receiver<String>,
}

impl JavaClient {
    /// Starts it; it says "ready" first.
    pub async fn start(name: &str, command: Program) -> Self {
        let (sender, lines) = mpsc::channel(1024);
        let process = Process::start(name, command, move |line| {
            sender.try_send(line.to_owned()).expect("a test reads what its client says");
        });
        let mut client = Self { process, lines };
        assert_eq!(client.next().await, "ready");
        client
    }

    /// The next line that it says; panics when none comes.
    pub async fn next(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.recv()).await;
        let line =
            line.unwrap_or_else(|_| panic!("the client says nothing\n{}", self.process.output().tail(30)));
        line.unwrap_or_else(|| panic!("the client ended\n{}", self.process.output().tail(30)))
    }

    /// Gives it a body to send.
    pub async fn say(&mut self, body: &str) {
        self.process.write(&format!("{body}\n")).await.unwrap();
    }
}

impl Drop for RocketMq {
    fn drop(&mut self) {
        std::process::Command::new(script()).arg("down").arg(self.folder.path()).status().unwrap();
    }
}

const UPDATE_AND_CREATE_TOPIC: i32 = 17;
const DELETE_TOPIC_IN_BROKER: i32 = 215;
const DELETE_TOPIC_IN_NAMESRV: i32 = 216;

/// Asks a broker or name server; panics if the answer is not success.
async fn ask(addr: &str, command: &Command) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let (mut output, mut input) = (BytesMut::new(), BytesMut::new());
    encode(command, Encoding::Json, &mut output).unwrap();
    stream.write_all(&output).await.unwrap();
    let answer = loop {
        if let Some(answer) = Decoder::default().decode(&mut input).unwrap() {
            break answer;
        }
        assert_ne!(stream.read_buf(&mut input).await.unwrap(), 0, "{addr} closes");
    };
    assert_eq!(answer.code, 0, "{answer:?}");
}

fn script() -> PathBuf {
    root().join("tests/rocketmq/rmq.sh")
}
