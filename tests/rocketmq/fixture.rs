//! A real RocketMQ for a Rust test, by way of `rmq.sh`. Needs the standard library only, so that every crate's tests can
//! take it in with `#[path]`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A name server and a broker; killed when it is dropped, or when the process that started it is gone.
pub(crate) struct RocketMq {
    dir: PathBuf,
    name_server: String,
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
        Self { dir, name_server }
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
        // A broker that has just started is not in every route at once: a producer that could send nothing is started again.
        let answers =
            (0..3).map(|_| self.try_send(topic, properties, lines)).find(|answers| !answers.is_empty());
        let answers = answers.unwrap_or_default();
        let sent = answers.lines().filter(|line| line.contains("SEND_OK")).count();
        assert_eq!(sent, lines.len(), "RmqSend: {answers}");
    }

    /// What the producer says of each line.
    fn try_send(&self, topic: &str, properties: &[&str], lines: &[String]) -> String {
        let mut arguments = vec!["RmqSend", &self.name_server, topic];
        arguments.extend(properties);
        let mut child = command(&self.dir, "java", &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("rmq.sh: {error}"));
        if let Some(mut stdin) = child.stdin.take() {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            // One that has ended reads no more; its answers tell.
            stdin.write_all(text.as_bytes()).unwrap_or(());
        }
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("RmqSend: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
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
