//! A real RocketMQ for a Rust test, by way of `rmq.sh`. Needs the standard library only, so that every crate's tests can
//! take it in with `#[path]`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// A name server and a broker; killed when it is dropped, or when the process that started it is gone.
pub(crate) struct RocketMq {
    dir: PathBuf,
    name_server: String,
    producer: Mutex<Option<Producer>>,
}

/// What the script calls the processes.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "not every test kills both")]
pub(crate) enum Node {
    /// The name server.
    NameServer,
    /// The broker.
    Broker,
}

#[allow(dead_code, reason = "not every test does all of it")]
impl RocketMq {
    /// Whether a test can start one. If not, says on stderr what is missing.
    pub(crate) fn is_available() -> bool {
        let runs = |program: &str, argument: &str| {
            Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
        };
        let needed = [("java", "-version"), ("javac", "-version"), ("mvn", "--version")];
        let missing: Vec<&str> = needed.iter().filter(|(p, a)| !runs(p, a)).map(|(p, _)| *p).collect();
        if !missing.is_empty() {
            eprintln!(
                "skipped: needs Java (java, javac, mvn) for a real RocketMQ; missing: {}",
                missing.join(", ")
            );
        }
        missing.is_empty()
    }

    /// Starts `version` (5.3.3 or 4.9.7) and waits until it is ready. `options` are those of `rmq.sh up`.
    pub(crate) fn start(version: &str, options: &[&str]) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("weft-rocketmq-{}-{number}", std::process::id()));
        let owner = std::process::id().to_string();
        let mut arguments = vec!["--version", version, "--owner", &owner];
        arguments.extend(options);
        let env = script(&dir, "up", &arguments);
        let name_server = env.lines().find_map(|line| line.strip_prefix("RMQ_NAMESRV="));
        let name_server = name_server.unwrap_or_else(|| panic!("no RMQ_NAMESRV in {env:?}")).to_owned();
        Self { dir, name_server, producer: Mutex::default() }
    }

    /// The address of the name server.
    pub(crate) fn name_server(&self) -> &str {
        &self.name_server
    }

    /// Sends a signal, such as `KILL`, `STOP` or `CONT`.
    pub(crate) fn signal(&self, node: Node, signal: &str) {
        script(&self.dir, "kill", &[node.name(), signal]);
    }

    /// Sends a signal to a process that the script calls so, such as "broker1" of a cluster.
    pub(crate) fn signal_to(&self, node: &str, signal: &str) {
        script(&self.dir, "kill", &[node, signal]);
    }

    /// Starts a process again as it was, and waits until it answers.
    pub(crate) fn restart(&self, node: Node) {
        script(&self.dir, "restart", &[node.name()]);
    }

    /// Consumes `count` messages of `topic` as a new group with the Java client: one line of JSON each.
    pub(crate) fn consume(&self, group: &str, topic: &str, count: usize) -> Vec<String> {
        let count = count.to_string();
        let output = script(&self.dir, "java", &["RmqConsume", &self.name_server, group, &count, topic]);
        output.lines().map(str::to_owned).collect()
    }

    /// Sends `lines` with the Java client; `properties` as `NAME=VALUE`.
    pub(crate) fn send(&self, topic: &str, properties: &[&str], lines: &[String]) {
        let mut producer = self.producer.lock().unwrap_or_else(|_| panic!("another send failed"));
        // A broker that has just started is not in every route at once: a producer that could send nothing is started again.
        for _ in 0..3 {
            let mut running = producer.take().unwrap_or_else(|| Producer::start(self));
            let sent = lines.iter().take_while(|line| running.send(topic, properties, line)).count();
            if sent == lines.len() {
                *producer = Some(running);
                return;
            }
            assert_eq!(sent, 0, "RmqSend ended in the middle of {lines:?}");
        }
        panic!("RmqSend cannot send to {topic}");
    }

    /// Runs `mqadmin` as the user that `--acl` makes; panics if it says that it could not do it.
    pub(crate) fn admin(&self, arguments: &[&str]) {
        let keys = "accessKey: rmqtest\nsecretKey: rmqtest-secret\n";
        std::fs::write(self.dir.join("home/conf/tools.yml"), keys).unwrap_or_else(|error| panic!("{error}"));
        let output = self.ask_admin(arguments);
        assert!(output.contains("success"), "mqadmin {arguments:?}: {output}");
    }

    /// What `mqadmin` says.
    pub(crate) fn ask_admin(&self, arguments: &[&str]) -> String {
        let main = "org.apache.rocketmq.tools.command.MQAdminStartup";
        script(&self.dir, "java", &[&[main], arguments].concat())
    }

    /// The address of the broker of a single RocketMQ.
    pub(crate) fn broker(&self) -> String {
        let (host, port) = self.name_server.rsplit_once(':').unwrap_or_else(|| panic!("no port"));
        format!("{host}:{}", port.parse::<u16>().map_or(0, |port| port + 12))
    }

    /// A client of `java/` that the test runs itself.
    pub(crate) fn java(&self, arguments: &[&str]) -> Command {
        command(&self.dir, "java", arguments)
    }
}

/// The Java client as a producer; killed when it is dropped.
struct Producer {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Producer {
    fn start(rocketmq: &RocketMq) -> Self {
        let mut command = command(&rocketmq.dir, "java", &["RmqSend", &rocketmq.name_server]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("rmq.sh: {error}"));
        let answers = child.stdout.take().unwrap_or_else(|| panic!("no output"));
        Self { child, answers: BufReader::new(answers) }
    }

    /// Whether the message was stored; if not, the producer has ended.
    fn send(&mut self, topic: &str, properties: &[&str], body: &str) -> bool {
        let line = [&[topic], properties, &[body]].concat().join("\t");
        let input = self.child.stdin.as_mut().unwrap_or_else(|| panic!("no input"));
        // One that has ended reads no more; that it answers nothing tells.
        writeln!(input, "{line}").and_then(|()| input.flush()).unwrap_or(());
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap_or_else(|error| panic!("RmqSend: {error}"));
        answer.contains("SEND_OK")
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Node {
    fn name(self) -> &'static str {
        match self {
            Self::NameServer => "namesrv",
            Self::Broker => "broker",
        }
    }
}

impl Drop for RocketMq {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs of RocketMQ: {}", self.dir.join("logs").display());
            command(&self.dir, "down", &[]).status().ok();
            return;
        }
        command(&self.dir, "down", &[]).status().ok();
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

fn command(dir: &Path, what: &str, arguments: &[&str]) -> Command {
    // Of the crate that takes this file in: both `tests` and `connectors/*` are below the root.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|dir| dir.join("Cargo.lock").exists());
    let root = root.unwrap_or_else(|| panic!("no Cargo.lock above {}", env!("CARGO_MANIFEST_DIR")));
    let mut command = Command::new("bash");
    command.arg(root.join("tests/rocketmq/rmq.sh")).arg(what).arg(dir).args(arguments);
    command
}

fn script(dir: &Path, what: &str, arguments: &[&str]) -> String {
    let output = command(dir, what, arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("rmq.sh: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "rmq.sh {what} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
