//! The program under test: built once, started on free ports with a data folder of its own, killed, started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::process::{Output, Process};
use crate::util::{PATIENCE, eventually, free_address, pause};

/// One Weft with its folder. The folder and the ports stay the same over restarts.
#[derive(Debug)]
pub struct Weft {
    /// Where it speaks MQTT.
    pub mqtt: SocketAddr,
    /// Where it speaks HTTP and WebSocket.
    pub http: SocketAddr,
    setup: Setup,
    folder: Arc<TempDir>,
    process: Option<Process>,
}

/// How a Weft is started.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    config: Option<String>,
    data: Option<PathBuf>,
    env: Vec<(String, String)>,
    limits: Vec<String>,
    addresses: Option<(SocketAddr, SocketAddr)>,
}

impl Setup {
    /// As README's first command starts it, but on free ports and with a folder of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this configuration file.
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// With this data folder instead of one of its own.
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// With this environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this argument of the shell's `ulimit`, such as `-n 64`.
    pub fn limit(mut self, ulimit: &str) -> Self {
        self.limits.push(ulimit.to_owned());
        self
    }

    /// At these addresses (MQTT, HTTP) instead of free ones.
    pub fn at(mut self, mqtt: SocketAddr, http: SocketAddr) -> Self {
        self.addresses = Some((mqtt, http));
        self
    }

    /// Starts it and waits until `/ready` says so.
    pub async fn start(self) -> Weft {
        let mut weft = self.prepare();
        weft.restart().await;
        weft
    }

    /// Starts it and waits until it gives up: for starts that must fail. Its exit status and all it wrote.
    pub async fn start_and_fail(self) -> (ExitStatus, String) {
        let weft = self.prepare();
        let mut process = weft.spawn();
        let status = process.wait(PATIENCE).await;
        (status, process.output().text())
    }

    /// All but the start: for a test that starts it itself with [`Weft::restart`] or [`Weft::launch`].
    pub fn prepare(self) -> Weft {
        // The client for HTTP asks for it; a second one in the process changes nothing.
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let (mqtt, http) = self.addresses.unwrap_or_else(|| (free_address(), free_address()));
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Weft { mqtt, http, setup: self, folder, process: None }
    }
}

impl Weft {
    /// A Weft as README's first command starts it.
    pub async fn start() -> Self {
        Setup::new().start().await
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.setup.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// Writes its configuration file anew. What holds of it while it runs is its business.
    pub fn configure(&self, toml: &str) {
        let file = self.folder.path().join("weft.toml");
        assert!(file.exists(), "it was started with a configuration file");
        // As careful people do it: a look never finds half of it.
        let part = file.with_extension("part");
        std::fs::write(&part, toml).unwrap();
        std::fs::rename(part, file).unwrap();
    }

    /// Its process id. Panics if it is not running.
    pub fn id(&self) -> u32 {
        self.process.as_ref().and_then(Process::id).expect("weft runs")
    }

    /// What the running one wrote so far.
    pub fn output(&self) -> Output {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    /// Starts it without waiting.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "weft runs already");
        self.process = Some(self.spawn());
    }

    /// Starts it and waits until `/ready` answers 200; how long that took.
    pub async fn restart(&mut self) -> Duration {
        let start = Instant::now();
        self.launch();
        self.wait_ready().await;
        start.elapsed()
    }

    /// Waits until `/ready` answers 200.
    pub async fn wait_ready(&mut self) {
        let start = Instant::now();
        loop {
            if self.get("/ready").await.is_some_and(|(status, _)| status == 200) {
                return;
            }
            let process = self.process.as_mut().expect("weft was started");
            if let Some(status) = process.ended() {
                panic!("weft ended with {status} before it was ready");
            }
            assert!(start.elapsed() < PATIENCE, "weft not ready within {PATIENCE:?}");
            pause(Duration::from_millis(20)).await;
        }
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill(&mut self) {
        let mut process = self.process.take().expect("weft runs");
        process.kill().await;
    }

    /// SIGTERM; waits for its end. Its exit status, how long it took, and all it wrote.
    pub async fn terminate(&mut self) -> (ExitStatus, Duration, String) {
        let mut process = self.process.take().expect("weft runs");
        let start = Instant::now();
        process.signal("TERM").await;
        let status = process.wait(PATIENCE).await;
        (status, start.elapsed(), process.output().text())
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.ended()
    }

    /// Sends a signal by name, such as `STOP`.
    pub async fn signal(&self, name: &str) {
        self.process.as_ref().expect("weft runs").signal(name).await;
    }

    /// Status and body of a GET; `None` if it could not be had.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let request = reqwest::get(format!("http://{}{path}", self.http));
        let answer = tokio::time::timeout(PATIENCE, request).await.ok()?.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    /// The sum of all series of a metric; `None` if there is no such metric.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await?;
        let values = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let found = series.split('{').next() == Some(name);
            found.then(|| value.parse::<f64>().ok()).flatten()
        });
        let values: Vec<f64> = values.collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// The value of one series, named as `/metrics` names it; `None` if it is not there.
    pub async fn series(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
    }

    /// Waits until `/ready` answers `status` with a body that holds `text`; how long that took.
    pub async fn until_ready_says(&self, status: u16, text: &str) -> Duration {
        let start = Instant::now();
        let what = format!("/ready answers {status} with {text:?}");
        eventually(&what, || async {
            self.get("/ready").await.filter(|(have, body)| *have == status && body.contains(text))
        })
        .await;
        start.elapsed()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let behind = stat.rsplit_once(") ").unwrap().1;
        let ticks: u64 =
            behind.split(' ').skip(11).take(2).map(|figure| figure.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn spawn(&self) -> Process {
        let mut command = Command::new("sh");
        let limits: String = self.setup.limits.iter().map(|limit| format!("ulimit {limit} && ")).collect();
        command.arg("-c").arg(format!("{limits}exec \"$0\" \"$@\"")).arg(program());
        if let Some(toml) = &self.setup.config {
            let file = self.folder.path().join("weft.toml");
            std::fs::write(&file, toml).unwrap();
            command.arg("--config").arg(file);
        }
        command.arg("--data").arg(self.data());
        command.arg("--mqtt").arg(self.mqtt.to_string()).arg("--http").arg(self.http.to_string());
        command.envs(self.setup.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path());
        Process::start("weft", command, |_| ())
    }
}

/// `weft passwd FILE USER` with `flags`, and the password on its input.
pub async fn passwd(file: &Path, user: &str, password: Option<&str>, flags: &[&str]) {
    let mut command = Command::new(program());
    command.arg("passwd").args(flags).arg(file).arg(user);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let line = format!("{}\n", password.unwrap_or_default());
    child.stdin.take().unwrap().write_all(line.as_bytes()).await.unwrap_or(());
    assert!(child.wait().await.unwrap().success());
}

/// The program: `WEFT_BIN`, or the debug build of this checkout, brought up to date once.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("WEFT_BIN") {
        Some(given) => PathBuf::from(given),
        None => build(),
    })
}

/// The program that `cargo test --workspace` has built for the tests of its command line: nothing is compiled twice.
fn build() -> PathBuf {
    let mut cargo = StdCommand::new(env!("CARGO"));
    let tests_of_it = ["test", "--workspace", "--test", "cli", "--no-run", "--message-format", "json"];
    cargo.args(tests_of_it).current_dir(root());
    // What cargo tells a test of its package is not for another cargo: build scripts, such as ring's, would run again, and all that
    // builds on them with them.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let executable = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executable = executable.filter_map(|line| Some(PathBuf::from(line["executable"].as_str()?)));
    executable.find(|path| path.file_stem().is_some_and(|stem| stem == "weft")).expect("cargo built weft")
}

/// The folder of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace")
}
