//! The Python client of Eclipse Paho, by way of `tests/real/paho_publish.py`.

use std::net::SocketAddr;

use tokio::process::Command;

use crate::ledger::Ledger;
use crate::process::Process;
use crate::weft::root;

/// Publishes on `topics` (name, QoS) in turn, MQTT 5 with a session that stays, until its input is closed; then waits
/// until all is acknowledged, and ends.
pub fn paho_publisher(
    address: SocketAddr,
    name: &'static str,
    topics: &[(String, u8)],
    ledger: Ledger,
) -> Process {
    let mut command = Command::new(python());
    command.arg(root().join("tests/real/paho_publish.py"));
    command.arg(address.ip().to_string()).arg(address.port().to_string()).arg(name);
    command.args(topics.iter().map(|(topic, qos)| format!("{qos}:{topic}")));
    Process::start(name, command, move |line| {
        let mut words = line.split(' ');
        let (what, n, topic) = (words.next(), words.next().and_then(|n| n.parse().ok()), words.next());
        match (what, n, topic) {
            (Some("sent"), Some(n), Some(topic)) => drop(ledger.sent(topic, name, n)),
            (Some("acked"), Some(n), Some(topic)) => ledger.acked(topic, name, n),
            _ => {}
        }
    })
}

/// The interpreter.
pub(super) fn python() -> String {
    std::env::var("WEFT_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}
