//! A child process whose output is kept line by line, handed to a callback as it comes, and shown when a test fails.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;

/// A child process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Output,
    readers: JoinSet<()>,
}

/// The last lines that a process wrote, standard error included.
#[derive(Clone, Debug, Default)]
pub struct Output(Arc<Mutex<Vec<String>>>);

impl Process {
    /// Starts `command`; each line of its standard output goes to `on_line`.
    pub fn start(name: &str, mut command: Command, on_line: impl FnMut(&str) + Send + 'static) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let output = Output::default();
        let mut readers = JoinSet::new();
        readers.spawn(read(child.stdout.take().unwrap(), output.clone(), on_line));
        readers.spawn(read(child.stderr.take().unwrap(), output.clone(), |_| ()));
        let stdin = child.stdin.take();
        Self { name: name.to_owned(), child, stdin, output, readers }
    }

    /// Its process id; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it wrote.
    pub fn output(&self) -> Output {
        self.output.clone()
    }

    /// Writes to its standard input.
    pub async fn write(&mut self, text: &str) -> std::io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        stdin.write_all(text.as_bytes()).await?;
        stdin.flush().await
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Ends it at once (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap_or(());
        self.finish_reading().await;
    }

    /// Sends it a signal by name, such as `TERM`, `STOP`, `CONT`.
    pub async fn signal(&self, name: &str) {
        let Some(id) = self.id() else { return };
        let status = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status().await.unwrap();
        assert!(status.success(), "kill -{name} {id}");
    }

    /// Waits until it ends by itself; panics after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => {
                self.finish_reading().await;
                status.unwrap()
            }
            Err(_) => panic!("{} still runs after {limit:?}\n{}", self.name, self.output.tail(40)),
        }
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Reads what is still in the pipes. A grandchild may hold them open, so not for ever.
    async fn finish_reading(&mut self) {
        let all = async { while self.readers.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(2), all).await.unwrap_or(());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} wrote last:\n{}", self.name, self.output.tail(60));
        }
    }
}

impl Output {
    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.0.lock().unwrap();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// All lines, up to the limit that is kept.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap();
        if lines.len() >= LINES_MAX {
            lines.drain(..LINES_MAX / 2);
        }
        lines.push(line);
    }
}

async fn read(from: impl AsyncRead + Unpin, output: Output, mut on_line: impl FnMut(&str)) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        on_line(&line);
        output.push(line);
    }
}

/// Enough for every failure seen so far, and bounded for a test that logs at `trace`.
const LINES_MAX: usize = 20_000;
