//! The command line clients of mosquitto.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ledger::Ledger;
use crate::process::Process;
use crate::util::{PATIENCE, pause};

/// Publishes one message after the other, each with a `mosquitto_pub` of its own, on `topics` (name, QoS) in turn,
/// until `stop` turns true. One that is cut off is given up and counts as not acknowledged; the next has a new number.
pub fn mosquitto_publisher(
    address: SocketAddr,
    name: &'static str,
    topics: Vec<(String, u8)>,
    ledger: Ledger,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        for n in 0.. {
            if *stop.borrow() {
                return;
            }
            let (topic, qos) = &topics[usize::try_from(n).unwrap() % topics.len()];
            let data = ledger.sent(topic, name, n);
            let mut command = Command::new("mosquitto_pub");
            command.args(["-d", "-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
            command.args(["-i", name, "-q", &qos.to_string(), "-t", topic, "-m", &data]);
            let mut process = Process::start(name, command, |_| ());
            process.wait(PATIENCE).await;
            let answer = if *qos == 2 { "received PUBCOMP" } else { "received PUBACK" };
            if process.output().text().contains(answer) {
                ledger.acked(topic, name, n);
            } else {
                pause(Duration::from_millis(50)).await;
            }
        }
    })
}

/// A `mosquitto_sub` with a session that stays. It comes back by itself, one second after it was cut off.
pub fn mosquitto_subscriber(
    address: SocketAddr,
    name: &'static str,
    filter: &str,
    qos: u8,
    ledger: Ledger,
) -> Process {
    let mut command = Command::new("mosquitto_sub");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command.args(["-i", name, "-c", "-q", &qos.to_string(), "-t", filter, "-F", "%t %p"]);
    Process::start(name, command, move |line| {
        if let Some((topic, data)) = line.split_once(' ') {
            ledger.received(name, topic, data.as_bytes());
        }
    })
}
