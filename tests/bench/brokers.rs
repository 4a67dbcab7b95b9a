//! The brokers: how each is found, set up and started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command as Blocking;

use tempfile::TempDir;
use tests::util::free_address;
use tests::weft::root;
use tests::{Process, eventually};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::programs::Programs;

/// A broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broker {
    Weft,
    Mosquitto,
    Rumqttd,
    Nats,
}

/// A broker that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    /// Where it takes MQTT 3.1.1, and MQTT 5.
    pub(crate) v4: SocketAddr,
    pub(crate) v5: SocketAddr,
    _folder: TempDir,
}

impl Broker {
    pub(crate) const ALL: [Self; 4] = [Self::Weft, Self::Mosquitto, Self::Rumqttd, Self::Nats];

    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "weft" => Self::Weft,
            "mosquitto" => Self::Mosquitto,
            "rumqttd" => Self::Rumqttd,
            "nats" => Self::Nats,
            other => panic!("no such broker: {other}; there are weft, mosquitto, rumqttd and nats"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weft => "Weft, synced to disk",
            Self::Mosquitto => "mosquitto, in memory",
            Self::Rumqttd => "rumqttd, in memory",
            Self::Nats => "NATS, in memory",
        }
    }

    /// What it is, in its own words; `None` if it is not installed.
    pub(crate) fn version(self) -> Option<String> {
        match self {
            Self::Weft => Some("of this checkout".to_owned()),
            Self::Mosquitto => first_line("mosquitto", "-h"),
            Self::Rumqttd => Some("0.20".to_owned()),
            Self::Nats => first_line("nats-server", "--version"),
        }
    }

    /// How to install it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Weft | Self::Rumqttd => "cargo builds it",
            Self::Mosquitto => "apt-get install mosquitto",
            Self::Nats => "apt-get install nats-server",
        }
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(self, programs: &Programs) -> Running {
        // On the disk of the checkout: /tmp may be memory, where a sync costs nothing.
        let folder = if self == Self::Nats { in_memory() } else { root().join("target") };
        let folder = tempfile::tempdir_in(folder).unwrap();
        let (v4, other) = (free_address(), free_address());
        let (command, v5) = match self {
            Self::Weft => {
                let mut command = Command::new(&programs.weft);
                command.arg("--data").arg(folder.path().join("data"));
                command.args(["--mqtt", &v4.to_string(), "--http", &other.to_string()]);
                (command, v4)
            }
            Self::Mosquitto => {
                let listener = format!("listener {} {}\n", v4.port(), v4.ip());
                (configured("mosquitto", folder.path(), listener + MOSQUITTO), v4)
            }
            Self::Rumqttd => {
                let mut command = Command::new(&programs.rumqttd);
                command.args([v4.to_string(), other.to_string()]);
                (command, other)
            }
            Self::Nats => {
                let store = folder.path().join("store");
                let text = format!(
                    "server_name: bench\nlisten: \"{other}\"\njetstream {{ store_dir: {store:?}, max_file_store: 8GB }}\n\
                     mqtt {{ listen: \"{v4}\", max_ack_pending: 65535, consumer_memory_storage: true }}\n"
                );
                (configured("nats-server", folder.path(), text), v4)
            }
        };
        let process = Process::start(self.name(), command, |_| ());
        for address in [v4, v5] {
            let what = format!("{} listens", self.name());
            let connected = || async { TcpStream::connect(address).await.ok() };
            eventually(&what, connected).await;
        }
        Running { process, v4, v5, _folder: folder }
    }
}

/// All that makes it hold messages back is off.
const MOSQUITTO: &str = "allow_anonymous true\npersistence false\nset_tcp_nodelay true\nlog_type none\n\
    max_queued_messages 0\nmax_inflight_messages 0\n";

/// A program that reads `text` as its file.
fn configured(program: &str, folder: &Path, text: String) -> Command {
    let file = folder.join("broker.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(file);
    command
}

/// NATS keeps MQTT's streams in files whatever it is told: here they are files in memory.
fn in_memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn first_line(program: &str, flag: &str) -> Option<String> {
    let output = Blocking::new(program).arg(flag).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}
